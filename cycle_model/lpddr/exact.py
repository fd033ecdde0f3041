"""Exact LPDDR5 channel: every command of any traffic, at the cost of a decision per command. No RTL twin.

Time is the CK cycle at which a command sits on the channel's command bus. Each of ACT-1, ACT-2, CAS, RD, WR, PRE
and REF takes one clock of the bus (JESD209-5B: the two words of a command go on both edges of one clock). ACT-2
follows ACT-1 at once; CAS directly precedes its RD or WR; so an activation takes two clocks and a column access two.

The controller looks at one candidate per bank: the oldest queued row hit if there is one, else what the bank's oldest
request needs (PRE or ACT). It issues the candidate that can go first; of those that can go in the same clock: refresh,
then ACT, then PRE, then columns, each the oldest first. Row commands lead because reads at peak rate fill the command
bus: a row command that waited for a free clock would wait for the stream's end. Hits go before conflicts (FR-FCFS),
but not past a request older than ``age_limit``.

Instead of stepping clocks, ``advance`` computes the earliest cycle of each candidate from per-bank, per-group and
per-rank ready times and jumps there, stopping on the way only where a request arrives or a refresh falls due.
"""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr.channel import ARRIVAL, CONFLICT, DRAINS, IDLE, NEED_ACT, NEED_COLUMN, NEED_PRE, NONE
from cycle_model.lpddr.exact_commands import activate, issue_column, issue_refresh, precharge, precharge_all
from cycle_model.lpddr.exact_queues import admit
from cycle_model.lpddr.exact_refresh import refresh_candidate, refresh_falls_due
from cycle_model.lpddr.rules import NEVER, PRE, PREAB


@njit(cache=True)
def _request_candidate(rules, ch, queue, bus):
    """Best candidate of the queue: (first clock, need, bank); earliest first, then by need, then the oldest.

    Lists are by need and age, so the first candidate that can go at ``bus`` ends the search.
    """
    best, need, chosen = np.int64(NEVER), IDLE, np.int64(NONE)
    for k in range(ch.ranked_count[queue, NEED_ACT]):
        bank = ch.ranked[queue, NEED_ACT, k]
        start = max(bus, ch.bank[bank].act_ok, ch.rank[bank // rules.banks].act_ok)
        if start < best and not ch.bank[bank].blocked:
            best, need, chosen = start, NEED_ACT, bank
            if start == bus:
                return best, need, chosen
    for k in range(ch.ranked_count[queue, NEED_PRE]):
        bank = ch.ranked[queue, NEED_PRE, k]
        start = max(bus, ch.bank[bank].precharge_ok, ch.rank[bank // rules.banks].precharge_ok)
        if start < best and not ch.bank[bank].blocked:
            best, need, chosen = start, NEED_PRE, bank
            if start == bus:
                return best, need, chosen
    for k in range(ch.ranked_count[queue, NEED_COLUMN]):
        bank = ch.ranked[queue, NEED_COLUMN, k]
        rank, group = bank // rules.banks, bank // rules.banks_per_group
        if queue == 0:
            ready = max(ch.group[group].read_ok, ch.rank[rank].read_ok)
        else:
            ready = max(ch.group[group].write_ok, ch.rank[rank].write_ok)
        start = max(bus, max(ready, ch.bank[bank].column_ok) - 1)  # CAS goes first
        if start < best and not ch.bank[bank].blocked:
            best, need, chosen = start, NEED_COLUMN, bank
            if start == bus:
                return best, need, chosen
    return best, need, chosen


@njit(cache=True)
def advance(rules, policy, ch, req, trace, total, limit):
    """Issue every command whose first clock lies before ``limit``, taking requests up to index ``total``.

    With ``limit`` NEVER it returns when all requests have been issued; otherwise time passes up to ``limit``, with
    refreshes, and later requests may not arrive before it.
    """
    while ch.bus < limit:  # requests that arrive at ``limit`` may still be unknown: decide nothing there
        bus = ch.bus
        if ch.next_due <= bus:
            refresh_falls_due(rules, policy, ch, bus)
        arrival = np.int64(NEVER)
        while ch.next_request < total:
            if req[ARRIVAL, ch.next_request] > bus:
                arrival = req[ARRIVAL, ch.next_request]
                break
            if not admit(rules, policy, ch, req, bus):
                break
        reads, writes = ch.queued[0], ch.queued[1]
        if ch.draining:
            if writes == 0 or (writes <= policy.write_low and reads > 0):
                ch.draining = 0
        elif writes and (writes >= policy.write_high or reads == 0):
            ch.draining = 1
            ch.counter[DRAINS] += 1
        if limit == NEVER and reads + writes == 0 and ch.next_request == total:
            return
        queue = ch.draining
        refresh_start = np.int64(NEVER)
        refresh_command, place = PRE, np.int64(0)
        if ch.owed:
            refresh_start, refresh_command, place = refresh_candidate(rules, policy, ch, bus)
        start, need, bank = _request_candidate(rules, ch, queue, bus)
        first = min(start, refresh_start)
        event = min(arrival, ch.next_due)
        if event <= first and event < limit:
            ch.bus = event
            continue
        if first >= limit:
            ch.bus = max(bus, limit)
            return
        if refresh_start <= start:
            if refresh_command == PRE:
                precharge(rules, policy, ch, trace, refresh_start, place)
            elif refresh_command == PREAB:
                precharge_all(rules, policy, ch, trace, refresh_start, place)
            else:
                issue_refresh(rules, ch, trace, refresh_start, refresh_command, place)
        elif need == NEED_COLUMN:
            issue_column(rules, policy, ch, req, trace, start + 1, queue, ch.queue[queue, bank].candidate)
        elif need == NEED_ACT:
            activate(rules, policy, ch, trace, start, bank, ch.queue[queue, bank].candidate)
        else:
            ch.entry[ch.queue[queue, bank].candidate].kind = CONFLICT
            precharge(rules, policy, ch, trace, start, bank)
