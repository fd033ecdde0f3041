"""Expert choices of the tokens to come, per slot of a batch, read from a trace (recorded or generated)."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from hw.errors import UserError
from sw_stack.workloads.trace import Trace

SLOT_RATIO = 0.79
"""Router weight of a slot over that of the slot before, where a trace has none. Kind derived: mean ratio of
GPT-OSS-20B's mean weights .351 .264 .211 .174; assumed for other models."""


class RoutingSource:
    """A cursor into a trace for each slot of a batch.

    Parameters
    ----------
    trace : of the model simulated, all of its MoE layers
    layers, experts : of the model; a trace of other sizes is refused
    slots : sequences at once
    seed : order of the trace's sequences, and where in them slots begin
    """

    def __init__(self, trace: Trace, layers: int, experts: int, slots: int, seed: int) -> None:
        if (trace.layers, trace.num_experts) != (layers, experts):
            raise UserError(
                f"trace of {trace.model} must have the model's {layers} MoE layers of {experts} experts, not "
                f"{trace.layers} of {trace.num_experts}"
            )
        self.trace, self.experts = trace, experts
        self._rng = np.random.default_rng([seed, 2])
        self._order = self._rng.permutation(trace.sequences)
        self._given = 0
        self._first = np.zeros(slots, np.int64)
        self._length = np.ones(slots, np.int64)
        self._at = np.zeros(slots, np.int64)
        for slot in range(slots):
            self.begin(slot, anywhere=True)

    def begin(self, slot: int, anywhere: bool = False) -> None:
        """A new sequence in ``slot``: the trace's next one, from its start or from anywhere in it."""
        sequence = self._order[self._given % len(self._order)]
        self._given += 1
        first, last = self.trace.offsets[sequence : sequence + 2]
        self._first[slot], self._length[slot] = first, last - first
        self._at[slot] = self._rng.integers(last - first) if anywhere else 0

    def rows(self, slots: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Trace rows of tokens ``offsets`` [n] after each slot's newest one, int64 [slots, n]; sequences wrap round."""
        return self._first[slots, None] + (self._at[slots, None] + offsets) % self._length[slots, None]

    def choices(self, slots: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Experts of those tokens [slots x n, layers, k]."""
        return self.trace.experts[self.rows(slots, offsets).ravel()]

    def weights(self, slots: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Router mass of those experts, broadcastable to `choices`; by rank where the trace has none."""
        if self.trace.probs is not None:
            return self.trace.probs[self.rows(slots, offsets).ravel()].astype(np.float64)
        return SLOT_RATIO ** np.arange(self.trace.top_k)

    def advance(self, slots: np.ndarray, tokens: np.ndarray) -> None:
        """Each slot's newest token is so many further."""
        self._at[slots] += tokens


def expert_tokens(choices: np.ndarray, experts: int) -> np.ndarray:
    """Tokens that each expert serves, int64 [layers, experts], of ``choices`` [tokens, layers, k]; -1 = empty slot."""
    layers = choices.shape[1]
    flat = choices.astype(np.int64) + 1 + np.arange(layers)[:, None] * (experts + 1)
    return np.bincount(flat.ravel(), minlength=layers * (experts + 1)).reshape(layers, experts + 1)[:, 1:]


def coverage(choices: np.ndarray, weights: np.ndarray, mask: np.ndarray) -> float:
    """Share of the router mass of ``choices`` [tokens, layers, k] on residents, ``mask`` bool [layers, experts]."""
    inside = mask[np.arange(choices.shape[1])[:, None], choices]
    weights = np.broadcast_to(weights, inside.shape)
    return float((weights * inside).sum() / weights.sum())


def restricted(choices: np.ndarray, mask: np.ndarray, usage: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a draft that may use residents only chooses instead, int16 [tokens, layers, k], -1 = empty slot.

    Residents among the wanted experts stay; a trace does not say which experts come next, so each other slot takes a
    resident drawn by ``usage`` [layers, experts], or the next free one by id. Fewer than k residents: all of them.
    """
    weights = np.where(mask, usage + 1e-9, 0.0)
    cdf = np.cumsum(weights, axis=1)
    draws = rng.random(choices.shape) * cdf[:, -1][:, None]
    return _restricted(np.ascontiguousarray(choices), mask, cdf, draws)


@njit(cache=True)
def _restricted(choices: np.ndarray, mask: np.ndarray, cdf: np.ndarray, draws: np.ndarray) -> np.ndarray:
    tokens, layers, k = choices.shape
    experts = mask.shape[1]
    out = np.full((tokens, layers, k), -1, np.int16)
    for layer in range(layers):
        residents = 0
        for e in range(experts):
            residents += mask[layer, e]
        taken = np.full(experts, -1, np.int64)
        for t in range(tokens):
            slots = 0
            for j in range(k):
                e = choices[t, layer, j]
                if mask[layer, e]:
                    out[t, layer, j] = e
                    taken[e] = t
                    slots += 1
            for j in range(k):
                if out[t, layer, j] >= 0 or slots >= residents:
                    continue
                e = min(np.searchsorted(cdf[layer], draws[t, layer, j], side="right"), experts - 1)
                while not mask[layer, e] or taken[e] == t:
                    e = (e + 1) % experts
                out[t, layer, j] = e
                taken[e] = t
                slots += 1
    return out
