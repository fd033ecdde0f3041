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
from cycle_model.lpddr.channel import (
    ACTIVATES,
    ARRIVAL,
    AT_BANK,
    BANK,
    COMMAND,
    CONFLICT,
    CYCLE,
    DONE,
    DRAINS,
    ENTERED,
    FORWARDED,
    HIT,
    HITS,
    IDLE,
    MISS,
    NEED_ACT,
    NEED_COLUMN,
    NEED_PRE,
    NONE,
    PLACE,
    PRECHARGES,
    PRECHARGES_ALL,
    READS,
    REFRESHES_ALL_BANK,
    REFRESHES_PER_BANK,
    ROW,
    UNIT,
    WRITE,
    WRITES,
)
from cycle_model.lpddr.rules import (
    ACT1,
    ACT2,
    CAS,
    NEVER,
    PRE,
    PREAB,
    RD,
    RDA,
    REFAB,
    REFPB,
    REFRESH_ALL_BANK,
    WR,
    WRA,
)


@njit(cache=True)
def _record(trace, ch, cycle, command, bank, row):
    if trace.shape[1]:
        n = ch.traced
        trace[CYCLE, n] = cycle
        trace[COMMAND, n] = command
        trace[AT_BANK, n] = bank
        trace[PLACE, n] = row
        ch.traced = n + 1


@njit(cache=True)
def _find_hit(ch, entry, row):
    """The first entry from ``entry`` on (arrival order within a bank) that wants ``row``."""
    while entry >= 0 and ch.entry[entry].row != row:
        entry = ch.entry[entry].next
    return entry


@njit(cache=True)
def _choose(policy, ch, queue, bank, now):
    """Set the bank's candidate in ``queue`` and put it in its place by need and age.

    The candidate is the oldest hit of the open row, unless it would pass a request older than ``age_limit``.
    """
    q = ch.queue[queue, bank]
    e, need = q.head, IDLE
    if e >= 0:
        need = NEED_ACT
        if ch.bank[bank].row >= 0:
            hit = _find_hit(ch, e, ch.bank[bank].row)
            need = NEED_PRE
            if hit >= 0 and (hit == e or now - ch.entry[e].arrival <= policy.age_limit):
                e, need = hit, NEED_COLUMN
    old = q.need
    if need == old and e == q.candidate:
        return
    if old != IDLE:
        last = ch.ranked_count[queue, old] - 1
        k = 0
        while ch.ranked[queue, old, k] != bank:
            k += 1
        while k < last:
            ch.ranked[queue, old, k] = ch.ranked[queue, old, k + 1]
            ch.age[queue, old, k] = ch.age[queue, old, k + 1]
            k += 1
        ch.ranked_count[queue, old] = last
    q.candidate = e
    q.need = need
    if need != IDLE:
        sequence = ch.entry[e].sequence
        k = ch.ranked_count[queue, need]
        ch.ranked_count[queue, need] = k + 1
        while k > 0 and ch.age[queue, need, k - 1] > sequence:
            ch.ranked[queue, need, k] = ch.ranked[queue, need, k - 1]
            ch.age[queue, need, k] = ch.age[queue, need, k - 1]
            k -= 1
        ch.ranked[queue, need, k] = bank
        ch.age[queue, need, k] = sequence


@njit(cache=True)
def _holds(ch, queue, bank, unit):
    entry = ch.queue[queue, bank].head
    while entry >= 0:
        if ch.entry[entry].unit == unit:
            return True
        entry = ch.entry[entry].next
    return False


