"""Stream mode of LPDDR5: reads of contiguous bytes, at a cost per DRAM row instead of per burst. No RTL twin.

Equal to ``exact`` to the cycle, for the "weight-stream" mapping and the open-page controller; it shares the parameters
with it and no stepping code. The schedule it relies on:

- A channel's bursts alternate between the two banks of a pair (``b`` and ``b`` + 8, in different bank groups), 64 from
  each row. Reads of alternate groups follow each other every two clocks, the time that CAS and RD hold the command
  bus and the time that a burst holds the data bus; so between row commands the cycle of the j-th read is first + 2 j.
- The queue shows the next pair before the current one is done, so its PRE and ACT fall between reads; each takes its
  clocks from the stream.
- Refresh goes to ranks and pairs that the stream does not use; a rank in use postpones.

So a *run* of reads between two row commands, refreshes, due times or first requests of a row is one step here. Within
a run nothing but the two banks' reads can be first: everything else has its earliest cycle, known at its start.
"""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr.rules import NEVER, PRE
from cycle_model.lpddr.stream_commands import activate, precharge, read_run
from cycle_model.lpddr.stream_refresh import issue_refresh, refresh_step
from cycle_model.lpddr.stream_state import CONFLICT, HALVES, MISS, bank_and_row, enter, queued


@njit(cache=True)
def _request_step(rules, shape, ch, flight):
    """(first clock, need, half) of the request command that goes first, and the first row command besides.

    Need 0 is ACT, 1 PRE, 2 read; the earliest goes first, of the same clock the lowest need, then the oldest.
    """
    best, best_need, best_half = np.int64(NEVER), 3, np.int64(-1)
    row_command = np.int64(NEVER)
    half = flight.oldest_half
    last = (flight.entered - 1) >> shape.segment_bits << 1 | 1
    best_age = np.int64(0)
    while half <= last:
        bank, row = bank_and_row(rules, shape, half)
        state = ch.bank[bank]
        if queued(shape, flight, half) and not state.held:
            rank = ch.rank[bank // rules.banks]
            age = flight.next[half & (HALVES - 1)]
            if state.row == row:
                ready = max(max(ch.group_read_from[bank // rules.banks_per_group], rank.read_from), state.read_from)
                start, need = max(ch.bus, ready - 1), 2
            elif state.row >= 0:
                start, need = max(ch.bus, max(state.precharge_from, rank.precharge_from)), 1
            else:
                start, need = max(ch.bus, max(state.act_from, rank.act_from)), 0
            if need < 2:
                row_command = min(row_command, start)
            if start < best or (start == best and (need < best_need or (need == best_need and age < best_age))):
                best, best_need, best_half, best_age = start, need, half, age
        half += 1
    return best, best_need, best_half, row_command


@njit(cache=True)
def _run_length(rules, shape, ch, flight, half, start, stop):
    """How many reads go every two clocks from ``start`` on, beginning with ``half``, before anything else can.

    ``stop``: first clock at which a row command, a refresh or a due time may come in between.
    """
    other = half ^ 1
    cycle = start + 1
    bank, row = bank_and_row(rules, shape, other)
    regular = rules.ccd_s <= 2 and 3 <= rules.ccd_l <= 4  # alternate banks, and only they, are ready every two clocks
    alone = flight.oldest_half >> 1 == half >> 1
    partner = ch.bank[bank]
    ready = max(partner.read_from, ch.group_read_from[bank // rules.banks_per_group]) <= cycle + 2
    if not (regular and alone and partner.row == row and not partner.held and ready):
        return 1
    mine, others = queued(shape, flight, half), queued(shape, flight, other)
    length = min(2 * mine, 2 * others + 1)
    size = 1 << shape.segment_bits
    coming = min(flight.end, ((half >> 1) + 1) << shape.segment_bits) - flight.entered
    if coming > 0 and mine >= 2 and others >= 2:  # the queue refills with bursts of the same two rows
        length = max(length, coming)
    if flight.entered < flight.end:  # ends with the read after which a new half comes into sight
        within = flight.entered & (size - 1)
        new = 0 if within < 2 else size - within
        if flight.entered + new < flight.end:
            length = min(length, new + 1)
    return max(1, min(length, (stop - start + 1) >> 1))


@njit(cache=True)
def stream(rules, policy, shape, ch, flight, arrival, log):
    """Read bursts [first, end) of a channel, all requested at ``arrival``; False if too many rows were in flight."""
    total = flight.end - flight.first
    while True:
        if ch.next_due <= ch.bus:
            ch.next_due = NEVER
            for r in range(rules.ranks):
                while ch.rank[r].due <= ch.bus:
                    ch.rank[r].due += policy.interval
                    ch.rank[r].owed += 1
                    ch.owed += 1
                ch.next_due = min(ch.next_due, ch.rank[r].due)
        event = ch.next_due
        if ch.bus >= arrival:
            if not enter(shape, flight, policy.read_depth):
                return False
        else:
            event = min(event, arrival)
        if flight.issued == total:
            return True
        refresh, command, place = np.int64(NEVER), PRE, np.int64(0)
        if ch.owed:
            refresh, command, place = refresh_step(rules, policy, shape, ch, flight)
        start, need, half, row_command = np.int64(NEVER), 3, np.int64(0), np.int64(NEVER)
        if flight.entered > flight.first:
            start, need, half, row_command = _request_step(rules, shape, ch, flight)
        if event <= min(start, refresh):
            ch.bus = event
        elif refresh <= start:
            issue_refresh(rules, ch, flight, log, refresh, command, place)
        elif need == 2:
            stop = min(min(row_command, refresh), ch.next_due)
            length = _run_length(rules, shape, ch, flight, half, start, stop)
            read_run(rules, shape, ch, flight, log, half, start + 1, length)
        else:
            bank, row = bank_and_row(rules, shape, half)
            slot = half & (HALVES - 1)
            if need == 1:
                flight.kind[slot] = CONFLICT
                precharge(rules, ch, flight, log, start, bank)
            else:
                flight.kind[slot] = max(flight.kind[slot], MISS)
                activate(rules, ch, flight, log, start, bank, row)
