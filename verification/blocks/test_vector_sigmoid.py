"""The sigmoid unit: its own table, every bit of `sigmoid_f32`, and how far that is from the sigmoid."""

import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numba import njit

from cycle_model.functional import vector
from cycle_model.functional.elementary import SIGMOID_TABLE, sigmoid_f32
from hw.isa.vector_timing import sigmoid_stages
from hw.params import chip
from hw.pe.vector.sigmoid import SigmoidUnit
from hw.pe.vector.sigmoid_table import binary32, sigmoid_coefficients
from verification.bench.float_vectors import NAN, hard_values, run_pipeline

# As docs/runtime.md states them; found by test_worst_error_of_all_inputs, at -13.874990 and 0.37527493.
WORST_ULP, WORST_ABSOLUTE = 2.0868, 6.2707e-8


def _unit(**stages: int) -> SigmoidUnit:
    tiny = chip("tiny")
    return SigmoidUnit(replace(tiny, pe=replace(tiny.pe, **stages)))


def test_table_by_hand_and_the_model_s():
    """Segments 0 and 255 from series worked by hand; all 1,024 entries equal the model's, which are made otherwise."""
    table = np.array(sigmoid_coefficients(), np.uint32)
    assert table.shape == (4, 256)
    values = table.view(np.float32)
    # t = 1/2 - y/4 + y^3/48 - y^5/480 ... and its derivatives, at y = 1/32.
    assert values[:, 0] == pytest.approx([0.49218813572, -0.24993897478, 0.00195248922, 0.02081300], rel=1e-6)
    # t = e^-y - e^-2y ... at y = 511/32: e^-16 e^(1/32) = 1.1253517e-7 x 1.0317434; derivatives -t, t, -t but for t^2.
    assert values[:, 255] == pytest.approx([1.16107e-7, -1.16107e-7, 0.580534e-7, -0.193511e-7], rel=1e-5)
    assert np.array_equal(table.T, SIGMOID_TABLE.view(np.uint32))


@pytest.mark.parametrize("seed", [1, 2])
def test_rounding_of_constants(seed):
    """`binary32` of 40-digit decimals is the nearest float32; of exact ties, the even one."""
    rng = np.random.default_rng(seed)
    with localcontext() as context:
        context.prec = 200
        for bits in rng.integers(1 << 24, 0x7E000000, 200):
            low, high = (Decimal(float(np.uint32(each).view(np.float32))) for each in (bits, bits + 1))
            for share, want in ((0, bits), (Decimal("0.4999999999"), bits), (Decimal("0.5000000001"), bits + 1)):
                assert binary32(low + (high - low) * share) == want
                assert binary32(-low - (high - low) * share) == want | 1 << 31
            assert binary32((low + high) / 2) == bits + (bits & 1)
    assert binary32(Decimal(0)) == 0


def test_no_product_is_subnormal():
    """Why the unit's multipliers may take operands and products for normal numbers or zeros.

    |d| <= 2^-5 is a multiple of 2^-29, the last place of the smallest y of each segment that is not far from its
    middle. What multiplies d is a sum of numbers whose last places bound it from below, or cannot cancel at all.
    """
    table = np.array(sigmoid_coefficients(), np.uint32).view(np.float32)
    _, c1, c2, c3 = np.abs(table.astype(float))
    smallest_d, largest_d, place = 2.0**-29, 2.0**-5, 2.0**-24
    assert (c3 * smallest_d).min() > 2.0**-126  # the first product
    least = np.minimum(c3 * smallest_d, c2).min() * place  # a difference of two numbers is no finer than their places
    assert least * smallest_d > 2.0**-126  # the second, where c2 + c3 d is not 0
    largest_sum = (c2 + c3 * largest_d) * (1 + place)
    assert (c1 > 1.01 * largest_sum * largest_d).all()  # c1 + (c2 + c3 d) d keeps its size ...
    assert (0.009 * c1 * smallest_d).min() > 2.0**-126  # ... so that the third is normal

    x = np.random.default_rng(3).uniform(0, 16, 100_000).astype(np.float32)
    x = np.concatenate([x, (np.arange(1, 512, 2, dtype=np.float32) / 32), np.float32([0, 1e-45, 2.0**-126, 1e-30])])
    around = np.concatenate([x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(15))])
    d = around - ((2 * np.trunc(16 * around) + 1) / 32).astype(np.float32)
    assert d.dtype == np.float32 and np.abs(d).max() <= largest_d
    assert np.abs(d[d != 0]).min() >= smallest_d


