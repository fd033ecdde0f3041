"""Drafters with a model of their own in serving rounds: their weights, keys and values, and what they read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sw_stack.elastic.traffic import dense_weights, matrix_weights
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.timer import MachineTimer
from sw_stack.machines.engine.workload import PassKind
from sw_stack.models.catalogue import model
from sw_stack.workloads.acceptance import acceptance_of, constant
from sw_stack.workloads.draft_models import draft_model
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset
from sw_stack.workloads.metrics import fits
from sw_stack.workloads.pass_work import kv_bytes_per_position
from sw_stack.workloads.requests import Arrivals
from sw_stack.workloads.serving import Server
from sw_stack.workloads.serving_types import Serving

GPT = "gpt-oss-20b"
CONFIG = model(GPT).architecture()


@pytest.fixture(scope="module")
def trace():
    return generate(preset(GPT).params, 4, 160, 7)


def server(trace, method="slm", on="elmoe3d-4gb", timer=None, acceptance=None, **changes) -> Server:
    serving = Serving(**({"batch": 2, "rounds": 6, "method": method} | changes))
    acceptance = acceptance or acceptance_of(method, GPT, "mt-bench")
    return Server(machine(on), CONFIG, trace, acceptance, serving, timer)


def test_a_small_models_cache_takes_hb_from_experts(trace):
    """Qwen3-0.6B's shape: 28 layers x 2 x 8 heads x (128 + 4) bytes a position, beside its weights, out of HB."""
    run = server(trace, batch=4, prompt_tokens=100, output_tokens=28)
    own = draft_model("slm", CONFIG)
    assert kv_bytes_per_position(own) == 28 * 2 * 8 * (128 + 4)
    both = 4 * 128 * (kv_bytes_per_position(CONFIG) + kv_bytes_per_position(own))
    dense = int((dense_weights(CONFIG) + matrix_weights(own)) * 8.5 / 8)
    assert run.share.kv + run.draft_share.kv == both
    assert run.draft_share.kv == pytest.approx(4 * 128 * kv_bytes_per_position(own), abs=1)
    assert run.share.expert == (4 * 2**30 - dense - both) // 24
    plain = server(trace, method="elastic", batch=4, prompt_tokens=100, output_tokens=28)
    assert plain.draft_share.kv == 0 and plain.share.expert > run.share.expert


@pytest.mark.parametrize("method", ["slm", "eagle"])
def test_first_draft_reads_what_was_committed(trace, method):
    """A round's first draft takes every token committed since the last draft, and so fills the drafter's cache without
    a gap; further levels take one node behind it each. Only the newest token's output is needed."""
    run = server(trace, method=method, acceptance=constant(method, 0.7), output_tokens=1 << 19)
    committed = np.ones(2, np.int64)
    for one in run.run():
        first, *others, verify = (step.one for step in one.steps)
        np.testing.assert_array_equal(first.tokens, committed)
        np.testing.assert_array_equal(first.kv_lengths + first.tokens, verify.kv_lengths + 1)
        assert first.head_tokens == 2
        for level, other in enumerate(others):
            np.testing.assert_array_equal(other.kv_lengths, verify.kv_lengths + 1 + level)
            assert other.tokens.tolist() == [1, 1]
        committed = one.new_tokens
    assert committed.max() > 1


def test_rounds_without_a_draft_leave_more_to_read(trace):
    """After plain rounds the next draft takes the tokens of all of them."""
    run = server(trace, acceptance=constant("slm", 0.0), method="slm", mode="auto", rounds=34)
    read = [one.steps[0].one.tokens.tolist() for one in run.run() if one.decision.depth]
    assert read == [[1, 1]] * 4 + [[28, 28]]  # rounds 1 to 4 measure, then round 32


def test_a_drafters_keys_and_values_are_read_with_its_weights(trace):
    """Bytes of a draft pass: 8.5 bits a weight, and the cached positions of both sequences; the engine reads as many
    and writes the new ones."""
    timer = MachineTimer(machine("elmoe3d-4gb"), CONFIG)
    own, seen = draft_model("slm", CONFIG), []

    def recording(config, one, work):
        before = dict(timer.totals.bytes_by)
        seconds = timer(config, one, work)
        seen.append(timer.totals.bytes_by["HB"] - before.get("HB", 0.0))
        return seconds

    run = server(trace, timer=recording, rounds=1)
    timer.share, timer.draft_share = run.share, run.draft_share
    steps = next(run.run()).steps
    for step, moved in list(zip(steps, seen, strict=True))[:-1]:
        kv = int(step.one.kv_lengths.sum()) * kv_bytes_per_position(own)
        assert step.work.hb_bytes == pytest.approx(matrix_weights(own) * 8.5 / 8 + kv)
        written = step.one.total_tokens * kv_bytes_per_position(own)
        assert moved == pytest.approx(step.work.hb_bytes + written, rel=1e-3)
    kv = 2 * 700 * kv_bytes_per_position(CONFIG)
    expected = run.meter.expected_draft(2, kv).hb_bytes
    assert expected == pytest.approx(matrix_weights(own) * 8.5 / 8 + 2 * 700 * kv_bytes_per_position(own))


def test_both_caches_spill_in_proportion(trace):
    """Where HB is too small for all keys and values each model keeps the same part of its own there."""
    base = machine("elmoe3d-4gb")
    small = replace(base, chip=replace(base.chip, pes=12))  # 3 GiB
    serving = Serving(batch=64, prompt_tokens=1 << 13, output_tokens=64, rounds=1, method="slm")
    run = Server(small, CONFIG, trace, acceptance_of("slm", GPT, "mt-bench"), serving)
    kv, own = kv_bytes_per_position(CONFIG), kv_bytes_per_position(draft_model("slm", CONFIG))
    assert run.share.expert == 0
    assert run.share.kv / run.draft_share.kv == pytest.approx(kv / own)
    first, *_, verify = next(run.run()).steps
    assert first.work.lpddr_bytes / (first.one.kv_lengths.sum() * own) == pytest.approx(
        1 - run.draft_share.kv / (first.one.kv_lengths.sum() * own)
    )
    assert first.work.lpddr_bytes > 0 and verify.work.lpddr_bytes > 0


def test_a_drafter_prefills_too(trace):
    """Each arriving request is a prefill of the target and one of the small model."""
    run = server(trace, batch=3, rounds=None, prompt_tokens=20, output_tokens=9, arrivals=Arrivals(2.0, 5))
    prefills = [s for one in run.run() for s in one.steps if s.one.kind is PassKind.PREFILL]
    assert [s.model is CONFIG for s in prefills] == [True, False] * 5
    assert all(s.one.total_tokens == 20 for s in prefills)


def test_what_a_drafter_stores_must_fit():
    """Beside the target: the small model's weights and its positions."""
    plain, drafted = (fits(machine("gb10"), CONFIG, Serving(batch=2, method=m)) for m in ("none", "slm"))
    own = draft_model("slm", CONFIG)
    extra = matrix_weights(own) * 8.5 / 8 + 2 * own.vocab * own.hidden + 2 * 1024 * kv_bytes_per_position(own)
    assert drafted.needed - plain.needed == pytest.approx(extra, rel=1e-3)
