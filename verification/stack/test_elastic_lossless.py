"""Speculation changes no token: greedy and sampled text of every method equals plain decoding, at batch 1 to 16."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from hw.params import chip
from sw_stack.elastic.drafters.eagle import EagleDrafter
from sw_stack.elastic.drafters.protocol import Drafter, Sequence
from sw_stack.elastic.drafters.self_drafter import elastic_drafter, quant_drafter
from sw_stack.elastic.drafters.small_model import SmallModelDrafter
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, capacity_of_fraction
from sw_stack.elastic.rounds import Speculation, SpeculativeDecoder
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import Roofline
from sw_stack.elastic.traffic import matrix_weights
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.generation import decode_plain
from sw_stack.models.precision import FULL
from sw_stack.models.runtime import Segment
from sw_stack.models.sampling import RandomStream, SamplingConfig
from verification.stack.elastic_models import MOE, dense_runtime, head_source, moe_runtime, prompts

GREEDY = SamplingConfig()
WARM = SamplingConfig(temperature=0.8, top_p=0.95)
METHODS = ("none", "elastic", "quant", "slm", "eagle")


def drafter(method: str, hot_set: HotSet) -> Drafter | None:
    """A drafter by its name on the command line."""
    runtime = moe_runtime()
    if method == "none":
        return None
    if method == "elastic":
        return elastic_drafter(runtime, hot_set.mask)
    if method == "quant":
        return quant_drafter(runtime, matrix_weights(runtime.config))
    if method == "slm":
        return SmallModelDrafter(dense_runtime(), MOE["vocab_size"], 1)
    return EagleDrafter(runtime, head_source())


def decoder(method: str, shape: str, *, fraction: float = 0.5, policy: str = "hot", mode: str = "always", **options):
    """A decoder of the random model."""
    config = moe_runtime().config
    share = HbShare(0, None, capacity_of_fraction(config, fraction))
    hot_set = HotSet(config, share.expert, policy=policy)
    speculation = Speculation(TreeShape.parse(shape), mode, **options)
    predictor = Roofline.of_chip(chip("4gb"))
    return SpeculativeDecoder(moe_runtime(), drafter(method, hot_set), speculation, hot_set, predictor, share)


def texts(steps, count: int) -> list[list[int]]:
    """Tokens of every sequence; each ends exactly once."""
    found: list[list[int]] = [[] for _ in range(count)]
    ended = []
    for step in steps:
        assert step.sequence not in ended
        found[step.sequence] += step.tokens
        ended += [step.sequence] if step.done else []
    assert sorted(ended) == list(range(count))
    return found


@cache
def plain(batch: int, tokens: int, sampling: SamplingConfig) -> list[list[int]]:
    """The reference: one token per sequence and pass."""
    given = prompts(batch, batch)
    return texts(decode_plain(moe_runtime(), given, tokens, sampling, 9), batch)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch", "shape"), [(1, "5"), (3, "2x4"), (16, "3x2")])
def test_greedy_text_is_that_of_plain_decoding(method: str, batch: int, shape: str) -> None:
    """Chain and trees, several batch sizes, in all 60 prompts per method: the same tokens."""
    tokens = 18
    one = decoder(method, shape)
    assert texts(one.decode(prompts(batch, batch), tokens, GREEDY, 9), batch) == plain(batch, tokens, GREEDY)
    assert one.statistics.tokens == batch * (tokens - 1)


@pytest.mark.parametrize("batch", range(1, 17))
def test_elastic_is_lossless_in_every_batch(batch: int) -> None:
    """Elastic-SD with few residents, at each batch from 1 to 16."""
    one = decoder("elastic", "3x2", fraction=0.25)
    assert texts(one.decode(prompts(batch, batch), 8, GREEDY, 9), batch) == plain(batch, 8, GREEDY)


@pytest.mark.parametrize("method", METHODS)
def test_sampled_text_is_that_of_plain_decoding(method: str) -> None:
    """Following the target's own draws gives the same sampled tokens with the same seed."""
    one = decoder(method, "2x3")
    assert texts(one.decode(prompts(4, 4), 16, WARM, 9), 4) == plain(4, 16, WARM)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("policy", ["hot", "random", "static"])
def test_any_resident_set_is_lossless(fraction: float, policy: str) -> None:
    """No expert resident (the draft skips the routed part), one of eight (fewer than top-2), all."""
    one = decoder("elastic", "4", fraction=fraction, policy=policy)
    assert texts(one.decode(prompts(4, 4), 16, GREEDY, 9), 4) == plain(4, 16, GREEDY)
    held = int(fraction * MOE["num_experts"])
    assert (one.hot_set.resident[:, :, 0].sum(axis=1) == held).all()


