"""No width of the array can overflow: intervals computed from the operands' ranges, all sizes; ends driven in RTL."""

from itertools import product

import numpy as np
import pytest

from hw.array.group_accumulator import GroupAccumulator
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.amaranth_streams import run_streams

SIZES = [(depth, group) for depth, group in product((2, 4, 8, 16, 32, 64), repeat=2) if depth <= group]

# Operands by the numeric contract: 2h, l, 2h + 1, 2 x E2M1; activations are INT8.
OPERANDS = {
    WeightMode.MSB: (-16, 14),
    WeightMode.LSB: (0, 15),
    WeightMode.DRAFT: (-15, 15),
    WeightMode.MXFP4: (-12, 12),
}
ACTIVATIONS = (-128, 127)


def _times(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    ends = [x * y for x, y in product(a, b)]
    return min(ends), max(ends)


def _fits(interval: tuple[int, int], bits: int) -> bool:
    return -(1 << bits - 1) <= interval[0] and interval[1] < 1 << bits - 1


def _widest() -> tuple[int, int]:
    intervals = [_times(operand, ACTIVATIONS) for operand in OPERANDS.values()]
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def test_product_interval_by_hand():
    """-16 x -128 = 2048 is the top, -16 x 127 = -2032 the bottom."""
    assert _widest() == (-2032, 2048)


@pytest.mark.parametrize(("depth", "group"), SIZES)
def test_integer_widths_hold_and_are_tight(depth, group):
    """Product, beat sum and group sum fit their widths, and would not fit one bit less."""
    p = ArrayParams(rows=1, columns=1, depth=depth, group_size=group)
    low, high = _widest()
    for terms, bits in ((1, p.product_bits), (depth, p.dot_bits), (group, p.group_bits)):
        interval = (terms * low, terms * high)
        assert _fits(interval, bits)
        assert not _fits(interval, bits - 1)
    for operand in OPERANDS.values():
        assert _fits(operand, p.operand_bits)
    assert 8 * group * high < 1 << 24  # a weighed group sum is an integer that binary32 holds


@pytest.mark.parametrize(("depth", "group"), SIZES)
def test_scale_multiplier_widths_hold(depth, group):
    """|dot| x significand and the exponents of every scale fit the multiplier's signals (see `ScaleMultiplier`)."""
    p = ArrayParams(rows=1, columns=1, depth=depth, group_size=group)
    magnitude = 1 << p.group_bits - 1  # |most negative|, more than any group reaches
    value_bits = p.group_bits + 11
    assert magnitude < 1 << p.group_bits
    assert magnitude * 2047 < 1 << value_bits
    fp16, e8m0 = (1 - 25, 31 - 25), (0 - 128, 255 - 128)
    low, high = min(fp16[0], e8m0[0]), max(fp16[1], e8m0[1]) + 3
    assert _fits((low, high), 10)
    biased = (
        low + value_bits - 1 + 127 - value_bits,
        high + value_bits - 1 + 127 + 1,
    )  # all zeros .. none, and a carry
    assert _fits(biased, 12)


@pytest.mark.parametrize("depth", [2, 32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("mode", WeightMode)
def test_extreme_groups_in_rtl(depth, activation, end, mode):
    """Every beat of a group at an end of the mode's range: the result is the exact integer, by hand."""
    params = ArrayParams(rows=1, columns=1, depth=depth)
    dot = depth * OPERANDS[mode][end] * activation
    scale = 128 if mode is WeightMode.MXFP4 else 0x3C00  # both are 1: E8M0 128 is 2 with the factor 1/2
    beat = {"dots": [[dot]], "scales": [scale], "mode": mode, "chain": 0, "first": True, "last": True}
    seen = run_streams(GroupAccumulator(params), {"dots": [beat] * params.beats}, {"results": 1})
    weight = 8 if mode in (WeightMode.MSB, WeightMode.DRAFT) else 1
    exact = np.float32(32 * OPERANDS[mode][end] * activation * weight)
    assert seen["results"].payloads[0]["values"] == [[int(exact.view(np.uint32))]]
