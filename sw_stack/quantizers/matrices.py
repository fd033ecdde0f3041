"""Weight matrices and activations to measure on: seeded distributions, or a tensor of a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from cycle_model.numerics import ABSMAX_LIMIT, GROUP_SIZE
from hw.errors import UserError, nearest

Generator = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

VERY_HEAVY_DOF = 1.5
SPARSE_ZERO_FRACTION = 0.9


def gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def student_t(dof: float) -> Generator:
    """Student's t with ``dof`` degrees of freedom; the variance is infinite up to 2."""
    return lambda rng, shape: rng.standard_t(dof, shape).astype(np.float32)


def sparse(zero_fraction: float) -> Generator:
    """Standard normal with each weight zero at probability ``zero_fraction``."""
    return lambda rng, shape: gaussian(rng, shape) * (rng.random(shape) >= zero_fraction)


DISTRIBUTIONS: dict[str, Generator] = {
    "gaussian": gaussian,
    "laplace": lambda rng, shape: rng.laplace(size=shape).astype(np.float32),
    "student-t 3": student_t(3),
    f"student-t {VERY_HEAVY_DOF}": student_t(VERY_HEAVY_DOF),
    f"sparse {SPARSE_ZERO_FRACTION:.0%}": sparse(SPARSE_ZERO_FRACTION),
}


def silu_of_gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """x / (1 + exp(-x)) of a standard normal: activations after SiLU, whose mean is not zero."""
    x = rng.standard_normal(shape)
    return (x / (1 + np.exp(-x))).astype(np.float32)


ACTIVATIONS: dict[str, Generator] = {"unbiased": gaussian, "biased": silu_of_gaussian}

_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True)
class TensorSample:
    """Rows of one tensor of a file.

    name    the tensor's name
    shape   of the whole tensor
    values  float32 [rows, inputs], rows evenly spaced over the tensor
    """

    name: str
    shape: tuple[int, int]
    values: np.ndarray


def read_tensor(path: Path, name: str | None, most_values: int) -> TensorSample:
    """Evenly spaced rows of a matrix in a safetensors file, read memory-mapped.

    ``name`` None takes the largest floating-point matrix whose inputs are a multiple of the group size (the
    first by name among equals). At most about ``most_values`` values are read, so that a whole model's file
    costs no more than a small one. BF16 is widened by placing its bits above sixteen zeros.

    Raises
    ------
    UserError
        A missing, truncated or foreign file; no such tensor; not a floating-point matrix; inputs that the
        group size does not divide; NaN, infinite or too large values; all zeros. Names the file and the tensor.
    """
    header = _read_header(path)
    chosen = _largest_matrix(path, header) if name is None else name
    if chosen not in header:
        raise UserError(f"{path}: no tensor {chosen!r}; {nearest(chosen, sorted(header))}")
    reason = _unusable(header[chosen])
    if reason:
        raise UserError(f"{path}: tensor {chosen!r} must be {reason}")
    entry = header[chosen]
    shape = tuple(entry["shape"])
    stored = np.memmap(path, _DTYPES[entry["dtype"]], "r", offset=entry["offset"], shape=shape)
    rows = min(shape[0], max(1, most_values // shape[1]))
    sample = stored[np.linspace(0, shape[0] - 1, rows).astype(np.int64)]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
        values = _widen_bf16(sample) if entry["dtype"] == "BF16" else sample.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: tensor {chosen!r} must be finite, it holds NaN or infinity")
    if np.abs(values).max() >= ABSMAX_LIMIT:
        raise UserError(f"{path}: tensor {chosen!r} must stay below {ABSMAX_LIMIT}, the reach of FP16 scales")
    if not values.any():
        raise UserError(f"{path}: tensor {chosen!r} must hold a non-zero weight")
    return TensorSample(chosen, shape, values)


def _widen_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read_header(path: Path) -> dict[str, dict]:
    """Name -> dtype, shape and byte offset in the file, of a file that safetensors has found whole.

    The library checks; the offsets are read here because its NumPy interface cannot load BF16.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from error
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(length))
    entries.pop("__metadata__", None)
    return {
        name: {"dtype": e["dtype"], "shape": e["shape"], "offset": 8 + length + e["data_offsets"][0]}
        for name, e in entries.items()
    }


def _unusable(entry: dict) -> str | None:
    """The rule that a tensor breaks, with what it is; None where it can be measured."""
    if entry["dtype"] not in _DTYPES:
        return f"of type {', '.join(_DTYPES)}, not {entry['dtype']}"
    if len(entry["shape"]) != 2 or 0 in entry["shape"]:
        return f"a matrix [outputs, inputs], not of shape {entry['shape']}"
    if entry["shape"][1] % GROUP_SIZE:
        return f"divisible into groups of {GROUP_SIZE} inputs, not of shape {entry['shape']}"
    return None


def _largest_matrix(path: Path, header: dict[str, dict]) -> str:
    usable = sorted(name for name, entry in header.items() if _unusable(entry) is None)
    if not usable:
        raise UserError(f"{path}: no 2-D floating-point tensor whose inputs are a multiple of {GROUP_SIZE}")
    return max(usable, key=lambda name: header[name]["shape"][0] * header[name]["shape"][1])
