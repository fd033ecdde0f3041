"""Compiled kernels that are kept on disk follow every source they were made from."""

import os
import subprocess
import sys
from pathlib import Path

from cycle_model.kernel_cache import sources_of, stamp_of

ROOT = Path(__file__).parents[2]

_KERNEL = """from cycle_model.kernel_cache import njit
from parts.numbers import (
    OTHER,  # a comment (with brackets)
    VALUE,
)
from parts import inner

@njit(cache=True)
def kernel():
    return VALUE + inner.twice(OTHER)
"""
_INNER = """from numba import njit

@njit
def twice(x):
    return {factor} * x
"""
_SHOW = "import kernel; v = kernel.kernel(); print(v, *kernel.kernel.stats.cache_hits.values())"


def _tree(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "numbers.py").write_text("VALUE, OTHER = 1, 10\n")
    (folder / "parts" / "inner.py").write_text(_INNER.format(factor=2))
    (folder / "kernel.py").write_text(_KERNEL)


def test_kernel_follows_constants_and_inlined_functions_of_other_files(tmp_path: Path) -> None:
    """A second process takes it from disk; after an imported constant or callee changed, the new value counts."""
    _tree(tmp_path)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)

    def shown() -> str:
        run = subprocess.run(
            [sys.executable, "-c", _SHOW], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    assert shown() == "21"
    assert shown() == "21 1"
    (tmp_path / "parts" / "numbers.py").write_text("VALUE, OTHER = 3, 10\n")
    assert shown() == "23"
    (tmp_path / "parts" / "inner.py").write_text(_INNER.format(factor=4))
    assert shown() == "43"
    assert shown() == "43 1"


def test_stamp_covers_what_is_imported_and_nothing_else(tmp_path: Path) -> None:
    """The stamp of a file changes with every source it imports, directly or not, and not with its neighbours."""
    _tree(tmp_path)
    (tmp_path / "parts" / "unused.py").write_text("X = 1\n")
    (tmp_path / "parts" / "inner.py").write_text("from parts.deep import Y\n")
    (tmp_path / "parts" / "deep.py").write_text("Y = 1\n")
    kernel = tmp_path / "kernel.py"
    names = {str(path.relative_to(tmp_path)) for path in sources_of(kernel)}
    assert names == {"kernel.py", *(f"parts/{name}.py" for name in ("__init__", "numbers", "inner", "deep"))}
    stamp_of.cache_clear()
    before = stamp_of(kernel)
    for name, changes in (("unused", False), ("deep", True), ("numbers", True)):
        (tmp_path / "parts" / f"{name}.py").write_text("VALUE = OTHER = Y = 2\n")
        stamp_of.cache_clear()
        assert (stamp_of(kernel) != before) == changes, name
        before = stamp_of(kernel)


def test_every_kernel_is_kept_so() -> None:
    """Every file that compiles a function has loaded `cycle_model.kernel_cache` before."""
    compiling = [f for d in ("cycle_model", "sw_stack") for f in (ROOT / d).rglob("*.py") if "@njit" in f.read_text()]
    assert len(compiling) > 20
    assert not [f for f in compiling if ROOT / "cycle_model/kernel_cache.py" not in sources_of(f)]


def test_kernels_of_the_pe_depend_on_the_parameters() -> None:
    """What the PE's kernel takes from elsewhere, through any number of files, is among its sources."""
    names = {str(path.relative_to(ROOT)) for path in sources_of(ROOT / "cycle_model/pe/fast.py")}
    assert {"hw/params/pe.py", "hw/isa/encoding.py", "cycle_model/hb/serving.py"} <= names
    assert not any(name.startswith(("sw_stack", "verification")) for name in names)
