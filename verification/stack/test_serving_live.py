"""Rounds of the shipped model: the passes noted are those that were made, and the text is that of plain decoding."""

from __future__ import annotations

import numpy as np
import pytest

from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.engine.workload import PassKind
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.generation import decode_plain
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.sampling import SamplingConfig
from sw_stack.workloads.live import RecordingRuntime, record

PROMPTS = [list(range(40, 52)), list(range(300, 309))]
TOKENS = 8


@pytest.fixture(scope="module")
def runtime() -> RecordingRuntime:
    return RecordingRuntime(QuantizedModel(open_checkpoint(DEFAULT_MODEL)))


def live(runtime, method, tree="2x3"):
    shape = TreeShape.parse(tree)
    decoder = make_decoder(runtime, method, Speculation(shape), HotSetChoice(), batch=2)
    return record(runtime, decoder, PROMPTS, TOKENS, SamplingConfig(), 0), decoder


def test_elastic_rounds_are_what_was_decoded(runtime):
    """Same text as plain decoding; per round drafts on residents, one verification of the whole tree; tokens add up."""
    runtime.decoder = None
    plain = [[], []]
    for emitted in decode_plain(runtime, PROMPTS, TOKENS, SamplingConfig(), 0):
        plain[emitted.sequence].extend(emitted.tokens)
    run, decoder = live(runtime, "elastic")
    assert run.text == plain
    assert run.prefill.tokens.tolist() == [12, 9] and run.prefill.kind is PassKind.PREFILL
    assert sum(sum(one.new_tokens) for one in run.rounds) == sum(map(len, plain)) - 2  # firsts are the prefill's
    assert len(run.rounds) == sum(decoder.statistics.depths.values())
    first = run.rounds[0].steps
    assert [step.one.kind for step in first] == [PassKind.DRAFT, PassKind.DRAFT, PassKind.VERIFY]
    assert [step.one.tokens.tolist() for step in first] == [[1, 1], [3, 3], [7, 7]]
    assert [step.one.kv_lengths.tolist() for step in first] == [[12, 9], [13, 10], [12, 9]]
    held = None
    for one in run.rounds:
        for step in one.steps[:-1]:
            assert not step.one.expert_tokens[~step.one.resident[:, :, 0]].any()
        verify = one.steps[-1].one
        assert verify.expert_tokens.sum() == verify.total_tokens * 6 * 4
        if held is not None:
            np.testing.assert_array_equal(verify.resident, held)
        held = verify.resident if verify.next_resident is None else verify.next_resident
    assert decoder.meter.verify.lpddr_bytes > 0


def test_plain_rounds_have_one_pass(runtime):
    """Plain decoding: a DECODE pass of one token per sequence and round."""
    run, _ = live(runtime, "none")
    assert len(run.rounds) == TOKENS - 1
    assert all(len(one.steps) == 1 and one.steps[0].one.kind is PassKind.DECODE for one in run.rounds)
    assert [step.one.kv_lengths.tolist() for step in run.rounds[1].steps] == [[13, 10]]
