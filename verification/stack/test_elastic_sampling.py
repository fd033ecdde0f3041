"""Sampling rules, by exact enumeration: every draft outcome and every decision, in rational arithmetic.

The code under test is the production code; only the random decisions are replaced by branches whose probabilities
are `Fraction`s. A vocabulary of 4, depth 2: all texts of 3 tokens must have exactly the target's probability.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from sw_stack.elastic.accept import Accepted, follow, reject
from sw_stack.elastic.tree import ACCEPT_USE, MAX_NODES, Drawn, MostProbable, StreamDraws, TokenTree, TreeShape, grow
from sw_stack.models.sampling import RandomStream

VOCAB, DEPTH = 4, 2
Model = dict[tuple[int, ...], np.ndarray]
"""Integer weights of the next token by text."""


class Branches:
    """`Draws` that walk through every outcome: follow a script of choices, and record what else was possible.

    Decisions are independent here; random numbers are so only if no name is used twice, which is checked.
    """

    def __init__(self, script: list[int]) -> None:
        self._script, self._made = script, 0
        self.probability = Fraction(1)
        self.open: list[list[int]] = []
        self._named: set[tuple] = set()

    def _decide(self, name: tuple, outcomes: list[tuple[int, Fraction]]) -> int:
        assert name not in self._named
        self._named.add(name)
        possible = [(value, p) for value, p in outcomes if p]
        assert sum(p for _, p in possible) == 1
        if self._made == len(self._script):
            self.open.extend([*self._script, value] for value, _ in possible[1:])
            self._script = [*self._script, possible[0][0]]
        value = self._script[self._made]
        self._made += 1
        self.probability *= dict(possible)[value]
        return value

    def choose(self, position: int, use: int, weights: np.ndarray) -> int:
        total = sum(int(w) for w in weights)
        return self._decide((position, use), [(token, Fraction(int(w), total)) for token, w in enumerate(weights)])

    def accept(self, position: int, attempt: int, numerator: int, denominator: int) -> bool:
        yes = Fraction(numerator, denominator)
        return bool(self._decide((position, "accept", attempt), [(1, yes), (0, 1 - yes)]))


def models(seed: int, *, zeros: bool) -> tuple[Model, Model]:
    """Target and draft with random weights after every text; with ``zeros`` some tokens are impossible."""
    rng = np.random.default_rng(seed)
    texts = [text for n in range(DEPTH + 1) for text in itertools.product(range(VOCAB), repeat=n)]

    def weights() -> np.ndarray:
        row = rng.integers(1, 9, VOCAB)
        if zeros:
            row[rng.permutation(VOCAB)[: rng.integers(0, 3)]] = 0
        return row

    return {text: weights() for text in texts}, {text: weights() for text in texts}


class TableDraft:
    """A draft model given by a table."""

    def __init__(self, table: Model) -> None:
        self._table = table

    def begin(self, sequences: list) -> list[np.ndarray]:
        return [self._table[()][None] for _ in sequences]

    def extend(self, sequences: list, trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        return [
            np.stack([self._table[text_of(tree, node)] for node in level])
            for tree, level in zip(trees, nodes, strict=True)
        ]


def text_of(tree: TokenTree, node: int) -> tuple[int, ...]:
    """Tokens from below the root to ``node``."""
    path = []
    while node:
        path.insert(0, tree.tokens[node])
        node = tree.parents[node]
    return tuple(path)


def output(target: Model, round_of: Callable[[Branches], tuple[TokenTree, Accepted]]) -> dict[tuple, Fraction]:
    """Exact distribution of the first DEPTH + 1 tokens: one round, then plain decoding for what is missing."""
    found: dict[tuple, Fraction] = defaultdict(Fraction)
    scripts = [[]]
    while scripts:
        branches = Branches(scripts.pop())
        tree, accepted = round_of(branches)
        scripts.extend(branches.open)
        text = (*(tree.tokens[node] for node in accepted.path), accepted.bonus)
        for rest in itertools.product(range(VOCAB), repeat=DEPTH + 1 - len(text)):
            found[text + rest] += branches.probability * plain(target, text + rest, len(text))
    return found


def plain(target: Model, text: tuple[int, ...], first: int = 0) -> Fraction:
    """Probability of the tokens ``first`` on, under the target."""
    return math.prod(
        (Fraction(int(target[text[:i]][text[i]]), int(target[text[:i]].sum())) for i in range(first, len(text))),
        start=Fraction(1),
    )


def drawn_round(target: Model, draft: Model, width: int, rule: Callable) -> Callable:
    """A round with drawn children and rejection."""

    def one(branches: Branches) -> tuple[TokenTree, Accepted]:
        growth = Drawn(branches, 0, lambda row: row)
        (tree,) = grow(TableDraft(draft), [None], [0], [TreeShape(DEPTH, width)], [growth])
        return tree, rule(tree, lambda node: target[text_of(tree, node)], branches, 0)

    return one


def expected(target: Model) -> dict[tuple, Fraction]:
    """The target's own distribution."""
    texts = itertools.product(range(VOCAB), repeat=DEPTH + 1)
    return {text: p for text in texts if (p := plain(target, text))}