@njit(cache=True)
def _admit(rules, policy, ch, req, now):
    """Take the next request into its queue; False where it must wait at the door (queue full, or its data hazard)."""
    i = ch.next_request
    bank = req[BANK, i]
    queue = req[WRITE, i]
    if queue == 0:
        if ch.queued[1] and _holds(ch, 1, bank, req[UNIT, i]):  # read after write: forwarded from the write queue
            req[ENTERED, i] = now
            req[DONE, i] = now + 1
            ch.counter[FORWARDED] += 1
            ch.next_request = i + 1
            return True
        if ch.queued[0] == policy.read_depth:
            return False
    elif ch.queued[1] == policy.write_depth or _holds(ch, 0, bank, req[UNIT, i]):  # write after read waits for the read
        return False
    free = ch.free_count - 1
    ch.free_count = free
    e = ch.free[free]
    row = req[ROW, i]
    ch.entry[e].row = row
    ch.entry[e].bank = bank
    ch.entry[e].unit = req[UNIT, i]
    ch.entry[e].request = i
    ch.entry[e].arrival = now
    ch.entry[e].sequence = ch.sequence
    ch.sequence += 1
    ch.entry[e].kind = HIT
    last = ch.queue[queue, bank].tail
    ch.entry[e].previous = last
    ch.entry[e].next = NONE
    ch.queue[queue, bank].tail = e
    if last >= 0:
        ch.entry[last].next = e
    else:
        ch.queue[queue, bank].head = e
    if ch.queue[queue, bank].need != NEED_COLUMN:
        _choose(policy, ch, queue, bank, now)
    ch.queued[queue] += 1
    ch.bank[bank].waiting += 1
    ch.rank[bank // rules.banks].waiting += 1
    req[ENTERED, i] = now
    ch.next_request = i + 1
    return True


@njit(cache=True)
def _remove(rules, ch, queue, e):
    """Unlink entry ``e`` whose column has been issued."""
    bank = ch.entry[e].bank
    before, after = ch.entry[e].previous, ch.entry[e].next
    if before >= 0:
        ch.entry[before].next = after
    else:
        ch.queue[queue, bank].head = after
    if after >= 0:
        ch.entry[after].previous = before
    else:
        ch.queue[queue, bank].tail = before
    ch.queued[queue] -= 1
    ch.bank[bank].waiting -= 1
    ch.rank[bank // rules.banks].waiting -= 1
    ch.free[ch.free_count] = e
    ch.free_count += 1


@njit(cache=True)
def _activate(rules, policy, ch, trace, cycle, bank, e):
    rank = bank // rules.banks
    row = ch.entry[e].row
    ch.entry[e].kind = max(ch.entry[e].kind, MISS)
    ch.bank[bank].row = row
    for queue in range(2):
        _choose(policy, ch, queue, bank, cycle)
    ch.rank[rank].open_banks += 1
    ch.bank[bank].column_ok = cycle + rules.rcd
    ch.bank[bank].precharge_ok = cycle + rules.ras
    ch.bank[bank].act_ok = cycle + rules.rc
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rc)
    oldest = ch.rank[rank].oldest
    ch.window[rank, oldest] = cycle
    oldest = (oldest + 1) & 3
    ch.rank[rank].oldest = oldest
    ch.rank[rank].act_ok = max(ch.rank[rank].act_ok, cycle + rules.rrd, ch.window[rank, oldest] + rules.faw)
    ch.counter[ACTIVATES] += 1
    ch.bus = cycle + 2
    _record(trace, ch, cycle, ACT1, bank, row)
    _record(trace, ch, cycle + 1, ACT2, bank, row)


@njit(cache=True)
def _close(policy, ch, bank, cycle, reopen_at):
    ch.bank[bank].row = NONE
    for queue in range(2):
        _choose(policy, ch, queue, bank, cycle)
    ch.bank[bank].act_ok = max(ch.bank[bank].act_ok, reopen_at)


@njit(cache=True)
def _precharge(rules, policy, ch, trace, cycle, bank):
    rank = bank // rules.banks
    _close(policy, ch, bank, cycle, cycle + rules.rp)
    ch.rank[rank].open_banks -= 1
    ch.rank[rank].precharge_ok = cycle + rules.ppd
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rp)
    ch.counter[PRECHARGES] += 1
    ch.bus = cycle + 1
    _record(trace, ch, cycle, PRE, bank, 0)


@njit(cache=True)
def _precharge_all(rules, policy, ch, trace, cycle, rank):
    for bank in range(rank * rules.banks, (rank + 1) * rules.banks):
        if ch.bank[bank].row >= 0:
            _close(policy, ch, bank, cycle, cycle + rules.rpab)
    ch.rank[rank].open_banks = 0
    ch.rank[rank].act_ok = max(ch.rank[rank].act_ok, cycle + rules.rpab)
    ch.rank[rank].precharge_ok = cycle + rules.ppd
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rpab)
    ch.counter[PRECHARGES_ALL] += 1
    ch.bus = cycle + 1
    _record(trace, ch, cycle, PREAB, rank * rules.banks, 0)


