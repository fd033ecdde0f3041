"""exp, sigmoid, rsqrt, sine and cosine: worst errors over dense scans against double precision, and exact cases."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from cycle_model.functional.elementary import SIGMOID_TABLE, exp_f32, rsqrt_f32, sigmoid_f32, sin_cos_f32


@njit
def _exp(x, out):
    for i in range(x.size):
        out[i] = exp_f32(x[i])


@njit
def _sigmoid(x, out):
    for i in range(x.size):
        out[i] = sigmoid_f32(x[i])


@njit
def _rsqrt(x, out):
    for i in range(x.size):
        out[i] = rsqrt_f32(x[i])


@njit
def _sin_cos(phase, sine, cosine):
    for i in range(phase.size):
        sine[i], cosine[i] = sin_cos_f32(phase[i])


def apply(kernel, x) -> np.ndarray:
    x = np.atleast_1d(np.asarray(x, np.float32))
    out = np.empty_like(x)
    kernel(x, out)
    return out


def worst_ulp(got: np.ndarray, truth: np.ndarray) -> float:
    """Largest error in units of the last place of the true value (float64, itself within 1e-8 ulp)."""
    spacing = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    return float(np.max(np.abs(got.astype(np.float64) - truth) / spacing))


def test_exp_is_within_1_01_ulp_where_normal():
    """4 M arguments from -87.3 to 88.7; worst found 1.008 ulp."""
    x = np.linspace(-87.3, 88.7, 4_000_001).astype(np.float32)
    assert worst_ulp(apply(_exp, x), np.exp(x.astype(np.float64))) < 1.01


def test_exp_against_decimal_arithmetic():
    """Another truth than the C library's: 200 seeded arguments in 30 decimal digits."""
    x = np.random.default_rng(1).uniform(-80, 80, 200).astype(np.float32)
    with localcontext() as context:
        context.prec = 30
        truth = [Decimal(float(value)).exp() for value in x]
        for got, want in zip(apply(_exp, x), truth, strict=True):
            ulp = Decimal(float(np.spacing(np.float32(float(want)))))
            assert abs(Decimal(float(got)) - want) <= Decimal("1.01") * ulp


def test_exp_at_its_edges():
    """Exactly 1 at 0; infinity beyond the largest number, 0 below half the smallest; subnormals within a quantum."""
    assert apply(_exp, [0.0, -0.0]).tolist() == [1.0, 1.0]
    assert apply(_exp, [88.73, 89, 1e9, np.inf]).tolist() == [np.inf] * 4
    assert apply(_exp, [-104.0, -1e9, -np.inf]).tolist() == [0.0] * 3
    assert apply(_exp, [88.72])[0] < np.inf and apply(_exp, [-103.9])[0] == 2.0**-149
    x = np.linspace(-103.9, -87.4, 100_001).astype(np.float32)
    assert np.max(np.abs(apply(_exp, x) - np.exp(x.astype(np.float64)))) <= 2.0**-149


def test_sigmoid_is_within_2_1_ulp():
    """2 M arguments in (-16, 16): worst found 2.05 ulp (small negative tails), 6.2e-8 absolute; 0 and 1 beyond."""
    x = np.linspace(-15.9999, 15.9999, 2_000_001).astype(np.float32)
    truth = 1 / (1 + np.exp(-x.astype(np.float64)))
    got = apply(_sigmoid, x)
    assert worst_ulp(got, truth) < 2.1
    assert np.max(np.abs(got - truth)) < 6.3e-8
    assert apply(_sigmoid, [16, 50, np.inf]).tolist() == [1.0] * 3
    assert apply(_sigmoid, [-16, -50, -np.inf]).tolist() == [0.0] * 3


def test_sigmoid_reflects_exactly():
    """sigmoid(x) is 1 - sigmoid(-x), rounded once, for every x > 0: one table serves both sides."""
    x = np.linspace(1e-3, 20, 10_001).astype(np.float32)
    assert np.array_equal(apply(_sigmoid, x), np.float32(1) - apply(_sigmoid, -x))


def test_sigmoid_table_by_hand():
    """Around 1/32: t = 1 / (1 + e^(1/32)) = 0.49218814, slope -t (1 - t) = -0.24993897 (desk calculator)."""
    assert SIGMOID_TABLE.shape == (256, 4) and SIGMOID_TABLE.dtype == np.float32
    assert SIGMOID_TABLE[0, 0] == pytest.approx(0.49218814, abs=3e-8)
    assert SIGMOID_TABLE[0, 1] == pytest.approx(-0.24993897, abs=3e-8)


def _rsqrt_error(step: int) -> float:
    x = np.arange(0x3F800000, 0x40800000, step, dtype=np.uint32).view(np.float32)
    return worst_ulp(apply(_rsqrt, x), 1 / np.sqrt(x.astype(np.float64)))


def test_rsqrt_is_within_1_2_ulp():
    """Every 11th number of [1, 4), which holds all mantissas at both exponent parities; worst found 1.176 ulp."""
    assert _rsqrt_error(11) < 1.2


@pytest.mark.full
def test_rsqrt_exhaustive():
    """All 2^24 numbers of [1, 4): within 1.2 ulp."""
    assert _rsqrt_error(1) < 1.2


def test_rsqrt_scales_exactly():
    """rsqrt(4^k x) = 2^-k rsqrt(x), and powers of 4 are exact: the exponent is handled apart from the mantissa."""
    x = np.random.default_rng(2).uniform(1, 4, 1000).astype(np.float32)
    for k in (-60, -3, 5, 60):
        assert np.array_equal(apply(_rsqrt, np.ldexp(x, 2 * k)), np.ldexp(apply(_rsqrt, x), -k))
    assert apply(_rsqrt, [1.0, 4.0, 16.0, 0.25]).tolist() == [1.0, 0.5, 0.25, 2.0]
    got = Fraction(float(apply(_rsqrt, [2.0])[0]))
    assert abs(got * got * 2 - 1) < Fraction(1, 2**22)


def _sine_cosine(phases) -> tuple[np.ndarray, np.ndarray]:
    phases = np.asarray(phases, np.uint64)
    sine, cosine = np.empty(len(phases), np.float32), np.empty(len(phases), np.float32)
    _sin_cos(phases, sine, cosine)
    return sine, cosine


def test_sine_and_cosine_of_quarter_turns_are_exact():
    """0, 1/4, 1/2, 3/4 turn: (0, 1), (1, 0), (0, -1), (-1, 0)."""
    sine, cosine = _sine_cosine([quarter << 62 for quarter in range(4)])
    assert sine.tolist() == [0, 1, 0, -1] and cosine.tolist() == [1, 0, -1, 0]


def test_sine_and_cosine_are_within_1_2e_7():
    """1 M random phases: worst absolute errors found 1.119e-7 and 1.118e-7."""
    phases = np.random.default_rng(3).integers(0, 2**64, 1_000_000, dtype=np.uint64)
    sine, cosine = _sine_cosine(phases)
    angle = phases.astype(np.float64) * (2 * np.pi / 2.0**64)
    assert np.max(np.abs(sine - np.sin(angle))) < 1.2e-7
    assert np.max(np.abs(cosine - np.cos(angle))) < 1.2e-7