def nonzero(found: dict[tuple, Fraction]) -> dict[tuple, Fraction]:
    return {text: p for text, p in found.items() if p}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_rejection_keeps_the_distribution(width: int, zeros: bool) -> None:
    """Chains and trees with siblings drawn without replacement: exactly the target's distribution."""
    for seed in range(1 if width == 3 else 4):
        target, draft = models(seed, zeros=zeros)
        found = output(target, drawn_round(target, draft, width, reject))
        assert nonzero(found) == expected(target)
        assert sum(found.values()) == 1


@pytest.mark.parametrize("width", [1, 2, 4])
def test_following_keeps_the_distribution(width: int) -> None:
    """Deterministic children and the target's own draws: exactly the target's distribution."""
    for seed in range(4):
        target, draft = models(seed, zeros=False)

        def one(branches: Branches) -> tuple[TokenTree, Accepted]:
            logits = {text: np.log(row.astype(np.float32)) for text, row in draft.items()}  # noqa: B023
            shape = TreeShape(DEPTH, width)
            (tree,) = grow(TableDraft(logits), [None], [0], [shape], [MostProbable()])
            return tree, follow(tree, lambda node: branches.choose(tree.depths[node], 0, target[text_of(tree, node)]))  # noqa: B023

        assert nonzero(output(target, one)) == expected(target)


def mistaken(
    tree: TokenTree, target_weights: Callable, draws: Branches, *, residual: bool, without_replacement: bool
) -> Accepted:
    """Rejection that skips one of its two corrections after a rejection: p <- max(p - q, 0), or x leaves q."""
    path: list[int] = []
    node = 0
    while True:
        p, children = target_weights(node), tree.children(node)
        q = tree.weights[node].copy() if children else None
        for attempt, child in enumerate(children):
            token, p_sum, q_sum = tree.tokens[child], int(p.sum()), int(q.sum())
            yes = min(Fraction(int(p[token]) * q_sum, int(q[token]) * p_sum), Fraction(1))
            if draws.accept(len(path), attempt, yes.numerator, yes.denominator):
                node = child
                path.append(child)
                break
            if residual:
                p = np.maximum(p.astype(object) * q_sum - q.astype(object) * p_sum, 0)
            if without_replacement:
                q[token] = 0
        else:
            return Accepted(path, draws.choose(len(path), 0, p))


@pytest.mark.parametrize(("skipped", "width"), [("residual", 1), ("residual", 2), ("without_replacement", 2)])
def test_biased_rules_are_rejected(skipped: str, width: int) -> None:
    """The same comparison refutes rules that skip a correction, and passes the one that skips none."""
    for biased in (False, True):
        steps = {"residual": True, "without_replacement": True} | ({skipped: False} if biased else {})
        refuted = []
        for seed in range(3):  # where a residual has one token only, the second correction changes nothing
            target, draft = models(seed, zeros=False)

            def rule(tree: TokenTree, weights: Callable, draws: Branches, position: int) -> Accepted:
                return mistaken(tree, weights, draws, **steps)  # noqa: B023

            found = output(target, drawn_round(target, draft, width, rule))
            assert sum(found.values()) == 1
            refuted.append(nonzero(found) != expected(target))
        assert any(refuted) is biased


def test_hand_worked_acceptance() -> None:
    """p = (1/2, 1/2, 0, 0), q = (3/4, 0, 1/4, 0): token 0 with 3/4 x 2/3, else max(p - q, 0) leaves token 1 only."""
    target: Model = {(): np.array([1, 1, 0, 0])}
    draft: Model = {(): np.array([3, 0, 1, 0])}

    def one(branches: Branches) -> tuple[TokenTree, Accepted]:
        (tree,) = grow(TableDraft(draft), [None], [0], [TreeShape(1)], [Drawn(branches, 0, lambda row: row)])
        return tree, reject(tree, lambda node: target.get(text_of(tree, node), np.array([1, 0, 0, 0])), branches, 0)

    outcomes: dict[tuple, Fraction] = defaultdict(Fraction)
    scripts = [[]]
    while scripts:
        branches = Branches(scripts.pop())
        tree, accepted = one(branches)
        scripts.extend(branches.open)
        outcomes[tuple(tree.tokens[node] for node in accepted.path), accepted.bonus] += branches.probability
    assert outcomes == {((0,), 0): Fraction(1, 2), ((), 1): Fraction(1, 2)}


def test_stream_draws_accept_with_the_stated_probability() -> None:
    """Counter-based bits accept 3/7 of the time: within four standard errors of 20 000; certainties stay certain."""
    draws = StreamDraws(RandomStream(1, 2))
    trials = 20_000
    hits = sum(draws.accept(position, 0, 3, 7) for position in range(trials))
    assert abs(hits / trials - 3 / 7) < 4 * (12 / 49 / trials) ** 0.5
    big = 10**40
    assert all(draws.accept(position, 1, big, big) for position in range(100))
    assert not any(draws.accept(position, 1, 0, big) for position in range(100))


def test_uses_fit_below_the_numbers_of_acceptance() -> None:
    """The largest tree's nodes have numbers of their own, below those that decide about siblings, in every round."""
    assert 1 + MAX_NODES < ACCEPT_USE
    assert ACCEPT_USE + MAX_NODES < 1 << 16
