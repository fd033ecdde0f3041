"""Compiled kernels are kept on disk under a stamp of every source they were compiled from.

Numba keeps a compiled function until the file that defines it changes. But constants and inlined functions of other
modules are part of the compiled code too, and a kernel would go on using their old form. The stamp made here covers
the file and all that it imports, directly or not, of the tree it stands in. It holds for every function compiled after
this module was loaded, which is why kernels take ``njit`` from here.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from numba import config, njit
from numba.core import caching

__all__ = ["njit", "sources_of", "stamp_of"]


_COMMENT = re.compile(r"#.*")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+)?import[ \t]+(\([^)]*\)|.*)", re.MULTILINE)
"""An import statement: the module behind ``from``, and the names. Five times faster than parsing the file."""


@cache
def _imports(file: Path, root: Path) -> frozenset[Path]:
    """Sources below ``root`` that ``file`` names in an import statement, wherever it stands."""
    names = set()
    for module, listed in _IMPORT.findall(_COMMENT.sub("", file.read_text())):
        for name in re.findall(r"[\w.]+", re.sub(r"\bas\s+\w+", "", listed)):
            names.add(f"{module}.{name}" if module else name)  # a module, or a name in one
    found = set()
    for name in names:
        place = root
        for part in name.split("."):  # a package is imported before what is in it
            place = place / part
            found.update(path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file())
    return frozenset(found)


def sources_of(file: Path) -> list[Path]:
    """``file`` and every source of its tree that it imports, in a fixed order.

    The tree is what lies beside the outermost package of ``file``.
    """
    root = file.resolve().parent
    while (root / "__init__.py").is_file():
        root = root.parent
    found: set[Path] = set()
    left = [file.resolve()]
    while left:
        source = left.pop()
        if source not in found:
            found.add(source)
            left.extend(_imports(source, root))
    return sorted(found)


@cache
def stamp_of(file: Path) -> bytes:
    """Hash of the contents of ``sources_of(file)``."""
    stamp = hashlib.sha256()
    for source in sources_of(file):
        stamp.update(hashlib.sha256(source.read_bytes()).digest())
    return stamp.digest()


class _OfAllSources:
    """A place of compiled code whose stamp is `stamp_of` the function's file."""

    def get_source_stamp(self) -> bytes:
        return stamp_of(Path(self._py_file))


class UserProvidedPlace(_OfAllSources, caching.UserProvidedCacheLocator):
    """Below NUMBA_CACHE_DIR, where that is set."""


class InTreePlace(_OfAllSources, caching.InTreeCacheLocator):
    """In ``__pycache__`` beside the source."""


class UserWidePlace(_OfAllSources, caching.UserWideCacheLocator):
    """In the user's cache folder, where the source's folder cannot be written to."""


_PLACES = (UserProvidedPlace, InTreePlace, UserWidePlace)
config.CACHE_LOCATOR_CLASSES = ",".join(f"{place.__module__}.{place.__qualname__}" for place in _PLACES)
