"""Expert-cache policies: hand traces, brute force, the Che approximation, allocation of slices."""

from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.errors import UserError
from sw_stack.elastic.cache_replay import replay
from sw_stack.elastic.che import characteristic_time, lru_hit_rate
from sw_stack.elastic.expert_cache import DEMAND, POLICIES, ExpertCache
from sw_stack.elastic.slices import ALLOCATIONS, SliceSizes, allocate
from sw_stack.workloads.trace import SHIPPED, Trace, read_trace

SIZES = SliceSizes(9, 8)
"""In the ratio of 4.5 to 4 bit per weight."""


def trace_of(rows, num_experts, offsets=None):
    """A one-layer trace of given experts per token."""
    experts = np.array(rows, np.uint8).reshape(len(rows), 1, -1)
    return Trace(
        experts=experts,
        offsets=np.array([0, len(rows)] if offsets is None else offsets),
        num_experts=num_experts,
        model="test",
        source="test",
        licence="none",
    )


def _hits(rows, num_experts, policy, entries, **options):
    return int(replay(trace_of(rows, num_experts), policy, "msb-only", SIZES, entries * 9, **options).hits[0, 0])


def test_lru_by_hand():
    """Two entries, 0 1 0 2 1 0 0: hits at the third and at the last token; 2 replaces 1, 1 replaces 0, 0 replaces 2."""
    rows = [[0], [1], [0], [2], [1], [0], [0]]
    assert _hits(rows, 3, "lru", 2) == 2
    cache = ExpertCache("lru", "msb-only", 1, 3, SIZES, 18)
    found = [bool(cache.access(0, np.array(row))[0, 0]) for row in rows]
    assert found == [False, False, True, False, False, False, True]
    assert cache.resident[0, :, 0].tolist() == [True, True, False]


def test_lfu_by_hand():
    """Two entries, 0 0 1 2 2 1 0: 2 ties with 1 and is newer, so it replaces it; then 1, used twice like 0 and 2,
    replaces 0, used longest ago of them; at last 0 is used a third time and replaces 2. Uses count, resident or not.
    """
    assert _hits([[0], [0], [1], [2], [2], [1], [0]], 3, "lfu", 2) == 2


def test_a_step_is_looked_up_before_anything_is_replaced():
    """Both experts of a token count as hits though each miss before would have evicted one of them."""
    rows = [[0, 1], [0, 1], [2, 0], [0, 2]]
    assert _hits(rows, 3, "lru", 2) == 2 + 1 + 2
    # With one entry the expert kept is used by both tokens; the other, as recent, does not push it out.
    assert _hits([[0, 1], [0, 2]], 3, "lru", 1) == 1


def best_hits(rows, num_experts, entries):
    """Most hits of any policy that keeps, after a step, some of what it had or just read: by exhaustive search."""

    @lru_cache(None)
    def best(step, held):
        if step == len(rows):
            return 0
        hits = len(held & frozenset(rows[step]))
        pool = held | frozenset(rows[step])
        keeps = [frozenset(c) for size in range(min(entries, len(pool)) + 1) for c in combinations(sorted(pool), size)]
        return hits + max(best(step + 1, keep) for keep in keeps)

    return best(0, frozenset())


@given(st.integers(1, 2), st.integers(0, 4), st.integers(1, 9), st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None)
def test_belady_is_the_best(k, entries, steps, seed):
    """No policy that loads only what was read has more hits than Belady's, and the others have no more."""
    rng = np.random.default_rng(seed)
    rows = [sorted(rng.choice(5, k, replace=False).tolist()) for _ in range(steps)]
    bound = best_hits(rows, 5, entries)
    assert _hits(rows, 5, "belady", entries) == bound
    assert all(_hits(rows, 5, policy, entries) <= bound for policy in ("lru", "lfu"))


@pytest.mark.parametrize("allocation", ["msb-only", "whole"])
@pytest.mark.parametrize("policy", DEMAND)
@pytest.mark.parametrize("batch", [1, 4])
def test_policies_on_a_real_trace(policy, allocation, batch):
    """Belady bounds every policy, hit rates grow with capacity, none hits without; with it all but first reads."""
    trace = read_trace(SHIPPED)
    trace = trace.select(range(12))
    size = SIZES.msb_bytes if allocation == "msb-only" else SIZES.whole_bytes
    rates = []
    for entries in (0, 4, 12, 32):
        run = replay(trace, policy, allocation, SIZES, entries * size, batch=batch)
        bound = replay(trace, "belady", allocation, SIZES, entries * size, batch=batch)
        assert (run.hits <= bound.hits).all() and (run.accesses == bound.accesses).all()
        assert run.external_bytes.sum() + (run.hits * [9, 8]).sum() == run.total_bytes
        rates.append(run.msb_hit_rate)
    assert rates[0] == 0 and rates == sorted(rates)
    used = [len(np.unique(trace.experts[:, layer])) for layer in range(trace.layers)]
    full = replay(trace, policy, allocation, SIZES, 32 * size, batch=batch)
    np.testing.assert_array_equal(full.accesses - full.hits[:, 0], used)


