"""The recurrence of the whole-model engine: start = max(what it needs, resource), end = start + duration.

Records are taken in dispatch order. A product is a kernel on the PEs that have units of it. It begins when its
activations can be sent and the kernels before it have ended on those PEs, since the shipped kernels begin with a
barrier; no weights are fetched before that. Then run beside each other: activations over the aggregation link, LPDDR
stream and stream link, loads from HB, arrays and vector units (`tile_stream`); behind them the exchange of row maxima
and results over the aggregation link. On machines that can, the product is computed in the memory instead.
"""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from sw_stack.compiler.dispatch import BARRIER, BEGIN, Kernel
from sw_stack.machines.engine.kernel_times import (
    ARRAY,
    BLOCKS,
    DONE_LAST,
    FREE,
    FREE_LAST,
    PASSES,
    SLICES,
    TILE,
    TILES,
    UNIT,
    VECTOR,
    WIDE,
)
from sw_stack.machines.engine.resources import CAUSE, NOTHING, RESOURCES, START_NS, Resource, note
from sw_stack.machines.engine.streams import lpddr_stream, results, spread_over_banks
from sw_stack.machines.engine.tile_stream import (
    ARRAY_END,
    BY_ARRAY,
    BY_HB,
    BY_VECTOR,
    EVENT_FIELDS,
    EVENTS,
    FROM_FAR,
    LOAD_END,
    RESULT_FIELDS,
    TIME,
    on_banks,
)

_LPDDR, _STREAM, _HB, _ARRAY, _VECTOR, _AGGREGATION, _HOST, _NEAR, _GATHER = (int(r) for r in Resource)
_HOST_KERNEL, _ATTENTION_KERNEL, _REFILL_KERNEL = int(Kernel.HOST), int(Kernel.ATTENTION), int(Kernel.REFILL)
_BARRIER, _BEGIN = BARRIER, BEGIN


