"""Drafts from a small dense model with the target's vocabulary and a KV cache of its own."""

from __future__ import annotations

import numpy as np

from hw.errors import UserError
from sw_stack.elastic.drafters.protocol import DraftPass, Sequence, WeightReads
from sw_stack.elastic.tree import TokenTree
from sw_stack.models.kv_cache import KvCache
from sw_stack.models.runtime import Runtime, Segment


class SmallModelDrafter:
    """A small language model.

    Tokens that the target committed are read in the same pass as the root; keys and values of drafted nodes are
    always discarded, also of those that were accepted, so that a round needs no bookkeeping beyond this.

    Parameters
    ----------
    runtime : of the small model
    vocab : of the target
    own_weights : weights of the small model
    """

    name = "slm"
    reads = WeightReads.OWN

    def __init__(self, runtime: Runtime, vocab: int, own_weights: int) -> None:
        if runtime.config.vocab != vocab:
            raise UserError(f"the small model must have the target's vocabulary of {vocab}, not {runtime.config.vocab}")
        self.own_weights = own_weights
        self.passes: list[DraftPass] = []
        self._runtime = runtime
        self._caches: dict[int, KvCache] = {}
        self._unread: dict[int, list[int]] = {}

    def observe(self, sequence: Sequence, tokens: list[int], hidden: np.ndarray) -> None:
        """Queues tokens; a root that was read already is not read twice."""
        unread = self._unread.setdefault(sequence.number, [])
        cache = self._caches.setdefault(sequence.number, self._runtime.new_cache())
        known = cache.length + len(unread) - (sequence.cache.length - len(tokens))
        unread.extend(tokens[known:])

    def begin(self, sequences: list[Sequence]) -> list[np.ndarray]:
        """One pass over what is unread and the root, which becomes part of the small model's cache."""
        segments = []
        for sequence in sequences:
            unread = [*self._unread[sequence.number], sequence.root]
            segments.append(Segment(self._caches[sequence.number], unread))
            self._unread[sequence.number] = []
        result = self._runtime.forward(segments, logits="last")
        for segment in segments:
            segment.cache.commit()
        self.passes.append(DraftPass(len(result.hidden), []))
        return np.split(result.logits, len(sequences))

    def extend(self, sequences: list[Sequence], trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        """One pass over a level; the root is committed, so pending nodes count from the tree's node 1."""
        segments = [
            Segment(
                self._caches[s.number],
                [tree.tokens[node] for node in level],
                [tree.parents[node] - 1 for node in level],
            )
            for s, tree, level in zip(sequences, trees, nodes, strict=True)
        ]
        result = self._runtime.forward(segments)
        self.passes.append(DraftPass(len(result.hidden), []))
        return np.split(result.logits, result.first[1:-1])

    def end(self, sequences: list[Sequence]) -> None:
        """Drops the keys and values of drafted nodes."""
        for sequence in sequences:
            if sequence.number in self._caches:
                self._caches[sequence.number].discard()

    def forget(self, sequence: Sequence) -> None:
        """Frees the sequence's cache."""
        self._caches.pop(sequence.number, None)
        self._unread.pop(sequence.number, None)
