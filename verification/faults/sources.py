"""Which files a test depends on, so that a result stays valid until one of them changes."""

import ast
from functools import cache
from pathlib import Path

PACKAGES = ("hw", "rtl_gen", "cycle_model", "sw_stack", "verification")


def closure(root: Path, tests: tuple[str, ...]) -> list[Path]:
    """The tests' files, conftest.py, pyproject.toml and every project module that they import, directly or not."""
    waiting = [root / test.split("::")[0] for test in tests]
    waiting += [root / "pyproject.toml", *(root / "verification").glob("conftest.py")]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imported(root, path) if path.suffix == ".py" else []
    return sorted(seen)


@cache
def _imported(root: Path, path: Path) -> list[Path]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = []
    for name in names:
        if name.split(".")[0] in PACKAGES:
            base = root.joinpath(*name.split("."))
            found += [place for place in (base.with_suffix(".py"), base / "__init__.py") if place.is_file()]
    return found
