"""One transfer of the HB controller at a time, by recurrence, with the bank's state carried to the next.

Every command's tick is the maximum of what it waits for: start = max(request, bank, stream). A row whose stream
cannot stall costs O(1), first and last column in closed form; a row with a stalling stream costs O(columns), from
beat to beat. Refreshes are found by arithmetic on the tick of the next activation. `cycle_model.hb.fast` serves
recorded traffic with it, `cycle_model.pe.fast` the requests of a PE as they arise.
"""

import numpy as np

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
    TAG,
    TRANSFER,
    WRITE,
)
from cycle_model.kernel_cache import njit
from hw.params import ECC_GROUP
from hw.params.hb import HbParams
from hw.timing import MAX_POSTPONED, HbClocks

_NEVER = -(1 << 40)
BANK = np.dtype(
    [
        (name, np.int64)
        for name in (
            # ticks of the last command of each kind
            *("act", "pre", "ref", "rd", "wr"),
            # records used so far
            *("n_transfer", "n_row", "n_ref", "n_tick", "n_take", "n_offer"),
            # stall clocks; first cycle in which the controller is idle; last one granted; cycle in which the latest
            # beat leaves the read buffer
            *("stall_clocks", "idle", "last", "last_read"),
        )
    ]
)
"""State of bank and controller between two transfers."""


def reset_bank(requesters: int) -> np.ndarray:
    """The state after reset, an array of one record."""
    bank = np.zeros(1, dtype=BANK)
    for name in ("act", "pre", "ref", "rd", "wr"):
        bank[name] = _NEVER
    bank["last"] = requesters - 1
    bank["last_read"] = -1
    return bank


def buffers_cover(params: HbParams, c: HbClocks) -> bool:
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
def _refresh(bank, refreshes, tick):
    """Record a refresh; False where there is no room."""
    if bank.n_ref == len(refreshes):
        return False
    refreshes[bank.n_ref] = bank.ref = tick
    bank.n_ref += 1
    return True


@njit(cache=True)
def refresh_idle(c, bank, refreshes, end):
    """Refreshes of the idle bank up to and including cycle ``end``; False where there is no room."""
    while True:
        free = max(_row_gates(c, bank.act, bank.pre, bank.ref), _edge(bank.idle, c))
        k = max(free, (bank.n_ref + 1) * c.nREFI)
        if _at(k, c) > end:
            return True
        if not _refresh(bank, refreshes, k):
            return False


@njit(cache=True)
def _refresh_before(c, shape, bank, refreshes, accept):
    """Refreshes of the idle bank: any that is owed before the acceptance, a due one at its very cycle too."""
    while True:
        free = max(_row_gates(c, bank.act, bank.pre, bank.ref), _edge(bank.idle, c))
        k = max(free, (bank.n_ref + 1) * c.nREFI)
        if _at(k, c) >= accept:
            k = max(free, _edge(accept, c))
            if _at(k, c) > accept or k // c.nREFI - bank.n_ref <= shape.postpone:
                return True
        if not _refresh(bank, refreshes, k):
            return False


@njit(cache=True)
def serve(c, shape, closed, bank, q, who, accept, streams, records):
    """Serve request ``q`` of requester ``who``, taken in cycle ``accept``; False where the records have no room.

    closed   no stream ever holds a column of this transfer back
    streams  (takes, offers, offered, emptied, available, waits): patterns of `Stalls`, when each writer can begin its
             next offer, when each place of the write buffer was emptied; cycles from which this transfer's beats are
             there (empty: always); receives in waits[0] the cycles in which the controller waited for one
    """
    transfers, rows, refreshes, ticks, takes, offers = records
    consumers, writers, offered, emptied, available, waits = streams
    wr_pre = c.nCWL + c.nBL + c.nWR
    wr_rd = c.nCWL + c.nBL + c.nWTR
    burst_end = c.nCL + c.nBL
    close = 1 + max(max(c.nRAS, c.nRTP, wr_pre) + c.nRP, c.nRC)
    t = bank.n_transfer
    bank.n_transfer += 1
    bank.last = who
    if not _refresh_before(c, shape, bank, refreshes, accept):
        return False
    error = _error(shape, q)
    transfers[t, ACCEPT], transfers[t, OWNER], transfers[t, TAG] = accept, who, q.tag
    transfers[t, ERROR], transfers[t, WRITE], transfers[t, COLUMNS] = error, q.write, q.columns
    if error:
        transfers[t, DONE] = bank.idle = accept + 1
        return True
    act, pre, ref, rd, wr = bank.act, bank.pre, bank.ref, bank.rd, bank.wr
    n_row, n_ref, n_tick, n_take, n_offer = bank.n_row, bank.n_ref, bank.n_tick, bank.n_take, bank.n_offer
    stall_clocks, last_read = bank.stall_clocks, bank.last_read
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
                return False
            refreshes[n_ref] = ref = k
            n_ref += 1
            k += c.nRFC
        if n_row == len(rows):
            return False
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
                            asked = taken + 1
                            if written >= shape.write_buffer:
                                asked = max(asked, emptied[written % shape.write_buffer] + 1)
                            taken = max(asked, _first_from(writers, who, offered[who]))
                            if written < len(available):
                                taken = max(taken, available[written])
                            waits[0] += taken - asked
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
                    return False
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
    transfers[t, DONE] = bank.idle = _at(pre, c) + 1
    if closed and not q.write:
        last_read = _at(rd + burst_end, c) + shape.capture_stages
    bank.act, bank.pre, bank.ref, bank.rd, bank.wr = act, pre, ref, rd, wr
    bank.n_row, bank.n_ref, bank.n_tick, bank.n_take, bank.n_offer = n_row, n_ref, n_tick, n_take, n_offer
    bank.stall_clocks, bank.last_read = stall_clocks, last_read
    return True
