"""Bytes that move beside the arrays: LPDDR and its link, keys, values and refill in HB, results of products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cycle_model.hb.transfer import IDLE, BankShape, transfer
from cycle_model.kernel_cache import njit
from sw_stack.machines.engine.resources import NOTHING, RESOURCES, Resource, note

_LPDDR, _STREAM, _HB, _AGGREGATION = (
    int(r) for r in (Resource.LPDDR, Resource.STREAM_LINK, Resource.HB, Resource.AGGREGATION_LINK)
)


class Rates(NamedTuple):
    """Numbers of the machine; ``scale`` multiplies the durations on each resource (1 but in slack tests).

    lpddr_turn_ns  from reads to writes and back
    near_blocks  products in the memory keep LPDDR from serving reads
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
    near_blocks: bool


@njit(inline="always")
def lpddr_stream(acts, i, q, size, extents, fetch, cause, rates, scale, free, free_act, busy):
    """What a record reads and writes in LPDDR, and the stream link behind the reads, cut through.

    New keys and values are written before others are read. Returns begin and end of what arrives over the link, its
    activity (0, 0, NOTHING without any), and the end of all.
    """
    base = i * RESOURCES
    if not (size > 0 or q.lpddr_written > 0):
        return 0.0, 0.0, NOTHING, 0.0
    begin, why, first = fetch, cause, rates.lpddr_first_ns
    if free[_LPDDR] >= begin:
        begin, why, first = free[_LPDDR], free_act[_LPDDR], 0.0
    duration = size * rates.lpddr_ns_per_byte + extents * rates.lpddr_switch_ns + first
    if q.lpddr_written > 0:
        duration += q.lpddr_written * rates.lpddr_ns_per_byte + q.pieces * rates.lpddr_switch_ns
        duration += rates.lpddr_turn_ns
    end = begin + duration * scale[_LPDDR]
    note(acts, i, _LPDDR, begin, begin, end, why)
    busy[_LPDDR] += end - begin
    free[_LPDDR], free_act[_LPDDR] = end, base + _LPDDR
    if size == 0:
        return 0.0, 0.0, NOTHING, end
    moved = size * rates.stream_ns_per_byte * scale[_STREAM]
    busy[_STREAM] += moved
    link_start, link_why = begin, base + _LPDDR
    if free[_STREAM] > link_start:
        link_start, link_why = free[_STREAM], free_act[_STREAM]
    link_begin, link_end = link_start, link_start + moved
    if end + rates.hop_ns * scale[_STREAM] > link_end:
        link_begin, link_end, link_why = end, end + rates.hop_ns * scale[_STREAM], base + _LPDDR
    note(acts, i, _STREAM, link_start, link_begin, link_end, link_why)
    free[_STREAM], free_act[_STREAM] = link_end, base + _STREAM
    return begin, link_end, base + _STREAM, end


@njit(inline="always")
def spread_over_banks(acts, i, q, size, refill, ready, cause, clocks, shape, banks, rates, scale, free_act, busy):
    """Keys and values read, or refill written, evenly over all HB banks; new positions written go round them.

    Returns the end of what is read or refilled, and the end of all.
    """
    pes, cycle = rates.pes, rates.cycle_ns
    slow_begin, slow_end, slow_cause, last_end = 0.0, 0.0, NOTHING, 0.0
    for p in range(pes):
        positions = q.tokens // pes + (p < q.tokens % pes) if q.hb_written > 0 else 0
        if size == 0.0 and positions == 0:
            continue
        begin, why = ready, cause
        if banks[p, IDLE] * cycle > begin:
            begin, why = banks[p, IDLE] * cycle, free_act[_HB]
        at = int(np.ceil(begin / cycle))
        done = at
        if positions > 0:
            columns = int(np.ceil(positions * (q.hb_written / q.tokens) / rates.column_bytes))
            rows = min(positions, q.pieces)  # a bank's positions of one sequence follow each other
            place = BankShape((columns + rows - 1) // rows, shape.postpone, shape.capture_stages)
            done = transfer(clocks, place, banks[p], at, 0, columns, True)
        if size > 0:
            columns = int(np.ceil(size / pes / rates.column_bytes - 1e-6))  # shares are rounded
            done = transfer(clocks, shape, banks[p], at, 0, max(1, columns), refill)
        duration = (done * cycle - begin) * scale[_HB]
        busy[_HB] += duration / pes
        last_end = max(last_end, begin + duration)
        if size > 0 and begin + duration > slow_end:
            slow_begin, slow_end, slow_cause = begin, begin + duration, why
    if size > 0:
        note(acts, i, _HB, slow_begin, slow_begin, slow_end, slow_cause)
        free_act[_HB] = i * RESOURCES + _HB
    return slow_end, last_end


@njit(inline="always")
def results(acts, i, size, rates, scale, free, free_act, gap, gap_act, busy, early, end, parts, act):
    """Results over the aggregation link in ``parts``, the first from ``early`` on, the last from ``end``.

    The time before them stays open for activations of later records.
    """
    if size > 0:
        start = early
        if free[_AGGREGATION] > early:
            start = free[_AGGREGATION]
        else:
            gap[0], gap[1], gap_act[0] = free[_AGGREGATION], early, free_act[_AGGREGATION]
        duration = (size * rates.aggregation_ns_per_byte + rates.hop_ns) * scale[_AGGREGATION]
        begin, why = end, act
        end += duration / parts
        if start + duration > end:
            begin, end = start, start + duration
            why = free_act[_AGGREGATION] if start > early else act
        act = i * RESOURCES + _AGGREGATION
        note(acts, i, _AGGREGATION, start, begin, end, why)
        busy[_AGGREGATION] += duration
        free[_AGGREGATION], free_act[_AGGREGATION] = end, act
    return end, act
