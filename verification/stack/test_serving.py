"""Serving rounds: acceptance, routing, residency, requests; expected values by hand."""

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
from sw_stack.workloads.acceptance import PAPER_RANGE, acceptance_of, constant, measured
from sw_stack.workloads.acceptance_export import export, width_exponents
from sw_stack.workloads.datasets import DATASETS, EAGLE_LENGTHS, accept_length, chain_acceptance, dataset
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset
from sw_stack.workloads.metrics import expected_unique, fits, target_efficiency
from sw_stack.workloads.pass_work import MachinePredictor, kv_bytes_per_position
from sw_stack.workloads.requests import Arrivals
from sw_stack.workloads.routing_source import RoutingSource, coverage, expert_tokens, restricted
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


# --- acceptance ------------------------------------------------------------------------------------------------


def test_accept_length_of_a_chain_by_hand():
    """a = 1/2 over three positions: 1 + 1/2 + 1/4 + 1/8 tokens; the inverse gives 1/2 back; impossible ones refused."""
    assert accept_length(0.5, 3) == 1.875
    assert chain_acceptance(1.875, 3) == pytest.approx(0.5, abs=1e-10)
    assert chain_acceptance(1.0, 7) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UserError, match=r"1 to 4, not 4\.5"):
        chain_acceptance(4.5, 3)


def test_published_lengths_come_back():
    """At its own depth, an EAGLE head gives its published tokens per round: value, low and high."""
    for (name, data), published in EAGLE_LENGTHS.items():
        acceptance = acceptance_of("eagle", name, data)
        assert (acceptance.kind, acceptance.assumed) == ("paper", False)
        for corner in ("low", "nominal", "high"):
            got = acceptance.tokens_per_round(TreeShape(published.depth), corner=corner)
            assert got == pytest.approx(published.tokens.at(corner), abs=1e-6)


def test_unpublished_pairs_are_marked():
    """A model and data set without a publication, and any carried-over fit, are assumptions and say so."""
    assert ("gpt-oss-20b", "alpaca") not in EAGLE_LENGTHS
    for method, name in (("eagle", GPT), ("elastic", GPT), ("quant", "qwen3-30b-a3b"), ("slm", "glm-4.7-flash")):
        acceptance = acceptance_of(method, name, "alpaca")
        assert acceptance.assumed
        assert "carried over" in acceptance.source
    assert not acceptance_of("elastic", "elmoe-8m", "alpaca").assumed
    with pytest.raises(UserError, match="drafts"):
        acceptance_of("none", GPT, "alpaca")
    with pytest.raises(UserError, match="did you mean gsm8k"):
        dataset("gsm8")
    assert list(DATASETS) == ["mt-bench", "gsm8k", "alpaca", "humaneval"]


def test_acceptance_follows_the_measured_cells():
    """Against cells of the study itself: .63 at .77 coverage and .91 at full coverage, first position, within .03."""
    elastic = acceptance_of("elastic", "elmoe-8m", "alpaca")
    assert elastic.by_position(TreeShape(1), 0.772)[0] == pytest.approx(0.632, abs=0.05)
    assert elastic.by_position(TreeShape(1), 1.0)[0] == pytest.approx(0.912, abs=0.03)
    quant = acceptance_of("quant", "elmoe-8m", "alpaca")
    assert quant.by_position(TreeShape(1), 0.1)[0] == quant.by_position(TreeShape(1), 1.0)[0]  # uses every expert


def test_acceptance_is_monotone_with_a_band():
    """More router mass never lowers acceptance, low <= nominal <= high, wider trees accept more per level."""
    elastic = acceptance_of("elastic", GPT, "gsm8k")
    covered = np.linspace(0, 1, 21)
    nominal = [elastic.by_position(TreeShape(1), c)[0] for c in covered]
    assert (np.diff(nominal) >= -1e-9).all()
    low, high = (np.array([elastic.by_position(TreeShape(1), c, k)[0] for c in covered]) for k in ("low", "high"))
    assert (low <= nominal).all() and (nominal <= high).all() and (high - low > 0.05).any()
    chain, tree = (elastic.by_position(TreeShape(2, w), 0.8) for w in (1, 4))
    assert (tree > chain).all()
    assert PAPER_RANGE[0] < np.mean(nominal[10:]) < PAPER_RANGE[1]
    assert measured().fit.rows > 1000


def test_width_exponent_by_hand():
    """Acceptance 1/e in a chain and e^-1/2 with four nodes: 4^-g = 1/2, so g = 1/2."""
    first, later = width_exponents({"5": [np.exp(-1)] * 5, "2x4": [np.exp(-0.5), np.exp(-1)]})
    assert (first, later) == pytest.approx((0.5, 0.0))


