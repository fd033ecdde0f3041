"""The recurrence of the whole-model engine: start = max(what it needs, resource), end = start + duration.

Records are taken in dispatch order. A product has up to seven activities: LPDDR stream, stream link, HB stream of every
PE, activations over the aggregation link, array and vector unit of every PE, results over the aggregation link; or, on
machines that can, the product in the memory. Weights are fetched ahead of the activations, as far as the weight
buffers hold; the array starts with the first tile and cannot end before the last tile has come.

Every activity notes from when on nothing but itself decided its end (`BEGIN_NS`) and which activity decided that
(`CAUSE`), so that time can be attributed along the critical path (`critical_path`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from cycle_model.hb.transfer import IDLE, BankShape, transfer
from sw_stack.compiler.dispatch import BARRIER, BEGIN, Kernel


class Resource(IntEnum):
    """What an activity runs on; also its place among the activities of a record."""

    LPDDR = 0
    STREAM_LINK = 1
    HB = 2
    ARRAY = 3
    VECTOR = 4
    AGGREGATION_LINK = 5
    HOST = 6
    NEAR_MEMORY = 7
    GATHER_IN = 8


RESOURCES = len(Resource)
NAMES = {
    Resource.LPDDR: "LPDDR",
    Resource.STREAM_LINK: "stream link",
    Resource.HB: "HB",
    Resource.ARRAY: "array",
    Resource.VECTOR: "vector unit",
    Resource.AGGREGATION_LINK: "aggregation link",
    Resource.HOST: "host",
    Resource.NEAR_MEMORY: "near memory",
    Resource.GATHER_IN: "aggregation link",
}
"""In reports; activations in and results out share the aggregation link."""

START_NS, BEGIN_NS, END_NS, CAUSE, FIELDS = range(5)
NOTHING = -1

_LPDDR, _STREAM, _HB, _ARRAY, _VECTOR, _AGGREGATION, _HOST, _NEAR, _GATHER = (int(r) for r in Resource)
_HOST_KERNEL, _ATTENTION_KERNEL, _REFILL_KERNEL = int(Kernel.HOST), int(Kernel.ATTENTION), int(Kernel.REFILL)
_BARRIER, _BEGIN = BARRIER, BEGIN


class Rates(NamedTuple):
    """Numbers of the machine; ``scale`` multiplies the durations on each resource (1 but in slack tests).

    lpddr_turn_ns  from reads to writes and back
    near_blocks  products in the memory keep LPDDR from serving reads
    buffer_bytes  weights that a PE holds ahead of its array
    """

    pes: int
    lpddr_ns_per_byte: float
    lpddr_switch_ns: float
    lpddr_first_ns: float
    lpddr_turn_ns: float
    stream_ns_per_byte: float
    aggregation_ns_per_byte: float
    hop_ns: float
    column_bytes: int
    cycle_ns: float
    buffer_bytes: float
    near_blocks: bool


@njit(cache=True)
def run(records, work, rates, clocks, shape, load_shape, banks, scale, start_ns, acts, busy, near_chosen):
    """Time all records; returns the end in ns.

    Parameters
    ----------
    records : RECORD [n]
    work : Work, as a tuple
    shape, load_shape : of a bank for KV and refill, and for weights, whose loads are shorter than a row: each opens its
        row anew
    banks : int64 [pes, BANK_FIELDS], carried from pass to pass
    scale : float64 [RESOURCES]
    acts : float64 [n, RESOURCES, FIELDS], filled
    busy : float64 [RESOURCES], ns of use are added; HB and array: mean over PEs
    near_chosen : bool [n], filled
    """
    (units, first_pe, passes, far_passes, hb_bytes, lpddr_bytes, extents, array_ns, vector_ns, in_bytes, out_bytes,
     near_ns, _near_bytes, near_bus, host_ns) = work  # fmt: skip
    n, pes = len(records), rates.pes
    acts[:, :, START_NS:CAUSE] = -1.0
    acts[:, :, CAUSE] = NOTHING
    finish = np.zeros(n)
    finish_act = np.full(n, NOTHING, np.int64)
    free = np.full(RESOURCES, start_ns)  # LPDDR, links, vector unit, host, near memory
    free_act = np.full(RESOURCES, NOTHING, np.int64)
    array_free = np.full(pes, start_ns)
    array_act = np.full(pes, NOTHING, np.int64)
    gate = np.full(pes, start_ns)  # loads of a PE may not start earlier: its buffer is full
    hb_end = np.zeros(pes)
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
        known, known_cause = start_ns, NOTHING
        if q.weights_known == _BARRIER:
            known, known_cause = latest, latest_act
        elif q.weights_known >= 0:
            known, known_cause = finish[q.weights_known], finish_act[q.weights_known]

        # The combined rows of a layer, and activations of a product, over the aggregation link.
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
            _note(acts, i, _GATHER, begin, begin, begin + duration, why)
            busy[_AGGREGATION] += duration
            ready, cause = begin + duration, base + _GATHER

        if q.kernel == _HOST_KERNEL:
            begin, why = ready, cause
            if free[_HOST] > begin:
                begin, why = free[_HOST], free_act[_HOST]
            end = begin + host_ns[i] * scale[_HOST]
            busy[_HOST] += host_ns[i] * scale[_HOST]
            _note(acts, i, _HOST, begin, begin, end, why)
            free[_HOST], free_act[_HOST] = end, base + _HOST
            finish[i], finish_act[i] = end, base + _HOST
            if end > latest:
                latest, latest_act = end, base + _HOST
            end_of_all = max(end_of_all, end)
            continue

        is_core, is_refill = q.kernel == _ATTENTION_KERNEL, q.kernel == _REFILL_KERNEL
        fetch, fetch_cause = known, known_cause
        if is_core:
            fetch, fetch_cause = ready, cause

        # In the memory or here: whichever is predicted to end first.
        if near_ns[i] >= 0:
            here = max(free[_LPDDR], fetch) + lpddr_bytes[i] * rates.lpddr_ns_per_byte
            share = (units[i] + pes - 1) // pes
            here = max(here, max(ready, array_free.max()) + share * array_ns[i])
            begin, why = ready, cause
            if free[_NEAR] > begin:
                begin, why = free[_NEAR], free_act[_NEAR]
            if rates.near_blocks and free[_LPDDR] > begin:
                begin, why = free[_LPDDR], free_act[_LPDDR]
            bus = near_bus[i] * rates.lpddr_ns_per_byte + 2 * rates.lpddr_first_ns
            there = begin + near_ns[i] * scale[_NEAR] + bus * scale[_LPDDR]
            if there < here:
                near_chosen[i] = True
                vector = ((units[i] + pes - 1) // pes) * vector_ns[i] * scale[_VECTOR]
                _note(acts, i, _NEAR, begin, begin, there, why)
                busy[_NEAR] += there - begin
                free[_NEAR], free_act[_NEAR] = there, base + _NEAR
                if rates.near_blocks:
                    busy[_LPDDR] += there - begin
                    free[_LPDDR], free_act[_LPDDR] = there, base + _NEAR
                else:
                    free[_LPDDR] += bus * scale[_LPDDR]
                _note(acts, i, _VECTOR, there, there, there + vector, base + _NEAR)
                busy[_VECTOR] += vector
                end, act = there + vector, base + _VECTOR
                end, act = _results(acts, i, out_bytes[i], rates, scale, free, free_act, gap, gap_act, busy, end, act)
                finish[i], finish_act[i] = end, act
                if end > latest:
                    latest, latest_act = end, act
                end_of_all = max(end_of_all, end)
                continue

        # LPDDR and the stream link behind it, cut through. New keys and values are written before others are read.
        far_start, far_end, far_act = 0.0, 0.0, NOTHING
        if lpddr_bytes[i] > 0 or q.lpddr_written > 0:
            begin, why = fetch, fetch_cause
            if free[_LPDDR] >= begin:
                begin, why = free[_LPDDR], free_act[_LPDDR]
                first = 0.0
            else:
                first = rates.lpddr_first_ns
            duration = lpddr_bytes[i] * rates.lpddr_ns_per_byte + extents[i] * rates.lpddr_switch_ns + first
            if q.lpddr_written > 0:
                duration += q.lpddr_written * rates.lpddr_ns_per_byte + q.pieces * rates.lpddr_switch_ns
                duration += rates.lpddr_turn_ns
            duration *= scale[_LPDDR]
            end_of_all = max(end_of_all, begin + duration)
            _note(acts, i, _LPDDR, begin, begin, begin + duration, why)
            busy[_LPDDR] += duration
            free[_LPDDR], free_act[_LPDDR] = begin + duration, base + _LPDDR
        if lpddr_bytes[i] > 0:
            moved = lpddr_bytes[i] * rates.stream_ns_per_byte * scale[_STREAM]
            busy[_STREAM] += moved
            link_start, link_why = begin, base + _LPDDR
            if free[_STREAM] > link_start:
                link_start, link_why = free[_STREAM], free_act[_STREAM]
            link_end = link_start + moved
            link_begin = link_start
            if begin + duration + rates.hop_ns * scale[_STREAM] > link_end:
                link_end = begin + duration + rates.hop_ns * scale[_STREAM]
                link_begin, link_why = begin + duration, base + _LPDDR
            _note(acts, i, _STREAM, link_start, link_begin, link_end, link_why)
            free[_STREAM], free_act[_STREAM] = link_end, base + _STREAM
            far_start, far_end, far_act = begin, link_end, base + _STREAM

        whole = units[i] // pes
        rest = units[i] - whole * pes

        # HB: every PE reads its units; KV and refill are spread over all, new positions go round the banks.
        near_end, near_start, near_cause = 0.0, 0.0, NOTHING
        if hb_bytes[i] > 0 or q.hb_written > 0:
            # What decided the start of the slowest PE's stream.
            near_begin, last_end = 0.0, 0.0
            for p in range(pes):
                share = 1.0 / pes
                if units[i] > 0:
                    share = _units_of(p, whole, rest, first_pe[i], pes) / units[i]
                hb_end[p] = 0.0
                positions = _units_of(p, q.tokens // pes, q.tokens % pes, 0, pes) if q.hb_written > 0 else 0
                if share * hb_bytes[i] == 0.0 and positions == 0:
                    continue
                begin, why = fetch, fetch_cause
                if not is_core and not is_refill and gate[p] > begin:
                    begin, why = gate[p], array_act[p]
                idle_ns = banks[p, IDLE] * rates.cycle_ns
                if idle_ns > begin:
                    begin, why = idle_ns, free_act[_HB]
                at = int(np.ceil(begin / rates.cycle_ns))
                done = at
                if positions > 0:
                    columns = int(np.ceil(positions * (q.hb_written / q.tokens) / rates.column_bytes))
                    rows = min(positions, q.pieces)  # a bank's positions of one sequence follow each other
                    place = BankShape((columns + rows - 1) // rows, shape.postpone, shape.capture_stages)
                    done = transfer(clocks, place, banks[p], at, 0, columns, True)
                if hb_bytes[i] > 0:
                    columns = int(np.ceil(hb_bytes[i] * share / rates.column_bytes - 1e-6))  # shares are rounded
                    cut = shape if is_core or is_refill else load_shape
                    done = transfer(clocks, cut, banks[p], at, 0, max(1, columns), is_refill)
                duration = (done * rates.cycle_ns - begin) * scale[_HB]
                busy[_HB] += duration / pes
                last_end = max(last_end, begin + duration)
                if hb_bytes[i] == 0:
                    continue
                hb_end[p] = begin + duration
                if hb_end[p] > near_end:
                    near_end, near_begin, near_cause = hb_end[p], begin, why
                    near_start = begin
            if hb_bytes[i] > 0:
                _note(acts, i, _HB, near_start, near_begin, near_end, near_cause)
                free_act[_HB] = base + _HB
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
            _note(acts, i, _HOST, start, begin, end, why)
            free[_HOST], free_act[_HOST] = end, base + _HOST
            finish[i], finish_act[i] = end, base + _HOST
            if end > latest:
                latest, latest_act = end, base + _HOST
            end_of_all = max(end_of_all, end)
            continue

        # Arrays: first tile, work, last tile.
        waves = whole + (rest > 0)
        unit_ns = array_ns[i] * scale[_ARRAY]
        slowest, slow_start, slow_begin, slow_cause = 0.0, 0.0, 0.0, NOTHING
        bytes_of_unit = (hb_bytes[i] + lpddr_bytes[i]) / units[i]
        ahead = min(unit_ns, unit_ns * rates.buffer_bytes / max(bytes_of_unit, 1.0))
        for p in range(pes):
            mine = _units_of(p, whole, rest, first_pe[i], pes)
            if mine == 0:
                continue
            start, why = ready, cause
            if array_free[p] > start:
                start, why = array_free[p], array_act[p]
            work_ns = mine * unit_ns
            arrives = 0.0
            if hb_bytes[i] > 0 and hb_end[p] > arrives:
                arrives = hb_end[p]
                first = near_start + (hb_end[p] - near_start) / (mine * passes[i])
                if first > start:
                    start, why = first, base + _HB
            if far_act != NOTHING:
                arrives = max(arrives, far_end)
                first = far_start + (far_end - far_start) / (waves * far_passes[i])
                if first > start:
                    start, why = first, far_act
            end = start + work_ns
            begin = start
            tail = ahead
            if arrives + tail > end:
                begin, end = arrives, arrives + tail
                why = base + _HB if hb_bytes[i] > 0 and hb_end[p] >= far_end else far_act
            busy[_ARRAY] += work_ns / pes
            array_free[p] = end
            array_act[p] = base + _ARRAY
            gate[p] = max(gate[p], end - ahead)
            if end > slowest:
                slowest, slow_start, slow_begin, slow_cause = end, start, begin, why
        _note(acts, i, _ARRAY, slow_start, slow_begin, slowest, slow_cause)
        if far_act != NOTHING and slowest - ahead > free[_LPDDR]:
            free[_LPDDR], free_act[_LPDDR] = slowest - ahead, base + _ARRAY

        # Vector units work tile by tile behind the arrays.
        one = vector_ns[i] * scale[_VECTOR]
        start, begin, why = slowest, slowest, base + _ARRAY
        end = slowest + one
        if free[_VECTOR] + waves * one > end:
            start = begin = free[_VECTOR]
            why, end = free_act[_VECTOR], free[_VECTOR] + waves * one
        busy[_VECTOR] += units[i] * one / pes
        _note(acts, i, _VECTOR, start, begin, end, why)
        free[_VECTOR], free_act[_VECTOR] = end, base + _VECTOR
        end, act = _results(
            acts, i, out_bytes[i], rates, scale, free, free_act, gap, gap_act, busy, end, base + _VECTOR
        )
        finish[i], finish_act[i] = end, act
        if end > latest:
            latest, latest_act = end, act
        end_of_all = max(end_of_all, end)
    return end_of_all


@njit(inline="always")
def _units_of(pe, whole, rest, first, pes):
    """Units of PE ``pe`` where ``whole`` x pes + ``rest`` of them go round-robin from PE ``first`` on."""
    place = pe - first if pe >= first else pe - first + pes
    return whole + 1 if place < rest else whole


@njit(inline="always")
def _note(acts, record, resource, start, begin, end, cause):
    acts[record, resource, START_NS] = start
    acts[record, resource, BEGIN_NS] = begin
    acts[record, resource, END_NS] = end
    acts[record, resource, CAUSE] = cause


@njit(inline="always")
def _results(acts, i, size, rates, scale, free, free_act, gap, gap_act, busy, end, act):
    """Results over the aggregation link; the time before them stays open for activations of later records."""
    if size > 0:
        begin, why = end, act
        if free[_AGGREGATION] > begin:
            begin, why = free[_AGGREGATION], free_act[_AGGREGATION]
        else:
            gap[0], gap[1], gap_act[0] = free[_AGGREGATION], begin, free_act[_AGGREGATION]
        duration = (size * rates.aggregation_ns_per_byte + rates.hop_ns) * scale[_AGGREGATION]
        end, act = begin + duration, i * RESOURCES + _AGGREGATION
        _note(acts, i, _AGGREGATION, begin, begin, end, why)
        busy[_AGGREGATION] += duration
        free[_AGGREGATION], free_act[_AGGREGATION] = end, act
    return end, act


@njit(cache=True)
def critical_path(acts, start_ns, end_ns):
    """Nanoseconds on the critical path by resource, float64 [RESOURCES]; the rest is waiting that nothing explains.

    From the activity that ends last back to its cause, and so on: an activity counts from where it alone decided.
    """
    spent = np.zeros(RESOURCES)
    flat = acts.reshape(-1, FIELDS)
    at, best = NOTHING, -1.0
    for k in range(len(flat)):
        if flat[k, END_NS] > best:
            at, best = k, flat[k, END_NS]
    time = end_ns
    while at != NOTHING and time > start_ns:
        begin = min(flat[at, BEGIN_NS], time)
        spent[at % RESOURCES] += time - max(begin, start_ns)
        time = begin
        at = int(flat[at, CAUSE])
    return spent
