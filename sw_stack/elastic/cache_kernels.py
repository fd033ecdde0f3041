"""Compiled loops of the expert cache and its replays."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit

LFU_SHIFT = 32
"""An LFU priority is (uses << 32) + time of last use."""
NEVER = 1 << 40
"""Step of a next use that does not come."""


@njit(cache=True)
def demand_step(
    resident: np.ndarray,
    priority: np.ndarray,
    experts: np.ndarray,
    entries: int,
    policy: int,
    clock: int,
    next_use: np.ndarray,
) -> int:
    """One step of a demand policy on one layer: number of hits; updates ``resident`` and ``priority`` [experts].

    experts   distinct ids read in this step
    policy    index in ``DEMAND``
    next_use  step in which each of ``experts`` is used again (belady only)
    """
    hits = 0
    occupied = 0
    for e in range(len(resident)):
        occupied += resident[e]
    for i in range(len(experts)):
        e = experts[i]
        hits += resident[e]
        if policy == 0:
            priority[e] = clock
        elif policy == 1:
            priority[e] = ((priority[e] >> LFU_SHIFT) + 1 << LFU_SHIFT) + clock
        else:
            priority[e] = -next_use[i]
    for i in range(len(experts)):
        e = experts[i]
        if resident[e]:
            continue
        if occupied < entries:
            resident[e] = True
            occupied += 1
            continue
        victim = -1
        for other in range(len(resident)):
            if resident[other] and (victim < 0 or priority[other] < priority[victim]):
                victim = other
        if victim >= 0 and priority[victim] < priority[e]:
            resident[victim] = False
            resident[e] = True
    return hits


@njit(cache=True)
def descending_order(values: np.ndarray) -> np.ndarray:
    """Indices by falling value, lower first among equals; insertion, since rows are short and it compiles at once."""
    order = np.arange(len(values))
    for i in range(1, len(values)):
        item = order[i]
        j = i
        while j > 0 and values[order[j - 1]] < values[item]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = item
    return order


@njit(cache=True)
def keep_slices(
    counts: np.ndarray,
    tokens: float,
    msb_bytes: int,
    lsb_bytes: int,
    capacity_bytes: int,
    allocation: int,
    batch_tokens: int,
    draft_weight: float,
) -> np.ndarray:
    """The compiled core of `allocate`; ``allocation`` is the index in ``ALLOCATIONS``."""
    n = len(counts)
    keep = np.zeros((n, 2), np.bool_)
    order = descending_order(counts)
    if allocation < 2:
        size = msb_bytes if allocation == 0 else msb_bytes + lsb_bytes
        for i in range(min(n, capacity_bytes // size)):
            keep[order[i], 0] = True
            keep[order[i], 1] = allocation == 1
        return keep
    value = np.empty(2 * n)  # hotter experts first, an expert's MSB slice before its LSB slice
    for i in range(n):
        used = min(counts[order[i]] / tokens, 1.0)
        reached = 1 - (1 - used) ** batch_tokens
        value[2 * i] = reached + draft_weight * used
        value[2 * i + 1] = reached
    left = capacity_bytes
    for j in descending_order(value):
        expert, which = order[j // 2], j % 2
        size = lsb_bytes if which else msb_bytes
        if size <= left and (which == 0 or keep[expert, 0]):
            keep[expert, which] = True
            left -= size
    return keep


@njit(cache=True)
def schedule(offsets: np.ndarray, batch: int) -> np.ndarray:
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
def reads(experts: np.ndarray, rows: np.ndarray, num_experts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
def next_uses(starts: np.ndarray, ids: np.ndarray, num_experts: int) -> np.ndarray:
    following = np.full(num_experts, NEVER, np.int64)
    result = np.empty(len(ids), np.int64)
    for step in range(len(starts) - 2, -1, -1):
        for i in range(starts[step], starts[step + 1]):
            result[i] = following[ids[i]]
        for i in range(starts[step], starts[step + 1]):
            following[ids[i]] = step
    return result


@njit(cache=True)
def demand_hits(starts: np.ndarray, ids: np.ndarray, next_use: np.ndarray, n: int, entries: int, policy: int) -> int:
    resident = np.zeros(n, np.bool_)
    priority = np.zeros(n, np.int64)
    hits = 0
    for step in range(len(starts) - 1):
        read = slice(starts[step], starts[step + 1])
        hits += demand_step(resident, priority, ids[read], entries, policy, step + 1, next_use[read])
    return hits


@njit(cache=True)
def phased_hits(
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
        tokens = 0.0
        for e in range(n):
            tokens += counts[e] / top_k
        keep = keep_slices(
            counts,
            max(tokens, 1.0),
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
            resident[e, 0], resident[e, 1] = keep[e, 0], keep[e, 1]
            counts[e] = 0
        in_phase = 0
    return msb_hits, lsb_hits, refill
