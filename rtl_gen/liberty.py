"""A Liberty file as synthesis needs it: unpacked, checked, known by its hash."""

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hw.errors import UserError

_CELL = re.compile(r'^\s*cell\s*\(\s*"?([\w.]+)"?\s*\)\s*\{', re.MULTILINE)
_AREA = re.compile(r"\barea\s*:\s*\"?([0-9.eE+-]+)")
_FLIP_FLOP = re.compile(r"\bff\s*\(")


@dataclass(frozen=True)
class Liberty:
    """A cell library.

    name    as the file calls it
    text    the file, unpacked
    sha256  of the unpacked text
    areas   cell -> area in the library's unit, um2 by convention
    flip_flop_area  of the smallest flip-flop
    """

    name: str
    text: str
    sha256: str
    areas: dict[str, float]
    flip_flop_area: float


def read_liberty(path: Path | str) -> Liberty:
    """Read ``path``, plain or gzipped.

    Raises UserError where it is missing, cannot be unpacked, is not Liberty, ends early, or lacks what mapping needs:
    cells with areas and at least one flip-flop.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except OSError as error:
        raise UserError(f"Liberty file {path} cannot be read: {error.strerror or error}") from error
    except (EOFError, ValueError, gzip.BadGzipFile) as error:
        raise UserError(f"Liberty file {path} must be text, plain or gzipped, not damaged: {error}") from error
    library = re.search(r'^\s*library\s*\(\s*"?([\w.]+)"?\s*\)', text, re.MULTILINE)
    if library is None:
        raise UserError(f"Liberty file {path} must start a library (...) group; none found")
    if text.count("{") != text.count("}"):
        raise UserError(f"Liberty file {path} must have balanced braces, not {text.count('{')} and {text.count('}')}")

    starts = list(_CELL.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    areas, flip_flops = {}, []
    for start, end in zip(starts, ends, strict=True):
        area = _AREA.search(text, start.end(), end)
        if area is None:
            raise UserError(f"Liberty file {path}: cell {start[1]} must have an area")
        areas[start[1]] = float(area[1])
        if _FLIP_FLOP.search(text, start.end(), end) and areas[start[1]] > 0:
            flip_flops.append(areas[start[1]])
    if not flip_flops or len(areas) < 3:
        raise UserError(f"Liberty file {path} must have gates and a flip-flop with areas; {len(areas)} cells found")
    return Liberty(library[1], text, hashlib.sha256(text.encode()).hexdigest(), areas, min(flip_flops))
