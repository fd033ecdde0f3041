"""Routing: hand-worked choices and weights, resident masks, groups, and the float reference as a second account."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cycle_model.functional.routing import SIGMOID, SOFTMAX, TOPK_SOFTMAX, route
from sw_stack.models import float_reference
from sw_stack.models.architectures import GroupScore, RouterConfig, RouterKind

KINDS = {SOFTMAX: RouterKind.SOFTMAX, SIGMOID: RouterKind.SIGMOID, TOPK_SOFTMAX: RouterKind.TOPK_SOFTMAX}


def run(logits, k, kind, *, renormalize=False, scale=1.0, correction=None, resident=None, groups=(1, 1), top2=False):
    """(scores, wanted, chosen, weights) of one or more tokens."""
    logits = np.atleast_2d(np.asarray(logits, np.float32))
    tokens, experts = logits.shape
    correction = np.zeros(experts, np.float32) if correction is None else np.asarray(correction, np.float32)
    resident = np.ones(experts, bool) if resident is None else np.asarray(resident, bool)
    scores, weights = np.empty((tokens, experts), np.float32), np.empty((tokens, k), np.float32)
    wanted, chosen = np.empty((tokens, k), np.int32), np.empty((tokens, k), np.int32)
    route(
        logits, correction, resident, kind, renormalize, np.float32(scale), *groups, top2,
        scores, wanted, chosen, weights,
    )  # fmt: skip
    return scores, wanted, chosen, weights


LOGITS = [math.log(v) for v in (1, 4, 2, 8, 1)]  # probabilities 1/16, 4/16, 2/16, 8/16, 1/16


def test_softmax_with_and_without_renormalisation():
    """Top 2 of 1:4:2:8:1 are experts 3 and 1: weights 8/16 and 4/16, renormalised 2/3 and 1/3, x 1.5."""
    scores, wanted, chosen, weights = run(LOGITS, 2, SOFTMAX)
    assert scores[0] == pytest.approx([1 / 16, 4 / 16, 2 / 16, 8 / 16, 1 / 16], rel=1e-6)
    assert chosen.tolist() == wanted.tolist() == [[1, 3]]
    assert weights[0] == pytest.approx([4 / 16, 8 / 16], rel=1e-6)
    assert run(LOGITS, 2, SOFTMAX, renormalize=True)[3][0] == pytest.approx([1 / 3, 2 / 3], rel=1e-6)
    assert run(LOGITS, 2, SOFTMAX, scale=1.5)[3][0] == pytest.approx([6 / 16, 12 / 16], rel=1e-6)


def test_topk_softmax_normalises_over_the_chosen():
    """GPT-OSS: softmax over the chosen only, 4 : 8 = 1/3 : 2/3."""
    assert run(LOGITS, 2, TOPK_SOFTMAX)[3][0] == pytest.approx([1 / 3, 2 / 3], rel=1e-6)


def test_sigmoid_correction_counts_in_the_choice_only():
    """Scores 0.5 for all but expert 2 (0.88); a correction of +1 brings expert 0 in, whose weight stays 0.5 of 1.38."""
    logits, correction = [0, 0, 2, 0], [1, 0, 0, 0]
    _, _, chosen, weights = run(logits, 2, SIGMOID, renormalize=True, scale=1.8, correction=correction)
    high = 1 / (1 + math.exp(-2))
    assert chosen.tolist() == [[0, 2]]
    assert weights[0] == pytest.approx([1.8 * 0.5 / (0.5 + high), 1.8 * high / (0.5 + high)], rel=1e-6)


def test_ties_go_to_the_lower_id():
    """Equal logits, -0 and +0 included: the first k."""
    assert run([1, 1, 1, 1], 2, SOFTMAX)[2].tolist() == [[0, 1]]
    assert run([-0.0, 0.0, 0.0], 1, TOPK_SOFTMAX)[2].tolist() == [[0]]
    assert run([0, 3, 0, 3, 3], 2, SOFTMAX)[2].tolist() == [[1, 3]]


def test_resident_mask_changes_the_choice_only():
    """Scores and the unrestricted choice stay; weights are of the chosen, normalised over them."""
    free = run(LOGITS, 2, SOFTMAX, renormalize=True)
    scores, wanted, chosen, weights = run(LOGITS, 2, SOFTMAX, renormalize=True, resident=[1, 1, 1, 0, 0])
    assert scores.tobytes() == free[0].tobytes() and wanted.tolist() == [[1, 3]]
    assert chosen.tolist() == [[1, 2]] and weights[0] == pytest.approx([2 / 3, 1 / 3], rel=1e-6)


def test_fewer_residents_than_k():
    """One resident expert takes all; none leaves every slot empty."""
    _, _, chosen, weights = run(LOGITS, 3, SOFTMAX, renormalize=True, resident=[0, 0, 1, 0, 0])
    assert chosen.tolist() == [[2, -1, -1]] and weights.tolist() == [[1, 0, 0]]
    _, wanted, chosen, weights = run(LOGITS, 3, TOPK_SOFTMAX, resident=[0] * 5)
    assert chosen.tolist() == [[-1] * 3] and weights.tolist() == [[0] * 3] and wanted.tolist() == [[1, 2, 3]]


def test_groups_limit_the_choice():
    """Groups {5, 0} {4, 4}: by highest the first wins, by the sum of two the second."""
    logits = [5, 0, 4, 4]
    assert run(logits, 1, SOFTMAX, groups=(2, 1))[2].tolist() == [[0]]
    assert run(logits, 1, SOFTMAX, groups=(2, 1), top2=True)[2].tolist() == [[2]]
    assert run(logits, 2, SOFTMAX, groups=(2, 1), top2=True)[2].tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("kind", "groups", "top2"),
    [
        (SOFTMAX, (1, 1), False),
        (SOFTMAX, (4, 2), False),
        (SIGMOID, (1, 1), False),
        (SIGMOID, (4, 2), False),
        (SIGMOID, (4, 2), True),
        (TOPK_SOFTMAX, (1, 1), False),
    ],
)
def test_agrees_with_the_float_reference(kind, groups, top2):
    """200 random tokens, 16 experts, top 3: the same experts, weights within 1e-6."""
    rng = np.random.default_rng(kind)
    logits, correction = rng.standard_normal((200, 16)).astype(np.float32), np.zeros(16, np.float32)
    if kind == SIGMOID:
        correction = (0.3 * rng.standard_normal(16)).astype(np.float32)
    config = RouterConfig(
        kind=KINDS[kind], experts=16, top_k=3, renormalize=kind == SIGMOID, scale=1.25 if kind != TOPK_SOFTMAX else 1.0,
        groups=groups[0], chosen_groups=groups[1], group_score=GroupScore.TOP2_SUM if top2 else GroupScore.MAX,
    )  # fmt: skip
    want = float_reference.route(logits, config, correction)
    _, _, chosen, weights = run(
        logits, 3, kind, renormalize=config.renormalize, scale=config.scale, correction=correction,
        groups=groups, top2=top2,
    )  # fmt: skip
    got = np.zeros_like(want)
    np.put_along_axis(got, chosen.astype(np.int64), weights, axis=1)
    assert np.array_equal(got > 0, want > 0) and np.abs(got - want).max() < 1e-6
