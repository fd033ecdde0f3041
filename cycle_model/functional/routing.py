"""Routing: from router logits to chosen experts and their weights.

    SOFTMAX       p_e = rne(exp(l_e - max) / sum), the sum in ascending id; chosen by l (p is monotone in it)
    SIGMOID       p_e = sigmoid(l_e); chosen by rne(p_e + correction_e)
    TOPK_SOFTMAX  chosen by l; p_e = exp(l_e - max of the chosen) / sum over the chosen, ascending id

Choice: the k highest, ties to the lower id. A resident mask removes experts from the choice and changes nothing
else; fewer than k resident: those; none: none. Where groups limit the choice, the best groups are found first
(ties to the lower group): by their highest score, or the rounded sum of their two highest, among all experts.
Weights: divided by their sum in ascending id where renormalised (SIGMOID: sum + 1e-20), then times the scale.
"""

from __future__ import annotations

import numpy as np

from cycle_model.functional.elementary import exp_f32, f32, sigmoid_f32
from cycle_model.kernel_cache import njit

SOFTMAX, SIGMOID, TOPK_SOFTMAX = 0, 1, 2
_SMALLEST_SUM = f32(1e-20)


@njit(nogil=True, cache=True)
def _mark_best_groups(choice, groups, chosen_groups, by_top2, allowed):
    """Clear ``allowed`` outside the best groups."""
    size = choice.shape[0] // groups
    ranks = np.empty(groups, np.float32)
    for group in range(groups):
        first = second = f32(-np.inf)
        for e in range(group * size, (group + 1) * size):
            if choice[e] > first:
                first, second = choice[e], first
            elif choice[e] > second:
                second = choice[e]
        ranks[group] = first + second if by_top2 else first
    keep = np.zeros(groups, np.bool_)
    for _ in range(chosen_groups):
        best = -1
        for group in range(groups):
            if not keep[group] and (best < 0 or ranks[group] > ranks[best]):
                best = group
        keep[best] = True
    for e in range(choice.shape[0]):
        if not keep[e // size]:
            allowed[e] = False


@njit(nogil=True, cache=True)
def _choose(choice, allowed, chosen):
    """The highest allowed ones in ascending id, -1 behind them; returns how many."""
    taken = np.zeros(choice.shape[0], np.bool_)
    count = 0
    for _ in range(chosen.shape[0]):
        best = -1
        for e in range(choice.shape[0]):
            if allowed[e] and not taken[e] and (best < 0 or choice[e] > choice[best]):
                best = e
        if best < 0:
            break
        taken[best] = True
        count += 1
    slot = 0
    chosen[:] = -1
    for e in range(choice.shape[0]):
        if taken[e]:
            chosen[slot] = e
            slot += 1
    return count


@njit(nogil=True, cache=True)
def route(
    logits, correction, resident, kind, renormalize, scale, groups, chosen_groups, by_top2,
    scores, wanted, chosen, weights,
):  # fmt: skip
    """Choose experts for every token.

    Parameters
    ----------
    logits : float32 [tokens, experts]
    correction : float32 [experts], zeros where there is none
    resident : bool [experts]
    kind : SOFTMAX, SIGMOID or TOPK_SOFTMAX
    scores : float32 [tokens, experts], out: p of every expert (of TOPK_SOFTMAX: softmax over all, a report only)
    wanted : int32 [tokens, k], out: the unrestricted choice, ascending id
    chosen : int32 [tokens, k], out: the choice among resident experts, ascending id, -1 = empty slot
    weights : float32 [tokens, k], out: weights of ``chosen``, 0 in empty slots
    """
    tokens, experts = logits.shape
    choice = np.empty(experts, np.float32)
    allowed = np.empty(experts, np.bool_)
    for token in range(tokens):
        row = scores[token]
        if kind == SIGMOID:
            for e in range(experts):
                row[e] = sigmoid_f32(logits[token, e])
                choice[e] = row[e] + correction[e]
        else:
            highest = logits[token, 0]
            for e in range(experts):
                highest = max(highest, logits[token, e])
                choice[e] = logits[token, e]
            total = f32(0)
            for e in range(experts):
                row[e] = exp_f32(logits[token, e] - highest)
                total += row[e]
            for e in range(experts):
                row[e] = row[e] / total
        allowed[:] = True
        if groups > 1:
            _mark_best_groups(choice, groups, chosen_groups, by_top2, allowed)
        _choose(choice, allowed, wanted[token])
        allowed &= resident
        count = _choose(choice, allowed, chosen[token])

        weights[token] = f32(0)
        if count == 0:
            continue
        if kind == TOPK_SOFTMAX:
            highest = logits[token, chosen[token, 0]]
            for slot in range(count):
                highest = max(highest, logits[token, chosen[token, slot]])
            for slot in range(count):
                weights[token, slot] = exp_f32(logits[token, chosen[token, slot]] - highest)
        else:
            for slot in range(count):
                weights[token, slot] = row[chosen[token, slot]]
        if renormalize or kind == TOPK_SOFTMAX:
            total = f32(0)
            for slot in range(count):
                total += weights[token, slot]
            if kind == SIGMOID:
                total += _SMALLEST_SUM
            for slot in range(count):
                weights[token, slot] = weights[token, slot] / total if total > f32(0) else f32(0)
        if scale != f32(1):
            for slot in range(count):
                weights[token, slot] *= scale
