"""Fast twin of `hw.memory.hb_controller.HbController`: the time stamps of `exact` by recurrence, without stepping.

Transfer by transfer, as `cycle_model.hb.serving` does it. Equal to `exact` to the cycle.
"""

from typing import NamedTuple

import numpy as np

from cycle_model.hb.records import (
    ROW_FIELDS,
    TRANSFER_FIELDS,
    Records,
    counts_of_records,
    expand,
    summary,
)
from cycle_model.hb.serving import buffers_cover, refresh_idle, reset_bank, serve
from cycle_model.hb.traffic import Trace, Traffic, shape_of
from cycle_model.kernel_cache import njit
from hw.params import ECC_GROUP


class _Used(NamedTuple):
    """How much of each record array a run filled; ``rows`` is -1 where there was no room."""

    rows: int
    refreshes: int
    ticks: int
    takes: int
    offers: int
    stall_clocks: int
    end_cycle: int


def fast(traffic: Traffic, *, events: bool = True) -> Trace:
    """Run ``traffic`` to its end; ``events=False`` leaves out commands and beats and keeps accepts, dones, counts."""
    params, clocks = traffic.params, traffic.timing
    requests, starts = traffic.queues()
    streams = traffic.streams
    closed = streams.absent and buffers_cover(params, clocks)
    columns = int(requests["columns"].sum())
    beats = 0 if closed else columns
    row_room = 16 + 2 * len(requests) + 2 * int((requests["columns"] // params.data_columns).sum())
    tick_room = 64 + beats + beats // ECC_GROUP
    while True:
        records = Records(
            transfers=np.zeros((len(requests), TRANSFER_FIELDS), dtype=np.int64),
            rows=np.empty((row_room, ROW_FIELDS), dtype=np.int64),
            refreshes=np.empty(row_room, dtype=np.int64),
            ticks=np.empty(tick_room, dtype=np.int64),
            takes=np.empty(beats, dtype=np.int64),
            offers=np.empty(beats, dtype=np.int64),
        )
        bank = reset_bank(params.requesters)
        patterns = (streams.takes, streams.offers)
        used = _run(clocks, shape_of(params), closed, bank[0], requests, starts, *patterns, records)
        if used.rows >= 0:
            break
        row_room *= 2
        tick_room *= 2
    records = records._replace(
        rows=records.rows[: used.rows],
        refreshes=records.refreshes[: used.refreshes],
        ticks=records.ticks[: used.ticks],
        takes=records.takes[: used.takes],
        offers=records.offers[: used.offers],
    )
    trace = expand(params, clocks, records, closed) if events else summary(records)
    trace.end_cycle = used.end_cycle
    trace.counts = counts_of_records(params, records, used.stall_clocks)
    return trace


@njit(cache=True)
def _choose(shape, requests, heads, starts, presented, last, idle):
    """When the next request is accepted, the first cycle from ``idle`` on with one, and whose it is."""
    accept = 1 << 60
    for r in range(shape.requesters):
        if heads[r] < starts[r + 1]:
            accept = min(accept, max(requests[heads[r]].cycle, presented[r]))
    accept = max(accept, idle)
    for distance in range(1, shape.requesters + 1):
        r = (last + distance) % shape.requesters
        if heads[r] < starts[r + 1] and max(requests[heads[r]].cycle, presented[r]) <= accept:
            return accept, r
    return accept, -1


@njit(cache=True)
def _run(c, shape, closed, bank, requests, starts, consumers, writers, records):
    """Fill the records. ``closed``: no stream ever holds a column back."""
    no_room = _Used(-1, 0, 0, 0, 0, 0, 0)
    heads = starts[:-1].copy()
    presented = np.zeros(shape.requesters, dtype=np.int64)  # not before the cycle behind the last acceptance
    offered = np.zeros(shape.requesters, dtype=np.int64)
    emptied = np.zeros(shape.write_buffer, dtype=np.int64)
    always = np.zeros(0, dtype=np.int64)
    streams = (consumers, writers, offered, emptied, always, np.zeros(1, dtype=np.int64))
    for _ in range(len(requests)):
        accept, who = _choose(shape, requests, heads, starts, presented, bank.last, bank.idle)
        request = requests[heads[who]]
        heads[who] += 1
        presented[who] = accept + 1
        if not serve(c, shape, closed, bank, request, who, accept, streams, records):
            return no_room

    # Beats may leave the read buffer long after the bank is idle, which refreshes meanwhile.
    end_cycle = max(bank.idle, bank.last_read) if len(requests) > 0 else 0
    if not refresh_idle(c, bank, records.refreshes, end_cycle):
        return no_room
    return _Used(bank.n_row, bank.n_ref, bank.n_tick, bank.n_take, bank.n_offer, bank.stall_clocks, end_cycle)
