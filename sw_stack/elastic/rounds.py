"""Speculative decoding of a batch, round by round, losslessly.

One round: draft a token tree per sequence; fix the next hot set from the draft's counts; verify all nodes in one
target pass with the old set; accept a path; commit its keys and values. With depth 0 a round is a step of plain
decoding. Text never depends on the drafting method, the hot set, the batch or the depth: greedily and with
``follow`` it is token for token that of `decode_plain`; with ``reject`` it has the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Collection
from dataclasses import dataclass

import numpy as np

from hw.errors import UserError
from sw_stack.elastic.accept import Accepted, follow, reject
from sw_stack.elastic.drafters.protocol import Drafter, Sequence, WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, count_routing
from sw_stack.elastic.scheduler import Decision, DepthScheduler
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import TimePredictor
from sw_stack.elastic.traffic import TrafficMeter
from sw_stack.elastic.tree import Drawn, Growth, MostProbable, StreamDraws, TokenTree, TreeShape, grow
from sw_stack.models.generation import Emitted, check_request
from sw_stack.models.runtime import LayerRouting, Runtime, Segment
from sw_stack.models.sampling import RandomStream, SamplingConfig, greedy, sample, token_weights

RULES = ("follow", "reject")
PLAIN_PHASE = 5
"""Target passes whose counts choose the next hot set where nothing is ever drafted: as many as the default tree has
levels. One pass of one sequence uses top-k experts; a set of more would be filled up with experts that nobody uses."""


@dataclass(frozen=True)
class Speculation:
    """How to speculate.

    shape  of the full tree
    mode   ``always``, ``auto`` or ``adaptive``, see ``scheduler``
    rule   when sampling: ``follow`` the target's draws, or draw the tree and ``reject``; greedy always follows
    """

    shape: TreeShape
    mode: str = "always"
    rule: str = "follow"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"rule must be one of {', '.join(RULES)}, not {self.rule!r}")


class SpeculativeDecoder:
    """Decodes batches with one drafting method.

    Parameters
    ----------
    runtime : of the target
    drafter : None decodes plainly, with the hot set as an expert cache
    speculation : tree, mode and rule
    hot_set : resident experts
    predictor : of time, for the modes that choose
    share : of HB, what the hot set's capacity was derived from

    Attributes
    ----------
    statistics, meter, scheduler : of the last ``decode``
    kv_bytes_per_sequence : mean in the last round
    reasons : (round, decision) at every change of depth, and between measuring and choosing
    """

    def __init__(
        self,
        runtime: Runtime,
        drafter: Drafter | None,
        speculation: Speculation,
        hot_set: HotSet,
        predictor: TimePredictor,
        share: HbShare,
    ) -> None:
        self.runtime, self.drafter, self.speculation, self.hot_set = runtime, drafter, speculation, hot_set
        self.shape = speculation.shape if drafter else TreeShape(0)
        self.meter = TrafficMeter(
            runtime.config, hot_set, drafter.reads if drafter else None, drafter.own_weights if drafter else 0, share
        )
        self.scheduler = DepthScheduler(speculation.mode, self.shape, predictor, self.meter)
        self.statistics = SpeculationStatistics(0, self.shape.depth)
        self.kv_bytes_per_sequence = 0.0
        self.reasons: list[tuple[int, Decision]] = []
        self._restricted = bool(drafter) and drafter.reads.resident_only
        self._counts = np.zeros(hot_set.resident.shape[:2], np.int64)
        self._counted_tokens = self._counted_passes = 0

    def decode(
        self, prompts: Collection[Collection[int]], tokens: int, sampling: SamplingConfig, seed: int
    ) -> Iterator[Emitted]:
        """Decode until every sequence has ``tokens`` new tokens or met an end token; see `decode_plain`."""
        check_request(prompts, tokens, self.runtime.config.max_positions)
        self.statistics = SpeculationStatistics(len(prompts), self.shape.depth)
        active = [Sequence(i, self.runtime.new_cache(), RandomStream(seed, i)) for i in range(len(prompts))]
        yield from self._prefill(active, prompts, tokens, sampling)
        active = [sequence for sequence in active if sequence.produced < tokens]
        while active:
            yield from self._round(active, tokens, sampling)
            active = [sequence for sequence in active if sequence.produced < tokens]

    def _prefill(
        self, active: list[Sequence], prompts: Collection[Collection[int]], tokens: int, sampling: SamplingConfig
    ) -> Iterator[Emitted]:
        segments = [Segment(s.cache, list(prompt)) for s, prompt in zip(active, prompts, strict=True)]
        result = self.runtime.forward(segments, logits="last")
        self.hot_set.fill(count_routing(result.routing, self.runtime.config.experts), len(result.hidden))
        for i, (sequence, segment) in enumerate(zip(active, segments, strict=True)):
            sequence.cache.commit()
            hidden = result.hidden[result.first[i] : result.first[i + 1]]
            token = sample(result.logits[i], sampling, sequence.stream, sequence.cache.length)
            yield self._emit(sequence, list(segment.tokens), hidden, [token], tokens)

    def _round(self, active: list[Sequence], tokens: int, sampling: SamplingConfig) -> Iterator[Emitted]:
        kv_bytes = sum(s.cache.length * s.cache.bytes_per_position for s in active)
        decision = self.scheduler.decide(len(active), kv_bytes, self.statistics)
        self.kv_bytes_per_sequence = kv_bytes / len(active)
        self._note(decision)
        trees = self._draft(active, decision.depth, tokens, sampling, kv_bytes)
        result = self.runtime.forward(
            [Segment(s.cache, tree.tokens, tree.parents) for s, tree in zip(active, trees, strict=True)]
        )
        self.meter.add_verify(result.routing, len(result.hidden), kv_bytes)
        if not self._counts_from_draft(decision.depth):
            self._count(result.routing, len(result.hidden))
            if self._counted_passes >= (self.shape.depth or PLAIN_PHASE):
                self._fix_next()
        for i, (sequence, tree) in enumerate(zip(active, trees, strict=True)):
            rows = slice(result.first[i], result.first[i + 1])
            accepted = self._accept(sequence, tree, result.logits[rows], sampling)
            self.statistics.add(sequence.number, tree, accepted)
            sequence.rounds += 1
            committed = [sequence.root, *(tree.tokens[node] for node in accepted.path)]
            sequence.cache.commit([0, *accepted.path])
            hidden = result.hidden[rows][[0, *accepted.path]]
            yield self._emit(sequence, committed, hidden, [*committed[1:], accepted.bonus], tokens)

    # --- drafting ------------------------------------------------------------------------------------------

    def _draft(
        self, active: list[Sequence], depth: int, tokens: int, sampling: SamplingConfig, kv_bytes: int
    ) -> list[TokenTree]:
        """Trees no deeper than what a sequence still needs; then the next hot set, from their counts."""
        shapes = [TreeShape(min(depth, tokens - s.produced - 1), self.shape.width) for s in active]
        if not any(shape.depth for shape in shapes):
            return [TokenTree([s.root]) for s in active]
        growths: list[Growth] = [self._growth(s, sampling) for s in active]
        trees = grow(self.drafter, active, [s.root for s in active], shapes, growths)
        self.drafter.end(active)
        mask = self.hot_set.mask()
        for one in self.drafter.passes:
            self.meter.add_draft(one, kv_bytes)
            if self._restricted:
                self.statistics.add_coverage(one.routing, mask)
            if one.routing:
                self._count(one.routing, one.tokens)
        self.drafter.passes.clear()
        if self._counts_from_draft(depth):
            self._fix_next()
        return trees

    def _growth(self, sequence: Sequence, sampling: SamplingConfig) -> Growth:
        if self._rejects(sampling):
            draws = StreamDraws(sequence.stream, sequence.rounds)
            return Drawn(draws, sequence.cache.length, lambda row: token_weights(row, sampling))
        return MostProbable()

    def _rejects(self, sampling: SamplingConfig) -> bool:
        return self.speculation.rule == "reject" and not sampling.greedy

    # --- hotness -------------------------------------------------------------------------------------------

    def _counts_from_draft(self, depth: int) -> bool:
        """Whether a round's counts come from its draft: not where nothing was drafted, or by a model without routing;
        then the counts of target passes, over as many as a draft has levels, choose the next set."""
        return depth > 0 and self.drafter.reads is not WeightReads.OWN

    def _count(self, routing: list[LayerRouting], tokens: int) -> None:
        self._counts += count_routing(routing, self.runtime.config.experts)
        self._counted_tokens += tokens
        self._counted_passes += 1

    def _fix_next(self) -> None:
        self.hot_set.fix_next(self._counts, self._counted_tokens)
        self._counts = np.zeros_like(self._counts)
        self._counted_tokens = self._counted_passes = 0

    # --- verification --------------------------------------------------------------------------------------

    def _accept(self, sequence: Sequence, tree: TokenTree, logits: np.ndarray, sampling: SamplingConfig) -> Accepted:
        position = sequence.cache.length
        if self._rejects(sampling):
            draws = StreamDraws(sequence.stream, sequence.rounds)
            return reject(tree, lambda node: token_weights(logits[node], sampling), draws, position)
        if sampling.greedy:
            choices = greedy(logits)
            return follow(tree, lambda node: int(choices[node]))
        return follow(
            tree, lambda node: sample(logits[node], sampling, sequence.stream, position + tree.depths[node] + 1)
        )

    def _emit(
        self, sequence: Sequence, committed: list[int], hidden: np.ndarray, new: list[int], tokens: int
    ) -> Emitted:
        """Count new tokens up to an end token, and hand over what was committed to the drafter."""
        ends = [i for i, token in enumerate(new) if token in self.runtime.config.end_tokens]
        kept = new[: ends[0]] if ends else new
        sequence.produced = tokens if ends else sequence.produced + len(new)
        sequence.root = new[-1]
        done = sequence.produced == tokens
        if self.drafter:
            if done:
                self.drafter.forget(sequence)
            else:
                self.drafter.observe(sequence, committed, hidden)
        return Emitted(sequence.number, kept, done)

    def _note(self, decision: Decision) -> None:
        self.statistics.depths[decision.depth] = self.statistics.depths.get(decision.depth, 0) + 1
        last = self.reasons[-1][1] if self.reasons else None
        if last is None or (last.depth, last.measuring) != (decision.depth, decision.measuring):
            self.reasons.append((sum(self.statistics.depths.values()), decision))
