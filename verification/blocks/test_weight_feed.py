"""WeightFeed: decoded operands in order, repeated as asked, through any stall."""

import numpy as np
import pytest

from cycle_model.formats import slice_operand
from hw.array.weight_feed import WeightFeed
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.amaranth_streams import run_streams

SIZES = [(8, 32), (32, 32), (4, 8), (2, 2)]  # depth, group size


def _groups(params: ArrayParams, count: int, rng: np.random.Generator) -> list[tuple]:
    """(codes [beats, columns, depth], scales [columns], mode, uses) per group."""
    shape = (params.beats, params.columns, params.depth)
    return [
        (rng.integers(0, 16, shape), rng.integers(0, 1 << 16, params.columns), WeightMode(rng.integers(4)), uses)
        for uses in rng.integers(1, 4, count)
    ]


def _run(params: ArrayParams, groups: list[tuple], stalls: str, seed: int):
    """Transfers of a run. Scales and mode of later beats are garbage: only the first beat's count."""
    tiles = [
        {"codes": codes[b], "scales": scales if b == 0 else scales ^ 0xFFFF, "mode": mode if b == 0 else 3 - mode}
        for codes, scales, mode, _ in groups
        for b in range(params.beats)
    ]
    keeps = [use < uses - 1 for *_, uses in groups for use in range(uses) for _ in range(params.beats)]
    dut = WeightFeed(params)
    return run_streams(
        dut, {"tiles": tiles}, {"operands": len(keeps)}, stalls=stalls, seed=seed, strobes={"keep": ("operands", keeps)}
    )


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize(("depth", "group_size"), SIZES)
def test_operands(depth, group_size, stalls):
    """Every group's beats appear in order, decoded, with its scales and mode, as often as it is kept."""
    params = ArrayParams(rows=1, columns=3, depth=depth, group_size=group_size)
    groups = _groups(params, 24, np.random.default_rng(depth))
    seen = _run(params, groups, stalls, seed=depth)
    expected = [
        {"operands": slice_operand(codes[b].astype(np.uint8), mode).tolist(), "scales": scales.tolist(), "mode": mode}
        for codes, scales, mode, uses in groups
        for _ in range(uses)
        for b in range(params.beats)
    ]
    assert seen["operands"].payloads == expected


@pytest.mark.parametrize(("depth", "group_size"), SIZES)
def test_full_rate(depth, group_size):
    """Unstalled and used once per group, one beat leaves every cycle from the cycle after the first group is in."""
    params = ArrayParams(rows=1, columns=1, depth=depth, group_size=group_size)
    groups = [(codes, scales, mode, 1) for codes, scales, mode, _ in _groups(params, 12, np.random.default_rng(1))]
    cycles = _run(params, groups, "none", seed=0)["operands"].cycles
    start = cycles[0]
    assert cycles == list(range(start, start + len(cycles)))
    assert start == _run(params, groups, "none", seed=0)["tiles"].cycles[params.beats - 1] + 1
