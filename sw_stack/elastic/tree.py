"""Token trees: what a drafting method proposes and one target pass verifies.

A tree of shape depth x width has up to ``width`` nodes on each of ``depth`` levels below its root, the newest token
of the sequence (known, but not yet in the KV cache); width 1 is a chain. Levels are grown one at a time, for all
sequences of a batch in one pass of the draft model, by one of two rules:

* `MostProbable`: a level keeps the ``width`` most probable paths among the children of the level above (path
  probability under the draft; ties: earlier parent, then lower token). Nothing is random.
* `Drawn`: the root's children are drawn from the draft's distribution without replacement, every later node has one
  drawn child. The distribution stays with the parent, since the acceptance rule needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hw.errors import UserError
from sw_stack.models.sampling import RandomStream, SamplingConfig, pick, token_weights

MAX_NODES = 256


@dataclass(frozen=True)
class TreeShape:
    """``depth`` levels of ``width`` nodes; depth 0 is plain decoding."""

    depth: int
    width: int = 1

    def __post_init__(self) -> None:
        if self.depth < 0 or self.width < 1 or self.nodes > MAX_NODES:
            raise UserError(
                f"tree must be depth x width with depth at least 0, width at least 1 and at most {MAX_NODES} nodes, "
                f"not {self}"
            )

    @classmethod
    def parse(cls, text: str) -> TreeShape:
        """From ``5`` (a chain) or ``2x4`` (depth x width)."""
        found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text.strip())
        if not found:
            raise UserError(f"tree must be DEPTH or DEPTHxWIDTH, such as 5 or 2x4, not {text!r}")
        return cls(int(found[1]), int(found[2] or 1))

    @property
    def nodes(self) -> int:
        """Nodes below the root."""
        return self.depth * self.width

    def __str__(self) -> str:
        return f"{self.depth}x{self.width}"


@dataclass
class TokenTree:
    """Tokens by node; node 0 is the root. A parent comes before its children, children in the order drafted.

    weights  node -> the integer draft weights that its children were drawn from; nothing where children are not random
    """

    tokens: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    depths: list[int] = field(default_factory=lambda: [0])
    weights: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, token: int, parent: int) -> int:
        """A new node below ``parent``; returns its number."""
        self.tokens.append(int(token))
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1)
        return len(self.tokens) - 1

    def children(self, node: int) -> list[int]:
        """Children of ``node`` in the order drafted."""
        return [child for child, parent in enumerate(self.parents) if parent == node]

    @property
    def depth(self) -> int:
        """Levels below the root."""
        return max(self.depths)


class Draws(Protocol):
    """Random decisions of one sequence, each named by the position it concerns, so that none is made twice.

    ``choose`` draws an index with probability weights / sum (integers, possibly of any size); ``use`` 0 is the final
    token of a position, 1 + node the drafting of a tree node. ``accept`` says yes with probability
    numerator / denominator for the ``attempt``-th sibling.
    """

    def choose(self, position: int, use: int, weights: np.ndarray) -> int: ...

    def accept(self, position: int, attempt: int, numerator: int, denominator: int) -> bool: ...


ACCEPT_USE = 1 << 15
"""Of the 2^16 random numbers of a round and position, those from this one on decide about siblings."""


@dataclass(frozen=True)
class StreamDraws:
    """`Draws` from a sequence's counter-based random numbers; exact to 2^-64.

    ``round`` counts the sequence's rounds: a position behind a rejection is drafted again, with other numbers, because
    the first draft, though never looked at, has moved the hot set and with it the distribution drawn from.
    """

    stream: RandomStream
    round: int = 0

    def choose(self, position: int, use: int, weights: np.ndarray) -> int:
        """The index that 64 bits choose; ``use`` 0 takes the bits that plain sampling would."""
        return pick(weights, self.stream.bits(position, self._number(use) if use else 0))

    def accept(self, position: int, attempt: int, numerator: int, denominator: int) -> bool:
        """bits / 2^64 < numerator / denominator, in integers."""
        return self.stream.bits(position, self._number(ACCEPT_USE + attempt)) * denominator < numerator << 64

    def _number(self, use: int) -> int:
        """A round in 2^16 comes back to a number, but not to the position: no tree is that deep."""
        return (self.round % (1 << 16) << 16) + use


class Growth(Protocol):
    """Chooses the nodes of a new level: ``rows`` are what the draft gave after each node of ``frontier``."""

    def expand(self, tree: TokenTree, frontier: list[int], rows: Sequence[np.ndarray], width: int) -> list[int]: ...


class MostProbable:
    """Keeps the most probable paths. Probabilities are the contract's integer weights at temperature 1, their
    products FP64, so that the same draft logits give the same tree on every machine."""

    _PLAIN = SamplingConfig(temperature=1.0)

    def __init__(self) -> None:
        self._scores: dict[int, float] = {0: 1.0}

    def expand(self, tree: TokenTree, frontier: list[int], rows: Sequence[np.ndarray], width: int) -> list[int]:
        """Adds the level's nodes; returns their numbers."""
        if width == 1:
            return [tree.add(int(np.argmax(rows[0])), frontier[0])]
        candidates = []
        for node, row in zip(frontier, rows, strict=True):
            weights = token_weights(row, self._PLAIN)
            total = int(weights.sum())
            for token in np.argsort(-weights, kind="stable")[:width]:
                candidates.append((self._scores[node] * (int(weights[token]) / total), node, int(token)))
        candidates.sort(key=lambda candidate: -candidate[0])
        added = []
        for score, node, token in candidates[:width]:
            added.append(tree.add(token, node))
            self._scores[added[-1]] = score
        return added


