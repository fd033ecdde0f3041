"""Fast twin of `hw.memory.hb_controller.HbController`: the time stamps of `exact` by recurrence, without stepping.

Every command's tick is the maximum of what it waits for: start = max(request, bank, stream). A row whose stream
cannot stall costs O(1), first and last column in closed form; a row with a stalling stream costs O(columns), from
beat to beat. Refreshes are found by arithmetic on the tick of the next activation. Equal to `exact` to the cycle.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from cycle_model.hb.records import (
    ACCEPT,
    ACT_TICK,
    BEATS_AT,
    CHECK_FIRST,
    COLUMN,
    COLUMNS,
    COMMANDS,
    DATA,
    DONE,
    ERROR,
    FIRST_TICK,
    OWNER,
    PRE_TICK,
    ROW,
    ROW_FIELDS,
    TAG,
    TRANSFER,
    TRANSFER_FIELDS,
    WRITE,
    Records,
    counts_of_records,
    expand,
    summary,
)
from cycle_model.hb.traffic import Trace, Traffic, shape_of
from hw.params import ECC_GROUP, HbParams
from hw.timing import MAX_POSTPONED, HbClocks

_NEVER = -(1 << 40)


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
    closed = streams.absent and _buffers_cover(params, clocks)
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
        used = _run(clocks, shape_of(params), closed, requests, starts, streams.takes, streams.offers, records)
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
    trace.counts = counts_of_records(params, clocks, records, used.stall_clocks)
    return trace


def _buffers_cover(params: HbParams, c: HbClocks) -> bool:
    """Whether the buffers alone never hold a column back, at any tick phase, when the streams keep up.

    A place reserved for a read is free again once the beat has left, nCL + nBL ticks and the capture stages
    later; a place of the write buffer is filled again two cycles after the command that emptied it.
    """
    read_ticks = params.read_buffer * c.nBL - c.nCL - c.nBL
    write_ticks = params.write_buffer * c.nBL
    return (
        read_ticks * c.tick_num // c.tick_den >= params.capture_stages + 1
        and write_ticks * c.tick_num // c.tick_den >= 2
    )


@njit(cache=True)
def _at(tick, c):
    """Logic cycle of a DRAM clock edge."""
    return (tick * c.tick_num + c.tick_den - 1) // c.tick_den


@njit(cache=True)
def _edge(cycle, c):
    """The first DRAM clock edge at a cycle or later."""
    return (cycle * c.tick_den + c.tick_num - c.tick_den) // c.tick_num if cycle > 0 else 0


@njit(cache=True)
def _first_from(pattern, who, cycle):
    """The first cycle from ``cycle`` on in which a stream is ready; behind the pattern's end it always is."""
    while cycle < pattern.shape[1] and not pattern[who, cycle]:
        cycle += 1
    return cycle


@njit(cache=True)
def _error(shape, q):
    bank = shape.rows * shape.data_columns
    if q.columns == 0:
        return 1
    if q.column >= shape.data_columns:
        return 2
    if q.columns > bank - (q.row * shape.data_columns + q.column):
        return 3
    if shape.inline and q.write and (q.column | q.columns) & (ECC_GROUP - 1):
        return 4
    return 0


