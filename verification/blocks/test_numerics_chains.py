"""Dot products, scaling, FP32 chains and the boundary against integers and exact rational arithmetic."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycle_model.numerics import (
    CANONICAL_NAN_BITS,
    Mxfp4Weights,
    accumulate_chain,
    fp32_add,
    group_dots,
    merge_slices,
    project,
    project_chain,
    quantize_activations,
    quantize_weights,
    scale_dots,
    slice_operand,
    widen_e8m0_scale,
    widen_fp16_scale,
    widen_scales,
)
from hw.errors import UserError
from hw.isa import WeightMode
from verification.bench.exact_rounding import exact_product, exact_sum, rne_fp32

F32_MAX = float(np.finfo(np.float32).max)
CORNER_DOTS = [0, 1, -1, 3, -5, 4095, 16385, -65535, 65536, -65536]  # a group of 32 reaches 32 x 16 x 128 = 65536
any_fp16 = st.integers(0, 0xFFFF)
any_fp32 = st.integers(0, 0xFFFFFFFF).map(lambda b: float(np.uint32(b).view(np.float32)))


def bits_of(value: float | np.ndarray) -> np.ndarray:
    """FP32 patterns, NaN as the canonical one (expected values may carry any)."""
    array = np.asarray(value, np.float32)
    return np.where(np.isnan(array), np.uint32(CANONICAL_NAN_BITS), array.view(np.uint32))


def raw_bits(value: np.ndarray) -> np.ndarray:
    """FP32 patterns as they are."""
    assert value.dtype == np.float32
    return np.ascontiguousarray(value).view(np.uint32)


# Integers ---------------------------------------------------------------------------------------------------


def test_every_product_of_every_mode() -> None:
    """All 16 codes x 256 activations x 4 modes as groups of one, against Python integers from the definition."""
    codes = np.arange(16, dtype=np.uint8)[:, None]
    activations = np.arange(-128, 128).astype(np.int8)[:, None]
    for mode in WeightMode:
        dots = group_dots(codes, activations, mode, group_size=1)
        assert dots.dtype == np.int32
        expected = [[int(slice_operand(c, mode)[0]) * a for c in codes] for a in range(-128, 128)]
        assert dots[:, :, 0].tolist() == expected


def test_slices_recombine_and_draft_is_16h_plus_8() -> None:
    """Every q in [-128, 127] and activation: 8 (2h) a + l a = q a and 8 (2h + 1) a = (16 (q >> 4) + 8) a."""
    q = np.arange(-128, 128)
    codes = q.astype(np.int8).view(np.uint8)[:, None]
    activations = np.arange(-128, 128).astype(np.int8)[:, None]
    msb = group_dots(codes >> 4, activations, WeightMode.MSB, 1)[:, :, 0]
    lsb = group_dots(codes & 15, activations, WeightMode.LSB, 1)[:, :, 0]
    draft = group_dots(codes >> 4, activations, WeightMode.DRAFT, 1)[:, :, 0]
    a = np.arange(-128, 128)[:, None]
    np.testing.assert_array_equal(8 * msb + lsb, a * q)
    np.testing.assert_array_equal(8 * draft, a * (16 * (q >> 4) + 8))


@pytest.mark.parametrize("mode", list(WeightMode))
def test_group_dots_equal_integer_sums(mode: WeightMode) -> None:
    """Random codes and activations, corners included, against int64 sums; extremes reach 32 x 16 x 128."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (7, 128)).astype(np.uint8)
    activations = rng.integers(-128, 128, (5, 128)).astype(np.int8)
    codes[0], activations[0] = 8, -128
    operands = slice_operand(codes, mode).astype(np.int64).reshape(7, 4, 32)
    expected = np.einsum("tgk,ogk->tog", activations.astype(np.int64).reshape(5, 4, 32), operands)
    np.testing.assert_array_equal(group_dots(codes, activations, mode), expected)
    if mode is WeightMode.MSB:
        assert expected[0, 0, 0] == 65536


# Integer x scale --------------------------------------------------------------------------------------------