EDGES = [
    (0x00000000, 0x3F000000),  # 0: 1/2 exactly, on both sides
    (0x80000000, 0x3F000000),
    (0x00000001, 0x3F000000),
    (0x80000001, 0x3F000000),
    (0x41800000, 0x3F800000),  # 16 and beyond: 1, and 0 on the other side
    (0x7F800000, 0x3F800000),
    (0xC1800000, 0x00000000),
    (0xFF800000, 0x00000000),
    (0x7F800001, NAN),
    (0xFFFFFFFF, NAN),
]


def test_edges():
    """Zeros, the limit, infinities and NaN, stated."""
    x, want = zip(*EDGES, strict=True)
    assert run_pipeline(_unit(), {"x": np.array(x)}, "value") == list(want)
    assert vector.sigmoid(np.array(x, np.uint32).view(np.float32)).view(np.uint32).tolist() == list(want)


@pytest.mark.parametrize(
    "stages", [{}, {"vector_add_stages": 1, "vector_mul_stages": 1}, {"vector_add_stages": 2, "vector_mul_stages": 4}]
)
def test_every_segment_equals_the_functional_unit(stages):
    """Both ends of all 256 segments, random places and hard values, both signs: bit for bit, one a cycle."""
    rng = np.random.default_rng(31)
    starts = (np.arange(257, dtype=np.float32) / 16).view(np.uint32)
    inside = rng.uniform(0, 16, 200).astype(np.float32).view(np.uint32)
    x = np.concatenate([starts, starts[1:] - 1, inside, hard_values(150, rng)]).astype(np.uint32)
    x = np.concatenate([x, x ^ np.uint32(1 << 31)])
    if stages:
        x = x[::3]
    dut = _unit(**stages)
    got = run_pipeline(dut, {"x": x}, "value")
    assert np.array_equal(got, vector.sigmoid(x.view(np.float32)).view(np.uint32))
    assert dut.latency == sigmoid_stages(dut._chip)


@njit
def _worst(start, stop, step):
    """Largest error in ulps of the true value, and absolute, of every ``step``-th input from ``start`` to ``stop``."""
    in_ulps = absolute = 0.0
    for bits in range(start, stop, step):
        x = np.uint32(bits).view(np.float32)
        truth = 1 / (1 + math.exp(-np.float64(x)))
        error = abs(np.float64(sigmoid_f32(x)) - truth)
        field = np.float32(truth).view(np.uint32) >> np.uint32(23)
        absolute = max(absolute, error)
        in_ulps = max(in_ulps, error * 2.0 ** (150.0 - np.float64(field)))
    return in_ulps, absolute


def _worst_of_both_signs(step: int) -> tuple[float, float]:
    in_ulps, absolute = zip(*(_worst(sign, sign + 0x41800000, step) for sign in (0, 1 << 31)), strict=True)
    return max(in_ulps), max(absolute)


def test_worst_error_of_a_dense_sample():
    """36 M inputs below 16 in magnitude are within the stated worst errors; the stated worst inputs attain them."""
    in_ulps, absolute = _worst_of_both_signs(61)
    assert in_ulps <= WORST_ULP and absolute <= WORST_ABSOLUTE
    assert round(_worst(0xC15DFFF5, 0xC15DFFF6, 1)[0], 4) == WORST_ULP
    assert float(f"{_worst(0x3EC02409, 0x3EC0240A, 1)[1]:.4e}") == WORST_ABSOLUTE


@pytest.mark.full
def test_worst_error_of_all_inputs():
    """All 2.2e9 inputs below 16 in magnitude (the others give 0 or 1): exactly the stated worst errors."""
    in_ulps, absolute = _worst_of_both_signs(1)
    assert (round(in_ulps, 4), float(f"{absolute:.4e}")) == (WORST_ULP, WORST_ABSOLUTE)
