"""The engine's schedule of a kernel against the PE model running the shipped kernel: nothing is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.hb.transfer import bank_shape, new_banks
from cycle_model.numerics import quantize_activations, quantize_weights
from cycle_model.pe.decoder import Kind, Step, decode
from cycle_model.pe.fast import fast, run_fast
from hw.isa.encoding import Unit
from hw.isa.program import PeProgram
from hw.params import chip as chip_of
from sw_stack.compiler.dispatch import BEGIN, Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.expert_program import Expert, ExpertWork, Share, expert_ffn_program
from sw_stack.compiler.kernels.matrix import projection_blocks
from sw_stack.compiler.kernels.projection import block_groups, most_groups
from sw_stack.compiler.projection_program import projection_program
from sw_stack.compiler.tiling import tile
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.kernel_times import KERNEL_START, kernel_row
from sw_stack.machines.engine.resources import END_NS, Resource
from sw_stack.machines.engine.tile_stream import EVENT_FIELDS, EVENTS, LOAD_END, RESULT_FIELDS, TIME, tile_stream
from sw_stack.machines.machine import Machine
from verification.bench.engine_passes import one_projection, small_model

CHIP = chip_of("8gb")
SHAPES = [(256, 1024), (512, 512), (768, 512), (1024, 512), (96, 128)]
"""(Inputs, outputs) of projections that fit the activation memory."""
EXPERTS = [(512, 128, 4), (1024, 256, 8), (1024, 512, 8), (768, 768, 24), (2048, 768, 24)]
"""(Hidden, intermediate, PEs); the last two are whole PE counts of a published expert."""


def _projection(inputs: int, outputs: int, tokens: int, mode: str, tier: str = "hb") -> PeProgram:
    rng = np.random.default_rng(inputs + tokens)
    weights = quantize_weights(rng.standard_normal((outputs, inputs), dtype=np.float32))
    activations = quantize_activations(rng.standard_normal((tokens, inputs), dtype=np.float32))
    return projection_program(CHIP, weights, activations, mode=mode, tier=tier)


def _commands(program: PeProgram, unit: Unit) -> np.ndarray:
    """Start and done cycles of a unit's commands, int64 [commands, 2]."""
    steps = decode(program)
    run, _ = run_fast(program, steps)
    pushed = steps[steps[:, Step.KIND] == Kind.PUSH]
    return np.stack([run.start, run.done], axis=1)[pushed[:, Step.UNIT] == unit]


