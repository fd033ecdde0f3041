"""Attention and RoPE: hand-worked cases, double precision, and bits that do not depend on how positions are stored."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cycle_model.functional import rotary
from cycle_model.functional.attention import attend, store_float, store_quantized
from sw_stack.models.architectures import RopeConfig, YarnScaling
from sw_stack.models.float_reference import causal_attention, frequencies, rotate
from sw_stack.models.kv_cache import HeadStore, KvFormat

NONE = np.zeros(0, np.float32)


def stores(keys: np.ndarray, values: np.ndarray, kv_format: KvFormat) -> tuple[HeadStore, HeadStore]:
    """Keys and values float32 [positions, heads, d], stored in the given order."""
    result = []
    for x, transposed in ((keys, True), (values, False)):
        store = HeadStore(x.shape[1], x.shape[2], transposed, kv_format)
        store.write(0, np.ascontiguousarray(x))
        result.append(store)
    return tuple(result)


def run(queries, keys, values, *, lengths=None, scale=1.0, window=0, sinks=NONE, kv_format=KvFormat.FP32, slots=None):
    """Attention of queries [n, heads, d]; ``slots`` [positions] says where each position is stored, all by path."""
    queries = np.asarray(queries, np.float32)
    keys, values = np.asarray(keys, np.float32), np.asarray(values, np.float32)
    n = len(queries)
    lengths = np.full(n, len(keys)) if lengths is None else np.asarray(lengths)
    committed, paths = len(keys), np.zeros((n, 0), np.int64)
    if slots is not None:
        committed, paths = 0, np.tile(np.asarray(slots, np.int64), (n, 1))
        placed_keys, placed_values = np.zeros_like(keys), np.zeros_like(values)
        placed_keys[slots], placed_values[slots] = keys, values
        keys, values = placed_keys, placed_values
    k, v = stores(keys, values, kv_format)
    out = np.empty((n, queries.shape[1], values.shape[2]), np.float32)
    attend(
        queries, np.float32(scale), k.data, k.scales, v.data, v.scales, committed, paths, lengths.astype(np.int64),
        window, np.asarray(sinks, np.float32), 0, n, out,
    )  # fmt: skip
    return out


def test_equal_keys_average_the_values():
    """Scores all equal: the mean of values 1, 2, 6 is 3."""
    out = run([[[1, 0]]], np.ones((3, 1, 2)), np.array([[[1]], [[2]], [[6]]]))
    assert out.tolist() == [[[3]]]


def test_weights_by_hand():
    """Scores 0 and ln 3: weights 1/4 and 3/4, so values 0 and 8 give 6; the scale multiplies the query."""
    keys, values = [[[0.0]], [[math.log(3)]]], [[[0.0]], [[8.0]]]
    assert run([[[1.0]]], keys, values)[0, 0, 0] == pytest.approx(6, rel=3e-7)
    assert run([[[2.0]]], keys, values, scale=0.5)[0, 0, 0] == pytest.approx(6, rel=3e-7)


def test_sink_takes_its_share():
    """One position with score 0 and a sink of ln 3: a quarter of the value is left; a low sink changes nothing."""
    keys, values = np.zeros((1, 1, 1)), np.full((1, 1, 1), 8.0)
    assert run([[[1.0]]], keys, values, sinks=[math.log(3)])[0, 0, 0] == pytest.approx(2, rel=3e-7)
    assert run([[[1.0]]], keys, values, sinks=[-200.0]).tolist() == [[[8]]]


def test_sliding_window_by_hand():
    """Values 0 to 599 of equal keys, window 100 at the end: the mean of 500 to 599; window 1: the own value."""
    values = np.arange(600.0).reshape(600, 1, 1)
    keys = np.zeros((600, 1, 1))
    assert run([[[1.0]]], keys, values, window=100)[0, 0, 0] == pytest.approx(549.5, rel=1e-6)
    assert run([[[1.0]]], keys, values, window=1).tolist() == [[[599]]]
    assert run([[[1.0]]], keys, values, window=1, lengths=[257]).tolist() == [[[256]]]


def _random(positions: int, seed: int, heads: int = 4, kv_heads: int = 2, d: int = 16, value_d: int = 24):
    rng = np.random.default_rng(seed)
    q = 2 * rng.standard_normal((3, heads, d)).astype(np.float32)
    return q, *(rng.standard_normal((positions, kv_heads, size)).astype(np.float32) for size in (d, value_d))


@pytest.mark.parametrize("positions", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("window", [0, 100, 300])
def test_blocks_agree_with_double_precision(positions, window):
    """One, two and three blocks of 256, with windows that begin inside and between them; within 2e-6."""
    q, k, v = _random(positions, positions)
    sinks = np.array([0.5, -1, 2, 0], np.float32)
    got = run(q[:1], k, v, scale=0.7, window=window, sinks=sinks)
    want = causal_attention(
        np.repeat(q[:1].swapaxes(0, 1), positions, axis=1).astype(float),
        np.repeat(k.swapaxes(0, 1), 2, axis=0).astype(float),
        np.repeat(v.swapaxes(0, 1), 2, axis=0).astype(float),
        0.7,
        window or None,
        sinks.astype(float),
    )[-1]
    assert np.abs(got[0] - want).max() < 2e-6


@pytest.mark.parametrize("kv_format", KvFormat)
@pytest.mark.parametrize("window", [0, 90])
def test_bits_do_not_depend_on_slots(kv_format, window):
    """300 positions stored in order, and scattered and found by path: the same bits."""
    q, k, v = _random(300, 11)
    slots = np.random.default_rng(12).permutation(300)
    straight = run(q, k, v, kv_format=kv_format, window=window)
    assert straight.tobytes() == run(q, k, v, kv_format=kv_format, window=window, slots=slots).tobytes()


def test_merging_is_by_blocks():
    """The order shows: one pass over all positions without blocks gives other bits than blocks of 256."""
    q, k, v = _random(700, 13, heads=1, kv_heads=1, d=1, value_d=1)
    got = run(q[:1], k, v)[0, 0, 0]
    scores = (q[0, 0, 0] * k[:, 0, 0]).astype(np.float32)
    e = np.exp(scores - scores.max())
    total = weighted = np.float32(0)
    for weight, value in zip(e, v[:, 0, 0], strict=True):
        total, weighted = total + weight, weighted + weight * value
    assert got == pytest.approx(weighted / total, rel=1e-4) and got != weighted / total


def test_int8_storage_quantises_each_head():
    """Values -127 to 127 with absmax 127 are stored exactly; another head of the same position has its own scale."""
    x = np.array([[[127, -5, 64], [0.127, 0.064, 0]]], np.float32)
    store = HeadStore(2, 3, False, KvFormat.INT8)
    store.write(0, x)
    assert store.data[0, :, 0].tolist() == [[127, -5, 64], [127, 64, 0]]
    assert store.scales[0, :, 0] == pytest.approx([1, 0.001], rel=1e-6)
    assert not store_quantized(np.full((1, 2, 3), np.nan, np.float32), 0, False, store.data, store.scales)


def test_transposed_storage_is_the_same_data():
    """Keys [blocks, heads, d, 256] hold what values [blocks, heads, 256, d] would, across a block boundary."""
    x = np.random.default_rng(14).standard_normal((300, 2, 5)).astype(np.float32)
    keys, values = np.zeros((2, 2, 5, 256), np.float32), np.zeros((2, 2, 256, 5), np.float32)
    store_float(x, 10, True, keys)
    store_float(x, 10, False, values)
    assert np.array_equal(keys.swapaxes(2, 3), values)
    assert np.array_equal(values.swapaxes(1, 2).reshape(512, 2, 5)[10:310], x)


# --- RoPE --------------------------------------------------------------------------------------------------


def _pi_by_machin(digits: int) -> Fraction:
    """16 arctan(1/5) - 4 arctan(1/239) in integers: a pi that shares nothing with the code's constant."""
    one = 10 ** (digits + 5)

    def arctan_inverse(n: int) -> int:
        term, total, k = one // n, 0, 0
        while term:
            total += (-1) ** k * (term // (2 * k + 1))
            term, k = term // (n * n), k + 1
        return total

    return Fraction(16 * arctan_inverse(5) - 4 * arctan_inverse(239), one)


def test_first_pair_turns_one_radian_per_position():
    """2^64 / (2 pi) for the first pair, 2^-16 of it for the second of theta 2^32: rounded once, to the integer."""
    turns = Fraction(2**64) / (2 * _pi_by_machin(50))
    phases = rotary.pair_phases(4, 2.0**32)
    assert [int(phase) for phase in phases] == [round(turns), round(turns / 2**16)]


def test_rotation_by_a_quarter_turn():
    """(1, 2, 3, 4) with cos 0 and sin 1: pairs (i, i + 2) give (-3, -4, 1, 2), neighbours (-2, 1, -4, 3)."""
    for interleaved, want in ((False, [-3, -4, 1, 2]), (True, [-2, 1, -4, 3])):
        x = np.array([1, 2, 3, 4], np.float32)
        rotary.rotate(x, np.zeros(2, np.float32), np.ones(2, np.float32), interleaved)
        assert x.tolist() == want


YARN = YarnScaling(factor=32.0, original_positions=4096, truncate=False, attention_factor=1.3465735902799727)
ROPES = [
    RopeConfig(dims=128, theta=1e6),
    RopeConfig(dims=64, theta=10000.0, interleaved=True, yarn=YarnScaling(factor=40.0, original_positions=4096)),
    RopeConfig(dims=64, theta=150000.0, yarn=YARN),
]


@pytest.mark.parametrize("rope", ROPES)
def test_frequencies_agree_with_double_precision(rope):
    """Phases of plain RoPE and of both published YaRN variants, within 1e-12 relative of float64 formulas."""
    yarn = rope.yarn
    extra = {} if yarn is None else {
        "factor": yarn.factor, "original_positions": yarn.original_positions, "truncate": yarn.truncate
    }  # fmt: skip
    phases = rotary.pair_phases(rope.dims, rope.theta, **extra)
    assert phases.astype(float) * (2 * math.pi / 2.0**64) == pytest.approx(frequencies(rope), rel=1e-12)


@pytest.mark.parametrize("rope", ROPES)
def test_rotation_at_far_positions(rope):
    """Rows at positions 0, 1 and 5000 agree with the float reference in double precision within 1e-6."""
    rng = np.random.default_rng(15)
    x = rng.standard_normal((3, 1, 128)).astype(np.float32)
    positions, yarn = np.array([0, 1, 5000]), rope.yarn
    extra = {} if yarn is None else {
        "factor": yarn.factor, "original_positions": yarn.original_positions, "truncate": yarn.truncate
    }  # fmt: skip
    phases = rotary.pair_phases(rope.dims, rope.theta, **extra)
    cosines, sines = np.empty((3, len(phases)), np.float32), np.empty((3, len(phases)), np.float32)
    factor = np.float32(yarn.attention_factor if yarn else 1)
    rotary.rotation_table(phases, positions, factor, cosines, sines)
    spread = np.zeros((1, 5001, 128))
    spread[0, positions] = x[:, 0]
    want = rotate(spread, rope)[0, positions]
    rotary.norm_and_rotate(x, NONE, np.float32(0), cosines, sines, 0, rope.interleaved)
    assert np.abs(x[:, 0] - want).max() < 1.2e-6
