"""Serving rounds: passes, residency, decisions, requests; expected values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.elastic.traffic import dense_weights
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.workload import PassKind
from sw_stack.models.catalogue import model
from sw_stack.workloads.acceptance import acceptance_of, constant
from sw_stack.workloads.datasets import accept_length
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset
from sw_stack.workloads.metrics import expected_unique, fits, target_efficiency
from sw_stack.workloads.pass_work import MachinePredictor, kv_bytes_per_position
from sw_stack.workloads.requests import Arrivals
from sw_stack.workloads.serving import Server
from sw_stack.workloads.serving_types import Serving
from sw_stack.workloads.trace import Trace

GPT = "gpt-oss-20b"


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {name: generate(preset(name).params, 4, 160, 7) for name in (GPT, "deepseek-v2-lite")}


def server(traces, name=GPT, on="elmoe3d-4gb", timer=None, acceptance=None, **changes) -> Server:
    serving = Serving(**({"batch": 2, "rounds": 6, "method": "none"} | changes))
    if acceptance is None and serving.method != "none":
        acceptance = acceptance_of(serving.method, name, "mt-bench")
    return Server(machine(on), model(name).architecture(), traces[name], acceptance, serving, timer)


# --- rounds ----------------------------------------------------------------------------------------------------


def test_plain_round_is_one_pass_of_the_batch(traces):
    """Plain decoding: one DECODE pass of a token per sequence, k experts per token and layer, one new token each."""
    for one in server(traces, batch=3).run():
        (step,) = one.steps
        assert step.one.kind is PassKind.DECODE
        assert step.one.expert_tokens.sum() == 3 * 24 * 4
        assert one.new_tokens.tolist() == [1, 1, 1]


def test_elastic_round_follows_the_contract(traces):
    """2 x 3 tree: drafts of 1 and 3 nodes on residents only, then 7 tokens verified with the same old set, and the set
    that replaces it is in force in the next round."""
    run = server(traces, method="elastic", shape=TreeShape(2, 3), rounds=4)
    held = None
    for one in run.run():
        first, second, verify = (step.one for step in one.steps)
        assert [p.kind for p in (first, second, verify)] == [PassKind.DRAFT, PassKind.DRAFT, PassKind.VERIFY]
        assert [p.tokens.tolist() for p in (first, second, verify)] == [[1, 1], [3, 3], [7, 7]]
        for draft in (first, second):
            assert not draft.expert_tokens[~draft.resident[:, :, 0]].any()
        np.testing.assert_array_equal(first.resident, verify.resident)
        if held is not None:
            np.testing.assert_array_equal(first.resident, held)
        held = verify.resident if verify.next_resident is None else verify.next_resident
        assert verify.expert_tokens.sum() == 14 * 24 * 4
        assert (one.new_tokens >= 1).all() and (one.new_tokens <= 3).all()
        assert 0 < one.coverage <= 1


def test_rounds_walk_along_the_trace(traces):
    """Plain decoding of one sequence uses the experts of consecutive tokens, wrapping round within a sequence."""
    run = server(traces, batch=1, rounds=5)
    start = int(run.source.rows(np.array([0]), np.array([0]))[0, 0])
    first, last = (int(x) for x in run.source.trace.offsets[start // 160 : start // 160 + 2])
    for n, one in enumerate(run.run()):
        row = first + (start - first + n) % (last - first)
        used = np.flatnonzero(one.steps[0].one.expert_tokens[3])
        assert used.tolist() == sorted(traces[GPT].experts[row, 3].tolist())


def test_hot_set_follows_the_drafts(traces):
    """The next set is the most wanted of the draft's tokens; what the verification streamed enters for nothing."""
    run = server(traces, method="elastic", rounds=6)
    changed, paid, free = 0, 0, 0
    for one in run.run():
        verify = one.steps[-1].one
        if verify.next_resident is not None:
            changed += 1
            entering = verify.next_resident & ~verify.resident
            streamed = (verify.expert_tokens > 0)[:, :, None] & ~verify.resident
            paid += int((entering & ~streamed)[:, :, 0].sum())
            free += int((entering & streamed)[:, :, 0].sum())
    assert changed >= 4 and free > 0
    assert run.hot_set.paid_bytes == paid * run.hot_set.sizes.msb_bytes
    assert run.hot_set.free_bytes == free * run.hot_set.sizes.msb_bytes


