"""Weight and activation quantisation against exact rational arithmetic and hand-worked rows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycle_model.numerics import quantize_activations, quantize_weights
from hw.errors import UserError
from verification.bench.exact_rounding import rne_fp16, rne_fp32, round_half_even

f32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
weight_values = st.one_of(
    st.floats(-8.0, 8.0, width=32),
    st.floats(-(2.0**-20), 2.0**-20, width=32),  # FP16-subnormal and vanishing scales
    st.floats(-8e6, 8e6, width=32),
    st.integers(-255, 255).map(lambda n: n / 2),  # exact ties on a power-of-two scale
)


def expected_weight_group(group: list[float]) -> tuple[float, list[int]]:
    """Scale and integers of one group by the contract's formula, in rational arithmetic."""
    absmax = max(abs(Fraction(v)) for v in group)
    if absmax == 0:
        return 0.0, [0] * len(group)
    scale = rne_fp16(absmax / 127) or 2.0**-24
    q = [max(-127, min(127, round_half_even(Fraction(v) / Fraction(scale)))) for v in group]
    return scale, q


def test_a_group_by_hand() -> None:
    """absmax 127/64 gives scale 1/64; 7.5 and 8.5 steps round to the even 8; zero stays zero."""
    w = np.array([[127, -50, 7.5, 8.5, 0, -0.5, -1.5, 126.75]], np.float32) / 64
    quantized = quantize_weights(w, group_size=8)
    assert quantized.scales.tolist() == [[1 / 64]]
    assert quantized.q.tolist() == [[127, -50, 8, 8, 0, 0, -2, 127]]
    assert quantized.msb_codes.tolist() == [[7, 12, 0, 0, 0, 0, 15, 7]]  # h & 15: -50 = 16 x -4 + 14
    assert quantized.lsb_codes.tolist() == [[15, 14, 8, 8, 0, 0, 14, 15]]
    assert quantized.scale_bits.tolist() == [[0x2400]]
    assert quantized.group_size == 8


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(weight_values, min_size=8, max_size=8))
def test_weight_groups_match_rational_arithmetic(group: list[float]) -> None:
    """Scale and every q equal the once-rounded exact quotients, over ordinary, tiny, huge and tied values."""
    quantized = quantize_weights(np.array([group], np.float32), group_size=8)
    scale, q = expected_weight_group([float(v) for v in np.array(group, np.float32)])
    assert float(quantized.scales[0, 0]) == scale
    assert quantized.q[0].tolist() == q


def test_scale_ties_round_to_even_in_fp16() -> None:
    """absmax = 127 x (midpoint of two FP16 neighbours) for every mantissa: the even neighbour is taken."""
    significand = np.arange(1024, 2047)
    absmax = (127 * (2 * significand + 1) / 4096).astype(np.float32)  # 18 bits: exact
    scales = quantize_weights(absmax[:, None], group_size=1).scales[:, 0]
    even = np.where(significand % 2 == 0, significand, significand + 1) / 2048
    np.testing.assert_array_equal(scales.astype(np.float64), even)


def test_vanishing_absmax_takes_the_smallest_scale_and_clips() -> None:
    """Groups with absmax / 127 below half of 2^-24 take 2^-24; at 1.49 x 2^-24, q would be 189 and clips to 127."""
    tiny = np.float32(1e-30)
    w = np.array([[tiny, 0, 0, 0], [0, 0, 0, 0], [189 * 2.0**-24, -189 * 2.0**-24, 2.0**-24, 0]], np.float32)
    quantized = quantize_weights(w, group_size=4)
    assert quantized.scale_bits[:, 0].tolist() == [1, 0, 1]
    assert quantized.q.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [127, -127, 1, 0]]


def test_slices_recombine_to_q_and_draft_is_the_middle() -> None:
    """For every q in [-127, 127]: 16 h + l = q, and 16 h + 8 is within 8 of q, the middle up to half a step."""
    q = np.arange(-127, 128)
    quantized = quantize_weights(q[None, :].astype(np.float32), group_size=255)
    assert quantized.q[0].tolist() == q.tolist()
    h = (quantized.msb_codes[0].astype(int) ^ 8) - 8
    low = quantized.lsb_codes[0].astype(int)
    np.testing.assert_array_equal(16 * h + low, q)
    np.testing.assert_array_equal(np.unique(16 * h + 8 - q), np.arange(-7, 9))


def test_dequantized_is_q_times_scale_exactly() -> None:
    """q x scale has 18 significant bits at most, so float32 equals float64."""
    rng = np.random.default_rng(1)
    quantized = quantize_weights(rng.standard_normal((6, 96), dtype=np.float32))
    wide = np.repeat(quantized.scales.astype(np.float64), 32, axis=1)
    np.testing.assert_array_equal(quantized.dequantized().astype(np.float64), quantized.q * wide)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_refused_by_place(bad: float) -> None:
    """NaN and infinities name row and input."""
    w = np.zeros((3, 64), np.float32)
    w[2, 33] = bad
    with pytest.raises(UserError, match=rf"weights must be finite, not {bad} at row 2 input 33"):
        quantize_weights(w)


