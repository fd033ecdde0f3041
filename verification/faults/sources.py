"""Which files a test depends on, so that a result stays valid until one of them changes."""

from functools import cache
from pathlib import Path

from cycle_model.kernel_cache import sources_of

PACKAGES = ("hw", "rtl_gen", "cycle_model", "sw_stack", "verification")


def closure(root: Path, tests: tuple[str, ...]) -> list[Path]:
    """The tests' files, conftest.py, pyproject.toml and every project module that they import, directly or not."""
    files = {root / test.split("::")[0] for test in tests} | set((root / "verification").glob("conftest.py"))
    return sorted({root / "pyproject.toml"}.union(*(sources_of(file) for file in files)))


@cache
def compiled_sources(root: Path) -> frozenset[Path]:
    """Files that some Numba kernel is compiled from: a patch of one has kernels compiled anew."""
    folders = root / "cycle_model", root / "sw_stack"
    kernels = [path for folder in folders for path in folder.rglob("*.py") if "@njit" in path.read_text()]
    return frozenset().union(*(sources_of(path) for path in kernels))
