"""Serving rounds of a real model: its own routing and its own acceptance, as the same data that `serving` makes.

    runtime = RecordingRuntime(model)
    decoder = make_decoder(runtime, "elastic", ...)
    run = record(runtime, decoder, prompts, tokens, sampling, seed)

Text is decoded by the bit-exact runtime; every pass of the target and of a draft made of the target is noted. Passes of
a drafter with its own weights follow from the tree that was verified: one per level, over the nodes of the level above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sw_stack.elastic.drafters.protocol import WeightReads
from sw_stack.elastic.rounds import SpeculativeDecoder
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.models.batch import Segment, StepResult
from sw_stack.models.precision import FULL, Precision, WeightScheme
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig
from sw_stack.workloads.routing_source import expert_tokens


@dataclass(frozen=True)
class _Forward:
    """A forward pass as it was called; ``parents`` per segment, None for a chain."""

    precision: Precision
    logits: str
    tokens: np.ndarray
    kv_lengths: np.ndarray
    parents: list[Sequence[int] | None]
    experts: np.ndarray
    resident: np.ndarray | None


class RecordingRuntime(Runtime):
    """A runtime that notes every pass.

    Attributes
    ----------
    forwards : of the passes so far
    decoder : whose hot set is noted with each pass
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.forwards: list[_Forward] = []
        self.decoder: SpeculativeDecoder | None = None

    def forward(
        self,
        segments: Sequence[Segment],
        *,
        precision: Precision = FULL,
        resident: np.ndarray | None = None,
        logits: str = "all",
    ) -> StepResult:
        """As `Runtime.forward`, noted."""
        segments = list(segments)
        lengths = np.array([s.cache.length + s.cache.pending for s in segments])
        result = super().forward(segments, precision=precision, resident=resident, logits=logits)
        held = self.decoder.hot_set.resident.copy() if self.decoder else None
        chosen = np.stack([layer.chosen for layer in result.routing], axis=1)
        parents = [segment.parents for segment in segments]
        tokens = np.array([len(segment) for segment in segments])
        counts = expert_tokens(chosen, self.config.experts)
        self.forwards.append(_Forward(precision, logits, tokens, lengths, parents, counts, held))
        return result


@dataclass(frozen=True)
class LiveStep:
    """One pass; ``own_model`` where it is the drafter's, with its own weights."""

    one: Pass
    own_model: bool = False


@dataclass
class LiveRound:
    """One round: its passes in order, and the new tokens of each sequence that was still decoding."""

    steps: list[LiveStep]
    new_tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LiveRun:
    """A decoded batch: the prefill, the rounds, and the ids of every sequence."""

    prefill: Pass
    rounds: list[LiveRound]
    text: list[list[int]]


def record(
    runtime: RecordingRuntime,
    decoder: SpeculativeDecoder,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: SamplingConfig,
    seed: int,
) -> LiveRun:
    """Decode ``prompts`` with ``decoder``, which must have been made for ``runtime``, and give what it did."""
    runtime.decoder, runtime.forwards = decoder, []
    text: list[list[int]] = [[] for _ in prompts]
    given: list[tuple[int, int]] = []  # (forwards when it came, new tokens)
    for emitted in decoder.decode(prompts, tokens, sampling, seed):
        text[emitted.sequence].extend(emitted.tokens)
        given.append((len(runtime.forwards), len(emitted.tokens)))
    reads = decoder.drafter.reads if decoder.drafter else None
    prefill, *later = runtime.forwards
    sets = [*(f.resident for f in later[1:]), decoder.hot_set.resident]
    rounds: list[LiveRound] = []
    steps: list[LiveStep] = []
    for number, (forward, after) in enumerate(zip(later, sets, strict=True), 2):
        if forward.precision != FULL:
            steps.append(LiveStep(_pass(forward, PassKind.DRAFT)))
            continue
        if reads is WeightReads.OWN:
            steps += _own_drafts(forward)
        steps.append(LiveStep(_verification(forward, after, reads)))
        rounds.append(LiveRound(steps, [new for at, new in given if at == number]))
        steps = []
    return LiveRun(_pass(prefill, PassKind.PREFILL), rounds, text)


def _pass(forward: _Forward, kind: PassKind) -> Pass:
    uniform = forward.precision.attention is not WeightScheme.INT8
    return Pass(
        kind=kind,
        tokens=forward.tokens,
        kv_lengths=forward.kv_lengths,
        expert_tokens=forward.experts,
        resident=forward.resident,
        dense_full=kind is PassKind.DRAFT and not uniform,
    )


def _verification(forward: _Forward, after: np.ndarray, reads: WeightReads | None) -> Pass:
    one = _pass(forward, PassKind.DECODE if forward.tokens.max() == 1 else PassKind.VERIFY)
    if reads is WeightReads.COPY:  # what is resident are the copy's experts
        return replace(one, resident=np.zeros_like(one.resident))
    return one if np.array_equal(one.resident, after) else replace(one, next_resident=after)


def _own_drafts(forward: _Forward) -> list[LiveStep]:
    """Passes of a drafter with its own weights: per level of the trees, over the nodes of the level above."""
    depths = [_depths(int(n), p) for n, p in zip(forward.tokens, forward.parents, strict=True)]
    steps = []
    for level in range(max(int(d.max()) for d in depths)):
        active = np.array([d.max() > level for d in depths])
        tokens = np.array([int((d == level).sum()) for d in depths])[active]
        kv = (forward.kv_lengths + [int((d < level).sum()) for d in depths])[active]
        empty = np.zeros((0, 0), np.int64)
        one = Pass(
            kind=PassKind.DECODE,
            tokens=tokens,
            kv_lengths=kv,
            expert_tokens=empty,
            resident=np.zeros((0, 0, 2), np.bool_),
        )
        steps.append(LiveStep(one, own_model=True))
    return steps


def _depths(nodes: int, parents: Sequence[int] | None) -> np.ndarray:
    """Depth of every node below the root [nodes]."""
    depths = np.zeros(nodes, np.int64)
    for node in range(1, nodes):
        depths[node] = depths[node - 1 if parents is None else parents[node]] + 1
    return depths
