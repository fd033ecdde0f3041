"""Sampling: known random numbers, exact distributions, texts that do not depend on the batch."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare

from hw.errors import UserError
from sw_stack.models.generation import decode_plain
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import (
    RandomStream,
    SamplingConfig,
    greedy,
    philox,
    pick,
    sample,
    token_weights,
)
from verification.bench.tiny_models import VOCAB, model


@pytest.mark.parametrize(
    ("key", "counter", "want"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(key, counter, want):
    """The three published vectors of Philox4x32-10 (Random123's kat_vectors)."""
    assert philox(key, counter) == want


def test_streams_are_named_by_all_their_parts():
    """Seed, sequence, position and draw each change the bits; the same name gives the same bits."""
    base = RandomStream(1, 2).bits(3, 4)
    others = [RandomStream(9, 2).bits(3, 4), RandomStream(1, 9).bits(3, 4), RandomStream(1, 2).bits(9, 4)]
    others += [RandomStream(1, 2).bits(3, 9), RandomStream(1, 2).bits(3 + 2**32, 4)]
    assert len({base, *others}) == 6 and RandomStream(1, 2).bits(3, 4) == base


def test_weights_by_hand():
    """Logits 0, -ln 2, -ln 4 at temperature 1: weights 2^32 x (1, 1/2, 1/4); at 1/2 the squares."""
    logits = np.array([0, -math.log(2), -math.log(4)], np.float32)
    shares = token_weights(logits, SamplingConfig(temperature=1)) / 2**32
    assert shares == pytest.approx([1, 0.5, 0.25], rel=2e-7)
    assert token_weights(logits, SamplingConfig(temperature=0.5)) / 2**32 == pytest.approx([1, 0.25, 0.0625], rel=3e-7)
    assert token_weights(logits, SamplingConfig(temperature=0)).tolist() == [1, 0, 0]


def test_top_p_keeps_the_smallest_sufficient_set():
    """Shares 4, 4, 2, 2 of 12: ties go to the lower id, exactly reaching p suffices, the highest always stays."""
    logits = np.log(np.array([2, 4, 2, 4], np.float32))

    def kept(p: float) -> list[int]:
        return np.flatnonzero(token_weights(logits, SamplingConfig(temperature=1, top_p=p))).tolist()

    assert kept(1e-9) == [1] and kept(0.3) == [1] and kept(0.34) == [1, 3]
    assert kept(0.7) == [0, 1, 3] and kept(0.9) == [0, 1, 2, 3] and kept(1) == [0, 1, 2, 3]
    even = np.zeros(4, np.float32)
    assert np.flatnonzero(token_weights(even, SamplingConfig(temperature=1, top_p=0.5))).tolist() == [0, 1]


def test_top_p_rounds_up():
    """Weights 2^32 and 8 (floor of 8.85): p = 1 - 7 / 2^32 asks for 2^32 + 1 less 1.3e-8, which one token misses."""
    logits = np.array([0, -20], np.float32)
    assert token_weights(logits, SamplingConfig(temperature=1)).tolist() == [2**32, 8]
    assert np.count_nonzero(token_weights(logits, SamplingConfig(temperature=1, top_p=1 - 7 / 2**32))) == 2
    assert np.count_nonzero(token_weights(logits, SamplingConfig(temperature=1, top_p=1 - 8 / 2**32))) == 1


def test_pick_divides_the_bits_exactly():
    """Weights 1, 0, 3: the first quarter of all 64-bit numbers gives 0, the rest 2; edges included."""
    weights = np.array([1, 0, 3], np.int64)
    edge = 2**62
    assert [pick(weights, r) for r in (0, edge - 1, edge, 2**64 - 1)] == [0, 0, 2, 2]


def test_pick_of_large_vocabularies_stays_exact():
    """200,000 tokens of the largest weight: the numbers around each boundary fall on its two sides."""
    weights = np.full(200_000, 2**32, np.int64)
    for token in (1, 77_777, 199_999):
        edge = math.ceil(Fraction(token, 200_000) * 2**64)
        assert (pick(weights, edge - 1), pick(weights, edge)) == (token - 1, token)


def test_samples_follow_the_weights():
    """20,000 draws over 6 tokens: chi-square against the weights, p above 1e-3; against wrong weights far below."""
    logits = np.array([1, 0.2, -0.5, 2, 0, -3], np.float32)
    config = SamplingConfig(temperature=0.9)
    stream = RandomStream(5, 0)
    counts = np.bincount([sample(logits, config, stream, i) for i in range(20_000)], minlength=6)
    weights = token_weights(logits, config)
    assert chisquare(counts, weights / weights.sum() * 20_000).pvalue > 1e-3
    wrong = token_weights(logits, SamplingConfig(temperature=1.0))
    assert chisquare(counts, wrong / wrong.sum() * 20_000).pvalue < 1e-3


def test_greedy_ties_go_to_the_lower_id():
    """The first of equal highest logits."""
    assert greedy(np.array([[1, 3, 3], [2, 2, 1]], np.float32)).tolist() == [1, 0]


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"temperature": math.nan}, {"top_p": 0}, {"top_p": 1.5}])
def test_bad_settings_are_refused(bad):
    """One line naming the setting and its rule."""
    with pytest.raises(UserError, match=next(iter(bad))):
        SamplingConfig(**bad)
    with pytest.raises(UserError, match="seed"):
        RandomStream(-1, 0)


def _texts(prompts: list[list[int]], sampling: SamplingConfig, seed: int) -> list[list[int]]:
    texts = [[] for _ in prompts]
    for step in decode_plain(Runtime(model("qwen3_moe")), prompts, 12, sampling, seed):
        texts[step.sequence] += step.tokens
    return texts


def test_samples_do_not_depend_on_the_batch():
    """Sequence 0 gives the same text alone and beside others, of other lengths and ends; another seed another."""
    prompts = [[1, 2, 3], [9] * 20, [4], [5, 6]]
    sampling = SamplingConfig(temperature=1.5, top_p=0.95)
    together = _texts(prompts, sampling, 3)
    assert _texts(prompts[:1], sampling, 3) == together[:1]
    assert _texts(prompts[:2], sampling, 3) == together[:2]
    assert _texts(prompts[:1], sampling, 4) != together[:1]


def test_decoding_ends():
    """At the count asked for, or at an end token, which is not given out."""
    runtime, ends = Runtime(model("qwen3_moe")), 0
    sampling = SamplingConfig(temperature=3)
    lengths = {i: 0 for i in range(24)}
    for step in decode_plain(runtime, [[i] for i in range(24)], 40, sampling, 1):
        lengths[step.sequence] += len(step.tokens)
        ends += step.done
        assert VOCAB - 1 not in step.tokens
    assert ends == 24 and max(lengths.values()) == 40 and min(lengths.values()) < 40


def test_requests_that_cannot_fit_are_refused():
    """No prompt, an empty one, no tokens, or more than the context."""
    runtime = Runtime(model("qwen3_moe"))
    for prompts, count, message in (
        ([], 4, "empty"), ([[]], 4, "empty"), ([[1]], 0, "at least 1"), ([[1] * 600], 41, "640 positions")
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            next(decode_plain(runtime, prompts, count, SamplingConfig(), 0))
