"""GroupAccumulator: gathered groups, one rounding per step, chains in order, hazards waited for and counted."""

import numpy as np
import pytest

from hw.array.group_accumulator import GroupAccumulator, chain_latency
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.amaranth_streams import run_streams
from verification.bench.array_program import WeightGroup, block_dots, expected_results, random_program

SIZES = [
    ArrayParams(rows=4, columns=2, depth=8, dots_per_fp32=2, chains=4),
    ArrayParams(rows=2, columns=2, depth=32, dots_per_fp32=1, chains=8),
    ArrayParams(rows=3, columns=1, depth=4, group_size=8, dots_per_fp32=3, chains=1, add_stages=1, scale_stages=1),
    ArrayParams(rows=8, columns=1, depth=32, dots_per_fp32=8, chains=2, add_stages=3, scale_stages=2),
]


def _size(params: ArrayParams) -> str:
    return f"{params.rows}x{params.columns}x{params.depth}s{params.dots_per_fp32}"


def _dot_payloads(params: ArrayParams, program: list[WeightGroup]) -> list[dict]:
    return [
        {"dots": dots, "scales": g.scales, "mode": g.mode, "chain": b.chain, "first": b.first, "last": b.last}
        for g in program
        for b in g.blocks
        for dots in block_dots(params, g, b)
    ]


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize("params", SIZES, ids=_size)
def test_chains(params, stalls):
    """Interleaved chains over any scale pattern: every result has the bits of the functional numerics, in order."""
    program = random_program(params, 20, np.random.default_rng(params.rows), any_scale=True)
    expected = expected_results(params, program)
    dut = GroupAccumulator(params)
    seen = run_streams(dut, {"dots": _dot_payloads(params, program)}, {"results": len(expected)}, stalls=stalls)
    assert seen["results"].payloads == expected
    assert len(expected) >= params.dots_per_fp32


def _constant_groups(params: ArrayParams, chains: list[int], firsts: list[bool], lasts: list[bool]) -> list[dict]:
    """One group per entry, every dot product 1 per beat, scale 1."""
    dots = np.ones((params.columns, params.rows), int)
    return [
        {"dots": dots, "scales": [0x3C00] * params.columns, "mode": WeightMode.LSB, "chain": c, "first": f, "last": z}
        for c, f, z in zip(chains, firsts, lasts, strict=True)
        for _ in range(params.beats)
    ]


@pytest.mark.parametrize("params", SIZES, ids=_size)
def test_latency_and_rate(params):
    """Unstalled single-group chains: first result after ``latency``, then a group per max(beats, slots) cycles."""
    dut = GroupAccumulator(params)
    groups = 12
    payloads = _constant_groups(params, [0] * groups, [True] * groups, [True] * groups)
    slots = params.dots_per_fp32
    seen = run_streams(dut, {"dots": payloads}, {"results": groups * slots})
    starts = seen["results"].cycles[::slots]
    assert starts[0] - seen["dots"].cycles[params.beats - 1] == dut.latency
    assert np.diff(starts).tolist() == [max(params.beats, slots)] * (groups - 1)


@pytest.mark.parametrize("add_stages", [1, 3, 5])
def test_chain_hazard_is_tight(add_stages):
    """Back-to-back groups of one chain come out ``chain_latency`` apart; chains that many apart never wait.

    By hand: an addition is fetched, spends add_stages registers, and is written in the next cycle; the following
    fetch of the same chain can happen one cycle after the write, so add_stages + 2 cycles after the first.
    """
    params = ArrayParams(rows=1, columns=1, depth=32, chains=8, add_stages=add_stages)
    assert chain_latency(params) == add_stages + 2
    groups = 6
    firsts = [True] + [False] * (groups - 1)
    alone = run_streams(
        GroupAccumulator(params),
        {"dots": _constant_groups(params, [3] * groups, firsts, [True] * groups)},
        {"results": groups},
    )
    assert np.diff(alone["results"].cycles).tolist() == [add_stages + 2] * (groups - 1)
    assert [beat["values"] for beat in alone["results"].payloads] == [
        [[int(np.float32(n).view(np.uint32))]] for n in range(1, groups + 1)
    ]

    for distance in (add_stages + 1, add_stages + 2):
        count = 3 * distance
        chains = [n % distance for n in range(count)]
        seen = run_streams(
            GroupAccumulator(params),
            {"dots": _constant_groups(params, chains, [n < distance for n in range(count)], [True] * count)},
            {"results": count},
        )
        waits = seen["results"].cycles[-1] - seen["results"].cycles[0] - (count - 1)
        assert (waits == 0) == (distance >= add_stages + 2), (distance, waits)


@pytest.mark.parametrize(("chains_used", "stalls_per_group"), [(1, 6), (2, 5), (7, 0)])
def test_hazard_counter(chains_used, stalls_per_group):
    """The counter counts exactly the waiting cycles: chain_latency - chains_used per revisit of the first chain.

    By hand for add_stages 5 (chain latency 7): one chain waits 6 cycles for each next group. Two chains: each
    pair of groups takes 7 cycles instead of 2, so 5 waits per pair after the first. Seven chains never wait.
    """
    params = ArrayParams(rows=1, columns=1, depth=32, chains=8)
    rounds = 4
    count = rounds * chains_used
    payloads = _constant_groups(
        params, [n % chains_used for n in range(count)], [n < chains_used for n in range(count)], [True] * count
    )
    seen = run_streams(GroupAccumulator(params), {"dots": payloads}, {"results": count}, watch=("hazard_stalls",))
    assert seen["hazard_stalls"] == (rounds - 1) * stalls_per_group


def test_new_chain_never_waits():
    """A group that starts its chain anew reads no stored sum, so it does not wait for the old chain's addition."""
    params = ArrayParams(rows=1, columns=1, depth=32, chains=2)
    count = 10
    seen = run_streams(
        GroupAccumulator(params),
        {"dots": _constant_groups(params, [0] * count, [True] * count, [True] * count)},
        {"results": count},
        watch=("hazard_stalls",),
    )
    assert seen["hazard_stalls"] == 0
    assert np.diff(seen["results"].cycles).tolist() == [1] * (count - 1)