def test_every_fp16_scale_against_corner_sums() -> None:
    """All 2^16 scales x corner sums x both shifts: the float64 product is exact (31 bits), rounded once to FP32."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = widen_fp16_scale(bits)
    for dot, shift in itertools.product(CORNER_DOTS, (0, 3)):
        with np.errstate(over="ignore", invalid="ignore"):
            expected = (np.float64(dot * 2**shift) * bits.view(np.float16).astype(np.float64)).astype(np.float32)
        np.testing.assert_array_equal(raw_bits(scale_dots(np.int32(dot), wide, shift)), bits_of(expected))


def test_every_e8m0_scale_against_corner_sums() -> None:
    """All 2^8 exponents x corner sums in rational arithmetic: exact subnormals, overflow to infinity, NaN."""
    exponents = np.arange(256, dtype=np.uint8)
    for dot in CORNER_DOTS:
        expected = [exact_product(dot, 2.0 ** (int(e) - 128) if e < 255 else math.nan) for e in exponents]
        terms = scale_dots(np.int32(dot), widen_e8m0_scale(exponents), 0)
        np.testing.assert_array_equal(raw_bits(terms), bits_of(expected))
    assert np.isinf(scale_dots(np.int32(4), widen_e8m0_scale(np.uint8(254)), 0)), "2^126 x 4 overflows"


def test_forced_ties_round_to_even() -> None:
    """Odd 25-bit products of an odd FP16 significand and an odd sum lie on a tie: 4000 of them, exactly."""
    rng = np.random.default_rng(4)
    significand = rng.integers(512, 1024, 20000) * 2 + 1
    dot = rng.integers(2**13, 2**14, 20000) * 2 + 1
    tied = (significand * dot >= 2**24) & (significand * dot < 2**25)
    significand, dot = significand[tied][:4000], dot[tied][:4000]
    assert len(dot) == 4000
    scales = (significand / 1024).astype(np.float32)
    expected = [exact_product(int(d) * 8, float(s)) for d, s in zip(dot, scales, strict=True)]
    np.testing.assert_array_equal(raw_bits(scale_dots(dot, scales, 3)), bits_of(expected))
    truncated = (significand * dot // 2 * 2) / 128  # what dropping the last bit would give
    assert 0.4 < np.mean(np.array(expected) != truncated) < 0.6, "half of the ties must round up"


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.integers(-(2**17), 2**17), any_fp32, st.sampled_from([0, 3]))
def test_scaling_matches_rational_arithmetic(dot: int, scale: float, shift: int) -> None:
    """Any sum and any FP32 scale, special values included: rounded once from the exact product."""
    actual = scale_dots(np.array([dot]), np.array([scale], np.float32), shift)
    assert raw_bits(actual)[0] == bits_of(exact_product(dot << shift, scale))


def test_special_scales_by_hand() -> None:
    """Infinity x 0 and NaN give 0x7FC00000; zero times a negative scale gives -0; signs follow IEEE."""
    scales = np.array([np.inf, -np.inf, np.inf, np.nan, -1.0, -0.0, -0.0], np.float32)
    dots = np.array([0, 5, -5, 1, 0, 7, -7])
    expected = [0x7FC00000, 0xFF800000, 0xFF800000, 0x7FC00000, 0x80000000, 0x80000000, 0x00000000]
    assert raw_bits(scale_dots(dots, scales, 3)).tolist() == expected


def test_sums_that_float32_cannot_hold_are_refused() -> None:
    """2^24 is the last exact one."""
    assert scale_dots(np.array([-(2**24)]), np.float32(1), 0)[0] == -(2**24)
    with pytest.raises(UserError, match="must not exceed 2\\^24"):
        scale_dots(np.array([2**24 + 1]), np.float32(1), 0)


# Addition and chains ----------------------------------------------------------------------------------------


def hard_addition_cases() -> list[tuple[float, float]]:
    """Pairs around every rounding decision: ties, just off ties, cancellation, subnormals, overflow, specials."""
    rng = np.random.default_rng(5)
    pairs: list[tuple[float, float]] = []
    for _ in range(1500):
        a = np.uint32(rng.integers(0x00800000, 0x7F000000)).view(np.float32)
        exponent = int((int(a.view(np.uint32)) >> 23) - 127)
        half_ulp = 2.0 ** (exponent - 24)
        for b in (half_ulp, -half_ulp, half_ulp * (1 + 2**-20), half_ulp * (1 - 2**-20), 3 * half_ulp):
            pairs.append((float(a), float(np.float32(b))))
        near = np.uint32(int(a.view(np.uint32)) + int(rng.integers(-3, 4))).view(np.float32)
        pairs.append((float(a), -float(near)))  # cancellation to the last bits
    tiny = rng.integers(0, 1 << 24, (1000, 2)).astype(np.uint32)  # subnormals and the smallest normals
    signs = rng.integers(0, 2, (1000, 2)).astype(np.uint32) << 31
    pairs += [tuple(map(float, row)) for row in (tiny | signs).view(np.float32)]
    last_half_ulp = 2.0**103
    pairs += [(F32_MAX, last_half_ulp), (F32_MAX, last_half_ulp * (1 - 2**-20)), (-F32_MAX, -F32_MAX)]
    specials = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 2.0**-149, -(2.0**-149)]
    return pairs + list(itertools.product(specials, specials))


def test_additions_match_rational_arithmetic() -> None:
    """Over 10 000 hard pairs, bit for bit, both orders of the operands."""
    pairs = hard_addition_cases()
    a, b = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    expected = bits_of([exact_sum(float(x), float(y)) for x, y in zip(a, b, strict=True)])
    assert len(pairs) > 10_000
    np.testing.assert_array_equal(raw_bits(fp32_add(a, b)), expected)
    np.testing.assert_array_equal(raw_bits(fp32_add(b, a)), expected)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(any_fp32, any_fp32)
def test_any_two_patterns_add_as_ieee(a: float, b: float) -> None:
    """Uniform patterns: wide exponent gaps, specials and NaN payloads."""
    actual = fp32_add(np.array([a], np.float32), np.array([b], np.float32))
    assert raw_bits(actual)[0] == bits_of(exact_sum(a, b))


@pytest.mark.full
def test_a_million_patterns_match_rational_arithmetic() -> None:
    """Half a million additions and as many products with uniform FP32 patterns, exponents drawn close together."""
    rng = np.random.default_rng(9)
    count = 500_000
    exponent = rng.integers(1, 254, count)
    other = np.clip(exponent + rng.integers(-26, 27, count), 0, 255)
    fields = rng.integers(0, 1 << 23, (2, count)) | rng.integers(0, 2, (2, count)) << 31
    a, b = ((fields | np.stack([exponent, other]) << 23).astype(np.uint32)).view(np.float32)
    sums = bits_of([exact_sum(float(x), float(y)) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(raw_bits(fp32_add(a, b)), sums)
    dots = rng.integers(-65536, 65537, count)
    products = bits_of([exact_product(int(d) * 8, float(s)) for d, s in zip(dots, b, strict=True)])
    np.testing.assert_array_equal(raw_bits(scale_dots(dots, b, 3)), products)


def test_chains_ascend_and_round_every_step() -> None:
    """2^24 + 1 + 1 stays 2^24 ascending, 1 + 1 + 2^24 gains 2; a pairwise sum would give 2^24 + 2 for both."""
    terms = np.array([[2.0**24, 1, 1], [1, 1, 2.0**24]], np.float32)
    assert accumulate_chain(terms).tolist() == [2.0**24, 2.0**24 + 2]
    assert accumulate_chain(terms[0, 1:], start=np.float32(2**24)) == 2.0**24


def test_chains_start_at_plus_zero_and_never_hold_minus_zero() -> None:
    """-0 terms and a cancellation both give +0."""
    terms = np.array([[-0.0, -0.0], [1.0, -1.0]], np.float32)
    assert raw_bits(accumulate_chain(terms)).tolist() == [0, 0]


def test_chains_that_meet_infinities_of_both_signs_end_in_the_canonical_nan() -> None:
    """inf - inf and any NaN payload give 0x7FC00000, also when numbers follow; one sign alone stays infinite."""
    payload = np.uint32(0xFFC12345).view(np.float32)
    terms = np.array([[np.inf, -np.inf, 1], [1, payload, 2], [1, -np.inf, 2]], np.float32)
    assert raw_bits(accumulate_chain(terms)).tolist() == [CANONICAL_NAN_BITS, CANONICAL_NAN_BITS, 0xFF800000]
    codes, q = np.ones((1, 3), np.uint8), np.ones((1, 3), np.int8)
    for scales, expected in (([np.inf, -np.inf, 1], CANONICAL_NAN_BITS), ([np.inf, 1, np.inf], 0x7F800000)):
        chain = project_chain(codes, np.array([scales], np.float16), q, WeightMode.LSB)
        assert raw_bits(chain).tolist() == [[expected]]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_project_chain_matches_a_scalar_chain(data: st.DataObject) -> None:
    """Small random projections in all modes, any scale pattern, step by step in rational arithmetic."""
    mode = data.draw(st.sampled_from(list(WeightMode)))
    groups, group_size = data.draw(st.sampled_from([(1, 2), (3, 4), (5, 2)]))
    inputs = groups * group_size
    codes = np.array([data.draw(st.lists(st.integers(0, 15), min_size=inputs, max_size=inputs))], np.uint8)
    q = np.array([data.draw(st.lists(st.integers(-128, 127), min_size=inputs, max_size=inputs))], np.int8)
    if mode is WeightMode.MXFP4:
        scales = np.array([data.draw(st.lists(st.integers(0, 255), min_size=groups, max_size=groups))], np.uint8)
    else:
        patterns = data.draw(st.lists(any_fp16, min_size=groups, max_size=groups))
        scales = np.array([patterns], np.uint16).view(np.float16)
    wide = widen_scales(scales)
    operands = slice_operand(codes, mode).astype(int)
    chain = 0.0
    for g in range(groups):
        span = range(g * group_size, (g + 1) * group_size)
        dot = sum(int(operands[0, k]) * int(q[0, k]) for k in span)
        chain = exact_sum(chain, exact_product(dot << mode.dot_shift, float(wide[0, g])))
    actual = project_chain(codes, scales, q, mode)
    assert actual.shape == (1, 1)
    assert raw_bits(actual)[0, 0] == bits_of(chain)


def test_a_fused_multiply_add_would_differ() -> None:
    """Worked by hand: the term 16385 x 1025/1024 = 16401 + 2^-10 is a tie and rounds to 16401; 2^24 + 16401 is a
    tie again and rounds down to 16793616. One fused rounding would see 16793617 + 2^-10 and give 16793618."""
    codes = np.zeros((1, 64), np.uint8)
    q = np.zeros((1, 64), np.int8)
    codes[0, 0], q[0, 0] = 8, 64  # 512, on the scale 2^15: 2^24
    codes[0, 32:40], q[0, 32:40] = 15, 127  # 8 x 1905 = 15240
    codes[0, 40], q[0, 40] = 15, 76  # + 1140
    codes[0, 41], q[0, 41] = 5, 1  # + 5 = 16385
    scales = np.array([[32768.0, 1025 / 1024]], np.float16)
    assert group_dots(codes, q, WeightMode.LSB)[0, 0].tolist() == [512, 16385]
    assert project_chain(codes, scales, q, WeightMode.LSB)[0, 0] == 16793616
    assert rne_fp32(Fraction(2**24) + Fraction(16385 * 1025, 1024)) == 16793618


# Whole projections ------------------------------------------------------------------------------------------


def test_the_worked_example() -> None:
    """The example of docs/numerics.md: four weights, one token; full 181 x s_a, draft 195.875 x s_a."""
    weights = quantize_weights(np.array([[127, -50, 7.5, 0]], np.float32) / 64, group_size=4)
    activations = quantize_activations(np.array([[1, -1, 0.5, 2]], np.float32))
    assert weights.q.tolist() == [[127, -50, 8, 0]]
    assert activations.q.tolist() == [[64, -64, 32, 127]]
    chains = {
        mode: float(project_chain(codes, weights.scales, activations.q, mode)[0, 0])
        for mode, codes in (
            (WeightMode.MSB, weights.msb_codes),
            (WeightMode.LSB, weights.lsb_codes),
            (WeightMode.DRAFT, weights.msb_codes),
        )
    }
    assert chains == {WeightMode.MSB: 176.0, WeightMode.LSB: 5.0, WeightMode.DRAFT: 195.875}
    scale = Fraction(rne_fp32(Fraction(2, 127)))
    full, draft = project(weights, activations), project(weights, activations, draft=True)
    assert float(full[0, 0]) == rne_fp32(181 * scale)
    assert float(draft[0, 0]) == rne_fp32(Fraction("195.875") * scale)
    text = (Path(__file__).parents[2] / "docs" / "numerics.md").read_text()
    for printed in (activations.scales, full, draft):
        assert f"0x{int(raw_bits(printed).ravel()[0]):08X}" in text


def test_mxfp4_by_hand() -> None:
    """Codes 7, 15, 1, 8 are 6, -6, 0.5, -0: on activations 2 1 4 127 they give 8; exponent 128 doubles it."""
    weights = Mxfp4Weights(np.array([[7, 15, 1, 8]], np.uint8), np.array([[128]], np.uint8))
    activations = quantize_activations(np.array([[2, 1, 4, 127]], np.float32))  # s_a = 1
    assert project(weights, activations).tolist() == [[16.0]]
    assert project(weights, activations, draft=True).tolist() == [[16.0]]
    poisoned = Mxfp4Weights(weights.codes, np.array([[255]], np.uint8))
    assert raw_bits(project(poisoned, activations)).tolist() == [[CANONICAL_NAN_BITS]]


def test_boundary_rounds_after_each_step() -> None:
    """rne(msb + lsb), then x s_a, then + bias, each in rational arithmetic; NaN canonical."""
    rng = np.random.default_rng(6)
    msb = rng.standard_normal((8, 16), dtype=np.float32) * 1000
    lsb, bias = rng.standard_normal((8, 16), dtype=np.float32), rng.standard_normal(16, dtype=np.float32)
    scale = rng.uniform(0.001, 0.1, 8).astype(np.float32)
    result = merge_slices(msb, lsb, scale, bias)
    for token, output in np.ndindex(8, 16):
        total = exact_sum(float(msb[token, output]), float(lsb[token, output]))
        y = rne_fp32(Fraction(total) * Fraction(float(scale[token])))
        assert float(result[token, output]) == exact_sum(y, float(bias[output]))
    nan = merge_slices(np.array([[np.inf]], np.float32), np.float32(0), np.zeros(1, np.float32))
    assert raw_bits(nan).tolist() == [[CANONICAL_NAN_BITS]]


def test_a_token_has_the_same_bits_alone_and_in_any_batch() -> None:
    """Every row of a 33-token, 70-output projection equals that row alone and that output alone."""
    rng = np.random.default_rng(7)
    weights = quantize_weights(rng.standard_normal((70, 256), dtype=np.float32))
    activations = quantize_activations(rng.standard_normal((33, 256), dtype=np.float32))
    together = project_chain(weights.msb_codes, weights.scales, activations.q, WeightMode.DRAFT)
    for token in range(33):
        alone = project_chain(weights.msb_codes, weights.scales, activations.q[token : token + 1], WeightMode.DRAFT)
        np.testing.assert_array_equal(raw_bits(alone[0]), raw_bits(together[token]))
    one = project_chain(weights.msb_codes[3:4], weights.scales[3:4], activations.q, WeightMode.DRAFT)
    np.testing.assert_array_equal(raw_bits(one[:, 0]), raw_bits(together[:, 3]))


def test_projection_approximates_the_real_product() -> None:
    """On Gaussian data full is within 2 % RMS and draft within 12 % of the float64 product: nothing is misplaced."""
    rng = np.random.default_rng(8)
    w, x = rng.standard_normal((64, 512), dtype=np.float32), rng.standard_normal((8, 512), dtype=np.float32)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    weights, activations = quantize_weights(w), quantize_activations(x)
    for draft, limit in ((False, 0.02), (True, 0.12)):
        error = project(weights, activations, draft=draft) - exact
        assert 0 < np.sqrt(np.mean(error**2) / np.mean(exact**2)) < limit


@pytest.mark.parametrize(
    ("codes", "scales", "activations", "message"),
    [
        ((2, 64), (2, 2), (1, 32), "activations must have 64 inputs, not 32"),
        ((2, 64), (3, 2), (1, 64), r"scales must be \[outputs, groups\] of codes \(2, 64\), not \(3, 2\)"),
        ((2, 64), (2, 3), (1, 64), r"scales must be \[outputs, groups\] of codes \(2, 64\), not \(2, 3\)"),
        ((2, 16384), (2, 1), (1, 16384), "group_size must be below 8192"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(codes: tuple, scales: tuple, activations: tuple, message: str) -> None:
    """One line naming the operand."""
    with pytest.raises(UserError, match=message):
        project_chain(
            np.zeros(codes, np.uint8), np.ones(scales, np.float16), np.zeros(activations, np.int8), WeightMode.MSB
        )


def test_scales_of_another_type_are_refused() -> None:
    """float32 scales are not what the machine stores."""
    with pytest.raises(UserError, match="scales must be float16, or uint8 for E8M0, not float32"):
        widen_scales(np.ones((1, 1), np.float32))


def test_group_sizes_that_do_not_divide_are_refused() -> None:
    """64 inputs cannot be cut into groups of 48."""
    with pytest.raises(UserError, match="group_size must divide the number of inputs 64, not 48"):
        group_dots(np.zeros((1, 64), np.uint8), np.zeros((1, 64), np.int8), WeightMode.MSB, 48)


def test_limits_of_exactness_are_refused():
    """Group size 0, a group whose sum could reach 2^24 (8192 x 2048), a dot product beyond -2^24: refused."""
    codes, activations = np.zeros((1, 8192), np.uint8), np.zeros((1, 8192), np.int8)
    with pytest.raises(UserError, match="group_size must divide"):
        group_dots(codes, activations, WeightMode.LSB, 0)
    with pytest.raises(UserError, match="group_size must be below 8192"):
        group_dots(codes, activations, WeightMode.LSB, 8192)
    assert group_dots(codes, activations, WeightMode.LSB, 4096).shape == (1, 1, 2)
    with pytest.raises(UserError, match=r"2\^24"):
        scale_dots(np.array([-(2**24) - 1, 5]), np.float32(1), 0)
    assert scale_dots(np.array([-(2**24)]), np.float32(1), 0) == -(2.0**24)
