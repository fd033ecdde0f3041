"""What every drafting method offers, and the state of a sequence that it sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from sw_stack.elastic.tree import TokenTree
from sw_stack.models.kv_cache import KvCache
from sw_stack.models.runtime import LayerRouting
from sw_stack.models.sampling import RandomStream


@dataclass
class Sequence:
    """A sequence being decoded.

    number    in the batch
    cache     the target's KV; holds everything before ``root``
    root      the newest token: known, not in the cache yet
    stream    its random numbers
    produced  new tokens so far, ``root`` included
    rounds    of speculation so far
    """

    number: int
    cache: KvCache
    stream: RandomStream
    root: int = -1
    produced: int = 0
    rounds: int = 0


class WeightReads(Enum):
    """Which weights a draft pass reads, for the accounting of bytes.

    MSB_SLICES   upper slices of the target: dense parts and resident experts, all in HB
    MSB_EXPERTS  the same, but dense parts whole
    COPY         a 4-bit copy of the target: dense parts and resident experts in HB, the others in LPDDR
    OWN          a small model of its own, all in HB
    """

    MSB_SLICES = "msb"
    MSB_EXPERTS = "msb-experts"
    COPY = "copy"
    OWN = "own"

    @property
    def resident_only(self) -> bool:
        """Whether the draft uses no expert that is not resident."""
        return self in (WeightReads.MSB_SLICES, WeightReads.MSB_EXPERTS)


@dataclass(frozen=True)
class DraftPass:
    """One pass of a draft model: how many tokens, and their routing (empty for dense models)."""

    tokens: int
    routing: list[LayerRouting]


class Drafter(Protocol):
    """A drafting method.

    The decoder calls, per round, ``begin`` once, ``extend`` per further level, and ``end``; between rounds ``observe``
    with what was committed. What is drafted never changes the text, only how much of it a round yields.

    name           as on the command line
    reads          which weights a pass reads
    own_weights    weights stored beside the target
    passes         passes of the current draft phase; the decoder reads and clears it
    """

    name: str
    reads: WeightReads
    own_weights: int
    passes: list[DraftPass]

    def observe(self, sequence: Sequence, tokens: list[int], hidden: np.ndarray) -> None:
        """Tokens that the target committed, and its last layer's output float32 [n, hidden] at each."""

    def begin(self, sequences: list[Sequence]) -> list[np.ndarray]:
        """Draft logits after each sequence's root, float32 [1, vocabulary] each."""

    def extend(self, sequences: list[Sequence], trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        """Draft logits after new ``nodes`` (one level) of each tree, float32 [nodes, vocabulary] each."""

    def end(self, sequences: list[Sequence]) -> None:
        """Discard the keys and values of the draft."""

    def forget(self, sequence: Sequence) -> None:
        """The sequence is finished."""
