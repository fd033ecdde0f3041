"""The whole-model engine: a case worked by hand, bounds, monotony, attribution, replay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.compiler.dispatch import Dispatch, Tier
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.resources import END_NS, NAMES, START_NS, Resource
from sw_stack.machines.engine.workload import PassKind
from verification.bench.engine_passes import one_projection, random_pass, small_model

PROCESSORS = ("elmoe3d-8gb", "elmoe3d-4gb", "hb-xpu-8gb", "xpu", "xpu-pim", "xpu-logicpim", "xpu-nmp")


def test_one_projection_worked_by_hand():
    """4 tokens x 512 inputs x 32 outputs, both slices in the HB bank of one PE, from reset.

    Activations: 4 x (512 + 4) B over 32 B/ns = 64.5 ns + 10 ns hop; 34 cycles later the first LOAD. K is two blocks of
    8 groups: 36 columns with MSB codes and scales, 32 with LSB codes. Requests in cycles 110, 226, 338 and 461, two
    behind the end of the LOAD before, with ACT at edges 45, 94, 139 and 188 (tRP behind the precharge or at once),
    precharge 2 behind the last read at 89, 134, 183 and 228, done a cycle behind that edge: 224, 336, 459 and
    ceil(2.5 x 228) + 1 = 571 ns. Array: 2 slices x (8 cycles of fetch + 8 groups x 8 cycles) = 144 ns a block, the
    second from 571 on; 15 more until its results are there. Vector: addition 25, product 23 cycles. Results: 4 x 32
    FP32 = 512 B: 16 ns + 10 ns.
    """
    engine = Engine(machine("elmoe3d-8gb"), small_model(), mapping="output-parallel")
    result = engine.replay(one_projection(4, 512, 32, Tier.HB))
    act = result.acts[0]
    assert act[Resource.GATHER_IN, END_NS] == pytest.approx(74.5)
    assert act[Resource.HB, END_NS] == 571
    assert act[Resource.ARRAY, END_NS] == 571 + 144
    assert act[Resource.VECTOR, END_NS] == 571 + 144 + 15 + 48
    assert result.ns == pytest.approx(571 + 144 + 15 + 48 + 26)
    assert act[Resource.LPDDR, END_NS] < 0  # nothing from outside
    assert result.counts.hb_read_bytes == 17408
    assert result.counts.array_macs_full == 2 * 4 * 512 * 32


def test_two_projections_share_the_arrays():
    """64 tokens x 512 inputs x 2,048 outputs on 32 PEs, twice: two tiles a PE each, the second behind the first.

    Activations: 64 x 516 B / 32 + 10 = 1,042 ns, 34 more until the first LOAD. The kernel serves 32 tokens with one
    read of the weights: two passes over two tiles of two K blocks, whose MATMULs take 2 slices x (8 + 8 x 2 x 8) =
    272 ns.
    The first block's columns (36 and 32) are there at 1,301 ns, then the array binds: 1,301 + 4 x 272 = 2,389; results
    drain by 2,404, merges (2 x 48) end at 2,500. The second pass: 34 cycles, its first block is there at 2,761 ns, the
    array ends at 2,761 + 4 x 272 = 3,849 ns. The second kernel's activations wait for the results of the first: 512 KB
    over 32 B/ns and a hop, from the first of four parts on.
    """
    engine = Engine(machine("elmoe3d-8gb"), small_model(), mapping="output-parallel")
    one = one_projection(64, 512, 2048, Tier.HB)
    result = engine.replay(Dispatch(np.concatenate([one.records, one.records]), one.names))
    acts = result.acts
    assert acts[0, Resource.GATHER_IN, END_NS] == pytest.approx(1042)
    assert result.counts.hb_read_bytes == 2 * 2 * 64 * 17408 == result.bytes_by["HB"]
    assert acts[0, Resource.ARRAY, END_NS] == 3849
    assert acts[0, Resource.VECTOR, END_NS] == 3849 + 15 + 96
    sent = 1042 + (3849 + 15 + 96 - 1042) / 4 + 64 * 2048 * 4 / 32 + 10
    assert acts[0, Resource.AGGREGATION_LINK, END_NS] == pytest.approx(sent)
    assert acts[1, Resource.GATHER_IN, START_NS] == pytest.approx(sent)


@pytest.mark.parametrize("name", PROCESSORS)
def test_time_is_never_below_bytes_over_bandwidth(name):
    """Random passes: neither the memories nor the array nor a link move more than their peak allows."""
    made, rng = machine(name), np.random.default_rng(1)
    compared = 0
    for trial in range(12):
        config = small_model(inter=int(rng.integers(1, 12)) * 64, experts=int(rng.integers(4, 40)))
        engine = Engine(made, config)
        one = random_pass(config, rng)
        result = engine.run(one)
        bounds = [result.bytes_by["LPDDR"] / made.lpddr_gb_per_s]
        if made.has_hb:
            bounds.append(result.bytes_by["HB"] / made.hb_gb_per_s)
        if made.near_memory is not None:
            bounds.append(result.bytes_by["near memory"] / made.near_memory.peak_gb_per_s(made.lpddr))
        c = result.counts
        bounds.append((c.array_macs_full + c.array_macs_draft + c.array_macs_mxfp4) / made.slice_macs_per_ns)
        bounds.append(c.aggregation_link_bytes / made.links.aggregation_gb_per_s.value)
        bounds.append(c.stream_link_bytes / made.links.stream_gb_per_s.value)
        for resource, ns in result.busy_ns.items():
            assert ns <= result.ns * (1 + 1e-9), (trial, resource)
        assert result.ns >= max(bounds), (trial, one.kind)
        compared += len(bounds)
    assert compared >= 48
    print(f"{name}: {compared} bounds compared")


@pytest.mark.parametrize("name", ["elmoe3d-8gb", "xpu", "xpu-pim"])
def test_critical_path_explains_all_time(name):
    """Attributed times of all resources are not negative and sum to the pass."""
    config, rng = small_model(), np.random.default_rng(2)
    engine = Engine(machine(name), config)
    for _ in range(8):
        result = engine.run(random_pass(config, rng))
        assert min(result.critical_ns.values()) >= 0
        assert sum(result.critical_ns.values()) == pytest.approx(result.ns, rel=1e-6)


@pytest.mark.parametrize(("name", "tolerance"), [("xpu", 0.002), ("elmoe3d-8gb", 0.025)])
def test_shortening_a_resource_changes_the_total_by_its_share(name, tolerance):
    """A hundredth less time on one resource takes a hundredth of its critical time off the pass, none with slack.

    ``tolerance`` is of the pass's hundredth: HB serves on its own clock's edges and refreshes at its own time, so the
    answers of a machine with HB are coarser.
    """
    config, rng = small_model(layers=6, hidden=2048, experts=32, inter=768), np.random.default_rng(3)
    small = 1e-4 if name == "xpu" else 1e-2
    compared = critical = 0
    for kind in (PassKind.DECODE, PassKind.PREFILL, PassKind.VERIFY):
        one = random_pass(config, rng, kind)
        base = Engine(machine(name), config, mapping="output-parallel").run(one)
        for label in ("LPDDR", "stream link", "host", "aggregation link", "array", "vector unit"):
            scale = {resource: 1 - small for resource, each in NAMES.items() if each == label}
            scaled = Engine(machine(name), config, mapping="output-parallel").run(one, scale)
            share = base.critical_ns.get(label, 0.0) / base.ns
            gain = (base.ns - scaled.ns) / (small * base.ns)
            assert gain == pytest.approx(share, abs=tolerance), (kind, label)
            compared += 1
            critical += share > 0.01
    print(f"{name}: {compared} shares compared")
    assert critical >= 6  # not everything is slack


@pytest.mark.parametrize("name", ["elmoe3d-8gb", "xpu", "hb-xpu-8gb"])
def test_more_bandwidth_is_never_slower(name):
    """Policy and placement fixed: faster links or memories do not lengthen a pass, beyond one HB row turn and refresh.

    A transfer that begins earlier may meet a refresh that it would have missed, once each.
    """
    made, config, rng = machine(name), small_model(), np.random.default_rng(4)
    timing = made.chip.hb.timing
    for _ in range(6):
        one = random_pass(config, rng)
        base = Engine(made, config, mapping="output-parallel").run(one)
        allowed = (timing.tRC_ns + timing.tRFC_ns) * max(1, base.counts.hb_transfers)
        for resource in Resource:
            faster = Engine(made, config, mapping="output-parallel").run(one, {resource: 0.7})
            assert faster.ns <= base.ns + allowed, resource
        links = replace(
            made.links, stream_gb_per_s=made.links.stream_gb_per_s.with_value(256, "twice as fast, for a test")
        )
        faster = Engine(replace(made, links=links), config, mapping="output-parallel").run(one)
        assert faster.ns <= base.ns + allowed


def test_replay_of_a_recorded_stream_takes_the_same_time():
    """The engine consumes the dispatch stream: emitted or replayed, the result is equal, also with DRAM state."""
    config, rng = small_model(), np.random.default_rng(5)
    live, again = (Engine(machine("elmoe3d-8gb"), config, mapping="split") for _ in range(2))
    for _ in range(4):
        result = live.run(random_pass(config, rng))
        replayed = again.replay(result.dispatch)
        assert (replayed.start_ns, replayed.end_ns) == (result.start_ns, result.end_ns)
        assert replayed.counts == result.counts


def test_longer_contexts_and_spilled_keys_take_longer():
    """KV grows with the sequence; what does not fit HB is read from LPDDR and costs more."""
    config, rng = small_model(), np.random.default_rng(6)
    one = random_pass(config, rng, PassKind.DECODE)
    longer = replace(one, kv_lengths=one.kv_lengths + 40_000)
    made = machine("elmoe3d-8gb")
    times = [
        Engine(made, config, share, "output-parallel").run(each)
        for share, each in ((None, one), (None, longer), (HbShare(0, 1 << 20, 0), longer))
    ]
    assert times[0].ns < times[1].ns < times[2].ns
    assert times[2].bytes_by["LPDDR"] > times[1].bytes_by["LPDDR"]


def test_a_gpu_and_an_illegal_mapping_are_refused():
    """One line each, with the legal names."""
    with pytest.raises(UserError, match="GPU"):
        Engine(machine("h100"), small_model())
    with pytest.raises(UserError, match="output-parallel"):
        Engine(machine("xpu"), small_model(), mapping="split")
