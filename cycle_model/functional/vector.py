"""The vector unit's arithmetic on float32 arrays, to the bit on every bit pattern (docs/pe.md, "Vector arithmetic").

Values only: rows, row registers and memories are the caller's. Every NaN that is computed is 0x7FC00000.
"""

from __future__ import annotations

import numpy as np

from cycle_model.formats import CANONICAL_NAN, canonicalize_nan
from cycle_model.functional.elementary import f32, sigmoid_f32
from cycle_model.kernel_cache import njit

INT8_LARGEST = f32(127)


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """rne(a + b)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return canonicalize_nan(a + b)


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """rne(a x b)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return canonicalize_nan(a * b)


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b where it is the greater, else a (so +0 and -0 give a); NaN where either is."""
    return _extremum(a, b, np.greater(b, a))


def minimum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b where it is the less, else a; NaN where either is."""
    return _extremum(a, b, np.less(b, a))


def _extremum(a: np.ndarray, b: np.ndarray, b_wins: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(a) | np.isnan(b), CANONICAL_NAN, np.where(b_wins, b, a))


@njit(nogil=True, cache=True)
def _sigmoid(x, out):
    for i in range(x.size):
        out[i] = sigmoid_f32(x[i]) if x[i] == x[i] else f32(np.nan)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`sigmoid_f32` of every element, any shape."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    out = np.empty_like(flat)
    _sigmoid(flat, out)
    return canonicalize_nan(out).reshape(np.shape(x))


def quantize(x: np.ndarray, reciprocal: np.ndarray) -> np.ndarray:
    """int8 rne(rne(x reciprocal)), clipped to -127 .. 127; 0 for NaN."""
    product = multiply(x, reciprocal)
    whole = np.clip(np.rint(product), -INT8_LARGEST, INT8_LARGEST)
    return np.where(np.isnan(whole), f32(0), whole).astype(np.int8)


def absolute_maximum(so_far: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Per row of ``rows`` [n, C], `maximum` of ``so_far`` [n] and the absolute values, in any order."""
    magnitudes = np.abs(rows)
    largest = np.where(np.isnan(magnitudes).any(axis=1), CANONICAL_NAN, magnitudes.max(axis=1))
    return maximum(so_far, largest)


def scale(x: np.ndarray) -> np.ndarray:
    """rne(x / 127)."""
    return canonicalize_nan(x / INT8_LARGEST)


def reciprocal(x: np.ndarray) -> np.ndarray:
    """rne(127 / x), +0 where that is infinite."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        quotient = INT8_LARGEST / np.asarray(x, np.float32)
    return canonicalize_nan(np.where(np.isinf(quotient), f32(0), quotient))
