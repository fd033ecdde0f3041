"""DRAM time inside the engine against the exact models, on what random decode steps really transfer."""

from __future__ import annotations

import numpy as np

from cycle_model.lpddr.extent import ALIGN_BYTES, extent_timing
from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.lpddr.stream_memory import Lpddr5Stream
from sw_stack.compiler.dispatch import Kernel, Tier
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.workload import PassKind
from sw_stack.models.catalogue import model
from verification.bench.engine_passes import random_pass

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
