"""The trace generator: exact distributions of small cases, published statistics of the presets."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from hw.errors import UserError
from sw_stack.workloads.generator import MEMORY, GeneratorParams, generate
from sw_stack.workloads.generator_fit import SHAPES, fit, reuse_targets
from sw_stack.workloads.generator_presets import PRESETS, preset
from sw_stack.workloads.published import PUBLISHED
from sw_stack.workloads.trace_statistics import compute

TOY = GeneratorParams(
    name="toy",
    num_experts=4,
    top_k=2,
    popularity=1.0,
    rank_shift=0.0,
    reweighting=0.0,
    stickiness=0.0,
    memory_tokens=3.0,
    locality=(1.0,),
)


def _ranked(trace):
    """Experts renamed by falling use: 0 is the most popular."""
    order = np.argsort(-np.bincount(trace.experts.ravel(), minlength=trace.num_experts))
    return np.argsort(order)[trace.experts]


def test_without_replacement_exactly():
    """Without stickiness ordered pairs follow p_a p_b / (1 - p_a), p = 1, 1/2, 1/3, 1/4 over 25/12; chi-square."""
    draws = 60_000
    pairs = Counter(map(tuple, _ranked(generate(TOY, 3, draws // 3, seed=4))[:, 0].tolist()))
    p = np.array([12, 6, 4, 3]) / 25
    expected = {(a, b): draws * p[a] * p[b] / (1 - p[a]) for a, b in permutations(range(4), 2)}
    keys = sorted(expected)
    assert set(pairs) == set(keys)
    assert chisquare([pairs[key] for key in keys], [expected[key] for key in keys]).pvalue > 1e-3


def test_stickiness_exactly():
    """Top-1 of two even experts with memory: the repeat probability of token 1 is (1/2 + b) / (1 + b).

    b = stickiness (1 - decay), the weight of the only remembered token; 20,000 sequences of two tokens.
    """
    params = replace(TOY, num_experts=2, top_k=1, popularity=0.0, stickiness=2.0)
    rows = generate(params, 20_000, 2, seed=1).experts[:, 0, 0].reshape(-1, 2)
    b = 2.0 * (1 - np.exp(-1 / 3))
    repeated = (rows[:, 0] == rows[:, 1]).mean()
    expected = (0.5 + b) / (1 + b)
    assert repeated == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 20_000))


def test_memory_reaches_eight_tokens():
    """A huge stickiness repeats for ever; none makes tokens independent."""
    sticky = generate(replace(TOY, top_k=1, stickiness=1e6), 50, 100, seed=2)
    same = [len(set(sticky.sequence(s)[MEMORY:, 0, 0].tolist())) for s in range(50)]
    assert np.mean(np.array(same) == 1) > 0.9
    free = compute(generate(replace(TOY, popularity=0.0), 20, 2000, seed=2)).scalars
    assert free["reuse_lag_1"] == pytest.approx(0.5, abs=0.01)


def test_extreme_skew_still_gives_distinct_experts():
    """Where what is left has no weight to speak of, the last experts are drawn by inversion: all k are distinct."""
    params = replace(TOY, num_experts=16, top_k=16, popularity=40.0)
    trace = generate(params, 2, 50, seed=0)
    assert (np.sort(trace.experts, 2) == np.arange(16)).all()


def test_same_seed_same_trace_and_sequences_do_not_depend_on_their_number():
    """Seeds decide everything; the first sequences of a longer trace are those of a shorter one."""
    a, b = generate(TOY, 3, 20, seed=7), generate(TOY, 5, 20, seed=7)
    np.testing.assert_array_equal(a.experts, b.experts[: len(a.experts)])
    assert (generate(TOY, 3, 20, seed=8).experts != a.experts).any()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_presets_have_the_published_statistics(name):
    """What a preset was fitted to comes back from another seed within 3 %, or inside the published range.

    Entropies within 0.01 absolute; the per-layer reuse within 0.05 of its target in every layer. Statistics that
    were not fitted stay within 15 % (and are printed by ``elmoe3d trace generate``).
    """
    params, published = PRESETS[name].params, PUBLISHED[name]
    found = compute(generate(params, 48, PRESETS[name].sequence_tokens, seed=12))
    assert found.scalars["reuse_lag_1"] == pytest.approx(published["reuse_lag_1"].middle, rel=0.03)
    for key in ("entropy_pooled", "entropy_within"):
        assert published[key].low - 0.01 <= found.scalars[key] <= published[key].high + 0.01, key
    np.testing.assert_allclose(found.reuse_by_layer, reuse_targets(name), atol=0.05)
    for key in ("top_share_within", "reuse_lag_8", "reuse_lag_64", "unique_consecutive_16", "unique_across_8"):
        if key in published:
            assert 0.85 * published[key].low <= found.scalars[key] <= 1.15 * published[key].high, key


def test_targets_have_the_published_mean_and_first_layer():
    """The interpolated profile averages to the published lag-1 reuse and starts where the published one does."""
    for name, (layers, *_) in SHAPES.items():
        targets = reuse_targets(name)
        assert len(targets) == layers
        assert targets.mean() == pytest.approx(PUBLISHED[name]["reuse_lag_1"].middle)
        assert targets[0] == pytest.approx(PUBLISHED[name]["reuse_first_layer"].middle, rel=0.15)


def test_glm_is_marked_assumed():
    """Nothing is published for GLM-4.7-Flash: its preset says so; its sizes are the model's."""
    glm = PRESETS["glm-4.7-flash"]
    assert glm.kind == "assumed" and not PUBLISHED["glm-4.7-flash"]
    assert (glm.params.layers, glm.params.num_experts, glm.params.top_k) == (46, 64, 4)
    assert all(PRESETS[name].kind == "derived" for name in SHAPES)


@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": 5},
        {"popularity": -1.0},
        {"stickiness": float("nan")},
        {"memory_tokens": 0.0},
        {"locality": ()},
    ],
)
def test_bad_parameters(changes):
    """Parameters out of range are refused by name."""
    with pytest.raises(UserError, match=next(iter(changes))):
        replace(TOY, **changes)


def test_unknown_preset():
    """A preset that is not there: the nearest name is offered."""
    with pytest.raises(UserError, match="did you mean qwen3-30b-a3b"):
        preset("qwen3-30b")


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_fit_is_reproducible(name):
    """The stated procedure gives the shipped parameters."""
    again, shipped = fit(name), PRESETS[name].params
    for key in ("popularity", "reweighting", "stickiness"):
        assert getattr(again, key) == pytest.approx(getattr(shipped, key), rel=1e-3)
    np.testing.assert_allclose(again.locality, shipped.locality, atol=1e-3)
