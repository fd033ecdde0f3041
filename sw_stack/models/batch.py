"""What goes into a forward pass and what comes out, by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cycle_model.functional import rotary
from hw.errors import UserError
from sw_stack.models.kv_cache import KvCache


@dataclass
class Segment:
    """New tokens of one sequence.

    cache    the sequence
    tokens   ids [n]
    parents  per token the index of a pending node of the cache (these tokens follow the ones pending already),
             -1 for the last committed position; None: a chain behind the last pending node
    inputs   float32 [n, hidden] instead of the tokens' embeddings
    """

    cache: KvCache
    tokens: Sequence[int]
    parents: Sequence[int] | None = None
    inputs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class LayerRouting:
    """Routing of one MoE layer; rows are the pass's tokens.

    scores   float32 [tokens, experts], the router's probabilities (sigmoid routers: scores)
    wanted   int32 [tokens, k], the unrestricted choice, ascending id
    chosen   int32 [tokens, k], the choice among residents, ascending id, -1 = empty slot
    weights  float32 [tokens, k], of ``chosen``
    """

    layer: int
    scores: np.ndarray
    wanted: np.ndarray
    chosen: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class StepResult:
    """What a forward pass gives; rows are tokens in the order of the segments.

    logits   float32 [tokens or segments, vocabulary], or [0, vocabulary]
    hidden   float32 [tokens, hidden], the last layer's output before the final norm
    routing  one entry per MoE layer
    first    int64 [segments + 1], where each segment's rows begin
    """

    logits: np.ndarray
    hidden: np.ndarray
    routing: list[LayerRouting]
    first: np.ndarray


@dataclass
class Batch:
    """Tokens of one pass, by row."""

    segments: list[Segment]
    first: np.ndarray
    nodes: list[int]  # per segment, index of its first new pending node
    positions: np.ndarray
    cosines: np.ndarray
    sines: np.ndarray
    paths: list[np.ndarray] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)


def begin_batch(segments: list[Segment], phases: np.ndarray, rope_factor: np.float32) -> Batch:
    """Add the segments' tokens to their caches as pending nodes; positions, rotations and paths of all rows.

    Raises
    ------
    UserError
        Parents that do not fit, or positions beyond the model's context; the caches are then as before.
    """
    first = np.cumsum([0, *(len(segment) for segment in segments)])
    nodes = [segment.cache.pending for segment in segments]
    positions = []
    try:
        for segment, node in zip(segments, nodes, strict=True):
            parents = segment.parents
            if parents is None:
                parents = range(node - 1, node - 1 + len(segment))
            if len(parents) != len(segment):
                raise UserError(f"parents must be given for {len(segment)} tokens, not {len(parents)}")
            positions.append(segment.cache.extend(list(parents)))
    except UserError:
        for segment, node in zip(segments, nodes, strict=True):
            segment.cache.truncate(node)
        raise
    joined = np.concatenate(positions)
    shape = (len(joined), len(phases))
    batch = Batch(segments, first, nodes, joined, np.empty(shape, np.float32), np.empty(shape, np.float32))
    rotary.rotation_table(phases, joined, rope_factor, batch.cosines, batch.sines)
    for segment, node in zip(segments, nodes, strict=True):
        cache = segment.cache
        if cache.is_chain:  # then every slot is the position itself
            batch.paths.append(np.zeros((len(segment), 0), np.int64))
            batch.committed.append(cache.length + cache.pending)
        else:
            batch.paths.append(cache.paths(node))
            batch.committed.append(cache.length)
    return batch
