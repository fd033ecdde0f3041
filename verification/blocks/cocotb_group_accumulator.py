"""cocotb tests of the exported group accumulator."""

import cocotb
import numpy as np

from hw.isa import WeightMode
from verification.bench.array_program import WeightGroup, block_dots, random_program
from verification.bench.array_reference import accumulated_results
from verification.bench.cocotb_streams import array_params, component, run_streams


def _dot_payloads(params, program: list[WeightGroup]) -> list[dict]:
    return [
        {"dots": dots, "scales": g.scales, "mode": g.mode, "chain": b.chain, "first": b.first, "last": b.last}
        for g in program
        for b in g.blocks
        for dots in block_dots(params, g, b)
    ]


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def chains(dut, stalls):
    """Interleaved chains over any scale pattern, NaN and infinity included: the bits of the functional numerics."""
    params, layouts = array_params(), component()
    program = random_program(params, 12, np.random.default_rng(13), any_scale=True)
    payloads = _dot_payloads(params, program)
    results = len(accumulated_results(params, payloads))
    seen = await run_streams(dut, layouts, {"dots": payloads}, {"results": results}, stalls=stalls)
    assert seen["results"].payloads == accumulated_results(params, seen["dots"].payloads)


@cocotb.test()
async def latency_and_rate(dut):
    """Unstalled chains of one group: the first result at ``latency``, then a group per max(beats, slots) cycles."""
    params, layouts = array_params(), component()
    groups, slots = 8, params.dots_per_fp32
    beat = {
        "dots": np.ones((params.columns, params.rows), int),
        "scales": [0x3C00] * params.columns,
        "mode": WeightMode.LSB,
        "first": 1,
        "last": 1,
    }
    payloads = [beat | {"chain": group % params.chains} for group in range(groups) for _ in range(params.beats)]
    seen = await run_streams(dut, layouts, {"dots": payloads}, {"results": groups * slots}, watch=["hazard_stalls"])
    starts = seen["results"].cycles[::slots]
    assert starts[0] - seen["dots"].cycles[params.beats - 1] == layouts.latency
    assert np.diff(starts).tolist() == [max(params.beats, slots)] * (groups - 1)
    assert seen["hazard_stalls"] == 0  # a chain's first group needs no earlier sum
    ones = int(np.float32(params.beats).view(np.uint32))
    assert all(np.all(np.array(payload["values"]) == ones) for payload in seen["results"].payloads)


@cocotb.test()
async def chain_hazard_waits_and_is_counted(dut):
    """Three groups of one chain, back to back: additions add_stages + 2 apart where groups come faster than that."""
    params, layouts = array_params(), component()
    groups, slots = 3, params.dots_per_fp32
    payloads = [
        {
            "dots": np.ones((params.columns, params.rows), int),
            "scales": [0x3C00] * params.columns,
            "mode": WeightMode.LSB,
            "chain": 0,
            "first": group == 0,
            "last": 1,
        }
        for group in range(groups)
        for _ in range(params.beats)
    ]
    seen = await run_streams(dut, layouts, {"dots": payloads}, {"results": groups * slots}, watch=["hazard_stalls"])
    starts = seen["results"].cycles[::slots]
    rate = max(params.beats, slots)
    apart = max(rate, params.add_stages + 2)
    assert np.diff(starts).tolist() == [apart] * (groups - 1)
    assert (seen["hazard_stalls"] > 0) == (apart > rate)
    assert seen["results"].payloads == accumulated_results(params, seen["dots"].payloads)
