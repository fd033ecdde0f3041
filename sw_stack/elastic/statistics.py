"""What speculation did: acceptance by position, accept length, router mass covered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sw_stack.elastic.accept import Accepted
from sw_stack.elastic.tree import TokenTree
from sw_stack.models.runtime import LayerRouting


@dataclass
class SpeculationStatistics:
    """Counts over all rounds of all sequences.

    tried, accepted   int64 [sequences, depth]: rounds that reached a drafted position (all before it accepted), and
                      those that accepted it
    rounds            sequence-rounds, with depth 0 or more
    drafted_rounds    of them with a draft
    drafted_nodes     tree nodes verified
    tokens            tokens that rounds gave (prefill's first ones not counted)
    drafted_tokens    of them in rounds with a draft
    covered, wanted   router mass of the unrestricted top-k in draft passes: on residents, and all of it
    depths            how many rounds of the batch were given which depth
    """

    sequences: int
    depth: int
    tried: np.ndarray = field(init=False)
    accepted: np.ndarray = field(init=False)
    rounds: int = 0
    drafted_rounds: int = 0
    drafted_nodes: int = 0
    tokens: int = 0
    drafted_tokens: int = 0
    covered: float = 0.0
    wanted: float = 0.0
    depths: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tried = np.zeros((self.sequences, self.depth), np.int64)
        self.accepted = np.zeros((self.sequences, self.depth), np.int64)

    def add(self, sequence: int, tree: TokenTree, result: Accepted) -> None:
        """One tree of one sequence."""
        length = len(result.path)
        self.rounds += 1
        self.tokens += length + 1
        if tree.depth == 0:
            return
        self.drafted_rounds += 1
        self.drafted_nodes += len(tree.tokens) - 1
        self.drafted_tokens += length + 1
        self.tried[sequence, : min(length + 1, tree.depth)] += 1
        self.accepted[sequence, :length] += 1

    def add_coverage(self, routing: list[LayerRouting], mask: np.ndarray) -> None:
        """Router mass of a draft pass that the resident experts cover."""
        wanted = np.stack([record.wanted for record in routing])
        scores = np.take_along_axis(np.stack([record.scores for record in routing]), wanted, axis=2).astype(np.float64)
        held = np.take_along_axis(mask[[record.layer for record in routing], None], wanted, axis=2)
        self.wanted += float(scores.sum())
        self.covered += float(scores[held].sum())

    def acceptance(self, depth: int, untried: float = np.nan) -> np.ndarray:
        """Share accepted of what was reached, by position [depth]."""
        tried, accepted = self.tried.sum(axis=0)[:depth], self.accepted.sum(axis=0)[:depth]
        return np.divide(accepted, tried, out=np.full(len(tried), untried), where=tried > 0)

    @property
    def accept_length(self) -> float:
        """Tokens per round that drafted, the bonus token included."""
        return self.drafted_tokens / self.drafted_rounds if self.drafted_rounds else 1.0

    @property
    def coverage(self) -> float:
        """Share of the wanted experts' router mass that was resident; 1 where the draft is not restricted."""
        return self.covered / self.wanted if self.wanted else 1.0
