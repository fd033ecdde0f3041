"""DRAM time inside the engine against the exact models, on what random decode steps really transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.hb import REQUEST, Traffic, exact
from cycle_model.lpddr.extent import ALIGN_BYTES, extent_timing
from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.lpddr.stream_memory import Lpddr5Stream
from cycle_model.numerics import quantize_activations, quantize_weights
from cycle_model.pe.fast import fast
from sw_stack.compiler.dispatch import Kernel, Precision, Tier
from sw_stack.compiler.projection_program import projection_program
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.resources import END_NS, START_NS, Resource
from sw_stack.machines.engine.workload import PassKind
from sw_stack.models.catalogue import model
from verification.bench.engine_passes import one_projection, random_pass, small_model

LOAD_COLUMNS = 64
"""Half of the PE's 16 KB for weights from HB: 64 words of 128 bytes."""


def _expert_extents(layers: int, seed: int) -> np.ndarray:
    """Sizes of the extents that ``layers`` layers of a random Qwen3-30B-A3B step read from LPDDR, in order."""
    config, rng = model("qwen3-30b-a3b").architecture(), np.random.default_rng(seed)
    engine = Engine(machine("elmoe3d-8gb"), config)
    one = random_pass(config, rng, PassKind.DECODE)
    r = engine.run(one).dispatch.records
    r = r[(r["kernel"] == Kernel.EXPERT) & (r["layer"] < layers)]
    sizes = np.stack([r["msb_bytes"] * (r["msb_tier"] == Tier.LPDDR), r["lsb_bytes"] * (r["lsb_tier"] == Tier.LPDDR)])
    sizes = sizes.T.ravel()
    return sizes[sizes > 0]


def test_lpddr_time_of_random_steps_against_stream_mode():
    """Extents of a layer at random places, read by stream mode (equal to exact): total within 0.5 %, error printed."""
    made = machine("elmoe3d-8gb")
    timing, compared = extent_timing(made.lpddr), 0
    for seed in range(3):
        sizes = _expert_extents(2, seed)
        rng = np.random.default_rng(seed)
        memory = Lpddr5Stream(made.lpddr)
        blocks = made.lpddr.organization.capacity_bytes // ALIGN_BYTES - 200
        for size, place in zip(sizes, rng.integers(0, blocks, len(sizes)), strict=True):
            done = memory.read(int(place) * ALIGN_BYTES, -(-int(size) // 32) * 32).done
        exactly = done * made.lpddr.timing.tCK_ns
        engine = timing.first_ns + sum(timing.ns(float(size)) for size in sizes)
        print(f"{len(sizes)} extents, {sizes.sum():,} bytes: engine / stream mode - 1 = {engine / exactly - 1:+.5f}")
        assert abs(engine / exactly - 1) < 0.005
        compared += len(sizes)
    assert compared > 50


def test_lpddr_time_of_some_extents_against_exact():
    """The exact model, command by command, on a few extents back to back: within 1 %."""
    made = machine("elmoe3d-8gb")
    sizes = _expert_extents(1, 7)[:4] // 32 * 32
    addresses, base = [], 0
    for size in sizes:
        addresses.append(np.arange(base, base + size, 32))
        base += -(-int(size) // ALIGN_BYTES) * ALIGN_BYTES
    run = Lpddr5Exact(made.lpddr, "weight-stream").run(np.concatenate(addresses))
    exactly = run.cycles * made.lpddr.timing.tCK_ns
    timing = extent_timing(made.lpddr)
    engine = timing.first_ns + sum(timing.ns(float(size)) for size in sizes)
    print(f"{int(sizes.sum()) // 32:,} reads: engine / exact - 1 = {engine / exactly - 1:+.5f}")
    assert abs(engine / exactly - 1) < 0.01


def test_hb_time_in_the_engine_equals_the_exact_model():
    """Projections of random sizes from reset: the slowest bank's end is the exact model's last beat, to the cycle.

    The exact model serves loads of half a weight memory, one request after another.
    """
    made, rng, compared = machine("elmoe3d-8gb"), np.random.default_rng(8), 0
    params, pes = made.chip.hb, made.chip.pes
    for _ in range(12):
        inputs, tiles = int(rng.integers(1, 65)) * 32, int(rng.integers(1, 200))
        act = (
            Engine(made, small_model(), mapping="output-parallel")
            .replay(one_projection(1, inputs, 32 * tiles, Tier.HB))
            .acts[0, Resource.HB]
        )
        tile = inputs * 32 * 17 // 16
        columns = -(-(-(-tiles // pes) * tile) // params.column_bytes)
        requests = np.zeros(-(-columns // LOAD_COLUMNS), REQUEST)
        requests["columns"] = LOAD_COLUMNS
        requests["columns"][-1] = columns - LOAD_COLUMNS * (len(requests) - 1)
        trace = exact(Traffic(params, requests))
        assert (act[START_NS], act[END_NS]) == (0, trace.end_cycle)
        compared += 1
    print(f"{compared} transfers compared")
    assert compared == 12


@pytest.mark.parametrize(("inputs", "outputs"), [(256, 1024), (1024, 512)])
def test_the_engine_beside_the_pe_running_the_shipped_kernel(inputs, outputs):
    """A draft projection bound by HB: the kernel, whose loads follow each other less closely, takes up to 1.25 x.

    The engine's time up to the last product is compared with the fast PE model's whole program on one PE.
    """
    made, rng = machine("elmoe3d-8gb"), np.random.default_rng(9)
    weights = quantize_weights(rng.standard_normal((outputs, inputs), dtype=np.float32))
    tokens = quantize_activations(rng.standard_normal((16, inputs), dtype=np.float32))
    kernel = fast(projection_program(made.chip, weights, tokens, mode="draft", tier="hb")).cycles
    stream = one_projection(16, inputs, outputs, Tier.HB)
    stream.records["precision"], stream.records["lsb_tier"], stream.records["lsb_bytes"] = Precision.DRAFT, Tier.NONE, 0
    alone = replace(made, chip=replace(made.chip, pes=1))
    engine = Engine(alone, small_model(), mapping="output-parallel").replay(stream).acts[0, Resource.ARRAY, END_NS]
    print(f"{outputs} x {inputs}: PE program {kernel} cycles, engine {engine:.0f}: {kernel / engine:.2f} x")
    assert 1.0 <= kernel / engine <= 1.25
