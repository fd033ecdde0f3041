"""PeArray: stored slices and activations to FP32 chains, equal to the functional numerics bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.numerics import project_chain
from cycle_model.quantization import quantize_activations, quantize_weights
from hw.array.pe_array import PeArray, pe_array_latency
from hw.isa import WeightMode
from hw.params import ArrayParams, chip
from verification.bench.amaranth_streams import run_streams
from verification.bench.array_program import (
    TokenBlock,
    WeightGroup,
    activation_payloads,
    expected_results,
    random_program,
    result_beats,
    tile_payloads,
)

COUNTERS = ("beats", "weight_stalls", "hazard_stalls", "output_stalls")
SIZES = {
    "tiny": chip("tiny").array,
    "fpga-small": chip("fpga-small").array,
    "deep": ArrayParams(rows=4, columns=2, depth=32, dots_per_fp32=1, chains=8),
    "narrow": ArrayParams(rows=2, columns=2, depth=16, activation_bits=5, dots_per_fp32=2, chains=2),
    "odd": ArrayParams(
        rows=3, columns=1, depth=2, group_size=8, dots_per_fp32=3, chains=1, add_stages=2, scale_stages=2
    ),
}


def _run(params: ArrayParams, program: list[WeightGroup], results: int, stalls: str = "none", seed: int = 0) -> dict:
    inputs = {"tiles": tile_payloads(params, program), "activations": activation_payloads(params, program)}
    return run_streams(PeArray(params), inputs, {"results": results}, stalls=stalls, seed=seed, watch=COUNTERS)


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize("size", SIZES)
def test_random_programs(size, stalls):
    """Modes switched per tile, tiles reused over token blocks, chains interleaved, any scale: equal bits in order."""
    params = SIZES[size]
    program = random_program(params, 16, np.random.default_rng(len(size)), any_scale=True)
    expected = expected_results(params, program)
    seen = _run(params, program, len(expected), stalls)
    assert seen["results"].payloads == expected
    assert seen["beats"] == len(activation_payloads(params, program))


# Worked by hand: weight 93 = 16 x 5 + 13 in lane 0, activation -7 there and 0 elsewhere, scale 1 (or E8M0 127).
BY_HAND = [
    (WeightMode.MSB, 5, 0x3C00, -560.0),  # 8 x (2 x 5) x -7
    (WeightMode.LSB, 13, 0x3C00, -91.0),  # 13 x -7; with the above 93 x -7 = -651
    (WeightMode.DRAFT, 5, 0x3C00, -616.0),  # (16 x 5 + 8) x -7
    (WeightMode.MXFP4, 15, 127, 42.0),  # E2M1 0b1111 = -6, times -7
]


@pytest.mark.parametrize(("mode", "code", "scale", "value"), BY_HAND)
def test_by_hand(mode, code, scale, value):
    """One weight and one activation whose chains are worked by hand in every mode."""
    params = ArrayParams(rows=1, columns=1, depth=8, chains=1)
    codes, activations = np.zeros((1, 32), np.uint8), np.zeros((1, 32), np.int8)
    codes[0, 0], activations[0, 0] = code, -7
    group = WeightGroup(codes, np.array([scale], np.uint16), mode, (TokenBlock(activations, 0, True, True),))
    expected = int(np.float32(value).view(np.uint32))
    assert _run(params, [group], 1)["results"].payloads == [{"values": [[expected]], "slot": 0, "chain": 0}]


@pytest.mark.parametrize("mode", [WeightMode.MSB, WeightMode.LSB, WeightMode.DRAFT])
def test_quantised_projection(mode):
    """A quantised Gaussian projection of two token blocks, K = 160: the chains of `project_chain`."""
    params = SIZES["tiny"]
    rng = np.random.default_rng(7)
    inputs = 160
    weights = quantize_weights(rng.standard_normal((params.columns, inputs)).astype(np.float32))
    tokens = quantize_activations(rng.standard_normal((2 * params.rows, inputs)).astype(np.float32)).q
    codes = weights.lsb_codes if mode is WeightMode.LSB else weights.msb_codes
    groups = inputs // 32
    halves = np.split(tokens, 2)
    program = []
    for g in range(groups):
        lanes = slice(32 * g, 32 * g + 32)
        blocks = tuple(TokenBlock(half[:, lanes], b, g == 0, g == groups - 1) for b, half in enumerate(halves))
        program.append(WeightGroup(codes[:, lanes], weights.scales[:, g].view(np.uint16), mode, blocks))
    expected = [
        beat
        for b, half in enumerate(halves)
        for beat in result_beats(params, b, project_chain(codes, weights.scales, half, mode).T.copy())
    ]
    assert _run(params, program, len(expected))["results"].payloads == expected


@pytest.mark.parametrize("size", SIZES)
def test_latency(size):
    """A lone group's result leaves ``latency`` cycles after its last beat entered."""
    params = SIZES[size]
    group = random_program(params, 1, np.random.default_rng(2))[0]
    alone = TokenBlock(group.blocks[0].activations, 0, True, True)
    seen = _run(params, [replace(group, blocks=(alone,))], params.dots_per_fp32)
    assert seen["results"].cycles[0] - seen["activations"].cycles[-1] == pe_array_latency(params)


def test_peak_rate():
    """With weights reused over blocks on enough chains, one FP32 unit per dot unit sustains one group per cycle."""
    params = SIZES["deep"]
    rng = np.random.default_rng(3)
    groups, blocks = 6, params.chains
    program = [
        WeightGroup(
            rng.integers(0, 16, (params.columns, 32)).astype(np.uint8),
            np.full(params.columns, 0x3C00, np.uint16),
            WeightMode.MSB,
            tuple(
                TokenBlock(rng.integers(-127, 128, (params.rows, 32)).astype(np.int8), b, g == 0, g == groups - 1)
                for b in range(blocks)
            ),
        )
        for g in range(groups)
    ]
    expected = expected_results(params, program)
    seen = _run(params, program, len(expected))
    assert seen["results"].payloads == expected
    cycles = seen["activations"].cycles
    assert cycles == list(range(cycles[0], cycles[0] + groups * blocks))
    assert (seen["hazard_stalls"], seen["output_stalls"]) == (0, 0)


def test_output_stall_counter():
    """Every cycle in which a result waits is counted, and only those."""
    params = SIZES["fpga-small"]
    program = random_program(params, 12, np.random.default_rng(9))
    results = len(expected_results(params, program))
    assert _run(params, program, results, "none")["output_stalls"] == 0
    seen = _run(params, program, results, "heavy", seed=5)
    assert seen["output_stalls"] == seen["results"].waits
    assert seen["output_stalls"] > 0


def test_weight_stall_counter():
    """By hand: activations wait for the 4 tiles of the first group; later groups load while it is presented."""
    params = ArrayParams(rows=1, columns=1, depth=8, chains=3)
    rng = np.random.default_rng(4)
    program = [
        replace(group, blocks=(replace(group.blocks[0], chain=n, first=True, last=True),))
        for n, group in enumerate(random_program(params, 3, rng))
    ]
    seen = _run(params, program, 3)
    assert seen["activations"].cycles == list(range(4, 16))
    assert seen["weight_stalls"] == 4
    assert seen["beats"] == 12


def test_counters_are_words():
    """Every counter is 32 bits wide, as software reads it."""
    members = PeArray(SIZES["tiny"]).signature.members
    assert {name: members[name].shape for name in COUNTERS} == dict.fromkeys(COUNTERS, 32)
