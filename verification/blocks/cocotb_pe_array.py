"""cocotb tests of the exported PE array: stored slices and activations in, FP32 chains out."""

import cocotb
import numpy as np

from hw.isa import WeightMode
from verification.bench.array_program import (
    TokenBlock,
    WeightGroup,
    activation_payloads,
    expected_results,
    random_program,
    tile_payloads,
)
from verification.bench.array_reference import array_results
from verification.bench.cocotb_streams import array_params, component, run_streams

COUNTERS = ("beats", "weight_stalls", "hazard_stalls", "output_stalls")


async def _run(dut, params, program: list[WeightGroup], stalls: str) -> dict:
    inputs = {"tiles": tile_payloads(params, program), "activations": activation_payloads(params, program)}
    results = len(expected_results(params, program))
    return await run_streams(dut, component(), inputs, {"results": results}, stalls=stalls, watch=COUNTERS)


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def random_programs(dut, stalls):
    """All four modes switched per tile, tiles reused, chains interleaved, any scale: bits of the functional numerics.

    The expected chains come from the whole program at once, and again from what the input monitors saw.
    """
    params = array_params()
    program = random_program(params, 12, np.random.default_rng(14), any_scale=True)
    assert {group.mode for group in program} == set(WeightMode)
    seen = await _run(dut, params, program, stalls)
    results = seen["results"].payloads
    assert results == array_results(params, seen["tiles"].payloads, seen["activations"].payloads)
    assert results == expected_results(params, program)
    assert seen["beats"] == len(seen["activations"].cycles)
    assert seen["output_stalls"] == seen["results"].waits


@cocotb.test()
async def latency_and_sustained_rate(dut):
    """Unstalled: a chain's result ``latency`` after its last beat; a group per max(beats, slots) cycles once running.

    One weight group per beat time, every group used by each of ``chains`` token blocks, so no hazard is near.
    """
    params = array_params()
    rng = np.random.default_rng(15)
    groups, slots = 3, params.dots_per_fp32
    shape = (params.rows, params.group_size)
    program = [
        WeightGroup(
            rng.integers(0, 16, (params.columns, params.group_size)).astype(np.uint8),
            np.full(params.columns, 0x3C00, np.uint16),
            WeightMode.MSB,
            tuple(
                TokenBlock(rng.integers(-127, 128, shape).astype(np.int8), chain, g == 0, g == groups - 1)
                for chain in range(params.chains)
            ),
        )
        for g in range(groups)
    ]
    seen = await _run(dut, params, program, "none")
    results, entered = seen["results"], seen["activations"].cycles
    assert results.payloads == array_results(params, seen["tiles"].payloads, seen["activations"].payloads)
    rate = max(params.beats, slots)
    starts = results.cycles[::slots]
    assert np.diff(starts).tolist() == [rate] * (params.chains - 1)
    assert seen["hazard_stalls"] == 0
    if rate == params.beats:  # nothing throttles the input: the latency is that of an idle array
        assert starts[-1] - entered[-1] == component().latency
        assert entered == list(range(entered[0], entered[0] + groups * params.chains * params.beats))