@njit(cache=True)
def _column(rules, policy, ch, req, trace, cycle, queue, e):
    """CAS at ``cycle`` - 1 and RD or WR at ``cycle``; the data burst follows nCL or nCWL later."""
    bank = ch.entry[e].bank
    rank = bank // rules.banks
    group = bank // rules.banks_per_group
    if queue == 0:
        group_read, rank_read, other_read = rules.ccd_l, rules.ccd_s, rules.rank_switch
        group_write, rank_write, other_write = rules.read_to_write, rules.read_to_write, rules.turnaround_other_rank
        precharge, data = rules.rtp, rules.cl
        ch.counter[READS] += 1
    else:
        group_read, rank_read, other_read = rules.write_to_read_l, rules.write_to_read_s, rules.turnaround_other_rank
        group_write, rank_write, other_write = rules.ccd_l, rules.ccd_s, rules.rank_switch
        precharge, data = rules.write_to_precharge, rules.cwl
        ch.counter[WRITES] += 1
    ch.group[group].read_ok = max(ch.group[group].read_ok, cycle + group_read)
    ch.group[group].write_ok = max(ch.group[group].write_ok, cycle + group_write)
    for r in range(rules.ranks):
        if r == rank:
            ch.rank[r].read_ok = max(ch.rank[r].read_ok, cycle + rank_read)
            ch.rank[r].write_ok = max(ch.rank[r].write_ok, cycle + rank_write)
        else:
            ch.rank[r].read_ok = max(ch.rank[r].read_ok, cycle + other_read)
            ch.rank[r].write_ok = max(ch.rank[r].write_ok, cycle + other_write)
    ch.bank[bank].precharge_ok = max(ch.bank[bank].precharge_ok, cycle + precharge)
    ch.bank[bank].used = cycle
    ch.counter[HITS + ch.entry[e].kind] += 1
    done = cycle + data + rules.burst
    req[DONE, ch.entry[e].request] = done
    ch.last_data = max(ch.last_data, done)
    ch.bus = cycle + 1
    unit = ch.entry[e].unit
    _remove(rules, ch, queue, e)
    row = ch.bank[bank].row
    auto = policy.closed_page and _find_hit(ch, ch.queue[0, bank].head, row) < 0
    auto = auto and _find_hit(ch, ch.queue[1, bank].head, row) < 0
    if auto:
        _close(policy, ch, bank, cycle, cycle + precharge + rules.rp)
        ch.rank[rank].open_banks -= 1
        ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, ch.bank[bank].act_ok)
        ch.counter[PRECHARGES] += 1
    else:
        _choose(policy, ch, queue, bank, cycle)
    _record(trace, ch, cycle - 1, CAS, bank, unit)
    command = (RDA if auto else RD) if queue == 0 else (WRA if auto else WR)
    _record(trace, ch, cycle, command, bank, unit)


@njit(cache=True)
def _refresh_falls_due(rules, policy, ch, now):
    ch.next_due = NEVER
    for rank in range(rules.ranks):
        while ch.rank[rank].due <= now:
            ch.rank[rank].due += policy.interval
            ch.rank[rank].owed += 1
            ch.owed += 1
            ch.most_owed = max(ch.most_owed, ch.rank[rank].owed)
        ch.next_due = min(ch.next_due, ch.rank[rank].due)


@njit(cache=True)
def _choose_pair(rules, ch, rank):
    """The pair of banks that REFpb takes next, among those the current round has left.

    One without queued requests if possible, of these the last used (in a stream the one needed again last);
    otherwise the one with the fewest queued requests. Ties: the lowest.
    """
    best, best_waiting, best_used = NONE, 0, 0
    half = rules.banks // 2
    for pair in range(half):
        if (ch.rank[rank].round >> pair) & 1:
            low = rank * rules.banks + pair
            waiting = ch.bank[low].waiting + ch.bank[low + half].waiting
            used = max(ch.bank[low].used, ch.bank[low + half].used) if waiting == 0 else np.int64(0)
            if best < 0 or waiting < best_waiting or (waiting == best_waiting and used > best_used):
                best, best_waiting, best_used = pair, waiting, used
    return best