def test_export_takes_what_serving_needs():
    """Chains of the methods with drafters, width exponents of all, the fit; incomplete or foreign files are refused."""
    base = {"scheme": "augmented", "fraction": 0.5, "policy": "hot"}
    cells = [
        base | {"method": "elastic", "tree": "5", "acceptance_by_position": [0.5] * 5},
        base | {"method": "slm", "tree": "5", "acceptance_by_position": [0.4] * 5},
        base | {"method": "slm", "tree": "2x4", "acceptance_by_position": [0.4**0.5, 0.4]},
        base | {"method": "slm", "tree": "8", "acceptance_by_position": [0.1] * 8, "fraction": 1.0},
    ]
    fit = {"schemes": ["int8"], "coefficients": [1], "resampled_coefficients": [[0.123456]], "rows": 1}
    study = {"format": "elmoe3d-study", "provenance": {"seed": 0}, "cells": cells, "fit": fit}
    found = export(study)
    assert found["chains"] == {"slm": [0.4] * 5}
    assert found["width"] == {"elastic": [0, 0], "slm": [0.5, 0.0]}
    assert found["fit"]["resampled_coefficients"] == [[0.12346]]
    with pytest.raises(UserError, match="a chain of 5 of slm"):
        export(study | {"cells": cells[:1] + cells[2:]})
    with pytest.raises(UserError, match="that elmoe3d study wrote"):
        export({"format": "other"})


# --- routing ---------------------------------------------------------------------------------------------------


def small_trace(tokens: int = 6) -> Trace:
    """Two sequences, one layer, top-2 of 4 experts: token t uses t % 4 and (t + 1) % 4."""
    experts = np.array([[[t % 4, (t + 1) % 4]] for t in range(2 * tokens)], np.uint8)
    return Trace(
        experts=experts, offsets=np.array([0, tokens, 2 * tokens]), num_experts=4, model="m", source="s", licence="l"
    )


def test_cursor_walks_and_wraps():
    """Tokens to come follow the newest one; a sequence wraps round within itself; a shorter model is refused."""
    source = RoutingSource(small_trace(), 1, 4, 2, seed=0)
    slots = np.arange(2)
    first = source.choices(slots, np.arange(6)).reshape(2, 6, 2)
    for sequence in first:
        assert (np.diff(sequence[:, 0].astype(int)) % 4).tolist().count(1) >= 4  # one wrap at most
    source.advance(slots, np.array([2, 0]))
    again = source.choices(slots, np.arange(2)).reshape(2, 2, 2)
    np.testing.assert_array_equal(again[0], first[0, 2:4])
    np.testing.assert_array_equal(again[1], first[1, :2])
    with pytest.raises(UserError, match="2 MoE layers of 4 experts, not 1 of 4"):
        RoutingSource(small_trace(), 2, 4, 1, seed=0)


def test_counts_and_coverage_by_hand():
    """Three tokens on layers of four experts; -1 counts for nothing; coverage is the resident share of the mass."""
    choices = np.array([[[0, 1], [2, 3]], [[0, 2], [3, -1]], [[0, 1], [-1, -1]]])
    np.testing.assert_array_equal(expert_tokens(choices, 4), [[3, 2, 1, 0], [0, 0, 1, 2]])
    mask = np.array([[True, False, False, False]])
    assert coverage(np.array([[[0, 1]], [[2, 0]]]), np.array([0.75, 0.25]), mask) == pytest.approx(0.5)


def test_restricted_choice_keeps_residents_and_never_repeats():
    """Wanted residents stay in their slots, other slots take distinct residents, missing ones are empty."""
    rng = np.random.default_rng(3)
    choices = np.stack([rng.permuted(np.arange(16)[None].repeat(5, 0), axis=1)[:, :4] for _ in range(50)])
    mask = rng.random((5, 16)) < 0.4
    mask[0] = False
    mask[1, 3:] = False  # three residents, fewer than k
    mask[1, :3] = True
    out = restricted(choices, mask, rng.random((5, 16)), rng)
    for t in range(50):
        for layer in range(5):
            used = out[t, layer][out[t, layer] >= 0]
            assert len(used) == min(4, mask[layer].sum()) == len(set(used))
            assert mask[layer, used].all()
            kept = mask[layer, choices[t, layer]]
            np.testing.assert_array_equal(out[t, layer][kept], choices[t, layer][kept])


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