def test_batches_read_each_expert_once():
    """Two slots with the same experts read them once; a slot takes the next sequence when its own ends."""
    rows = [[0, 1], [0, 2], [0, 1], [0, 3]]
    run = replay(trace_of(rows, 4, [0, 2, 4]), "lru", "msb-only", SIZES, 0, batch=2)
    assert run.accesses.tolist() == [2 + 3]
    run = replay(trace_of(rows, 4, [0, 1, 4]), "lru", "msb-only", SIZES, 0, batch=2)
    assert run.accesses.tolist() == [3 + 2 + 2]  # {0,1} with {0,2}, then {0,1}, {0,3} alone


def test_online_cache_equals_replay():
    """Driving `ExpertCache` token by token gives the replay's hits, for every policy that can."""
    trace = read_trace(SHIPPED).select([0, 1], 60)
    counts = np.stack([np.bincount(trace.experts[:, i].ravel(), minlength=32) for i in range(trace.layers)])
    for policy in ("lru", "lfu", "hotness", "static"):
        for allocation in ("msb-only", "whole", *(("adaptive",) if policy not in DEMAND else ())):
            capacity = 100
            given_counts = {"counts": counts, "tokens": trace.tokens} if policy == "static" else {}
            cache = ExpertCache(policy, allocation, trace.layers, 32, SIZES, capacity, **given_counts)
            hits = np.zeros((trace.layers, 2), int)
            phase = np.zeros((trace.layers, 32), int)
            for token in range(trace.tokens):
                for layer in range(trace.layers):
                    hits[layer] += cache.access(layer, np.sort(trace.experts[token, layer])).sum(0)
                    phase[layer, trace.experts[token, layer]] += 1
                if (token + 1) % 5 == 0:
                    cache.end_draft(phase, 5)
                    phase[:] = 0
            np.testing.assert_array_equal(hits, replay(trace, policy, allocation, SIZES, capacity).hits)
            assert hits[:, 0].sum() > 0


def test_hotness_by_hand():
    """Phases of two steps, two entries: the set is that of the last phase's counts, lower ids first among equals.

    0 1 | 2 2 | 2 1 | 2 2. Sets after the phases: {0, 1}, {2, 0}, {1, 2}, {2, 0}. Hits: none, none, the 2, both 2s.
    Only the last 0 was neither resident nor read in its phase: one refill of an MSB slice.
    """
    run = replay(trace_of([[0], [1], [2], [2], [2], [1], [2], [2]], 3), "hotness", "msb-only", SIZES, 18, phase_steps=2)
    assert run.hits.tolist() == [[3, 0]]
    assert run.refill_bytes.tolist() == [9]


def test_static_is_the_hindsight_set():
    """The static set of the trace's own counts is the best fixed set: brute force over all sets of two of four."""
    rng = np.random.default_rng(5)
    rows = [sorted(rng.choice(4, 2, replace=False, p=[0.4, 0.3, 0.2, 0.1]).tolist()) for _ in range(40)]
    best = max(sum(len(set(row) & set(kept)) for row in rows) for kept in combinations(range(4), 2))
    assert _hits(rows, 4, "static", 2) == best


def _expected_saving(keep, counts, tokens, batch, weight):
    used = np.asarray(counts) / tokens
    reached = 1 - (1 - used) ** batch
    value = np.stack([reached + weight * used, reached], 1) * [9, 8]
    return (value * keep).sum()


@given(
    counts=st.lists(st.integers(0, 20), min_size=2, max_size=12),
    batch=st.integers(1, 16),
    weight=st.floats(0, 8),
    capacity=st.integers(0, 120),
)
@settings(max_examples=150, deadline=None)
def test_allocations(counts, batch, weight, capacity):
    """Every allocation fits; LSB slices come with their MSB; adaptive is within a slice of the others' saving."""
    kept = {
        name: allocate(name, counts, 20, SIZES, capacity, batch_tokens=batch, draft_weight=weight)
        for name in ALLOCATIONS
    }
    for keep in kept.values():
        assert (keep * [9, 8]).sum() <= capacity
        assert not (keep[:, 1] & ~keep[:, 0]).any()
    assert not kept["msb-only"][:, 1].any()
    np.testing.assert_array_equal(kept["whole"][:, 0], kept["whole"][:, 1])
    best = _expected_saving(kept["adaptive"], counts, 20, batch, weight)
    one_slice = 9 * (1 + weight)
    for other in ("msb-only", "whole"):
        assert best >= _expected_saving(kept[other], counts, 20, batch, weight) - one_slice


