"""Drafts from the target itself: Elastic-SD, and Quant-SD with a separate 4-bit copy.

The draft reads the target's committed keys and values and appends its own for the tree, in draft precision; they are
discarded before verification. Elastic-SD routes among resident experts only and multiplies with upper slices;
Quant-SD routes freely through a copy of the whole model with 4-bit weights of its own scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sw_stack.elastic.drafters.protocol import DraftPass, Sequence, WeightReads
from sw_stack.elastic.tree import TokenTree
from sw_stack.models.precision import DRAFT, Precision, WeightScheme
from sw_stack.models.runtime import Runtime, Segment

QUANT = Precision.uniform(WeightScheme.COPY4)


class SelfDrafter:
    """The target in draft precision.

    Parameters
    ----------
    runtime : of the target; drafts use the sequences' own caches
    name, reads, own_weights : see `Drafter`
    precision : of every projection in the draft
    resident : gives the experts that routing may choose, bool [layers, experts], or None for all
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        precision: Precision,
        reads: WeightReads,
        own_weights: int,
        resident: Callable[[], np.ndarray | None],
    ) -> None:
        self.name, self.reads, self.own_weights = name, reads, own_weights
        self.passes: list[DraftPass] = []
        self._runtime, self._precision, self._resident = runtime, precision, resident

    def observe(self, sequence: Sequence, tokens: list[int], hidden: np.ndarray) -> None:
        """Nothing to keep: the target's cache is the state."""

    def begin(self, sequences: list[Sequence]) -> list[np.ndarray]:
        """One pass over the roots."""
        return self._pass([Segment(s.cache, [s.root]) for s in sequences])

    def extend(self, sequences: list[Sequence], trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        """One pass over a level; tree nodes are the caches' pending nodes, by the same numbers."""
        return self._pass(
            [
                Segment(s.cache, [tree.tokens[node] for node in level], [tree.parents[node] for node in level])
                for s, tree, level in zip(sequences, trees, nodes, strict=True)
            ]
        )

    def _pass(self, segments: list[Segment]) -> list[np.ndarray]:
        result = self._runtime.forward(segments, precision=self._precision, resident=self._resident())
        self.passes.append(DraftPass(len(result.hidden), result.routing))
        return np.split(result.logits, result.first[1:-1])

    def end(self, sequences: list[Sequence]) -> None:
        """Drops the draft's keys and values."""
        for sequence in sequences:
            sequence.cache.discard()

    def forget(self, sequence: Sequence) -> None:
        """Nothing is kept per sequence."""


def elastic_drafter(
    runtime: Runtime, resident: Callable[[], np.ndarray | None], precision: Precision = DRAFT
) -> SelfDrafter:
    """Elastic-SD: resident experts and upper slices of the target's own weights, no storage of its own.

    ``precision`` DRAFT_EXPERTS keeps dense parts and head in full.
    """
    whole = precision.attention is WeightScheme.INT8
    return SelfDrafter(
        runtime, "elastic", precision, WeightReads.MSB_EXPERTS if whole else WeightReads.MSB_SLICES, 0, resident
    )


def quant_drafter(runtime: Runtime, own_weights: int) -> SelfDrafter:
    """Quant-SD: a separate copy of all ``own_weights`` weights in 4 bits."""
    return SelfDrafter(runtime, "quant", QUANT, WeightReads.COPY, own_weights, lambda: None)
