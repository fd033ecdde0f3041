"""What drafters propose: every draft logit of a run equals one computed from the whole text at once, bit for bit.

Losslessness cannot show a drafter that reads stale or shifted state; its drafts would merely be worse.
"""

from __future__ import annotations

import numpy as np
import pytest

from sw_stack.elastic.drafters.eagle import FUSE
from sw_stack.elastic.drafters.protocol import Sequence
from sw_stack.elastic.drafters.self_drafter import QUANT
from sw_stack.elastic.tree import TokenTree
from sw_stack.models.precision import DRAFT, Precision
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.weights import ProjectionStack
from verification.stack.elastic_models import dense_runtime, head_source, moe_runtime, prompts
from verification.stack.test_elastic_lossless import GREEDY, decoder

TOKENS = 14


class Spy:
    """Passes everything on to a drafter and notes each draft logit with the text and path it belongs to."""

    def __init__(self, drafter, texts: list[list[int]], hot_set) -> None:
        self._drafter, self._texts, self._hot_set = drafter, texts, hot_set
        self.seen: list[tuple[list[int], list[int], np.ndarray, np.ndarray]] = []

    def __getattr__(self, name: str):
        return getattr(self._drafter, name)

    def begin(self, sequences: list[Sequence]) -> list[np.ndarray]:
        rows = self._drafter.begin(sequences)
        for s, row in zip(sequences, rows, strict=True):
            self._note(s, [], row[0])
        return rows

    def extend(self, sequences: list[Sequence], trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        rows = self._drafter.extend(sequences, trees, nodes)
        for s, tree, level, block in zip(sequences, trees, nodes, rows, strict=True):
            for node, row in zip(level, block, strict=True):
                self._note(s, path_of(tree, node), row)
        return rows

    def _note(self, sequence: Sequence, path: list[int], row: np.ndarray) -> None:
        self.seen.append((list(self._texts[sequence.number]), path, row.copy(), self._hot_set.mask()))


def path_of(tree: TokenTree, node: int) -> list[int]:
    """Tokens below the root, to ``node``."""
    path = []
    while node:
        path.insert(0, tree.tokens[node])
        node = tree.parents[node]
    return path


def drafts_of(method: str, shape: str = "3x2"):
    """Every draft logit of a run on three prompts."""
    one = decoder(method, shape)
    texts = prompts(3, 21)
    one.drafter = spy = Spy(one.drafter, texts, one.hot_set)
    for step in one.decode([list(text) for text in texts], TOKENS, GREEDY, 0):
        texts[step.sequence] += step.tokens
    assert len(spy.seen) > 20
    assert max(len(path) for _, path, _, _ in spy.seen) == 2
    return spy.seen


@pytest.mark.parametrize(("method", "precision"), [("elastic", DRAFT), ("quant", QUANT)])
def test_self_drafts_read_the_targets_cache(method: str, precision: Precision) -> None:
    """Everything before the root in full, root and path in draft precision among residents."""
    runtime = moe_runtime()
    for text, path, row, mask in drafts_of(method):
        cache = runtime.new_cache()
        runtime.forward([Segment(cache, text[:-1])], logits="none")
        cache.commit()
        resident = mask if method == "elastic" else None
        expected = runtime.forward([Segment(cache, [text[-1], *path])], precision=precision, resident=resident)
        assert np.array_equal(row, expected.logits[-1])


def test_the_small_model_reads_the_text() -> None:
    """As if it had read text and path in one pass."""
    runtime = dense_runtime()
    for text, path, row, _ in drafts_of("slm"):
        expected = runtime.forward([Segment(runtime.new_cache(), text + path)], logits="last")
        assert np.array_equal(row, expected.logits[0])


def test_the_head_continues_the_targets_features() -> None:
    """By the formula, on the whole text: target features where the target has been, drafted ones on the path."""
    target, source = moe_runtime(), head_source()
    head, fuse = Runtime(QuantizedModel(source)), ProjectionStack(source, [[FUSE]])

    def advance(cache, tokens: list[int], features: np.ndarray) -> np.ndarray:
        joined = np.concatenate([source.load("embedding")[tokens], features], axis=1)
        inputs = head.project(fuse, joined.astype(np.float32), "fc")
        result = head.forward([Segment(cache, tokens, inputs=inputs)], logits="none")
        cache.commit()
        return result.hidden

    for text, path, row, _ in drafts_of("eagle"):
        hidden = target.forward([Segment(target.new_cache(), text[:-1])], logits="none").hidden
        cache = head.new_cache()
        drafted = advance(cache, text[1:], target.features(hidden))[-1:]
        for token in path:
            drafted = advance(cache, [token], drafted)
        assert np.array_equal(row, target.head(drafted)[0])


def test_the_first_hot_set_comes_from_prefill_and_later_ones_from_the_draft() -> None:
    """The set used in round r + 1 holds the most used of round r's draft, counted here from its own routing."""
    one = decoder("elastic", "4")
    given = prompts(2, 5)
    masks, counts = [], []
    begin, end = one.drafter.begin, one.drafter.end

    def noting_begin(sequences):
        masks.append(one.hot_set.mask())
        return begin(sequences)

    def noting_end(sequences):
        routing = [record for one_pass in one.drafter.passes for record in one_pass.routing]
        table = np.zeros((3, 8), int)
        for record in routing:
            np.add.at(table[record.layer], record.wanted.ravel(), 1)
        counts.append(table)
        end(sequences)

    one.drafter.begin, one.drafter.end = noting_begin, noting_end
    for _ in one.decode(given, TOKENS, GREEDY, 0):
        pass
    prefill = np.zeros((3, 8), int)
    for prompt in given:
        for record in moe_runtime().forward([Segment(moe_runtime().new_cache(), prompt)]).routing:
            np.add.at(prefill[record.layer], record.wanted.ravel(), 1)
    for table, mask in zip([prefill, *counts], masks, strict=False):
        hottest = [sorted(sorted(range(8), key=lambda e: (-row[e], e))[:4]) for row in table]
        assert [np.flatnonzero(row).tolist() for row in mask] == hottest
    assert len({mask.tobytes() for mask in masks}) > 1