@pytest.mark.parametrize("mode", ["auto", "adaptive"])
def test_changing_the_depth_is_lossless(mode: str) -> None:
    """Where the scheduler changes between drafting and AR, the text stays."""
    one = decoder("elastic", "4", mode=mode)
    assert texts(one.decode(prompts(4, 4), 40, GREEDY, 9), 4) == plain(4, 40, GREEDY)
    assert len(one.statistics.depths) > 1


@pytest.mark.parametrize("method", METHODS)
def test_an_end_token_ends_a_text_inside_a_draft(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token of the text as end token, every sequence ends before its first one, others go on."""
    runtime, tokens = moe_runtime(), 18
    whole = plain(3, tokens, GREEDY)
    end = whole[0][7]
    monkeypatch.setattr(runtime, "config", replace(runtime.config, end_tokens=(end,)))
    expected = [text[: text.index(end)] if end in text else text for text in whole]
    assert [len(text) for text in expected] != [tokens] * 3
    assert texts(decode_plain(runtime, prompts(3, 3), tokens, GREEDY, 9), 3) == expected
    assert texts(decoder(method, "4").decode(prompts(3, 3), tokens, GREEDY, 9), 3) == expected


def test_rejection_yields_the_same_text_for_any_batch() -> None:
    """With drawn trees the text differs from plain decoding, but a sequence's does not depend on its neighbours,
    where the draft does not either (Quant-SD)."""
    given = prompts(4, 4)
    one = decoder("quant", "3x2", rule="reject")
    together = texts(one.decode(given, 16, WARM, 9), 4)
    first = decoder("quant", "3x2", rule="reject")
    assert texts(first.decode(given[:1], 16, WARM, 9), 1)[0] == together[0]
    assert together != plain(4, 16, WARM)


@pytest.mark.parametrize("rule", ["follow", "reject"])
def test_no_random_number_is_used_twice(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over whole sequences, also where positions are drafted again after a rejection; a small top-p gives trees of
    changing shape, so that a position can meet the same node number again."""
    used = []
    bits = RandomStream.bits

    def noting(self: RandomStream, position: int, draw: int = 0) -> int:
        used.append((self.sequence, position, draw))
        return bits(self, position, draw)

    monkeypatch.setattr(RandomStream, "bits", noting)
    one = decoder("elastic", "4x2", rule=rule)
    texts(one.decode(prompts(6, 6), 40, SamplingConfig(temperature=0.6, top_p=0.5), 9), 6)
    assert len(used) == len(set(used)) > 240 * (rule == "reject")
    assert one.statistics.acceptance(1)[0] < 1


def test_a_full_precision_unrestricted_draft_is_always_accepted() -> None:
    """A draft equal to the target is accepted at every position: accept length is depth + 1."""
    one = decoder("elastic", "3", fraction=1.0)
    one.drafter = elastic_drafter(moe_runtime(), one.hot_set.mask, FULL)
    texts(one.decode(prompts(4, 4), 17, GREEDY, 9), 4)  # 1 from prefill, 16 = 4 rounds of 4
    assert one.statistics.acceptance(3).tolist() == [1.0, 1.0, 1.0]
    assert one.statistics.accept_length == 4
    assert one.statistics.coverage == 1.0


def test_drafts_leave_no_trace_in_the_cache() -> None:
    """After decoding, keys and values equal those of a plain pass over the same tokens, bit for bit."""
    runtime, one = moe_runtime(), decoder("elastic", "3x2")
    (prompt,) = prompts(1, 1)
    sequence = Sequence(0, runtime.new_cache(), RandomStream(0, 0))
    one.statistics = SpeculationStatistics(1, 3)
    (first,) = one._prefill([sequence], [prompt], 13, GREEDY)
    tokens = first.tokens
    while sequence.produced < 13:
        for step in one._round([sequence], 13, GREEDY):
            tokens += step.tokens
    fresh = runtime.new_cache()
    runtime.forward([Segment(fresh, prompt + tokens[:-1])], logits="none")
    fresh.commit()
    assert fresh.length == sequence.cache.length == len(prompt) + 12
    for mine, theirs in zip((*sequence.cache.keys, *sequence.cache.values), (*fresh.keys, *fresh.values), strict=True):
        used = (..., slice(0, fresh.length)) if mine.transposed else (..., slice(0, fresh.length), slice(None))
        assert np.array_equal(mine.data[used], theirs.data[used])
        assert np.array_equal(mine.scales[..., : fresh.length], theirs.scales[..., : fresh.length])