def test_other_methods_use_their_own_weights(traces):
    """EAGLE and small-model drafts are passes of a dense model; with the 4-bit copy no target expert is resident."""
    eagle = next(server(traces, method="eagle").run())
    assert all(step.model.experts == 0 and step.one.kind is PassKind.DECODE for step in eagle.steps[:-1])
    assert len(eagle.steps) == 6
    copy = server(traces, method="quant", on="hb-xpu-4gb", rounds=4)
    assert "4-bit copy" in copy.allocation_reason and not copy.hot_set.resident[:, :, 1].any()
    behind = [[step.one.next_resident is not None for step in one.steps] for one in copy.run()]
    assert all(not any(each[:4] + each[5:]) for each in behind) and any(each[4] for each in behind)
    quant = next(server(traces, method="quant").run())
    assert quant.steps[0].one.resident.any() and not quant.steps[-1].one.resident.any()
    assert quant.steps[0].one.expert_tokens.sum() == 2 * 24 * 4  # unrestricted


def test_accepted_tokens_follow_the_probability(traces):
    """At a = 0.6, depth 5, 4,000 sequence-rounds give 2.3834 tokens each, four standard errors; 0 and 1 exactly."""
    long = {"batch": 64, "method": "eagle", "output_tokens": 1 << 19}
    run = server(traces, acceptance=constant("eagle", 0.6), rounds=62, **long)
    tokens = np.concatenate([one.new_tokens for one in run.run()])
    assert len(tokens) == 62 * 64
    assert abs(tokens.mean() - accept_length(0.6, 5)) < 4 * tokens.std() / np.sqrt(len(tokens))
    assert run.statistics.acceptance(5) == pytest.approx([0.6] * 5, abs=0.06)
    for a, each in ((0.0, 1), (1.0, 6)):
        for one in server(traces, acceptance=constant("eagle", a), rounds=3, **long).run():
            assert (one.new_tokens == each).all()


def test_same_seed_same_rounds(traces):
    """Equal seeds give equal rounds, another seed other ones."""

    def tokens(seed):
        run = server(traces, method="elastic", seed=seed, rounds=8)
        return [(one.new_tokens.tolist(), one.coverage) for one in run.run()]

    assert tokens(1) == tokens(1) != tokens(2)


def test_machines_refuse_what_they_cannot_do(traces):
    """Self-drafting needs MSB slices in HB; sizes out of range and unknown names are refused in one line."""
    for on in ("hb-xpu-4gb", "xpu", "h100"):
        with pytest.raises(UserError, match=f"{on} cannot draft with 'elastic'"):
            server(traces, on=on, method="elastic")
    with pytest.raises(UserError, match="batch must be an integer from 1 to 64, not 65"):
        Serving(batch=65)
    with pytest.raises(UserError, match="did you mean adaptive"):
        Serving(batch=1, allocation="adaptiv")
    with pytest.raises(UserError, match="rounds must be given"):
        Serving(batch=1, rounds=None)


def test_hb_is_shared_by_bytes(traces):
    """HB minus dense weights (8.5 bit) minus KV of all positions is the experts'; nothing on a machine without HB."""
    config = model(GPT).architecture()
    run = server(traces, batch=4, prompt_tokens=100, output_tokens=28)
    kv = 4 * 128 * kv_bytes_per_position(config)
    dense = int(dense_weights(config) * 8.5 / 8)
    assert run.share.expert == (4 * 2**30 - dense - kv) // 24
    assert kv_bytes_per_position(config) == 24 * (2 * 8 * 64 + 2 * 8 * 4)
    none = server(traces, on="xpu")
    assert none.share.expert == 0 and not none.hot_set.resident.any()