@njit(cache=True)
def _row_gates(c, act, pre, ref):
    """The first edge at which the timing allows an activation or a refresh of the precharged bank."""
    return max(max(pre + c.nRP, act + c.nRC), ref + c.nRFC)


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
def _run(c, shape, closed, requests, starts, consumers, writers, records):
    """Fill the records. ``closed``: no stream ever holds a column back."""
    transfers, rows, refreshes, ticks, takes, offers = records
    wr_pre = c.nCWL + c.nBL + c.nWR
    wr_rd = c.nCWL + c.nBL + c.nWTR
    burst_end = c.nCL + c.nBL
    close = 1 + max(max(c.nRAS, c.nRTP, wr_pre) + c.nRP, c.nRC)
    no_room = _Used(-1, 0, 0, 0, 0, 0, 0)
    number = len(requests)
    act = pre = ref = rd = wr = _NEVER  # ticks of the last command of each kind
    n_row = n_ref = n_tick = n_take = n_offer = stall_clocks = 0
    heads = starts[:-1].copy()
    presented = np.zeros(shape.requesters, dtype=np.int64)  # not before the cycle behind the last acceptance
    offered = np.zeros(shape.requesters, dtype=np.int64)  # when each writer can begin its next offer
    last = shape.requesters - 1
    emptied = np.zeros(shape.write_buffer, dtype=np.int64)  # cycle in which a place of the write buffer was emptied
    last_read = -1  # cycle in which the latest beat leaves the read buffer
    idle = 0  # the first cycle in which the controller is idle
    for t in range(number):
        accept, who = _choose(shape, requests, heads, starts, presented, last, idle)
        q = requests[heads[who]]
        heads[who] += 1
        presented[who] = accept + 1
        last = who

        # Refreshes of the idle bank: any that is owed before the acceptance, a due one at its very cycle too.
        while True:
            free = max(_row_gates(c, act, pre, ref), _edge(idle, c))
            k = max(free, (n_ref + 1) * c.nREFI)
            if _at(k, c) >= accept:
                k = max(free, _edge(accept, c))
                if _at(k, c) > accept or k // c.nREFI - n_ref <= shape.postpone:
                    break
            if n_ref == len(refreshes):
                return no_room
            refreshes[n_ref] = ref = k
            n_ref += 1

        error = _error(shape, q)
        transfers[t, ACCEPT], transfers[t, OWNER], transfers[t, TAG] = accept, who, q.tag
        transfers[t, ERROR], transfers[t, WRITE], transfers[t, COLUMNS] = error, q.write, q.columns
        if error:
            transfers[t, DONE] = idle = accept + 1
            continue

        # Rows.
        row, column, left = q.row, q.column, q.columns
        base = n_offer  # beats of this transfer lie in offers[base:]
        written = 0
        taken = accept
        check = shape.inline and not q.write
        k = _edge(accept + 1, c)
        while True:
            k = max(k, _row_gates(c, act, pre, ref))
            while k // c.nREFI - n_ref > shape.postpone:
                if n_ref == len(refreshes):
                    return no_room
                refreshes[n_ref] = ref = k
                n_ref += 1
                k += c.nRFC
            if n_row == len(rows):
                return no_room
            act = k
            data = min(left, shape.data_columns - column)
            record = rows[n_row]
            n_row += 1
            record[TRANSFER], record[ROW], record[COLUMN], record[ACT_TICK] = t, row, column, act
            record[CHECK_FIRST] = check
            urgent = (n_ref + MAX_POSTPONED + 1) * c.nREFI - close
            gate = max(act + c.nRCD, max(rd, wr) + c.nBL)
            gate = max(gate, rd + c.nRTW) if q.write else max(gate, wr + wr_rd)
            commands = data
            if shape.inline:
                commands += (column + data + ECC_GROUP - 1) // ECC_GROUP - column // ECC_GROUP
            final = gate + (commands - 1) * c.nBL
            broken = -1  # edge at which a stalled row is given up for a refresh
            if closed and final < urgent and check == (shape.inline and not q.write):
                # A column every nBL: the row in closed form.
                record[FIRST_TICK], record[BEATS_AT], record[COMMANDS], record[DATA] = gate, -1, commands, data
                column += data
                left -= data
                if q.write:
                    wr = final
                else:
                    rd = final
            else:
                # From beat to beat: each waits for its stream, and the streams for the buffers.
                record[BEATS_AT] = n_tick
                record[FIRST_TICK] = gate
                record[DATA] = record[COMMANDS] = 0
                earliest = act + 1
                while True:
                    k = gate
                    if not check and not closed:
                        if q.write:
                            # The next beat: offered, its place empty; it can be written from the cycle after on.
                            if n_offer == base + written:
                                taken = max(taken + 1, _first_from(writers, who, offered[who]))
                                if written >= shape.write_buffer:
                                    taken = max(taken, emptied[written % shape.write_buffer] + 1)
                                offers[n_offer] = taken
                                offered[who] = taken + 1
                                n_offer += 1
                            k = max(k, _edge(taken + 1, c))
                        elif n_take >= shape.read_buffer:
                            k = max(k, _edge(takes[n_take - shape.read_buffer] + 1, c))
                    if k >= urgent:
                        broken = max(urgent, earliest)
                        stall_clocks += max(0, broken - gate)
                        break
                    stall_clocks += k - gate
                    if n_tick == len(ticks):
                        return no_room
                    ticks[n_tick] = k
                    n_tick += 1
                    record[COMMANDS] += 1
                    if q.write:
                        wr = k
                    else:
                        rd = k
                    earliest = k + 1
                    gate = k + c.nBL
                    if check:
                        check = False
                    else:
                        record[DATA] += 1
                        column += 1
                        left -= 1
                        check = shape.inline and column % ECC_GROUP == 0
                        if q.write:
                            emptied[written % shape.write_buffer] = _at(k, c)
                            written += 1
                        elif not closed:
                            arrives = max(_at(k + burst_end, c) + shape.capture_stages, last_read + 1)
                            takes[n_take] = last_read = _first_from(consumers, who, arrives)
                            n_take += 1
                    if (left == 0 or column == shape.data_columns) and not (check and q.write):
                        break
            k = max(act + c.nRAS, max(rd + c.nRTP, wr + wr_pre))
            if broken >= 0:
                k = max(k, broken + 1)
            record[PRE_TICK] = pre = k
            k += 1
            if check and q.write:
                continue
            if left == 0:
                break
            if column == shape.data_columns:
                row += 1
                column = 0
        transfers[t, DONE] = idle = _at(pre, c) + 1
        if closed and not q.write:
            last_read = _at(rd + burst_end, c) + shape.capture_stages

    # Beats may leave the read buffer long after the bank is idle, which refreshes meanwhile.
    end_cycle = max(idle, last_read) if number > 0 else 0
    while True:
        k = max(max(_row_gates(c, act, pre, ref), _edge(idle, c)), (n_ref + 1) * c.nREFI)
        if _at(k, c) > end_cycle:
            break
        if n_ref == len(refreshes):
            return no_room
        refreshes[n_ref] = ref = k
        n_ref += 1
    return _Used(n_row, n_ref, n_tick, n_take, n_offer, stall_clocks, end_cycle)
