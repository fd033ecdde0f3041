"""The die's links: RTL, exact and fast to the cycle under contention; whole chunks; reductions; a timeline by hand."""

import dataclasses

import numpy as np
import pytest

from cycle_model.links import Chunk, LinkTraffic, exact, fast
from hw.errors import UserError
from hw.params.links import LinkParams
from verification.bench.link_bench import expected_words, random_traffic, simulate

STREAM = LinkParams(sources=3, targets=3, word_bits=64, credit_words=6, cycles_per_word=1, stages=2)
AGGREGATION = LinkParams(sources=3, targets=3, word_bits=64, credit_words=5, cycles_per_word=4, stages=1)
ALWAYS = np.ones(0, bool)


def _quiet(params: LinkParams, *chunks: tuple[Chunk, ...]) -> LinkTraffic:
    """Traffic whose words and targets never wait."""
    return LinkTraffic(params, chunks, (ALWAYS,) * params.sources, (ALWAYS,) * params.targets)


def _assert_levels_agree(traffic: LinkTraffic) -> int:
    rtl, received, counters = simulate(traffic)
    stepped, recurrence = exact(traffic), fast(traffic)
    assert rtl == stepped
    assert stepped == recurrence
    assert received == expected_words(traffic, rtl)
    assert counters["moved"] == len(stepped.moves)
    wrong = any(traffic.wrong(s, c) for s, chunks in enumerate(traffic.chunks) for c in chunks)
    assert counters["refused"] == wrong
    return len(rtl.grants) + len(rtl.moves) + len(rtl.arrivals)


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("params", [STREAM, AGGREGATION], ids=["stream", "aggregation"])
def test_levels_agree(params, stall):
    """Three contending sources, every kind of chunk, stalls on both sides: every grant, word and counter is equal."""
    compared = _assert_levels_agree(random_traffic(params, 7, 12, stall, reduce=params is AGGREGATION))
    assert compared > 150


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_models_agree_on_more(stall):
    """Exact and fast alone, on many seeds, sizes and paces."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        params = dataclasses.replace(
            STREAM,
            sources=int(rng.integers(1, 6)),
            targets=int(rng.integers(1, 6)),
            cycles_per_word=int(rng.integers(1, 5)),
            stages=int(rng.integers(0, 4)),
            credit_words=int(rng.integers(1, 9)),
        )
        traffic = random_traffic(params, seed, 25, stall, reduce=seed % 2 == 0)
        trace = exact(traffic)
        assert trace == fast(traffic)
        assert len(trace.grants) >= 25


def test_timeline_by_hand():
    """Two sources, stages 2: grant 0, words 1 2, taken 4 5; the next grant with the last word, so no cycle is lost.

    Source 0 unicasts 2 words to target 0, source 1 multicasts 3 to targets 0 and 1, both from cycle 0. The multicast
    needs 3 of 6 credits; 4 are left.
    """
    params = dataclasses.replace(STREAM, sources=2, targets=2)
    traffic = _quiet(params, (Chunk(0, 0b01, 2),), (Chunk(0, 0b11, 3),))
    for trace in (exact(traffic), fast(traffic), simulate(traffic)[0]):
        assert trace.grants == [(0, 0), (2, 1)]
        assert trace.moves == [1, 2, 3, 4, 5]
        assert trace.arrivals == [(4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (6, 1), (7, 1), (8, 1)]
        assert trace.waits == 0
    paced = _quiet(dataclasses.replace(params, cycles_per_word=4), (Chunk(0, 0b01, 2),), (Chunk(0, 0b11, 3),))
    assert exact(paced).moves == [1, 5, 9, 13, 17]


def test_credits_by_hand():
    """A target that sleeps until cycle 50 holds back the second chunk for it, but not chunks for others.

    6 credits: source 0 sends 6 words to target 0, then 1 more, which can go when the first is taken: taken in 50,
    credit in 51. Source 1's chunk for target 1 passes meanwhile.
    """
    params = dataclasses.replace(STREAM, sources=2, targets=2)
    asleep = np.arange(60) >= 50
    traffic = LinkTraffic(
        params, ((Chunk(0, 1, 6), Chunk(0, 1, 1)), (Chunk(10, 2, 6),)), (ALWAYS, ALWAYS), (asleep, ALWAYS)
    )
    for trace in (exact(traffic), fast(traffic), simulate(traffic)[0]):
        assert trace.grants == [(0, 0), (10, 1), (51, 0)]
        assert trace.waits == (10 - 6) + (51 - 16)  # free from the last word of a chunk to the next grant


def test_published_bandwidths():
    """128-byte words at 1 GHz: 128 GB/s on the stream link, 32 on the aggregation link, no cycle lost."""
    for cycles, gb_per_s in ((1, 128.0), (4, 32.0)):
        params = LinkParams(sources=2, targets=16, word_bits=1024, cycles_per_word=cycles)
        chunks = tuple(Chunk(0, 1 << i % 16, 16) for i in range(64))
        trace = fast(_quiet(params, chunks, chunks))
        words = len(trace.moves)
        assert words == 2048
        assert 128 * (words - 1) / (trace.moves[-1] - trace.moves[0]) == pytest.approx(gb_per_s, abs=1e-9)


def test_turns_by_hand():
    """Members in ascending order whoever asks first, and nobody twice in a round; others pass meanwhile.

    Sources 0 and 2 take turns with 2 words each. 2 asks in 0, 1 (not a member) in 0, 0 in 10: so 1 in 0, 0 in 10,
    2 with 0's last word in 12. 2's second turn waits for 0's, which asks in 30.
    """
    params = dataclasses.replace(STREAM, credit_words=20)
    turn = {"targets": 0b11, "words": 2, "members": 0b101}
    traffic = _quiet(
        params, (Chunk(10, **turn), Chunk(30, **turn)), (Chunk(0, 0b100, 1),), (Chunk(0, **turn), Chunk(0, **turn))
    )
    for trace in (exact(traffic), fast(traffic), simulate(traffic)[0]):
        assert trace.grants == [(0, 1), (10, 0), (12, 2), (30, 0), (32, 2)]
        assert trace.waits == (10 - 1) + (30 - 14)  # free from the last word of a chunk to the next grant


def test_wrong_sizes_are_refused():
    """Parameters outside their ranges: one line each."""
    with pytest.raises(UserError, match="link word_bits must be a multiple of 32, not 40"):
        dataclasses.replace(STREAM, word_bits=40)
    with pytest.raises(UserError, match="link cycles_per_word must be an integer from 1 to 64, not 0"):
        dataclasses.replace(STREAM, cycles_per_word=0)
