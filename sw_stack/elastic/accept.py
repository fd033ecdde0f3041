"""Which path of a verified tree becomes text. Both rules keep the target's distribution exactly.

* `follow`: the target chooses at each node (greedily, or with the sequence's own random number for that position)
  and a child with that token is followed. Greedy output is that of plain decoding, and so is sampled output, token
  for token with the same seed: drafts only decide how many tokens a pass yields. Needs nothing of the draft.
* `reject`: rejection sampling with residual; for siblings drawn without replacement recursively (speculative sampling,
  Leviathan et al. 2023 and Chen et al. 2023; without replacement, Jeon et al. 2024, arXiv 2402.14160). With p the
  target's and q the draft's distribution at a node, sibling x is accepted with probability min(1, p(x) / q(x)); after
  a rejection p becomes max(p - q, 0) and x leaves q, both normalised. If no sibling is left, p gives the token.

Distributions are integer weights over a sum, so every probability is a ratio of integers and no step rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sw_stack.elastic.tree import Draws, TokenTree


@dataclass(frozen=True)
class Accepted:
    """Result of verifying one tree.

    path   accepted nodes below the root, in order
    bonus  the target's own token behind them
    """

    path: list[int]
    bonus: int


def follow(tree: TokenTree, choice: Callable[[int], int]) -> Accepted:
    """The longest path of the target's choices; ``choice`` gives the target's token after a node."""
    path: list[int] = []
    node = 0
    while True:
        token = choice(node)
        matching = [child for child in tree.children(node) if tree.tokens[child] == token]
        if not matching:
            return Accepted(path, token)
        node = matching[0]
        path.append(node)


def reject(tree: TokenTree, target_weights: Callable[[int], np.ndarray], draws: Draws, position: int) -> Accepted:
    """Recursive rejection over the siblings of a tree whose children were drawn.

    Parameters
    ----------
    target_weights : integer weights [vocabulary] of the target after a node
    position : of the root
    """
    path: list[int] = []
    node = 0
    while True:
        here = position + len(path) + 1
        p = target_weights(node)
        children = tree.children(node)
        q = tree.weights[node].copy() if children else None
        for attempt, child in enumerate(children):
            token = tree.tokens[child]
            p_sum, q_sum = int(p.sum()), int(q.sum())
            if _accepts(draws, here, attempt, int(p[token]) * q_sum, int(q[token]) * p_sum):
                node = child
                path.append(child)
                break
            p = np.maximum(p.astype(object) * q_sum - q.astype(object) * p_sum, 0)
            q[token] = 0
        else:
            return Accepted(path, draws.choose(here, 0, p))


def _accepts(draws: Draws, position: int, attempt: int, numerator: int, denominator: int) -> bool:
    """Yes with probability min(1, numerator / denominator); certainties need no random number."""
    if numerator >= denominator:
        return True
    return numerator > 0 and draws.accept(position, attempt, numerator, denominator)