class Drawn:
    """Draws children from the draft's distribution.

    Parameters
    ----------
    draws : the sequence's random decisions
    position : of the root
    weights_of : from what the draft gives after a node to integer weights of its children
    """

    def __init__(self, draws: Draws, position: int, weights_of: Callable[[np.ndarray], np.ndarray]) -> None:
        self._draws, self._position, self._weights_of = draws, position, weights_of

    def expand(self, tree: TokenTree, frontier: list[int], rows: Sequence[np.ndarray], width: int) -> list[int]:
        """Adds the level's nodes; fewer than ``width`` where the draft gives no more tokens a chance."""
        added = []
        for node, row in zip(frontier, rows, strict=True):
            weights = self._weights_of(row)
            tree.weights[node] = weights
            left = weights.copy()
            for _ in range(min(width if node == 0 else 1, np.count_nonzero(weights))):
                position = self._position + tree.depths[node] + 1
                token = self._draws.choose(position, 1 + len(tree.tokens), left)
                left[token] = 0
                added.append(tree.add(token, node))
        return added


class LevelSource(Protocol):
    """A draft model as `grow` sees it: one pass per level for all sequences; see ``drafters.protocol``."""

    def begin(self, sequences: list) -> list[np.ndarray]: ...

    def extend(self, sequences: list, trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]: ...


def grow(
    source: LevelSource, sequences: list, roots: list[int], shapes: list[TreeShape], growths: list[Growth]
) -> list[TokenTree]:
    """Trees of all sequences, level by level; a sequence of depth 0 gets its root only.

    ``source`` is asked for as many passes as the deepest tree has levels.
    """
    trees = [TokenTree([root]) for root in roots]
    active = [i for i, shape in enumerate(shapes) if shape.depth > 0]
    frontiers = {i: [0] for i in active}
    rows = dict(zip(active, source.begin([sequences[i] for i in active]), strict=True)) if active else {}
    for level in range(1, max((shape.depth for shape in shapes), default=0) + 1):
        for i in active:
            frontiers[i] = growths[i].expand(trees[i], frontiers[i], rows[i], shapes[i].width)
        active = [i for i in active if shapes[i].depth > level]
        if not active:
            break
        parts = source.extend(
            [sequences[i] for i in active], [trees[i] for i in active], [frontiers[i] for i in active]
        )
        rows = dict(zip(active, parts, strict=True))
    return trees