def test_work_of_a_plain_pass_by_hand(traces):
    """Machine without HB: every distinct expert's bytes from LPDDR (MXFP4: 4.25 bit), dense and KV beside."""
    run = server(traces, on="xpu", batch=2)
    step = next(run.run()).steps[0]
    distinct = int((step.one.expert_tokens > 0).sum())
    assert step.work.lpddr_bytes == distinct * int(3 * 2880 * 2880 * 4.25 / 8)
    config = model(GPT).architecture()
    kv = int(step.one.kv_lengths.sum()) * kv_bytes_per_position(config)
    assert step.work.hb_bytes == pytest.approx(dense_weights(config) * 8.5 / 8 + kv)
    assert step.work.slice_macs == 2 * 2 * dense_weights(config) + 2 * 24 * 4 * 3 * 2880 * 2880
    assert step.seconds == pytest.approx((step.work.hb_bytes + step.work.lpddr_bytes) / 102.4e9)


def test_predictor_learns_from_the_engine(traces):
    """A timer twice as slow as the roofline moves the predictions to its times; decisions name it."""
    calls = []

    def slow(config, one, work):
        calls.append(one)
        return 2 * MachinePredictor(machine("xpu")).seconds(work)

    run = server(traces, on="xpu", timer=slow, rounds=12)
    rounds = list(run.run())
    assert len(calls) == 12
    last = rounds[-1].steps[0]
    assert run.predictor.seconds(last.work) == pytest.approx(last.seconds, rel=0.01)
    assert "calibrated" in run.predictor.name
    assert rounds[-1].start_s == pytest.approx(sum(one.seconds for one in rounds[:-1]))


def test_draft_or_plain_follows_the_times(traces):
    """With worthless drafts auto decodes plainly after its four measuring rounds, with perfect ones it drafts."""
    plain = list(server(traces, acceptance=constant("eagle", 0.0), method="eagle", mode="auto", rounds=8).run())
    assert [one.decision.depth for one in plain] == [5] * 4 + [0] * 4
    assert "AR at batch 2" in plain[-1].decision.reason
    drafted = list(server(traces, acceptance=constant("eagle", 1.0), method="eagle", mode="auto", rounds=8).run())
    assert [one.decision.depth for one in drafted] == [5] * 8


def test_both_allocations_are_compared(traces):
    """auto keeps the allocation predicted faster and names both times; a cache of whole experts is always whole."""
    run = server(traces, name="deepseek-v2-lite", allocation="auto", batch=1)
    assert run.allocation_reason.startswith("adaptive: ") and "with msb-only" in run.allocation_reason
    assert run.hot_set.resident[:, :, 1].any()
    whole = server(traces, name="deepseek-v2-lite", on="hb-xpu-4gb")
    np.testing.assert_array_equal(whole.hot_set.resident[:, :, 0], whole.hot_set.resident[:, :, 1])
    published = server(traces, name="deepseek-v2-lite")
    assert not published.hot_set.resident[:, :, 1].any()


def test_draft_positions_behind_the_tree(traces):
    """A level's draft reads the committed positions, the root and the tree's levels above: 0, 1 and 4 for 3 x 3."""
    run = server(traces, method="elastic", shape=TreeShape(3, 3))
    steps = next(run.run()).steps
    start = steps[-1].one.kv_lengths
    assert [(step.one.kv_lengths - start).tolist() for step in steps[:-1]] == [[0, 0], [1, 1], [4, 4]]


# --- figures ---------------------------------------------------------------------------------------------------


def test_expected_unique_by_hand():
    """8 of 128, 16 tokens: 82.4, as published for the uniform formula; one token reaches k experts."""
    assert expected_unique(128, 8, 16) == pytest.approx(82.4, abs=0.05)
    assert expected_unique(64, 6, 16) == pytest.approx(50.8, abs=0.05)
    assert expected_unique(32, 4, 1) == pytest.approx(4)


def test_target_efficiency(traces):
    """1 where verification costs what a plain pass does, 1 / nodes where time goes by tokens; nothing is advanced."""
    run = server(traces, method="elastic", shape=TreeShape(2, 3))
    before = run.source.choices(np.arange(2), np.arange(3))
    assert target_efficiency(run, lambda config, one, work: 1.0) == 1
    assert target_efficiency(run, lambda config, one, work: float(one.total_tokens)) == pytest.approx(1 / 7)
    assert 1 / 7 < target_efficiency(run, lambda config, one, work: run.predictor.seconds(work)) < 1
    np.testing.assert_array_equal(before, run.source.choices(np.arange(2), np.arange(3)))


