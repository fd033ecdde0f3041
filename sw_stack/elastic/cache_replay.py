"""Hit rates and external bytes of the expert-cache policies on a routing trace.

Sequences run in ``batch`` slots; a slot takes the next sequence where one ends. A step is one token of every slot,
and reads each distinct expert of a layer once. The cache starts empty (``static`` full), so the first misses count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError
from sw_stack.elastic import cache_kernels as kernels
from sw_stack.elastic.expert_cache import DEMAND, check_policy, entry_bytes
from sw_stack.elastic.slices import ALLOCATIONS, SliceSizes, allocate
from sw_stack.workloads.trace import Trace


@dataclass(frozen=True)
class Replay:
    """What a policy did on a trace; per layer, summed by the properties.

    accesses        (step, expert) pairs [layers]
    hits            of them with the slice resident [layers, 2], MSB and LSB
    external_bytes  slices read from external memory for those accesses [layers]
    refill_bytes    slices loaded beside, because they became resident without having been read in that phase [layers]
    total_bytes     bytes of all accesses, wherever they came from
    """

    policy: str
    allocation: str
    batch: int
    accesses: np.ndarray
    hits: np.ndarray
    external_bytes: np.ndarray
    refill_bytes: np.ndarray
    total_bytes: int

    @property
    def msb_hit_rate(self) -> float:
        """Share of the accesses whose MSB slice was resident."""
        return float(self.hits[:, 0].sum() / self.accesses.sum())

    @property
    def byte_hit_rate(self) -> float:
        """Share of the bytes of all accesses that did not come from external memory (refills counted against it)."""
        moved = int(self.external_bytes.sum() + self.refill_bytes.sum())
        return 1 - moved / self.total_bytes


def replay(
    trace: Trace,
    policy: str,
    allocation: str,
    sizes: SliceSizes,
    capacity_bytes: int,
    *,
    batch: int = 1,
    phase_steps: int = 5,
    draft_weight: float = 0.0,
    static_counts: np.ndarray | None = None,
) -> Replay:
    """Run a policy over a trace.

    Parameters
    ----------
    capacity_bytes : per layer
    batch : sequences at a time
    phase_steps : steps of a draft phase (hotness only), the tokens of which the trace's stand for
    static_counts : uses [layers, num_experts] for ``static``; by default the trace's own, the best set in hindsight
    """
    check_policy(policy, allocation)
    if batch < 1 or phase_steps < 1 or capacity_bytes < 0:
        raise UserError(
            "batch and phase_steps must be at least 1 and capacity at least 0 bytes, not "
            f"{batch!r}, {phase_steps!r}, {capacity_bytes!r}"
        )
    rows = kernels.schedule(trace.offsets, batch)
    accesses = np.zeros(trace.layers, np.int64)
    hits = np.zeros((trace.layers, 2), np.int64)
    refill = np.zeros(trace.layers, np.int64)
    for layer in range(trace.layers):
        starts, ids, uses = kernels.reads(np.ascontiguousarray(trace.experts[:, layer]), rows, trace.num_experts)
        accesses[layer] = len(ids)
        if policy in DEMAND:
            entries = capacity_bytes // entry_bytes(allocation, sizes)
            future = kernels.next_uses(starts, ids, trace.num_experts)
            hits[layer, 0] = kernels.demand_hits(starts, ids, future, trace.num_experts, entries, DEMAND.index(policy))
            hits[layer, 1] = hits[layer, 0] if allocation == "whole" else 0
            continue
        resident = np.zeros((trace.num_experts, 2), bool)
        if policy == "static":
            own = np.bincount(ids, uses, trace.num_experts) if static_counts is None else static_counts[layer]
            resident = allocate(
                allocation,
                own,
                max(1, round(float(np.sum(own)) / trace.top_k)),
                sizes,
                capacity_bytes,
                batch_tokens=batch,
                draft_weight=draft_weight,
            )
        *hits[layer], refill[layer] = kernels.phased_hits(
            starts,
            ids,
            uses,
            resident,
            phase_steps if policy == "hotness" else 0,
            trace.top_k,
            sizes.msb_bytes,
            sizes.lsb_bytes,
            capacity_bytes,
            ALLOCATIONS.index(allocation),
            batch,
            float(draft_weight),
        )
    slice_bytes = np.array([sizes.msb_bytes, sizes.lsb_bytes])
    return Replay(
        policy=policy,
        allocation=allocation,
        batch=batch,
        accesses=accesses,
        hits=hits,
        external_bytes=((accesses[:, None] - hits) * slice_bytes).sum(1),
        refill_bytes=refill,
        total_bytes=int(accesses.sum()) * sizes.whole_bytes,
    )
