"""Hit rates and external bytes of the expert-cache policies on a routing trace.

Sequences run in ``batch`` slots; a slot takes the next sequence where one ends. A step is one token of every slot,
and reads each distinct expert of a layer once. The cache starts empty (``static`` full), so the first misses count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from hw.errors import UserError
from sw_stack.elastic.expert_cache import DEMAND, check_policy, demand_step, entry_bytes
from sw_stack.elastic.slices import ALLOCATIONS, SliceSizes, allocate, keep_slices
from sw_stack.workloads.trace import Trace

NEVER = 1 << 40
"""Step of a next use that does not come."""


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


@njit(cache=True)
def _schedule(offsets: np.ndarray, batch: int) -> np.ndarray:
    """Token numbers [steps, batch], -1 where a slot is empty."""
    tokens = offsets[-1]
    rows = np.full((tokens, batch), -1, np.int64)
    at = np.zeros(batch, np.int64)
    end = np.zeros(batch, np.int64)
    upcoming, steps = 0, 0
    for step in range(tokens):
        busy = False
        for slot in range(batch):
            if at[slot] == end[slot] and upcoming < len(offsets) - 1:
                at[slot], end[slot] = offsets[upcoming], offsets[upcoming + 1]
                upcoming += 1
            if at[slot] < end[slot]:
                rows[step, slot] = at[slot]
                at[slot] += 1
                busy = True
        if not busy:
            break
        steps += 1
    return rows[:steps]


@njit(cache=True)
def _reads(experts: np.ndarray, rows: np.ndarray, num_experts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct experts of every step of one layer: starts [steps + 1], ids and number of tokens [reads], ids rising."""
    steps, batch = rows.shape
    starts = np.zeros(steps + 1, np.int64)
    ids = np.empty(steps * min(batch * experts.shape[1], num_experts), np.int64)
    uses = np.empty(len(ids), np.int64)
    count = np.zeros(num_experts, np.int64)
    total = 0
    for step in range(steps):
        count[:] = 0
        for token in rows[step]:
            if token >= 0:
                for e in experts[token]:
                    count[e] += 1
        for e in range(num_experts):
            if count[e]:
                ids[total], uses[total] = e, count[e]
                total += 1
        starts[step + 1] = total
    return starts, ids[:total], uses[:total]


@njit(cache=True)
def _next_use(starts: np.ndarray, ids: np.ndarray, num_experts: int) -> np.ndarray:
    following = np.full(num_experts, NEVER, np.int64)
    result = np.empty(len(ids), np.int64)
    for step in range(len(starts) - 2, -1, -1):
        for i in range(starts[step], starts[step + 1]):
            result[i] = following[ids[i]]
        for i in range(starts[step], starts[step + 1]):
            following[ids[i]] = step
    return result


@njit(cache=True)
def _demand(starts: np.ndarray, ids: np.ndarray, next_use: np.ndarray, n: int, entries: int, policy: int) -> int:
    resident = np.zeros(n, np.bool_)
    priority = np.zeros(n, np.int64)
    hits = 0
    for step in range(len(starts) - 1):
        read = slice(starts[step], starts[step + 1])
        hits += demand_step(resident, priority, ids[read], entries, policy, step + 1, next_use[read])
    return hits


@njit(cache=True)
def _phased(
    starts: np.ndarray,
    ids: np.ndarray,
    uses: np.ndarray,
    resident: np.ndarray,
    phase_steps: int,
    top_k: int,
    msb_bytes: int,
    lsb_bytes: int,
    capacity_bytes: int,
    allocation: int,
    batch_tokens: int,
    draft_weight: float,
) -> tuple[int, int, int]:
    """MSB hits, LSB hits and refill bytes; ``phase_steps`` 0 never replaces the set."""
    n = len(resident)
    counts = np.zeros(n)
    msb_hits, lsb_hits, refill, in_phase = 0, 0, 0, 0
    for step in range(len(starts) - 1):
        for i in range(starts[step], starts[step + 1]):
            msb_hits += resident[ids[i], 0]
            lsb_hits += resident[ids[i], 1]
            counts[ids[i]] += uses[i]
        in_phase += 1
        if in_phase != phase_steps:
            continue
        keep = keep_slices(
            counts,
            max(counts.sum() / top_k, 1.0),
            msb_bytes,
            lsb_bytes,
            capacity_bytes,
            allocation,
            batch_tokens,
            draft_weight,
        )
        for e in range(n):
            if counts[e] == 0:  # what was read in the phase passed by anyway
                refill += (keep[e, 0] and not resident[e, 0]) * msb_bytes
                refill += (keep[e, 1] and not resident[e, 1]) * lsb_bytes
        resident[:] = keep
        counts[:] = 0
        in_phase = 0
    return msb_hits, lsb_hits, refill


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
    rows = _schedule(trace.offsets, batch)
    accesses = np.zeros(trace.layers, np.int64)
    hits = np.zeros((trace.layers, 2), np.int64)
    refill = np.zeros(trace.layers, np.int64)
    for layer in range(trace.layers):
        starts, ids, uses = _reads(np.ascontiguousarray(trace.experts[:, layer]), rows, trace.num_experts)
        accesses[layer] = len(ids)
        if policy in DEMAND:
            entries = capacity_bytes // entry_bytes(allocation, sizes)
            future = _next_use(starts, ids, trace.num_experts)
            hits[layer, 0] = _demand(starts, ids, future, trace.num_experts, entries, DEMAND.index(policy))
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
        *hits[layer], refill[layer] = _phased(
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
