"""exp, sigmoid, reciprocal square root, sine and cosine in FP32, from our own tables and polynomials.

Each is a fixed sequence of FP32 operations, every one rounded to nearest even, none fused. Constants are
rounded from ``decimal``, whose exp is correctly rounded by specification, never from a C library.

    exp      x = n ln 2 + r, |r| <= 0.35; 1 + r + r^2 (1/2 + ... + r^5/7!), times 2^n
    sigmoid  cubic Taylor polynomials of 1 / (1 + e^y) around the middles of 256 segments of 1/16, y = |x| < 16;
             1 minus it for x > 0; 0 or 1 from |x| = 16 on (what the vector unit computes: no exp, no division)
    rsqrt    a seed of 128 entries (exponent parity, 6 bits), one Newton step for 16 bits, one in residual form
    sin, cos of an angle given as a 64-bit fraction of a turn: quadrant, then Taylor to degree 9 and 8
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np

from cycle_model.kernel_cache import njit

f32 = np.float32

# --- exp ---------------------------------------------------------------------------------------------------
_LOG2_E = f32(1.4426950408889634)
_LN2_HIGH = f32(0.693359375)  # 9 significant bits: n x this is exact
_LN2_LOW = f32(-2.1219444005469057e-4)  # ln 2 - _LN2_HIGH
_EXP_C = tuple(f32(1 / math.factorial(k)) for k in range(2, 8))
_C2, _C3, _C4, _C5, _C6, _C7 = _EXP_C
_ROUND = f32(1.5 * 2.0**23)  # adding it rounds to an integer
_EXP_HIGHEST, _EXP_LOWEST = f32(89.0), f32(-104.0)  # beyond: infinity, zero


@njit(inline="always")
def power_of_two(n):
    """2^n as float32, -126 <= n <= 127."""
    return np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def exp_f32(x):
    """e^x; +infinity above 88.73, 0 below -103.98, subnormals in between; x must not be NaN."""
    x = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = (x * _LOG2_E + _ROUND) - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    q = _C7
    q = q * r + _C6
    q = q * r + _C5
    q = q * r + _C4
    q = q * r + _C3
    q = q * r + _C2
    y = (q * (r * r) + r) + f32(1)
    whole = np.int32(n)
    half = np.int32(whole >> np.int32(1))
    return (y * power_of_two(half)) * power_of_two(whole - half)


# --- sigmoid -----------------------------------------------------------------------------------------------
SIGMOID_SEGMENTS = 256
SIGMOID_LIMIT = f32(16)


def _sigmoid_table() -> np.ndarray:
    """Taylor coefficients of t(y) = 1 / (1 + e^y) around (j + 1/2) / 16, float32 [256, 4]."""
    table = np.empty((SIGMOID_SEGMENTS, 4), np.float32)
    with localcontext() as context:
        context.prec = 40
        for j in range(SIGMOID_SEGMENTS):
            t = 1 / (1 + (Decimal(2 * j + 1) / 32).exp())
            slope = -t * (1 - t)
            terms = (t, slope, -slope * (1 - 2 * t) / 2, slope * (1 - 6 * t + 6 * t * t) / 6)
            table[j] = [float(term) for term in terms]
    return table


SIGMOID_TABLE = _sigmoid_table()


@njit(inline="always")
def sigmoid_f32(x):
    """1 / (1 + e^-x); x must not be NaN."""
    y = min(abs(x), SIGMOID_LIMIT)
    j = min(np.int32(y * f32(16)), np.int32(SIGMOID_SEGMENTS - 1))
    d = y - (f32(j) + f32(0.5)) * f32(0.0625)
    c = SIGMOID_TABLE[j]
    low = ((c[3] * d + c[2]) * d + c[1]) * d + c[0]
    low = low if y < SIGMOID_LIMIT else f32(0)
    return low if x < 0 else f32(1) - low


# --- reciprocal square root --------------------------------------------------------------------------------
def _rsqrt_seeds() -> np.ndarray:
    """1 / sqrt at the middle of each of 64 intervals of [1, 2), then of [2, 4); float32 [128]."""
    seeds = np.empty(128, np.float32)
    for j in range(128):
        numerator = (129 + 2 * (j % 64)) << (j // 64)  # the middle, in 128ths
        seeds[j] = math.isqrt((128 << 80) // numerator) / (1 << 40)
    return seeds


RSQRT_SEEDS = _rsqrt_seeds()


@njit(inline="always")
def rsqrt_f32(x):
    """1 / sqrt(x) for x from 2^-126 to the largest finite number."""
    bits = f32(x).view(np.int32)
    exponent = np.int32((bits >> np.int32(23)) - np.int32(127))
    odd = exponent & np.int32(1)
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32((np.int32(127) + odd) << np.int32(23))).view(np.float32)
    y = RSQRT_SEEDS[np.int32(odd * 64 + ((bits >> np.int32(17)) & np.int32(63)))]
    h = f32(0.5) * mantissa
    y = y * (f32(1.5) - h * (y * y))
    y = y + y * (f32(0.5) - h * (y * y))
    return y * power_of_two(-((exponent - odd) >> np.int32(1)))


# --- sine and cosine ---------------------------------------------------------------------------------------
_RADIANS = f32(2 * math.pi / 2.0**64)
_S3, _S5, _S7, _S9 = (f32(s / math.factorial(k)) for s, k in ((-1, 3), (1, 5), (-1, 7), (1, 9)))
_K4, _K6, _K8 = (f32(s / math.factorial(k)) for s, k in ((1, 4), (-1, 6), (1, 8)))


@njit(inline="always")
def sin_cos_f32(phase):
    """(sin, cos) of ``phase`` / 2^64 turns; ``phase`` uint64."""
    shifted = np.uint64(phase + np.uint64(1 << 61))
    quadrant = np.int64(shifted >> np.uint64(62))
    rest = np.int64(shifted & np.uint64((1 << 62) - 1)) - np.int64(1 << 61)
    x = f32(rest) * _RADIANS
    z = x * x
    sine = x + (x * z) * (_S3 + z * (_S5 + z * (_S7 + z * _S9)))
    cosine = (f32(1) - f32(0.5) * z) + (z * z) * (_K4 + z * (_K6 + z * _K8))
    if quadrant == 0:
        return sine, cosine
    if quadrant == 1:
        return cosine, -sine
    if quadrant == 2:
        return -sine, -cosine
    return -cosine, sine
