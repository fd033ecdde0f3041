"""Number formats of the numeric contract, from their bits: 4-bit weight codes, FP16 and E8M0 scales, FP32 NaN.

Everything here is integer manipulation of the bit fields, so that it is an account of the formats independent
of NumPy's own conversions (which the tests use as one outside truth, ml-dtypes being the other).

    FP16   1 sign, 5 exponent (bias 15), 10 fraction bits; subnormals, infinities, NaN
    E8M0   8 exponent bits (bias 127), no sign, no fraction: 2^(e - 127); 0xFF is NaN        (OCP MX v1.0)
    E2M1   1 sign, 2 exponent (bias 1), 1 fraction bit: 0 0.5 1 1.5 2 3 4 6 and negatives    (OCP MX v1.0)
"""

from __future__ import annotations

import numpy as np

from hw.errors import UserError
from hw.isa import WeightMode

CANONICAL_NAN_BITS = 0x7FC00000
CANONICAL_NAN = np.uint32(CANONICAL_NAN_BITS).view(np.float32)
"""The one NaN that arithmetic produces: quiet, positive, zero payload (as RISC-V does)."""


def canonicalize_nan(values: np.ndarray) -> np.ndarray:
    """``values`` (float32, any shape) with every NaN replaced by 0x7FC00000; a copy only where one is found.

    x86 returns 0xFFC00000 for an invalid operation and otherwise passes the first operand's payload on, so
    the bits of a NaN would depend on operand order.
    """
    is_nan = np.isnan(values)
    return np.where(is_nan, CANONICAL_NAN, values) if is_nan.any() else values


def _operand_of_code(code: int, mode: WeightMode) -> int:
    """Signed 5-bit multiplier operand of one 4-bit ``code`` (see ``hw.isa.WeightMode``)."""
    if mode is WeightMode.LSB:
        return code
    if mode is WeightMode.MXFP4:
        exponent, fraction = (code >> 1) & 3, code & 1
        magnitude = fraction if exponent == 0 else (2 + fraction) << (exponent - 1)  # 2 x the E2M1 value
        return -magnitude if code & 8 else magnitude
    signed = code - 16 if code & 8 else code
    return 2 * signed + (mode is WeightMode.DRAFT)


_OPERANDS = np.array([[_operand_of_code(code, mode) for code in range(16)] for mode in WeightMode], np.int8)


def slice_operand(codes: np.ndarray, mode: WeightMode) -> np.ndarray:
    """Multiplier operands of 4-bit codes.

    Parameters
    ----------
    codes : uint8, any shape, values 0 to 15
        Stored nibbles: h & 15 (MSB, DRAFT), l (LSB), or an E2M1 code (MXFP4).
    mode : WeightMode

    Returns
    -------
    int8, shape of ``codes``, values -16 to 15.

    Raises
    ------
    UserError
        A code above 15.
    """
    codes = np.asarray(codes)
    if codes.size and codes.max() > 15:
        raise UserError(f"weight codes must be 4-bit, 0 to 15, not {int(codes.max())}")
    return _OPERANDS[mode][codes]


def widen_fp16_scale(bits: np.ndarray) -> np.ndarray:
    """FP16 bit patterns as float32, exactly; every NaN becomes the canonical one.

    Parameters
    ----------
    bits : uint16, any shape

    Returns
    -------
    float32, shape of ``bits``.
    """
    bits = np.asarray(bits, np.uint16).astype(np.uint32)
    sign = (bits >> 15) << 31
    exponent = (bits >> 10) & 0x1F
    fraction = bits & 0x3FF

    normal = ((exponent + 112) << 23) | (fraction << 13)  # rebias 15 -> 127

    # A subnormal is fraction x 2^-24: shift its leading one up to bit 10, where it becomes the hidden one.
    significand = fraction
    shift = np.zeros_like(fraction)
    for step in (8, 4, 2, 1):
        low = significand < (1 << (11 - step))
        significand = np.where(low, significand << step, significand)
        shift += np.where(low, np.uint32(step), np.uint32(0))
    subnormal = ((113 - shift) << 23) | ((significand & 0x3FF) << 13)
    subnormal = np.where(fraction == 0, np.uint32(0), subnormal)

    special = np.where(fraction == 0, np.uint32(0x7F800000), np.uint32(CANONICAL_NAN_BITS))
    is_nan = (exponent == 31) & (fraction != 0)
    magnitude = np.where(exponent == 0, subnormal, np.where(exponent == 31, special, normal))
    return (magnitude | np.where(is_nan, np.uint32(0), sign)).astype(np.uint32).view(np.float32)


def widen_e8m0_scale(bits: np.ndarray) -> np.ndarray:
    """E8M0 exponents as float32 with MXFP4's factor 1/2 folded in: 2^(e - 128); 0xFF is the canonical NaN.

    Operands of MXFP4 codes are twice the E2M1 value, hence the 1/2. e = 1 and e = 0 land on the FP32
    subnormals 2^-127 and 2^-128, which are exact.

    Parameters
    ----------
    bits : uint8, any shape

    Returns
    -------
    float32, shape of ``bits``.
    """
    bits = np.asarray(bits, np.uint8).astype(np.uint32)
    normal = (bits - 1) << 23  # only used for e >= 2
    subnormal = np.uint32(1 << 21) << bits  # only used for e <= 1
    finite = np.where(bits >= 2, normal, subnormal)
    return np.where(bits == 0xFF, np.uint32(CANONICAL_NAN_BITS), finite).astype(np.uint32).view(np.float32)