def test_absmax_limit_is_tight() -> None:
    """8 321 039.5 still has the FP16 scale 65504; 127 x 65520 = 8 321 040 is refused, naming row and group."""
    w = np.zeros((2, 64), np.float32)
    w[1, 40] = -8321039.5
    assert quantize_weights(w).scales[1, 1] == 65504
    w[1, 40] = -8321040
    with pytest.raises(UserError, match=r"weight absmax must be below 8321040 .* in row 1 group 1"):
        quantize_weights(w)


@pytest.mark.parametrize("group_size", [0, 5, 64])
def test_group_sizes_that_do_not_divide_are_refused(group_size: int) -> None:
    """32 inputs cannot be cut into groups of 0, 5 or 64."""
    with pytest.raises(UserError, match=f"group_size must divide the number of inputs 32, not {group_size}"):
        quantize_weights(np.ones((1, 32), np.float32), group_size)


def test_matrices_of_other_rank_are_refused() -> None:
    """A vector is not a matrix."""
    with pytest.raises(UserError, match=r"weights must be a matrix \[rows, inputs\], not of shape \(32,\)"):
        quantize_weights(np.ones(32, np.float32))


def test_activations_by_hand() -> None:
    """absmax 2: s_a = rne(2/127) = 0x3C810204, r = 63.5; 63.5 ties to 64, 31.75 rounds to 32; a zero row is zeros."""
    x = np.array([[1, -1, 0.5, 2], [0, -0.0, 0, 0]], np.float32)
    quantized = quantize_activations(x)
    assert quantized.q.tolist() == [[64, -64, 32, 127], [0, 0, 0, 0]]
    assert quantized.scales.view(np.uint32).tolist() == [0x3C810204, 0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.floats(-8, 8, width=32), f32), min_size=1, max_size=6))
def test_activation_rows_match_rational_arithmetic(row: list[float]) -> None:
    """Each of the three FP32 roundings and the integer rounding in rational arithmetic, over all of FP32."""
    x = np.array([row], np.float32)
    quantized = quantize_activations(x)
    absmax = max(abs(Fraction(float(v))) for v in x[0])
    assert float(quantized.scales[0]) == rne_fp32(absmax / 127)
    reciprocal = rne_fp32(127 / absmax) if absmax else float("inf")
    if reciprocal == float("inf"):
        expected = [0] * len(row)
    else:
        products = [rne_fp32(Fraction(float(v)) * Fraction(reciprocal)) for v in x[0]]
        expected = [max(-127, min(127, round_half_even(Fraction(p)))) for p in products]
    assert quantized.q[0].tolist() == expected


def test_rows_whose_reciprocal_overflows_are_zero_and_the_next_row_is_not() -> None:
    """r = 127 / absmax overflows from 127 x 2^-128 downwards: such rows give zeros, the first finite r full scale."""
    boundary = np.float32(127 * 2.0**-128)  # 127 / boundary = 2^128 exactly: infinity
    above = np.nextafter(boundary, np.float32(1))
    x = np.array([[boundary, 0], [above, -above], [np.float32(2.0**-149), 0]], np.float32)
    quantized = quantize_activations(x)
    assert quantized.q.tolist() == [[0, 0], [127, -127], [0, 0]]
    assert quantized.scales.tolist() == [2.0**-128, float(np.float32(above) / np.float32(127)), 0.0]


def test_double_rounding_of_activations_is_the_contract() -> None:
    """Where rounding x r to FP32 first lands on a tie, the result follows the tie, not the exact product."""
    rng = np.random.default_rng(2)
    absmax = rng.uniform(0.5, 1, 4000).astype(np.float32)
    steps = rng.integers(0, 126, 4000) + 0.5
    x = np.stack([absmax, (steps * absmax / 127).astype(np.float32)], axis=1)
    q = quantize_activations(x).q[:, 1]
    r = np.float32(127) / absmax
    exact = np.array(
        [round_half_even(Fraction(float(a)) * Fraction(float(b))) for a, b in zip(x[:, 1], r, strict=True)]
    )
    twice = np.array(
        [
            round_half_even(Fraction(rne_fp32(Fraction(float(a)) * Fraction(float(b)))))
            for a, b in zip(x[:, 1], r, strict=True)
        ]
    )
    assert (exact != twice).any(), "the vectors must contain a case that tells the two apart"
    np.testing.assert_array_equal(q, twice)


def test_non_finite_activations_are_refused_by_token() -> None:
    """A NaN names its token and input."""
    x = np.zeros((4, 8), np.float32)
    x[3, 1] = np.nan
    with pytest.raises(UserError, match="activations must be finite, not nan at token 3 input 1"):
        quantize_activations(x)


def test_a_zero_group_raises_no_floating_point_flag():
    """Groups of zeros, alone and beside others, quantise to zeros without dividing by zero on the way."""
    w = np.zeros((2, 64), np.float32)
    w[0, :32] = 1.0
    with np.errstate(all="raise"):
        quantized = quantize_weights(w)
    assert quantized.q[0].tolist() == [127] * 32 + [0] * 32
    assert not quantized.q[1].any()
    assert (quantized.scales[:, 1] == 0).all()
