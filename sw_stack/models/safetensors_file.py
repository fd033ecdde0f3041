"""One ``.safetensors`` file, memory-mapped and decoded with NumPy alone.

The format: eight bytes with the header's length, a JSON header (name -> dtype, shape, byte range), the data. The
``safetensors`` package hands BF16 to NumPy callers only through another library, and its messages do not name file
and tensor; a checked reader is shorter than working around both.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import UserError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
NUMPY_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "BOOL": "|b1",
}
"""Stored dtype -> NumPy type of the mapped bytes; BF16 has none and is decoded from its bits."""
FLOATS = ("F64", "F32", "F16", "BF16")
FP8 = ("F8_E4M3", "F8_E5M2", "F8_E8M0")


@dataclass(frozen=True)
class StoredTensor:
    """Header entry of one tensor; ``start`` counts from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


class SafetensorsFile:
    """Tensors of one file, read when asked for.

    Raises UserError, in one line that names the file (and tensor), where the file is missing, truncated or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._total = path.stat().st_size
            with open(path, "rb") as stream:
                prefix = stream.read(8)
                if len(prefix) < 8:
                    raise UserError(f"{path}: truncated: {len(prefix)} bytes are no safetensors file")
                (length,) = struct.unpack("<Q", prefix)
                if not 2 <= length <= min(MAX_HEADER_BYTES, self._total - 8):
                    raise UserError(
                        f"{path}: not a safetensors file, or truncated: header of {length} bytes in {self._total}"
                    )
                header = stream.read(length)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            entries = json.loads(header)
        except ValueError as error:
            raise UserError(f"{path}: the safetensors header is not JSON: {error}") from error
        if not isinstance(entries, dict):
            raise UserError(f"{path}: the safetensors header must be an object, not {type(entries).__name__}")
        entries.pop("__metadata__", None)
        self.tensors = {name: self._entry(name, entry, 8 + length) for name, entry in entries.items()}

    def _entry(self, name: str, entry: object, data_start: int) -> StoredTensor:
        try:
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            numbers = [*shape, first, last]
        except (TypeError, KeyError, ValueError):
            raise UserError(f"{self.path}: tensor {name!r} must have dtype, shape and data_offsets") from None
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise UserError(f"{self.path}: tensor {name!r} must have sizes of at least 0, not {numbers}")
        if dtype in FP8:
            raise UserError(f"{self.path}: tensor {name!r} is stored as {dtype}; convert FP8 checkpoints to BF16 first")
        if dtype not in NUMPY_TYPES:
            raise UserError(f"{self.path}: tensor {name!r} has the unknown dtype {dtype!r}")
        size = math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize
        if last - first != size:
            raise UserError(
                f"{self.path}: tensor {name!r} of shape {list(shape)} in {dtype} must have {size} bytes, "
                f"not {last - first}"
            )
        if data_start + last > self._total:
            raise UserError(
                f"{self.path}: truncated: tensor {name!r} ends at byte {data_start + last} of {self._total}"
            )
        return StoredTensor(dtype, shape, data_start + first, size)

    def raw(self, name: str) -> np.ndarray:
        """The stored bits as a read-only map of the file: nothing is read before it is used."""
        stored = self.tensors[name]
        if stored.size_bytes == 0:
            return np.zeros(stored.shape, NUMPY_TYPES[stored.dtype])
        return np.memmap(self.path, NUMPY_TYPES[stored.dtype], "r", stored.start, stored.shape)

    def floats(self, name: str, part: object = ()) -> np.ndarray:
        """A float tensor, or the ``part`` of it that an index selects, as float16, float32 or float64 without rounding.

        UserError where it is not stored as floats or holds infinities or NaNs.
        """
        dtype = self.tensors[name].dtype
        if dtype not in FLOATS:
            raise UserError(f"{self.path}: tensor {name!r} must be stored as {', '.join(FLOATS)}, not {dtype}")
        values = np.array(self.raw(name)[part])
        if dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{self.path}: tensor {name!r} must be finite")
        return values
