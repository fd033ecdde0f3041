"""Row operations: norm, requantisation, activations and combination, against scalar steps written from the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cycle_model.functional import rows
from cycle_model.numerics import quantize_activations

F = np.float32


def scalar_mean_square(x: np.ndarray) -> F:
    """16 lanes in ascending order, folded 8, 4, 2, 1, one FP32 operation at a time."""
    lanes = [F(0)] * 16
    for i, value in enumerate(x):
        lanes[i % 16] = lanes[i % 16] + F(value) * F(value)
    width = 8
    while width:
        for j in range(width):
            lanes[j] = lanes[j] + lanes[j + width]
        width //= 2
    return lanes[0] / F(len(x))


@pytest.mark.parametrize("n", [1, 5, 16, 33, 192])
def test_mean_square_follows_the_stated_order(n):
    """Bits of 16 lanes and a fold, for lengths that fill no, some and all lanes."""
    x = (np.random.default_rng(n).standard_normal(n) * 100).astype(np.float32)
    got = rows.mean_square(x, np.empty(16, np.float32))
    assert F(got).tobytes() == scalar_mean_square(x).tobytes()


def test_the_order_shows():
    """The case is no coincidence: the same squares summed one after the other give other bits."""
    x = (np.random.default_rng(192).standard_normal(192) * 100).astype(np.float32)
    total = F(0)
    for value in x:
        total = total + value * value
    assert total / F(192) != scalar_mean_square(x)


def test_rms_norm_by_hand():
    """(3, 4, 0, 0): mean square 6.25, so values / 2.5 x weight; exact in binary but for 1/2.5 (one rounding each)."""
    x = np.array([[3, 4, 0, 0]], np.float32)
    out = np.empty_like(x)
    rows.rms_norm(x, np.array([1, 2, 3, 4], np.float32), F(0), 0, 1, out)
    assert out[0] == pytest.approx([1.2, 3.2, 0, 0], rel=2e-7)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-38, 1e30, 0.0])
def test_requantisation_has_the_bits_of_the_contract(scale):
    """Same integers and scales as ``quantize_activations``, down to rows so small that they quantise to zeros."""
    x = (np.random.default_rng(4).standard_normal((7, 96)) * scale).astype(np.float32)
    q, scales = np.empty(x.shape, np.int8), np.empty(len(x), np.float32)
    rows.quantize_rows(x, 0, len(x), q, scales)
    want = quantize_activations(x)
    assert np.array_equal(q, want.q) and scales.tobytes() == want.scales.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_requantisation_reports_what_is_not_finite(value):
    """The scale of a row with NaN or infinity is NaN."""
    x = np.ones(8, np.float32)
    x[5] = value
    assert math.isnan(rows.quantize_row(x, np.empty(8, np.int8)))


def test_silu_times_up():
    """0 at 0; g u beyond 16; 0 below -16; else g sigmoid(g) u within 4e-7 of it (three roundings and the table's)."""
    g = np.array([0, 20, -20, 1, -2.5, 7], np.float32)
    u = np.array([5, 3, 3, 2, -4, 0.5], np.float32)
    out = np.empty(6, np.float32)
    rows.silu_up_row(np.concatenate([g, u]), out)
    assert out[:3].tolist() == [0, 60, 0]
    truth = g.astype(float) / (1 + np.exp(-g.astype(float))) * u
    assert out[3:] == pytest.approx(truth[3:], rel=4e-7)


def test_clamped_swiglu_by_hand():
    """Limit 7: gate 9 -> 7, gate -9 stays, up 10 -> 7 and -10 -> -7; (up + 1) g sigmoid(1.702 g)."""
    gate_up = np.array([9, -9, 2, 2, 10, 1, -10, 0], np.float32)
    out = np.empty(4, np.float32)
    rows.clamped_swiglu_row(gate_up, F(1.702), F(7), out)

    def glu(g: float) -> float:
        return g / (1 + math.exp(-1.702 * g))

    assert out == pytest.approx([8 * glu(7), 2 * glu(-9), -6 * glu(2), 1 * glu(2)], rel=1e-6)


def test_experts_combine_in_ascending_slots():
    """2^24, 1, 1, -2^24 in this order is 0 in FP32, in another order 2; empty slots add nothing."""
    values = np.array([[2.0**24], [1], [1], [-(2.0**24)]], np.float32)
    weights = np.ones((2, 4), np.float32)
    out = np.empty((2, 1), np.float32)
    rows.combine_experts(values, weights, np.array([[0, 1, 2, 3], [1, 2, -1, -1]], np.int32), out)
    assert out[:, 0].tolist() == [0, 2]


def test_rows_are_computed_alone():
    """Rows [first, last) only, and the same bits for any split."""
    x = np.random.default_rng(5).standard_normal((9, 40)).astype(np.float32)
    weight = np.ones(40, np.float32)
    whole, parts = np.empty_like(x), np.full_like(x, 7)
    rows.rms_norm(x, weight, F(1e-6), 0, 9, whole)
    rows.rms_norm(x, weight, F(1e-6), 2, 5, parts)
    assert (parts[:2] == 7).all() and (parts[5:] == 7).all()
    assert parts[2:5].tobytes() == whole[2:5].tobytes()
