"""What a pass moves beside weights read once: weights read again for more tokens, keys and values written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.lpddr.extent import extent_timing
from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.numerics import quantize_activations, quantize_weights
from hw.errors import UserError
from hw.params import chip as chip_of
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.expert_program import Expert, ExpertWork, expert_ffn_program
from sw_stack.compiler.kernels.matrix import projection_blocks
from sw_stack.compiler.projection_program import projection_program
from sw_stack.compiler.tiling import tile
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.catalogue import machine
from sw_stack.machines.energy import energy_table
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.workload import PassKind
from sw_stack.machines.machine import MAPPINGS
from sw_stack.workloads.pass_work import kv_bytes_per_position
from verification.bench.engine_passes import one_projection, random_pass, small_model

CHIP = chip_of("8gb")


def _engine_bytes(stream: Dispatch, mapping: str = "output-parallel") -> dict[str, float]:
    tile(stream.records, CHIP)
    stream.records["mapping"] = MAPPINGS.index(mapping)
    return Engine(machine("elmoe3d-8gb"), small_model()).replay(stream).bytes_by


def _streamed(program) -> int:
    return sum(len(chunk.words) for chunk in program.stream) * CHIP.hb.column_bytes


@pytest.mark.parametrize("tokens", [1, 16, 17, 32, 33, 48, 64, 65])
@pytest.mark.parametrize("mode", ["full", "draft"])
def test_a_projection_reads_its_weights_as_often_as_the_kernel(tokens, mode):
    """Bytes from LPDDR are the words that the PE program of as many tokens takes from the stream link.

    Full: two slices fill chains and results at 32 tokens, so that 33 read everything twice; a draft's limit is 64.
    """
    rng = np.random.default_rng(0)
    weights = quantize_weights(rng.standard_normal((64, 256), dtype=np.float32))
    activations = quantize_activations(rng.standard_normal((tokens, 256), dtype=np.float32))
    blocks = projection_blocks(CHIP, 2 if mode == "full" else 1)
    program = projection_program(CHIP, weights, activations, mode=mode, tier="stream", blocks=blocks)
    stream = one_projection(tokens, 256, 64, Tier.LPDDR)
    if mode == "draft":
        stream.records["precision"] = Precision.DRAFT
        stream.records["lsb_tier"], stream.records["lsb_bytes"] = Tier.NONE, 0
    assert _engine_bytes(stream)["LPDDR"] == _streamed(program)
    assert _streamed(program) == 64 * 256 * (17 if mode == "full" else 9) // 16 * -(-tokens // (16 * blocks))


def test_an_expert_reads_its_weights_for_every_sixteen_tokens():
    """20 tokens of one expert: its kernels take 16, so the program names it twice and the engine reads it twice."""
    rng = np.random.default_rng(1)
    matrices = [quantize_weights(rng.standard_normal((64, 64), dtype=np.float32)) for _ in range(3)]
    expert, x = Expert(*matrices), rng.standard_normal((20, 64), dtype=np.float32)

    def work(tokens: range) -> ExpertWork:
        return ExpertWork(3, expert, "stream", tokens, np.ones(len(tokens), np.float32))

    with pytest.raises(UserError, match="tokens of an expert must be 1 to 16"):
        expert_ffn_program(CHIP, [work(range(20))], x, x)
    program = expert_ffn_program(CHIP, [work(range(16)), work(range(16, 20))], x, x)
    records = np.concatenate([one_projection(20, 64, outputs, Tier.LPDDR).records for outputs in (128, 64)])
    records["kernel"], records["activated"] = Kernel.EXPERT, (1, 0)
    assert _engine_bytes(Dispatch(records, ("up", "down")))["LPDDR"] == _streamed(program)
    once = _engine_bytes(Dispatch(np.array(records[:1]), ("up",)), "split")["LPDDR"]
    assert once == 128 * 64 * 17 // 16  # under split every PE has one token


def test_weights_read_again_take_time_and_energy():
    """17 tokens of an expert against 16: twice the bytes, and with LPDDR as the limit twice the time."""
    made, times = machine("xpu"), []
    for tokens in (16, 17):
        stream = one_projection(tokens, 2048, 2048, Tier.LPDDR)
        stream.records["kernel"] = Kernel.EXPERT
        tile(stream.records, CHIP)
        result = Engine(made, small_model()).replay(stream)
        energy = energy_table(made).energy(result.counts, 1e-9 * result.ns).components["LPDDR"].nominal
        times.append((result.ns, result.bytes_by["LPDDR"], energy))
    (ns, size, joules), (ns2, size2, joules2) = times
    assert size2 == 2 * size
    assert ns2 / ns == pytest.approx(2, rel=0.02)
    assert joules2 / joules == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("name", "share"), [("elmoe3d-8gb", None), ("xpu", None), ("elmoe3d-8gb", HbShare(0, 4096, 0))]
)
def test_new_keys_and_values_are_written_once(name, share):
    """Every new token writes its positions of all layers: to HB, to LPDDR, or to both where HB is full."""
    made, config, rng = machine(name), small_model(), np.random.default_rng(2)
    for kind in PassKind:
        one = replace(random_pass(config, rng, kind), next_resident=None)
        result = Engine(made, config, share, "output-parallel").run(one)
        size = one.total_tokens * kv_bytes_per_position(config)
        full = share is not None or not made.has_hb
        assert result.counts.lpddr_write_bytes == (size if full else 0), kind
        column = made.chip.hb.column_bytes
        near = size if made.has_hb else 0
        assert near <= result.counts.hb_write_bytes <= near + column * config.layers, kind
        silent = result.dispatch.records.copy()
        silent["hb_written"] = silent["lpddr_written"] = 0
        without = Engine(made, config, share, "output-parallel").replay(Dispatch(silent, result.dispatch.names))
        assert result.bytes_by["LPDDR"] - without.bytes_by["LPDDR"] == (size if full else 0)
        assert result.ns >= without.ns * (1 - 1e-3), kind  # a refresh may be met elsewhere
        energy = [energy_table(made).energy(r.counts, 0.0).dynamic.nominal for r in (without, result)]
        assert energy[0] < energy[1]
        for memory in (*(["HB"] if made.has_hb else []), *(["LPDDR"] if full else [])):
            assert result.busy_ns[memory] > without.busy_ns.get(memory, 0.0), (kind, memory)
        if name == "xpu" and kind is PassKind.DECODE:  # nothing but LPDDR binds
            assert result.ns > without.ns


@pytest.mark.parametrize("tokens", [1, 6])
def test_lpddr_time_of_new_positions_against_exact(tokens):
    """16 sequences' positions written between two reads of weights: the exact model takes within 1 us of the engine.

    A layer of a 30 B model reads LPDDR for some milliseconds. Pieces are at random places.
    """
    made, rng = machine("xpu"), np.random.default_rng(tokens)
    timing, clocks, size = extent_timing(made.lpddr), made.lpddr.timing.clocks, 1056 * tokens
    places = rng.permutation(100_000) * (1 << 18)
    parts = [
        (places[0], 1 << 18, False),
        *((place, size, True) for place in places[1:17]),
        (places[17], 1 << 18, False),
    ]
    addresses = np.concatenate([np.arange(place, place + length, 32) for place, length, _ in parts])
    writes = np.concatenate([np.full(length // 32, write) for _, length, write in parts])
    memory = Lpddr5Exact(made.lpddr, "weight-stream")
    both, reads = memory.run(addresses, writes=writes).cycles, memory.run(addresses[~writes]).cycles
    exactly = (both - reads) * made.lpddr.timing.tCK_ns
    turn = (clocks.read_to_write + clocks.write_to_read_l) * made.lpddr.timing.tCK_ns
    engine = 16 * size * timing.ns_per_byte + 16 * timing.switch_ns + turn
    print(f"16 x {size} bytes written: engine {engine:.0f} ns, exact {exactly:.0f} ns")
    assert abs(engine - exactly) < 1000