@pytest.mark.parametrize("mode", ["draft", "full"])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_tiles_take_what_the_pe_model_takes(inputs, outputs, mode):
    """From the start of the first LOAD: the end of the last LOAD and of the last vector command, to the cycle.

    LSB codes of the full mode are on the stream link all along.
    """
    program = _projection(inputs, outputs, 16, mode)
    loads, vectors = _commands(program, Unit.HB), _commands(program, Unit.VECTOR)
    slices = 2 if mode == "full" else 1
    k_block = int(block_groups(inputs // 32, most_groups(CHIP, "hb", slices)))
    row = kernel_row(CHIP, inputs, 16, 1, k_block, slices, 0, False, False, (True, False))
    result, ones = np.empty(RESULT_FIELDS), (1.0, 1.0, 1.0)
    tile_stream(
        *(CHIP.hb.clocks, bank_shape(CHIP.hb), new_banks(1)[0], np.array(row)),
        *(float(loads[0, 0]), 0.0, outputs // 32, 0.0, 0.0, ones, np.empty((EVENTS, EVENT_FIELDS)), result),
    )
    begin = loads[0, 0]
    pe = np.array([loads[-1, 1], vectors[-1, 1]]) - begin
    engine = np.array([result[LOAD_END], result[TIME]]) - begin
    np.testing.assert_array_equal(engine, pe)


def _alone(pes: int) -> Machine:
    """The machine with so many PEs, and a link that brings one PE's words as the PE model's does, a word a cycle."""
    made = machine("elmoe3d-8gb")
    rate, hop = made.links.aggregation_gb_per_s, made.links.hop_ns
    links = replace(
        made.links, aggregation_gb_per_s=rate.with_value(128.0, "a word a cycle"), hop_ns=hop.with_value(0.0, "none")
    )
    return replace(made, chip=replace(made.chip, pes=pes), links=links)


def _draft(records: np.ndarray, pes: int) -> np.ndarray:
    records["precision"], records["lsb_tier"], records["lsb_bytes"] = Precision.DRAFT, Tier.NONE, 0
    tile(records, replace(CHIP, pes=pes))
    return records


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES[:4])
def test_a_projection_in_the_engine_beside_the_pe(inputs, outputs, tokens):
    """A whole draft projection from HB, activations included: the PE's program takes 1.00 to 1.03 of the engine's time.

    The program always brings 16 rows of activations and stores 16 rows of results.
    """
    kernel = fast(_projection(inputs, outputs, tokens, "draft")).cycles
    stream = Dispatch(_draft(one_projection(tokens, inputs, outputs, Tier.HB).records, 1), ("projection",))
    act = Engine(_alone(1), small_model(), mapping="output-parallel").replay(stream).acts[0]
    engine = act[Resource.VECTOR, END_NS]
    print(f"{outputs} x {inputs}, {tokens} tokens: PE {kernel} cycles, engine {engine:.0f}: {kernel / engine:.3f}")
    assert 1.0 <= kernel / engine <= 1.03


@pytest.mark.parametrize("mode", ["full", "draft"])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES[:4])
def test_dense_weights_in_hb_beside_the_pe(inputs, outputs, mode):
    """Both slices in HB: the kernel, which has one weight memory for both, takes 0.99 to 1.28 of the engine's time."""
    kernel = fast(_projection(inputs, outputs, 16, mode, "bank")).cycles
    records = one_projection(16, inputs, outputs, Tier.HB).records
    if mode == "draft":
        _draft(records, 1)
    tile(records, replace(CHIP, pes=1))
    act = Engine(_alone(1), small_model(), mapping="output-parallel").replay(Dispatch(records, ("projection",))).acts[0]
    engine = act[Resource.VECTOR, END_NS]
    print(f"{mode} {outputs} x {inputs}: PE {kernel} cycles, engine {engine:.0f}: {kernel / engine:.3f}")
    assert 0.99 <= kernel / engine <= 1.28


def _ffn(hidden: int, inner: int, tokens: int, share: Share, experts: int) -> int:
    rng = np.random.default_rng(hidden + inner)

    def matrix(outputs: int, inputs: int):
        return quantize_weights(rng.standard_normal((outputs, inputs), dtype=np.float32))

    x = rng.standard_normal((tokens, hidden), dtype=np.float32)
    made = [Expert(matrix(inner, hidden), matrix(inner, hidden), matrix(hidden, inner)) for _ in range(experts)]
    work = [ExpertWork(i, one, "hb", range(tokens), np.ones(tokens, np.float32)) for i, one in enumerate(made)]
    return fast(expert_ffn_program(CHIP, work, x, x, mode="draft", share=share)).cycles


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize(("hidden", "inner", "pes"), EXPERTS)
def test_an_expert_in_the_engine_beside_the_pe(hidden, inner, pes, tokens):
    """An expert's gate and up, exchange of maxima and down from HB, on the PE with most tiles: 0.95 to 1.06 of the
    engine's time. A second expert's share of a program's cycles, since clearing and residuals come once a layer.

    In the PE model other PEs' maxima are on the link all along.
    """
    share = Share(pes - 1, pes)
    kernel = _ffn(hidden, inner, tokens, share, 2) - _ffn(hidden, inner, tokens, share, 1)
    up, down = (one_projection(tokens, k, n, Tier.HB).records for k, n in ((hidden, 2 * inner), (inner, hidden)))
    records = np.concatenate([up, down])
    records["kernel"], records["activated"], records["after"], records["expert"] = Kernel.EXPERT, (1, 0), (BEGIN, 0), 0
    stream = Dispatch(_draft(records, pes), ("up", "down"))
    engine = Engine(_alone(pes), small_model(), mapping="output-parallel").replay(stream).ns
    print(f"{hidden} -> {inner}, {pes} PEs, {tokens} tokens: PE {kernel}, engine {engine:.0f}: {kernel / engine:.3f}")
    assert 0.95 <= kernel / engine <= 1.06


def test_a_kernel_starts_when_the_pe_model_does():
    """From the last word of activations and scalars to the first LOAD, in the PE model: `KERNEL_START` less the words
    of the scalars."""
    program = _projection(256, 128, 16, "draft")
    gathers, loads = _commands(program, Unit.GATHER), _commands(program, Unit.HB)
    taken = int(loads[0, 0] - gathers[0, 1])
    print(f"{taken} cycles from activations to the first LOAD")
    assert taken <= KERNEL_START <= taken + 16


def test_k_blocks_are_nearly_of_one_size():
    """16 groups with blocks of at most 14 are 8 and 8: 14 and 2 took a third longer; 64 are four of 14 and one of 8."""
    assert block_groups(16, 14) == 8 and block_groups(64, 14) == 14 and block_groups(24, 14) == 12
    assert projection_blocks(CHIP, 2) == 2
    for groups in range(1, 200):
        for most in (2, 6, 14):
            size = int(block_groups(groups, most))
            assert size % 2 == 0 and size <= most and -(-groups // size) == -(-groups // most)
