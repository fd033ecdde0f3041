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

from typing import NamedTuple

import numpy as np
from numba import njit

from cycle_model.lpddr.rules import (
    ACT1,
    ACT2,
    CAS,
    LONG_AGO,
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
    first_refresh_due,
)

# Scalars of a channel, one array so that compiled code can change them.
BUS, NEXT_REQUEST, DRAINING, NEXT_DUE, FREE, SEQUENCE, TRACED, OWED, MOST_OWED, LAST_DATA = range(10)
# Counters.
(
    READS,
    WRITES,
    ACTIVATES,
    PRECHARGES,
    PRECHARGES_ALL,
    REFRESHES_ALL_BANK,
    REFRESHES_PER_BANK,
    HITS,
    MISSES,
    CONFLICTS,
    FORWARDED,
    DRAINS,
) = range(12)
COUNTERS = 12
_HIT, _MISS, _CONFLICT = 0, 1, 2
_NONE = -1


class Requests(NamedTuple):
    """Requests of one channel in arrival order, each array (N,) int64.

    bank, row, unit (burst address), write (0 or 1), arrival (cycle); filled by the model: ``entered`` (cycle at which
    the request got its queue place) and ``done`` (cycle after its last data beat; a write's, too).
    """

    bank: np.ndarray
    row: np.ndarray
    unit: np.ndarray
    write: np.ndarray
    arrival: np.ndarray
    entered: np.ndarray
    done: np.ndarray


class CommandTrace(NamedTuple):
    """Issued commands, each array (capacity,) int64; capacity 0 records nothing. ``row`` of a column is its burst."""

    cycle: np.ndarray
    command: np.ndarray
    bank: np.ndarray
    row: np.ndarray


def _dtype(*names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])


_BANK = _dtype("row", "act_ok", "precharge_ok", "column_ok", "used", "blocked", "waiting")
_GROUP = _dtype("read_ok", "write_ok")
_RANK = _dtype(
    *("read_ok", "write_ok", "act_ok", "precharge_ok", "refpb_ok", "refab_ok"),
    *("oldest", "open_banks", "waiting", "due", "owed", "pair", "round"),
)
_QUEUE = _dtype("head", "tail", "hit", "place")
_ENTRY = _dtype("next", "previous", "row", "bank", "unit", "request", "sequence", "arrival", "kind")


class Channel(NamedTuple):
    """All state of one channel, as arrays of records. ``*_ok``: first cycle legal as far as this level knows.

    bank    (all ranks' banks,): row (open row or -1), act_ok, precharge_ok, column_ok, used (last column), blocked (1:
            reserved for a refresh), waiting (queued requests)
    group   (all ranks' groups,): read_ok, write_ok
    rank    (ranks,): the same for ranks; oldest (index into window), open_banks, waiting, due (next refresh), owed
            (refreshes due and not done), pair (chosen for REFpb or -1), round (bit set of the pairs left in it)
    window  (ranks, 4): cycles of the last four activates
    queue   (2, banks), first index 0 reads and 1 writes: head and tail of the bank's entries in arrival order, hit
            (oldest entry that wants the open row), place (index into active)
    active  (2, banks): the banks with entries, the first ``active_count`` (2,)
    queued  (2,): entries held
    entry   (places,): the queued requests; free: the free places
    """

    bank: np.ndarray
    group: np.ndarray
    rank: np.ndarray
    window: np.ndarray
    queue: np.ndarray
    active: np.ndarray
    active_count: np.ndarray
    queued: np.ndarray
    entry: np.ndarray
    free: np.ndarray
    scalar: np.ndarray
    counter: np.ndarray


def _records(dtype: np.dtype, shape: tuple[int, ...], **values: int) -> np.ndarray:
    made = np.zeros(shape, dtype)
    for name in dtype.names:
        made[name] = LONG_AGO if name.endswith("_ok") else values.get(name, 0)
    return made.view(np.recarray)


