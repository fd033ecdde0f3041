"""Weight codes and scale formats against ml-dtypes, NumPy's float16, and tables written by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cycle_model.numerics import (
    CANONICAL_NAN_BITS,
    canonicalize_nan,
    slice_operand,
    widen_e8m0_scale,
    widen_fp16_scale,
)
from hw.errors import UserError
from hw.isa import WeightMode

CODES = np.arange(16, dtype=np.uint8)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal bit for bit; NaN on either side must be the canonical one in ``actual`` and any in ``expected``."""
    assert actual.dtype == np.float32
    nan = np.isnan(expected)
    np.testing.assert_array_equal(actual.view(np.uint32)[nan], CANONICAL_NAN_BITS)
    np.testing.assert_array_equal(actual.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def test_every_fp16_scale_widens_to_its_value() -> None:
    """All 2^16 patterns: value and sign of NumPy's float16, NaN canonical."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    assert_same_bits(widen_fp16_scale(bits), bits.view(np.float16).astype(np.float32))


def test_fp16_landmarks_by_hand() -> None:
    """Zero, smallest and largest subnormal, one, largest, infinity, negative zero: patterns from IEEE 754."""
    bits = np.array([0x0000, 0x0001, 0x03FF, 0x3C00, 0x7BFF, 0x7C00, 0x8000, 0xFC00, 0x7C01], np.uint16)
    expected = [0x00000000, 0x33800000, 0x387FC000, 0x3F800000, 0x477FE000, 0x7F800000, 0x80000000, 0xFF800000]
    assert widen_fp16_scale(bits).view(np.uint32).tolist() == [*expected, CANONICAL_NAN_BITS]


def test_every_e8m0_scale_widens_to_half_its_value() -> None:
    """All 2^8 patterns: half of ml-dtypes' value, exactly; 0xFF is the canonical NaN."""
    bits = np.arange(256, dtype=np.uint8)
    half = bits.view(ml_dtypes.float8_e8m0fnu).astype(np.float64) / 2  # float64 holds 2^-128
    assert_same_bits(widen_e8m0_scale(bits), half.astype(np.float32))
    assert float(widen_e8m0_scale(np.uint8(0))) == 2.0**-128, "e = 0 must be the subnormal 2^-128, not zero"


def test_every_mxfp4_code_is_twice_its_e2m1_value() -> None:
    """All 16 codes: operand / 2 is ml-dtypes' E2M1 value; both zeros give 0."""
    values = CODES.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    operands = slice_operand(CODES, WeightMode.MXFP4)
    np.testing.assert_array_equal(operands, 2 * values)
    assert (operands.min(), operands.max()) == (-12, 12)


def test_operands_by_hand() -> None:
    """The four modes' operands of a few codes, worked by hand from {h,0}, {0,l}, {h,1} and E2M1 x 2."""
    codes = np.array([0, 1, 7, 8, 9, 15], np.uint8)  # as h: 0 1 7 -8 -7 -1
    assert slice_operand(codes, WeightMode.MSB).tolist() == [0, 2, 14, -16, -14, -2]
    assert slice_operand(codes, WeightMode.LSB).tolist() == [0, 1, 7, 8, 9, 15]
    assert slice_operand(codes, WeightMode.DRAFT).tolist() == [1, 3, 15, -15, -13, -1]
    assert slice_operand(codes, WeightMode.MXFP4).tolist() == [0, 1, 12, 0, -1, -12]
    assert slice_operand(codes, WeightMode.MSB).dtype == np.int8


def test_operands_fit_five_signed_bits_and_use_all_of_them() -> None:
    """Over all modes and codes the operand takes every value from -16 to 15 and no other."""
    seen = {int(v) for mode in WeightMode for v in slice_operand(CODES, mode)}
    assert seen == set(range(-16, 16))


def test_a_code_beyond_four_bits_is_refused() -> None:
    """16 is not a nibble: one line, no silent wrap."""
    with pytest.raises(UserError, match="weight codes must be 4-bit, 0 to 15, not 16"):
        slice_operand(np.array([3, 16], np.uint8), WeightMode.MSB)


def test_nan_payloads_and_signs_are_canonicalized_and_nothing_else() -> None:
    """x86's default NaN, a signalling NaN and a payload become 0x7FC00000; numbers keep their bits."""
    bits = np.array([0xFFC00000, 0x7F800001, 0x7FC12345, 0x7F800000, 0x80000000, 0x3F800000], np.uint32)
    result = canonicalize_nan(bits.view(np.float32)).view(np.uint32).tolist()
    assert result == [CANONICAL_NAN_BITS] * 3 + [0x7F800000, 0x80000000, 0x3F800000]