def test_what_a_method_stores_must_fit():
    """Qwen3-30B: 32.7 GB; its 4-bit copy 17 GB more; 32 GB at 4.5 bit plus an EAGLE head fits 24 GB."""
    config = model("qwen3-30b-a3b").architecture()
    plain, copy = (fits(machine("gb10"), config, Serving(batch=1, method=m)) for m in ("none", "quant"))
    assert copy.needed - plain.needed == pytest.approx((30.53e9 - 0.311e9) * 4.5 / 8, rel=1e-3)
    assert plain.needed == pytest.approx(32.73e9 + 1024 * 48 * (2 * 4 * 128 + 2 * 4 * 4), rel=1e-3)
    assert fits(machine("rtx4090"), config, Serving(batch=1, method="eagle"), "int4").fits
    four = (fits(machine("gb10"), config, Serving(batch=1, method=m), "int4").needed for m in ("none", "quant"))
    assert len(set(four)) == 1


# --- requests --------------------------------------------------------------------------------------------------


def test_arrivals_are_served_in_order_and_whole(traces):
    """Every request gets all its tokens, none starts before it arrives, no more than ``batch`` run at once."""
    run = server(traces, batch=3, rounds=None, prompt_tokens=20, output_tokens=9, arrivals=Arrivals(2.0, 12))
    rounds = list(run.run())
    assert sorted(r.number for r in run.requests) == list(range(12))
    assert sum(one.tokens for one in rounds) == 12 * 8  # the first token of each comes from its prefill
    prefills = [s for one in rounds for s in one.steps if s.one.kind is PassKind.PREFILL]
    assert len(prefills) == 12 and all(s.one.total_tokens == 20 for s in prefills)
    assert max(len(one.new_tokens) for one in rounds) <= 3
    for request in run.requests:
        assert request.arrival_s < request.first_token_s < request.done_s
        assert request.time_per_output_token_s > 0
    busy = sum(one.seconds for one in rounds)
    assert run.clock_s >= busy


def test_drafts_never_give_more_than_was_asked_for(traces):
    """With every draft accepted, requests of 9 tokens still get 9: one by prefill, six and two by rounds."""
    asked = {"rounds": None, "prompt_tokens": 20, "output_tokens": 9, "arrivals": Arrivals(1e6, 4)}
    run = server(traces, batch=4, method="eagle", acceptance=constant("eagle", 1.0), **asked)
    assert [one.new_tokens.tolist() for one in run.run()] == [[6] * 4, [2] * 4]


def test_poisson_rate():
    """2,000 arrivals at 50 per second take 40 s within four standard errors of the mean gap."""
    times = [r.arrival_s for r in Arrivals(50.0, 2000).requests(Serving(batch=1))]
    assert abs(times[-1] - 40) < 4 * 40 / np.sqrt(2000)
    with pytest.raises(UserError, match="above 0, not 0"):
        Arrivals(0, 1)


def test_steady_state_replaces_finished_requests(traces):
    """A slot whose request ends begins the next at the prompt's length: positions stay within prompt and output."""
    run = server(traces, batch=4, prompt_tokens=10, output_tokens=3, rounds=20)
    for one in run.run():
        kv = one.steps[0].one.kv_lengths
        assert ((kv >= 10) & (kv < 13)).all()


def test_spilled_kv_is_read_from_lpddr(traces):
    """KV beyond HB's share counts as LPDDR bytes, in all to the byte."""
    base = machine("elmoe3d-4gb")
    config = model(GPT).architecture()
    dense = int(dense_weights(config) * 8.5 / 8)
    pes = 8  # 2 GiB
    small = replace(base, chip=replace(base.chip, pes=pes))
    serving = Serving(batch=64, prompt_tokens=1 << 14, output_tokens=64, rounds=1)
    run = Server(small, config, traces[GPT], None, serving)
    left = pes * 2**28 - dense
    assert run.share.kv == left and run.share.expert == 0
    work = next(run.run()).steps[0].work
    assert work.hb_bytes == pytest.approx(dense_weights(config) * 8.5 / 8 + left)