def new_channel(rules: np.record, policy: np.record) -> Channel:
    """A channel at cycle 0: all banks precharged, nothing queued, every constraint long past."""
    banks, ranks = int(rules.ranks * rules.banks), int(rules.ranks)
    entries = int(policy.read_depth + policy.write_depth)
    rank = _records(_RANK, (ranks,), pair=_NONE, round=(1 << (int(rules.banks) // 2)) - 1)
    rank["due"] = first_refresh_due(policy, ranks)
    scalar = np.zeros(10, np.int64)
    scalar[NEXT_DUE] = rank["due"].min()
    scalar[FREE] = entries
    return Channel(
        bank=_records(_BANK, (banks,), row=_NONE, used=_NONE),
        group=_records(_GROUP, (ranks * int(rules.groups),)),
        rank=rank,
        window=np.full((ranks, 4), LONG_AGO, np.int64),
        queue=_records(_QUEUE, (2, banks), head=_NONE, tail=_NONE, hit=_NONE, place=_NONE),
        active=np.full((2, banks), _NONE, np.int64),
        active_count=np.zeros(2, np.int64),
        queued=np.zeros(2, np.int64),
        entry=_records(_ENTRY, (entries,)),
        free=np.arange(entries, dtype=np.int64),
        scalar=scalar,
        counter=np.zeros(COUNTERS, np.int64),
    )


@njit(cache=True)
def _record(trace, ch, cycle, command, bank, row):
    if trace.cycle.size:
        n = ch.scalar[TRACED]
        trace.cycle[n] = cycle
        trace.command[n] = command
        trace.bank[n] = bank
        trace.row[n] = row
        ch.scalar[TRACED] = n + 1


@njit(cache=True)
def _find_hit(ch, entry, row):
    """The first entry from ``entry`` on (arrival order within a bank) that wants ``row``."""
    while entry >= 0 and ch.entry[entry].row != row:
        entry = ch.entry[entry].next
    return entry


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
    i = ch.scalar[NEXT_REQUEST]
    bank = req.bank[i]
    queue = req.write[i]
    if queue == 0:
        if ch.queued[1] and _holds(ch, 1, bank, req.unit[i]):  # read after write: forwarded from the write queue
            req.entered[i] = now
            req.done[i] = now + 1
            ch.counter[FORWARDED] += 1
            ch.scalar[NEXT_REQUEST] = i + 1
            return True
        if ch.queued[0] == policy.read_depth:
            return False
    elif ch.queued[1] == policy.write_depth or _holds(ch, 0, bank, req.unit[i]):  # write after read waits for the read
        return False
    free = ch.scalar[FREE] - 1
    ch.scalar[FREE] = free
    e = ch.free[free]
    row = req.row[i]
    ch.entry[e].row = row
    ch.entry[e].bank = bank
    ch.entry[e].unit = req.unit[i]
    ch.entry[e].request = i
    ch.entry[e].arrival = now
    ch.entry[e].sequence = ch.scalar[SEQUENCE]
    ch.scalar[SEQUENCE] += 1
    ch.entry[e].kind = _HIT
    last = ch.queue[queue, bank].tail
    ch.entry[e].previous = last
    ch.entry[e].next = _NONE
    ch.queue[queue, bank].tail = e
    if last >= 0:
        ch.entry[last].next = e
    else:
        ch.queue[queue, bank].head = e
        place = ch.active_count[queue]
        ch.active[queue, place] = bank
        ch.queue[queue, bank].place = place
        ch.active_count[queue] = place + 1
    if ch.queue[queue, bank].hit < 0 and ch.bank[bank].row == row:
        ch.queue[queue, bank].hit = e
    ch.queued[queue] += 1
    ch.bank[bank].waiting += 1
    ch.rank[bank // rules.banks].waiting += 1
    req.entered[i] = now
    ch.scalar[NEXT_REQUEST] = i + 1
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
    if ch.queue[queue, bank].head < 0:
        place = ch.queue[queue, bank].place
        last = ch.active_count[queue] - 1
        moved = ch.active[queue, last]
        ch.active[queue, place] = moved
        ch.queue[queue, moved].place = place
        ch.active_count[queue] = last
    ch.queue[queue, bank].hit = _find_hit(ch, after, ch.bank[bank].row)
    ch.queued[queue] -= 1
    ch.bank[bank].waiting -= 1
    ch.rank[bank // rules.banks].waiting -= 1
    ch.free[ch.scalar[FREE]] = e
    ch.scalar[FREE] += 1


@njit(cache=True)
def _activate(rules, ch, trace, cycle, bank, e):
    rank = bank // rules.banks
    row = ch.entry[e].row
    ch.entry[e].kind = max(ch.entry[e].kind, _MISS)
    ch.bank[bank].row = row
    for queue in range(2):
        ch.queue[queue, bank].hit = _find_hit(ch, ch.queue[queue, bank].head, row)
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
    ch.scalar[BUS] = cycle + 2
    _record(trace, ch, cycle, ACT1, bank, row)
    _record(trace, ch, cycle + 1, ACT2, bank, row)


@njit(cache=True)
def _close(ch, bank, reopen_at):
    ch.bank[bank].row = _NONE
    ch.queue[0, bank].hit = _NONE
    ch.queue[1, bank].hit = _NONE
    ch.bank[bank].act_ok = max(ch.bank[bank].act_ok, reopen_at)


@njit(cache=True)
def _precharge(rules, ch, trace, cycle, bank):
    rank = bank // rules.banks
    _close(ch, bank, cycle + rules.rp)
    ch.rank[rank].open_banks -= 1
    ch.rank[rank].precharge_ok = cycle + rules.ppd
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rp)
    ch.counter[PRECHARGES] += 1
    ch.scalar[BUS] = cycle + 1
    _record(trace, ch, cycle, PRE, bank, 0)


@njit(cache=True)
def _precharge_all(rules, ch, trace, cycle, rank):
    for bank in range(rank * rules.banks, (rank + 1) * rules.banks):
        if ch.bank[bank].row >= 0:
            _close(ch, bank, cycle + rules.rpab)
    ch.rank[rank].open_banks = 0
    ch.rank[rank].precharge_ok = cycle + rules.ppd
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rpab)
    ch.counter[PRECHARGES_ALL] += 1
    ch.scalar[BUS] = cycle + 1
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
    req.done[ch.entry[e].request] = done
    ch.scalar[LAST_DATA] = max(ch.scalar[LAST_DATA], done)
    ch.scalar[BUS] = cycle + 1
    unit = ch.entry[e].unit
    _remove(rules, ch, queue, e)
    auto = policy.closed_page and ch.queue[0, bank].hit < 0 and ch.queue[1, bank].hit < 0
    if auto:
        _close(ch, bank, cycle + precharge + rules.rp)
        ch.rank[rank].open_banks -= 1
        ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, ch.bank[bank].act_ok)
        ch.counter[PRECHARGES] += 1
    _record(trace, ch, cycle - 1, CAS, bank, unit)
    command = (RDA if auto else RD) if queue == 0 else (WRA if auto else WR)
    _record(trace, ch, cycle, command, bank, unit)


@njit(cache=True)
def _refresh_falls_due(policy, ch, now):
    ch.scalar[NEXT_DUE] = NEVER
    for rank in range(ch.rank.size):
        while ch.rank[rank].due <= now:
            ch.rank[rank].due += policy.interval
            ch.rank[rank].owed += 1
            ch.scalar[OWED] += 1
            ch.scalar[MOST_OWED] = max(ch.scalar[MOST_OWED], ch.rank[rank].owed)
        ch.scalar[NEXT_DUE] = min(ch.scalar[NEXT_DUE], ch.rank[rank].due)


@njit(cache=True)
def _choose_pair(rules, ch, rank):
    """The pair of banks that REFpb takes next, among those the current round has left.

    One without queued requests if possible, of these the last used (in a stream the one needed again last);
    otherwise the one with the fewest queued requests. Ties: the lowest.
    """
    best, best_waiting, best_used = _NONE, 0, 0
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

    A rank that owes refreshes does them while it has no queued request; one that owes more than ``postponed`` does
    them first, and the banks concerned take no further command for requests.
    """
    best, command, place = np.int64(NEVER), PRE, np.int64(0)
    half = rules.banks // 2
    for rank in range(rules.ranks):
        if ch.rank[rank].owed == 0:
            continue
        urgent = ch.rank[rank].owed > policy.postponed
        first = rank * rules.banks
        if ch.rank[rank].waiting and not urgent:
            ch.rank[rank].pair = _NONE  # a pair chosen while the rank had nothing to do
            continue
        if policy.refresh == REFRESH_ALL_BANK:
            if urgent:
                for bank in range(first, first + rules.banks):
                    ch.bank[bank].blocked = 1
            if ch.rank[rank].open_banks:
                cycle = max(bus, ch.rank[rank].precharge_ok)
                for bank in range(first, first + rules.banks):
                    if ch.bank[bank].row >= 0:
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
        ch.rank[rank].pair = _NONE
        ch.counter[REFRESHES_PER_BANK] += 1
        _record(trace, ch, cycle, REFPB, place, 0)
    ch.rank[rank].owed -= 1
    ch.scalar[OWED] -= 1
    ch.scalar[BUS] = cycle + 1


@njit(cache=True)
def _request_candidate(rules, policy, ch, queue, bus):
    """Best candidate of the queue's banks: (first clock, command, entry). Command RD stands for any column."""
    best, best_class, best_age = np.int64(NEVER), 9, np.int64(0)
    command, chosen = RD, np.int64(_NONE)
    for k in range(ch.active_count[queue]):
        bank = ch.active[queue, k]
        if ch.bank[bank].blocked:
            continue
        rank = bank // rules.banks
        e = ch.queue[queue, bank].hit
        oldest = ch.queue[queue, bank].head
        if e >= 0:
            group = bank // rules.banks_per_group
            if queue == 0:
                ready = max(ch.group[group].read_ok, ch.rank[rank].read_ok)
            else:
                ready = max(ch.group[group].write_ok, ch.rank[rank].write_ok)
            start = max(bus, max(ready, ch.bank[bank].column_ok) - 1)  # CAS goes first
            order, wanted = 3, RD
            if e != oldest and start - ch.entry[oldest].arrival > policy.age_limit:
                e = np.int64(_NONE)
        if e < 0:
            e = oldest
            if ch.bank[bank].row >= 0:
                start = max(bus, ch.bank[bank].precharge_ok, ch.rank[rank].precharge_ok)
                order, wanted = 2, PRE
            else:
                start = max(bus, ch.bank[bank].act_ok, ch.rank[rank].act_ok)
                order, wanted = 1, ACT1
        age = ch.entry[e].sequence
        if start < best or (start == best and (order < best_class or (order == best_class and age < best_age))):
            best, best_class, best_age = start, order, age
            command, chosen = wanted, e
    return best, command, chosen


@njit(cache=True)
def advance(rules, policy, ch, req, trace, total, limit):
    """Issue every command whose first clock lies before ``limit``, taking requests up to index ``total``.

    With ``limit`` NEVER it returns when all requests have been issued; otherwise time passes up to ``limit``, with
    refreshes, and later requests may not arrive before it.
    """
    s = ch.scalar
    while True:
        bus = s[BUS]
        if s[NEXT_DUE] <= bus:
            _refresh_falls_due(policy, ch, bus)
        arrival = np.int64(NEVER)
        while s[NEXT_REQUEST] < total:
            if req.arrival[s[NEXT_REQUEST]] > bus:
                arrival = req.arrival[s[NEXT_REQUEST]]
                break
            if not _admit(rules, policy, ch, req, bus):
                break
        reads, writes = ch.queued[0], ch.queued[1]
        if s[DRAINING]:
            if writes == 0 or (writes <= policy.write_low and reads > 0):
                s[DRAINING] = 0
        elif writes and (writes >= policy.write_high or reads == 0):
            s[DRAINING] = 1
            ch.counter[DRAINS] += 1
        if limit == NEVER and reads + writes == 0 and s[NEXT_REQUEST] == total:
            return
        queue = s[DRAINING]
        refresh_start = np.int64(NEVER)
        refresh_command, place = PRE, np.int64(0)
        if s[OWED]:
            refresh_start, refresh_command, place = _refresh_candidate(rules, policy, ch, bus)
        start, command, e = _request_candidate(rules, policy, ch, queue, bus)
        first = min(start, refresh_start)
        event = min(arrival, s[NEXT_DUE])
        if event <= first and event < limit:
            s[BUS] = event
            continue
        if first >= limit:
            s[BUS] = max(bus, limit)
            return
        if refresh_start <= start:
            if refresh_command == PRE:
                _precharge(rules, ch, trace, refresh_start, place)
            elif refresh_command == PREAB:
                _precharge_all(rules, ch, trace, refresh_start, place)
            else:
                _refresh(rules, ch, trace, refresh_start, refresh_command, place)
        elif command == RD:
            _column(rules, policy, ch, req, trace, start + 1, queue, e)
        elif command == ACT1:
            _activate(rules, ch, trace, start, ch.entry[e].bank, e)
        else:
            ch.entry[e].kind = _CONFLICT
            _precharge(rules, ch, trace, start, ch.entry[e].bank)