@njit(cache=True)
def _refresh_candidate(rules, policy, ch, bus):
    """Earliest (cycle, command, bank or rank) that refresh wants; cycle NEVER where it wants nothing now.

    A rank that owes refreshes does them while it has no queued request; one that owes ``postponed`` does them first,
    and the banks concerned take no further command for requests.
    """
    best, command, place = np.int64(NEVER), PRE, np.int64(0)
    half = rules.banks // 2
    for rank in range(rules.ranks):
        if ch.rank[rank].owed == 0:
            continue
        urgent = ch.rank[rank].owed >= policy.postponed
        first = rank * rules.banks
        if ch.rank[rank].waiting and not urgent:
            ch.rank[rank].pair = NONE  # a pair chosen while the rank had nothing to do
            continue
        if policy.refresh == REFRESH_ALL_BANK:
            if urgent:
                for bank in range(first, first + rules.banks):
                    ch.bank[bank].blocked = 1
            if ch.rank[rank].open_banks:
                cycle = max(bus, ch.rank[rank].precharge_ok)
                for bank in range(first, first + rules.banks):
                    cycle = max(cycle, ch.bank[bank].precharge_ok)
                wanted, target = PREAB, rank
            else:
                cycle = max(bus, ch.rank[rank].refab_ok)
                wanted, target = REFAB, rank
        else:
            if ch.rank[rank].pair < 0:
                ch.rank[rank].pair = _choose_pair(rules, ch, rank)
            low = first + ch.rank[rank].pair
            high = low + half
            if urgent:
                ch.bank[low].blocked = 1
                ch.bank[high].blocked = 1
            if ch.bank[low].row >= 0 or ch.bank[high].row >= 0:
                target = low if ch.bank[low].row >= 0 else high
                cycle = max(bus, ch.rank[rank].precharge_ok, ch.bank[target].precharge_ok)
                wanted = PRE
            else:
                cycle = max(bus, ch.rank[rank].refpb_ok, ch.bank[low].act_ok, ch.bank[high].act_ok)
                wanted, target = REFPB, low
        if cycle < best:
            best, command, place = cycle, wanted, np.int64(target)
    return best, command, place


@njit(cache=True)
def _refresh(rules, ch, trace, cycle, command, place):
    rank = place if command == REFAB else place // rules.banks
    first = rank * rules.banks
    if command == REFAB:
        reopen = cycle + rules.rfcab
        ch.rank[rank].act_ok = reopen
        ch.rank[rank].refab_ok = reopen
        ch.rank[rank].refpb_ok = reopen
        ch.rank[rank].precharge_ok = reopen
        for bank in range(first, first + rules.banks):
            ch.bank[bank].blocked = 0
        ch.counter[REFRESHES_ALL_BANK] += 1
        _record(trace, ch, cycle, REFAB, first, 0)
    else:
        high = place + rules.banks // 2
        ch.bank[place].act_ok = cycle + rules.rfcpb
        ch.bank[high].act_ok = cycle + rules.rfcpb
        ch.rank[rank].act_ok = max(ch.rank[rank].act_ok, cycle + rules.pbr2act)
        ch.rank[rank].refpb_ok = cycle + rules.pbr2pbr
        ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rfcpb)
        ch.bank[place].blocked = 0
        ch.bank[high].blocked = 0
        ch.rank[rank].round &= ~(np.int64(1) << ch.rank[rank].pair)
        if ch.rank[rank].round == 0:
            ch.rank[rank].round = (np.int64(1) << (rules.banks // 2)) - 1
        ch.rank[rank].pair = NONE
        ch.counter[REFRESHES_PER_BANK] += 1
        _record(trace, ch, cycle, REFPB, place, 0)
    ch.rank[rank].owed -= 1
    ch.owed -= 1
    ch.bus = cycle + 1


@njit(cache=True)
def _request_candidate(rules, policy, ch, queue, bus):
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
            _refresh_falls_due(rules, policy, ch, bus)
        arrival = np.int64(NEVER)
        while ch.next_request < total:
            if req[ARRIVAL, ch.next_request] > bus:
                arrival = req[ARRIVAL, ch.next_request]
                break
            if not _admit(rules, policy, ch, req, bus):
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
            refresh_start, refresh_command, place = _refresh_candidate(rules, policy, ch, bus)
        start, need, bank = _request_candidate(rules, policy, ch, queue, bus)
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
                _precharge(rules, policy, ch, trace, refresh_start, place)
            elif refresh_command == PREAB:
                _precharge_all(rules, policy, ch, trace, refresh_start, place)
            else:
                _refresh(rules, ch, trace, refresh_start, refresh_command, place)
        elif need == NEED_COLUMN:
            _column(rules, policy, ch, req, trace, start + 1, queue, ch.queue[queue, bank].candidate)
        elif need == NEED_ACT:
            _activate(rules, policy, ch, trace, start, bank, ch.queue[queue, bank].candidate)
        else:
            ch.entry[ch.queue[queue, bank].candidate].kind = CONFLICT
            _precharge(rules, policy, ch, trace, start, bank)
