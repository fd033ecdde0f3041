"""The fast projection kernels: the bits of ``cycle_model.numerics.project``, at the limits of their packing too."""

from __future__ import annotations

import numpy as np
import pytest

from cycle_model.functional import projection as kernels
from cycle_model.numerics import (
    Mxfp4Weights,
    QuantizedActivations,
    QuantizedWeights,
    project,
    quantize_activations,
    quantize_weights,
    slice_operand,
    widen_scales,
)
from hw.isa import WeightMode

NO_BIAS = np.zeros(0, np.float32)


def output_minor(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes.reshape(len(codes), -1, 32).transpose(1, 2, 0))


def run(codes, scales, x, mode, factor=8, bias=NO_BIAS, rows=None) -> np.ndarray:
    rows = np.arange(len(x.q), dtype=np.int32) if rows is None else rows
    out = np.empty((len(rows), len(codes)), np.float32)
    wide = np.ascontiguousarray(widen_scales(scales).T)
    kernels.project_rows(
        output_minor(codes), wide, bias, np.float32(factor), mode, x.q, x.scales, rows, 0, len(codes), out
    )
    return out


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 200])
def test_full_and_draft_have_the_bits_of_the_numerics(outputs):
    """Both slices and the augmented upper one, with bias, for outputs that fill tiles and that do not."""
    rng = np.random.default_rng(outputs)
    weights = quantize_weights(rng.standard_normal((outputs, 96)).astype(np.float32))
    x = quantize_activations(rng.standard_normal((5, 96)).astype(np.float32))
    bias = rng.standard_normal(outputs).astype(np.float32)
    full = run(weights.q, weights.scales, x, kernels.BOTH_SLICES, bias=bias)
    assert same_bits(full, project(weights, x, bias=bias))
    draft = run(weights.q, weights.scales, x, kernels.AUGMENTED, bias=bias)
    assert same_bits(draft, project(weights, x, draft=True, bias=bias))


@pytest.mark.parametrize("q", [-128, -127, -113, -112, -1, 0, 15, 16, 127])
@pytest.mark.parametrize("a", [-127, 127])
def test_packed_slices_do_not_overlap(q, a):
    """All 32 products at one extreme: the largest sums that two slices in one integer must hold."""
    weights = QuantizedWeights(np.full((3, 64), q, np.int8), np.ones((3, 2), np.float16))
    x = QuantizedActivations(np.full((1, 64), a, np.int8), np.ones(1, np.float32))
    got = run(weights.q, weights.scales, x, kernels.BOTH_SLICES)
    assert got.tolist() == [[float(64 * q * a)] * 3]
    assert same_bits(got, project(weights, x))


def test_mixed_extremes():
    """Random corners: q and a from their extreme values, where slice sums reach both limits within one group."""
    rng = np.random.default_rng(6)
    q = rng.choice(np.array([-128, -127, -121, -120, 7, 8, 119, 120, 127], np.int8), (70, 64))
    weights = QuantizedWeights(q, np.full((70, 2), 0.5, np.float16))
    x = QuantizedActivations(rng.choice(np.array([-127, 127], np.int8), (9, 64)), np.ones(9, np.float32))
    assert same_bits(run(q, weights.scales, x, kernels.BOTH_SLICES), project(weights, x))


def test_truncated_by_hand():
    """q = 37 = 2 x 16 + 5 counts as 32, q = -1 as -16, with scale 1/4 and activation 3 in 32 inputs."""
    q = np.repeat(np.array([[37], [-1]], np.int8), 32, axis=1)
    x = QuantizedActivations(np.full((1, 32), 3, np.int8), np.ones(1, np.float32))
    got = run(q, np.full((2, 1), 0.25, np.float16), x, kernels.TRUNCATED)
    assert got.tolist() == [[32 * 32 * 3 / 4, -16 * 32 * 3 / 4]]


def test_mxfp4_has_the_bits_of_the_numerics():
    """E2M1 operands with E8M0 scales, one chain, factor 1."""
    rng = np.random.default_rng(7)
    weights = Mxfp4Weights(
        rng.integers(0, 16, (50, 96)).astype(np.uint8), rng.integers(115, 135, (50, 3)).astype(np.uint8)
    )
    x = quantize_activations(rng.standard_normal((4, 96)).astype(np.float32))
    operands = slice_operand(weights.codes, WeightMode.MXFP4)
    assert same_bits(run(operands, weights.exponents, x, kernels.CODES, factor=1), project(weights, x))


def test_rows_select_tokens():
    """Rows may repeat and come in any order; each has the bits it has alone."""
    rng = np.random.default_rng(8)
    weights = quantize_weights(rng.standard_normal((40, 64)).astype(np.float32))
    x = quantize_activations(rng.standard_normal((6, 64)).astype(np.float32))
    rows = np.array([5, 0, 5, 3], np.int32)
    got = run(weights.q, weights.scales, x, kernels.BOTH_SLICES, rows=rows)
    for i, row in enumerate(rows):
        alone = QuantizedActivations(x.q[row : row + 1], x.scales[row : row + 1])
        assert same_bits(got[i : i + 1], run(weights.q, weights.scales, alone, kernels.BOTH_SLICES))


def test_float_projection_sums_in_ascending_order():
    """2^24 + 1 + 1 - 2^24 is 0 in this order; nothing is quantised."""
    x = np.array([[2.0**24, 1, 1, -(2.0**24)]], np.float32)
    out = np.empty((1, 2), np.float32)
    weights = np.ones((4, 2), np.float32)
    kernels.project_float_rows(weights, NO_BIAS, x, np.zeros(1, np.int32), 0, 2, out)
    assert out.tolist() == [[0, 0]]