@njit(cache=True)
def run(records, work, rates, clocks, shape, banks, scale, start_ns, acts, busy, near_chosen):
    """Time all records; returns the end in ns.

    Parameters
    ----------
    records : RECORD [n]
    work : Work, as a tuple
    shape : of a bank
    banks : int64 [pes, BANK_FIELDS], carried from pass to pass
    scale : float64 [RESOURCES]
    acts : float64 [n, RESOURCES, FIELDS], filled
    busy : float64 [RESOURCES], ns of use are added; HB and array: mean over PEs
    near_chosen : bool [n], filled
    """
    (units, first_pe, far_passes, hb_bytes, lpddr_bytes, extents, kinds, kind, exchange, started, in_bytes, out_bytes,
     near_ns, _near_bytes, near_bus, host_ns) = work  # fmt: skip
    n, pes = len(records), rates.pes
    acts[:, :, START_NS:CAUSE] = -1.0
    acts[:, :, CAUSE] = NOTHING
    finish = np.zeros(n)
    finish_act = np.full(n, NOTHING, np.int64)
    free = np.full(RESOURCES, start_ns)  # LPDDR, links, vector unit, host, near memory
    free_act = np.full(RESOURCES, NOTHING, np.int64)
    idle = np.full(pes, start_ns)  # of each PE, when its last kernel ended
    idle_act = np.full(pes, NOTHING, np.int64)
    events, result = np.empty((EVENTS, EVENT_FIELDS)), np.empty(RESULT_FIELDS)
    slowest = np.empty(RESULT_FIELDS)
    factors = (scale[_HB], scale[_ARRAY], scale[_VECTOR])
    cycle = rates.cycle_ns
    gap = np.full(2, start_ns)  # idle time of the aggregation link before results that are booked already
    gap_act = np.full(1, NOTHING, np.int64)
    latest, latest_act = start_ns, NOTHING
    end_of_all = start_ns
    for i in range(n):
        q = records[i]
        base = i * RESOURCES
        ready, cause = start_ns, NOTHING
        if q.after == _BARRIER:
            ready, cause = latest, latest_act
        elif q.after >= 0:
            ready, cause = finish[q.after], finish_act[q.after]
        # A kernel begins on all PEs that have units of it, behind the kernels before it there.
        whole = units[i] // pes
        rest = units[i] - whole * pes
        taking = min(units[i], pes)
        for k in range(taking):
            p = (first_pe[i] + k) % pes
            if idle[p] > ready:
                ready, cause = idle[p], idle_act[p]

        # The combined rows of a layer, and activations of a product, over the aggregation link; a kernel can begin
        # with those of its first K block where AL does not hold them all.
        opened = ready
        if in_bytes[i] > 0:
            duration = (in_bytes[i] * rates.aggregation_ns_per_byte + rates.hop_ns) * scale[_AGGREGATION]
            begin, why = ready, cause
            if gap[0] > begin:
                begin, why = gap[0], gap_act[0]
            if begin + duration <= gap[1]:
                gap[0], gap_act[0] = begin + duration, base + _GATHER
            else:
                begin, why = ready, cause
                if free[_AGGREGATION] > begin:
                    begin, why = free[_AGGREGATION], free_act[_AGGREGATION]
                free[_AGGREGATION], free_act[_AGGREGATION] = begin + duration, base + _GATHER
            note(acts, i, _GATHER, begin, begin, begin + duration, why)
            busy[_AGGREGATION] += duration
            ready, cause = begin + duration, base + _GATHER
            opened = ready
            if units[i] > 0 and kinds[kind[i], WIDE] > 0:
                hop = rates.hop_ns * scale[_AGGREGATION]
                opened = begin + hop + (duration - hop) / kinds[kind[i], BLOCKS]

        if q.kernel == _HOST_KERNEL:
            begin, why = ready, cause
            if free[_HOST] > begin:
                begin, why = free[_HOST], free_act[_HOST]
            end = begin + host_ns[i] * scale[_HOST]
            busy[_HOST] += host_ns[i] * scale[_HOST]
            note(acts, i, _HOST, begin, begin, end, why)
            free[_HOST], free_act[_HOST] = end, base + _HOST
            finish[i], finish_act[i] = end, base + _HOST
            if end > latest:
                latest, latest_act = end, base + _HOST
            end_of_all = max(end_of_all, end)
            continue

        is_core, is_refill = q.kernel == _ATTENTION_KERNEL, q.kernel == _REFILL_KERNEL
        fetch = ready
        if units[i] > 0:
            overhead = started[i] * cycle * scale[_ARRAY]
            fetch = opened + overhead
            row = kinds[kind[i]]
            waves = whole + (rest > 0)

        # In the memory or here: whichever is predicted to end first.
        if near_ns[i] >= 0:
            here = max(free[_LPDDR], fetch) + lpddr_bytes[i] * rates.lpddr_ns_per_byte
            here = max(here, fetch + waves * row[ARRAY] * cycle)
            begin, why = ready, cause
            if free[_NEAR] > begin:
                begin, why = free[_NEAR], free_act[_NEAR]
            if rates.near_blocks and free[_LPDDR] > begin:
                begin, why = free[_LPDDR], free_act[_LPDDR]
            bus = near_bus[i] * rates.lpddr_ns_per_byte + 2 * rates.lpddr_first_ns
            there = begin + near_ns[i] * scale[_NEAR] + bus * scale[_LPDDR]
            if there < here:
                near_chosen[i] = True
                vector = (waves * row[VECTOR] + exchange[i]) * cycle * scale[_VECTOR]
                note(acts, i, _NEAR, begin, begin, there, why)
                busy[_NEAR] += there - begin
                free[_NEAR], free_act[_NEAR] = there, base + _NEAR
                if rates.near_blocks:
                    busy[_LPDDR] += there - begin
                    free[_LPDDR], free_act[_LPDDR] = there, base + _NEAR
                else:
                    free[_LPDDR] += bus * scale[_LPDDR]
                note(acts, i, _VECTOR, there, there, there + vector, base + _NEAR)
                busy[_VECTOR] += vector
                end, act = there + vector, base + _VECTOR
                for k in range(taking):
                    p = (first_pe[i] + k) % pes
                    idle[p], idle_act[p] = end, act
                end, act = results(
                    acts, i, out_bytes[i], rates, scale, free, free_act, gap, gap_act, busy, end, end, 1, act
                )
                finish[i], finish_act[i] = end, act
                if end > latest:
                    latest, latest_act = end, act
                end_of_all = max(end_of_all, end)
                continue

        far_start, far_end, far_act, last_end = lpddr_stream(
            acts, i, q, lpddr_bytes[i], extents[i], fetch, cause, rates, scale, free, free_act, busy
        )
        end_of_all = max(end_of_all, last_end)
        near_end = 0.0
        if units[i] == 0 and (hb_bytes[i] > 0 or q.hb_written > 0):
            near_end, last_end = spread_over_banks(
                acts, i, q, hb_bytes[i], is_refill, ready, cause, clocks, shape, banks, rates, scale, free_act, busy
            )
            end_of_all = max(end_of_all, last_end)
        if is_refill:
            end_of_all = max(end_of_all, max(near_end, far_end))
            finish[i], finish_act[i] = ready, cause
            continue
        if is_core:
            begin, why = ready, cause
            if free[_HOST] > begin:
                begin, why = free[_HOST], free_act[_HOST]
            start = begin
            end = begin + host_ns[i] * scale[_HOST]
            busy[_HOST] += host_ns[i] * scale[_HOST]
            if near_end > end:
                begin, end, why = near_end, near_end, base + _HB
            if far_end > end:
                begin, end, why = far_end, far_end, far_act
            note(acts, i, _HOST, start, begin, end, why)
            free[_HOST], free_act[_HOST] = end, base + _HOST
            finish[i], finish_act[i] = end, base + _HOST
            if end > latest:
                latest, latest_act = end, base + _HOST
            end_of_all = max(end_of_all, end)
            continue

        drain = (row[DONE_LAST] - row[FREE_LAST]) * cycle * scale[_ARRAY]
        if hb_bytes[i] > 0:
            on_banks(
                clocks, shape, banks, row, fetch / cycle, overhead / cycle, first_pe[i], whole, rest,
                far_start / cycle, far_end / cycle, factors, events, result, slowest, busy, cycle,
            )  # fmt: skip
            end = slowest[TIME] * cycle
            array_end = slowest[ARRAY_END] * cycle
            vector_from = end - slowest[BY_VECTOR] * cycle
            array_from = vector_from - slowest[BY_ARRAY] * cycle
            hb_from = array_from - slowest[BY_HB] * cycle
            why = far_act if slowest[FROM_FAR] > 0 else cause
            if far_end + drain > end:  # slices that all PEs share out by tokens come last
                array_from = far_end
                vector_from = array_end = end = far_end + drain
                why = far_act
            else:
                note(acts, i, _HB, opened, hb_from, slowest[LOAD_END] * cycle, why)
                free_act[_HB] = base + _HB
                if slowest[BY_HB] > 0:
                    why = base + _HB
        else:
            # Everything from LPDDR: the array begins with the first K block and ends no earlier than the last.
            block = max(1.0, row[SLICES]) * cycle * scale[_ARRAY]
            first = far_start + (far_end - far_start) / (waves * far_passes[i] * row[TILES] * row[BLOCKS])
            behind = (waves if row[WIDE] > 0 else 1) * row[TILES] * row[TILE] + row[UNIT]
            behind = drain + min(behind, waves * row[VECTOR]) * cycle * scale[_VECTOR]
            array_from, why = opened, cause
            if first > fetch:
                array_from, why = first, far_act
            array_end = max(first, fetch) + waves * row[ARRAY] * cycle * scale[_ARRAY]
            array_end += (row[PASSES] - 1) * (overhead + behind)
            tail = block * (row[FREE_LAST] + 1)
            if far_end + tail > array_end:
                array_from, array_end, why = far_end, far_end + tail, far_act
            vector_from, end = array_end, array_end + behind
            work = max(first, fetch) + waves * row[VECTOR] * cycle * scale[_VECTOR]
            if work > end:
                vector_from, end = max(first, fetch), work
            ahead = array_end - 2 * block * (row[FREE] + 1)
            if far_act != NOTHING and ahead > free[_LPDDR]:
                free[_LPDDR], free_act[_LPDDR] = ahead, base + _ARRAY
        note(acts, i, _ARRAY, opened, array_from, array_end, why)
        busy[_ARRAY] += units[i] * row[ARRAY] * cycle * scale[_ARRAY] / pes
        exchanged = exchange[i] * cycle * scale[_VECTOR]
        busy[_VECTOR] += units[i] * row[VECTOR] * cycle * scale[_VECTOR] / pes + exchanged * taking / pes
        end += exchanged
        note(acts, i, _VECTOR, min(vector_from, array_end), vector_from, end, base + _ARRAY)
        # A projection stores its results tile by tile; an exchange has none before it ends.
        parts = 1 if q.activated else waves * row[PASSES]
        early = end - (end - opened) * (1 - 1 / parts)
        end, act = results(
            acts, i, out_bytes[i], rates, scale, free, free_act, gap, gap_act, busy, early, end, parts, base + _VECTOR
        )
        for k in range(taking):
            p = (first_pe[i] + k) % pes
            idle[p], idle_act[p] = end, act
        finish[i], finish_act[i] = end, act
        if end > latest:
            latest, latest_act = end, act
        end_of_all = max(end_of_all, end)
    return end_of_all