def test_adaptive_by_hand():
    """Four experts used in 8, 4, 2 and 1 of 10 tokens, room for two whole ones (34 bytes).

    Plain decoding, one token: slices are worth .8 .8 .4 .4 .2 ...: both slices of the first two. With five draft
    steps per pass and 16 tokens a pass, MSB slices are worth 5.0, 3.0, 1.97 and 1.31, LSB slices at most 1: four MSB
    slices where 36 bytes have room for them.
    """
    counts = [8, 4, 2, 1]
    plain = allocate("adaptive", counts, 10, SIZES, 34)
    assert plain.tolist() == [[True, True], [True, True], [False, False], [False, False]]
    drafting = allocate("adaptive", counts, 10, SIZES, 36, batch_tokens=16, draft_weight=5)
    assert drafting.tolist() == [[True, False]] * 4


def test_adaptive_beats_the_published_allocation_at_batch_one():
    """On the excerpt, plain decoding, batch 1 and half the MSB capacity: fewer external bytes than MSB slices only."""
    trace = read_trace(SHIPPED).select(range(12))
    published, adaptive = (
        replay(trace, "static", name, SIZES, 16 * 9).external_bytes.sum() for name in ("msb-only", "adaptive")
    )
    assert adaptive < published


def test_che_by_hand():
    """Equal items: hit rate C / N, whatever T. Probabilities 3/4, 1/2, 1/2 and one entry: with x = 2^-T,

    (1 - x^2) + 2 (1 - x) = 1, x = sqrt(3) - 1, and the hit rate is (.75 (1 - x^2) + (1 - x)) / 1.75.
    """
    for entries in range(1, 8):
        assert lru_hit_rate(np.full(8, 0.25), entries) == pytest.approx(entries / 8)
    x = np.sqrt(3) - 1
    assert characteristic_time(np.array([0.75, 0.5, 0.5]), 1) == pytest.approx(-np.log2(x))
    expected = (0.75 * (1 - x**2) + (1 - x)) / 1.75
    assert lru_hit_rate(np.array([0.75, 0.5, 0.5]), 1) == pytest.approx(expected)


def test_che_limits():
    """No room: no hit; room for all that is used: nothing but hits; items of every step keep their places."""
    p = np.array([0.5, 0.25, 0.0])
    assert lru_hit_rate(p, 0) == 0 and lru_hit_rate(p, 2) == 1
    assert lru_hit_rate(np.array([1.0, 1.0, 0.5]), 1) == pytest.approx(1 / 2.5)
    for wrong in (np.array([1.5]), np.array([np.nan]), np.zeros(3)):
        with pytest.raises(UserError):
            lru_hit_rate(wrong, 1)


def test_che_predicts_lru_under_independent_use():
    """Independent references to 64 items by Zipf 0.8: replayed LRU within 1 % of the approximation, 4 to 48 entries."""
    weights = np.arange(1, 65) ** -0.8
    p = weights / weights.sum()
    rows = np.random.default_rng(1).choice(64, 60_000, p=p)[:, None]
    for entries in (4, 16, 48):
        found = _hits(rows, 64, "lru", entries) / len(rows)
        assert found == pytest.approx(lru_hit_rate(p, entries), abs=0.01)


def test_real_locality_exceeds_the_approximation():
    """On the real trace LRU beats Che with pooled popularity, which knows neither sequence nor short memory."""
    trace = read_trace(SHIPPED)
    found = replay(trace, "lru", "msb-only", SIZES, 8 * 9).msb_hit_rate
    pooled = [
        lru_hit_rate(np.bincount(trace.experts[:, i].ravel(), minlength=32) / trace.tokens, 8)
        for i in range(trace.layers)
    ]
    assert found > np.mean(pooled) + 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda: ExpertCache("fifo", "msb-only", 1, 4, SIZES, 9),
        lambda: ExpertCache("lru", "half", 1, 4, SIZES, 9),
        lambda: ExpertCache("lru", "adaptive", 1, 4, SIZES, 9),
        lambda: ExpertCache("belady", "whole", 1, 4, SIZES, 9),
        lambda: ExpertCache("static", "whole", 1, 4, SIZES, 9),
        lambda: ExpertCache("hotness", "whole", 1, 4, SIZES, 9).end_draft(np.zeros((2, 4)), 1),
        lambda: allocate("whole", [1, -1], 1, SIZES, 9),
        lambda: allocate("whole", [1, 1], 1, SIZES, -1),
        lambda: SliceSizes(0, 8),
        lambda: SliceSizes.of_weights(33),
        lambda: replay(trace_of([[0]], 2), "lru", "whole", SIZES, 9, batch=0),
    ],
)
def test_refusals(call):
    """Unknown names, combinations that do not exist and impossible sizes are user errors."""
    with pytest.raises(UserError):
        call()


def test_slice_sizes():
    """4.5 bit per weight for the MSB slice with scales, 4 for the LSB slice: 2.531 MiB for Qwen3's 4.7 M weights."""
    sizes = SliceSizes.of_weights(4_718_592)
    assert sizes.msb_bytes / 2**20 == pytest.approx(2.531, abs=5e-4)
    assert sizes.whole_bytes == 4_718_592 * 8.5 / 8


def test_every_policy_is_covered():
    """The names above are all there are."""
    assert set(POLICIES) == {"lru", "lfu", "belady", "hotness", "static"}
