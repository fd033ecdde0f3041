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
from cycle_model.lpddr import channel
from cycle_model.lpddr.rules import (
    ACT1,
    LONG_AGO,
    NEVER,
    PRE,
    PREAB,
    RD,
    REFAB,
    REFPB,
    REFRESH_ALL_BANK,
)

HALVES = 16  # half segments (one bank's part of a pair's rows) that can be in flight
_HIT, _MISS, _CONFLICT = range(3)


def _fields(*names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])


# State that outlives a stream: rows stay open, refreshes stay owed. "*_from": first legal cycle.
STATE = np.dtype(
    [
        ("bank", _fields("row", "act_from", "precharge_from", "read_from", "used", "held"), (channel.MAX_BANKS,)),
        ("group_read_from", np.int64, (channel.MAX_BANKS,)),
        (
            "rank",
            _fields(
                *("read_from", "act_from", "precharge_from", "refpb_from", "refab_from"),
                *("act1", "act2", "act3", "due", "owed", "pair", "round"),
            ),
            (channel.MAX_RANKS,),
        ),
        ("counter", np.int64, (channel.COUNTERS,)),
        *((name, np.int64) for name in ("bus", "next_due", "owed", "last_data")),
    ]
)
# A stream in flight: bursts [first, end) of the channel; of each half in flight its next burst and what the first read
# of it had to wait for.
FLIGHT = np.dtype(
    [
        *((name, np.int64) for name in ("first", "end", "issued", "entered", "oldest_half", "logged")),
        ("next", np.int64, (HALVES,)),
        ("kind", np.int64, (HALVES,)),
    ]
)

# Bits of a burst's address within the channel: two rows, then groups (without the bit of the pair), banks, ranks, rows.
SHAPE = _fields("segment_bits", "group_bits", "bank_bits", "rank_bits")


@njit(cache=True)
def _bank_and_row(rules, shape, half):
    """Bank of the channel and row of ``half`` = 2 x segment + (0 lower, 1 upper bank of the pair)."""
    segment = half >> 1
    group = segment & ((1 << shape.group_bits) - 1)
    segment >>= shape.group_bits
    bank = segment & (rules.banks_per_group - 1)
    segment >>= shape.bank_bits
    rank = segment & (rules.ranks - 1)
    row = segment >> shape.rank_bits
    flat = rank * rules.banks + group * rules.banks_per_group + bank + (half & 1) * (rules.banks >> 1)
    return flat, row


@njit(cache=True)
def _queued(shape, flight, half):
    """Bursts of ``half`` that are in the queue."""
    bound = min(flight.entered, ((half >> 1) + 1) << shape.segment_bits)
    return max(0, (bound - flight.next[half & (HALVES - 1)] + 1) >> 1)


@njit(cache=True)
def _enter(shape, flight, depth):
    """Fill the queue; note the first burst of each half that comes into sight. False where too many are in flight."""
    entered = min(flight.end, flight.first + flight.issued + depth)
    last = (entered - 1) >> shape.segment_bits << 1 | 1
    known = ((flight.entered - 1) >> shape.segment_bits << 1 | 1) if flight.entered > flight.first else -1
    half = known + 1 if known >= 0 else (flight.first >> shape.segment_bits) << 1
    if known < 0:
        flight.oldest_half = half
    while half <= last:
        slot = half & (HALVES - 1)
        begin = max((half >> 1) << shape.segment_bits, flight.first)
        flight.next[slot] = begin + ((begin ^ half) & 1)
        flight.kind[slot] = _HIT
        half += 1
    flight.entered = entered
    while (flight.oldest_half >> 1) < (last >> 1) and _queued(shape, flight, flight.oldest_half) == 0:
        flight.oldest_half += 1
    return last - flight.oldest_half < HALVES


@njit(cache=True)
def _log(log, flight, cycle, command, bank, count):
    """A step: ``count`` alternate reads from ``cycle`` on beginning with ``bank``, or one other command."""
    if log.shape[1]:
        n = flight.logged
        log[0, n] = cycle
        log[1, n] = command
        log[2, n] = bank
        log[3, n] = count
        flight.logged = n + 1


@njit(cache=True)
def _activate(rules, ch, flight, log, cycle, bank, row):
    rank = ch.rank[bank // rules.banks]
    state = ch.bank[bank]
    state.row = row
    state.read_from = cycle + rules.rcd
    state.precharge_from = cycle + rules.ras
    state.act_from = cycle + rules.rc
    rank.refab_from = max(rank.refab_from, cycle + rules.rc)
    rank.act_from = max(rank.act_from, max(cycle + rules.rrd, rank.act3 + rules.faw))
    rank.act3 = rank.act2
    rank.act2 = rank.act1
    rank.act1 = cycle
    ch.counter[channel.ACTIVATES] += 1
    ch.bus = cycle + 2
    _log(log, flight, cycle, ACT1, bank, 1)


@njit(cache=True)
def _precharge(rules, ch, flight, log, cycle, bank):
    rank = ch.rank[bank // rules.banks]
    ch.bank[bank].row = -1
    ch.bank[bank].act_from = max(ch.bank[bank].act_from, cycle + rules.rp)
    rank.precharge_from = cycle + rules.ppd
    rank.refab_from = max(rank.refab_from, cycle + rules.rp)
    ch.counter[channel.PRECHARGES] += 1
    ch.bus = cycle + 1
    _log(log, flight, cycle, PRE, bank, 1)


@njit(cache=True)
def _ranks_in_use(rules, shape, flight):
    """Bit set of the ranks with queued bursts."""
    ranks = np.int64(0)
    half = flight.oldest_half
    while flight.entered > flight.first and half <= ((flight.entered - 1) >> shape.segment_bits << 1 | 1):
        if _queued(shape, flight, half):
            ranks |= np.int64(1) << (_bank_and_row(rules, shape, half)[0] // rules.banks)
        half += 1
    return ranks


@njit(cache=True)
def _bank_queue(rules, shape, flight, bank):
    total = 0
    half = flight.oldest_half
    while flight.entered > flight.first and half <= ((flight.entered - 1) >> shape.segment_bits << 1 | 1):
        if _bank_and_row(rules, shape, half)[0] == bank:
            total += _queued(shape, flight, half)
        half += 1
    return total


@njit(cache=True)
def _pair_to_refresh(rules, shape, ch, flight, rank, idle):
    """The round's pair with the fewest queued bursts; of idle ones the last used."""
    best, key_queue, key_used = -1, 0, 0
    half = rules.banks >> 1
    for pair in range(half):
        if (ch.rank[rank].round >> pair) & 1 == 0:
            continue
        low = rank * rules.banks + pair
        queue = np.int64(0)
        if not idle:
            queue = _bank_queue(rules, shape, flight, low) + _bank_queue(rules, shape, flight, low + half)
        used = max(ch.bank[low].used, ch.bank[low + half].used) if queue == 0 else np.int64(0)
        if best < 0 or queue < key_queue or (queue == key_queue and used > key_used):
            best, key_queue, key_used = pair, queue, used
    return best


@njit(cache=True)
def _refresh_step(rules, policy, shape, ch, flight):
    """Earliest refresh command: (cycle, command, bank)."""
    best, command, place = np.int64(NEVER), PRE, np.int64(0)
    half = rules.banks >> 1
    in_use = _ranks_in_use(rules, shape, flight)
    for r in range(rules.ranks):
        rank = ch.rank[r]
        if rank.owed == 0:
            continue
        forced = rank.owed >= policy.postponed
        if not forced and (in_use >> r) & 1:
            rank.pair = -1
            continue
        base = r * rules.banks
        if policy.refresh == REFRESH_ALL_BANK:
            cycle = max(ch.bus, rank.refab_from)
            wanted, target = REFAB, base
            closing = np.int64(LONG_AGO)
            for bank in range(base, base + rules.banks):
                if forced:
                    ch.bank[bank].held = 1
                if ch.bank[bank].row >= 0:
                    closing = max(closing, ch.bank[bank].precharge_from)
            if closing > LONG_AGO:
                cycle = max(ch.bus, max(rank.precharge_from, closing))
                wanted = PREAB
        else:
            if rank.pair < 0:
                rank.pair = _pair_to_refresh(rules, shape, ch, flight, r, (in_use >> r) & 1 == 0)
            low, high = base + rank.pair, base + rank.pair + half
            if forced:
                ch.bank[low].held = 1
                ch.bank[high].held = 1
            if ch.bank[low].row >= 0 or ch.bank[high].row >= 0:
                target = low if ch.bank[low].row >= 0 else high
                cycle = max(ch.bus, max(rank.precharge_from, ch.bank[target].precharge_from))
                wanted = PRE
            else:
                cycle = max(max(ch.bus, rank.refpb_from), max(ch.bank[low].act_from, ch.bank[high].act_from))
                wanted, target = REFPB, low
        if cycle < best:
            best, command, place = cycle, wanted, np.int64(target)
    return best, command, place


@njit(cache=True)
def _refresh(rules, ch, flight, log, cycle, command, place):
    if command == PRE:
        _precharge(rules, ch, flight, log, cycle, place)
        return
    rank = ch.rank[place // rules.banks]
    ch.bus = cycle + 1
    _log(log, flight, cycle, command, place, 1)
    if command == PREAB:
        for bank in range(place, place + rules.banks):
            ch.bank[bank].row = -1
        rank.act_from = max(rank.act_from, cycle + rules.rpab)
        rank.precharge_from = cycle + rules.ppd
        rank.refab_from = max(rank.refab_from, cycle + rules.rpab)
        ch.counter[channel.PRECHARGES_ALL] += 1
        return
    if command == REFAB:
        free = cycle + rules.rfcab
        rank.act_from = free
        rank.refab_from = free
        rank.refpb_from = free
        rank.precharge_from = free
        for bank in range(place, place + rules.banks):
            ch.bank[bank].held = 0
        ch.counter[channel.REFRESHES_ALL_BANK] += 1
    else:
        for bank in (place, place + (rules.banks >> 1)):
            ch.bank[bank].act_from = cycle + rules.rfcpb
            ch.bank[bank].held = 0
        rank.act_from = max(rank.act_from, cycle + rules.pbr2act)
        rank.refpb_from = cycle + rules.pbr2pbr
        rank.refab_from = max(rank.refab_from, cycle + rules.rfcpb)
        rank.round &= ~(np.int64(1) << rank.pair)
        if rank.round == 0:
            rank.round = (np.int64(1) << (rules.banks >> 1)) - 1
        rank.pair = -1
        ch.counter[channel.REFRESHES_PER_BANK] += 1
    rank.owed -= 1
    ch.owed -= 1


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
        bank, row = _bank_and_row(rules, shape, half)
        state = ch.bank[bank]
        if _queued(shape, flight, half) and not state.held:
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
    bank, row = _bank_and_row(rules, shape, other)
    regular = rules.ccd_s <= 2 and 3 <= rules.ccd_l <= 4  # alternate banks, and only they, are ready every two clocks
    alone = flight.oldest_half >> 1 == half >> 1
    partner = ch.bank[bank]
    ready = max(partner.read_from, ch.group_read_from[bank // rules.banks_per_group]) <= cycle + 2
    if not (regular and alone and partner.row == row and not partner.held and ready):
        return 1
    mine, others = _queued(shape, flight, half), _queued(shape, flight, other)
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
def _read_run(rules, shape, ch, flight, log, half, cycle, length):
    """Issue ``length`` alternate reads, the first at ``cycle``."""
    for which in range(2):
        count = (length + 1 - which) >> 1
        if count == 0:
            continue
        mine = half ^ which
        bank, _ = _bank_and_row(rules, shape, mine)
        slot = mine & (HALVES - 1)
        last = cycle + 2 * which + 4 * (count - 1)
        ch.counter[channel.HITS + flight.kind[slot]] += 1
        ch.counter[channel.HITS] += count - 1
        flight.kind[slot] = _HIT
        flight.next[slot] += 2 * count
        ch.bank[bank].used = last
        ch.bank[bank].precharge_from = max(ch.bank[bank].precharge_from, last + rules.rtp)
        ch.group_read_from[bank // rules.banks_per_group] = last + rules.ccd_l
    bank, _ = _bank_and_row(rules, shape, half)
    final = cycle + 2 * (length - 1)
    for r in range(rules.ranks):
        gap = rules.ccd_s if r == bank // rules.banks else rules.rank_switch
        ch.rank[r].read_from = max(ch.rank[r].read_from, final + gap)
    flight.issued += length
    ch.counter[channel.READS] += length
    ch.bus = final + 1
    ch.last_data = final + rules.cl + rules.burst
    _log(log, flight, cycle, RD, bank, length)


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
            if not _enter(shape, flight, policy.read_depth):
                return False
        else:
            event = min(event, arrival)
        if flight.issued == total:
            return True
        refresh, command, place = np.int64(NEVER), PRE, np.int64(0)
        if ch.owed:
            refresh, command, place = _refresh_step(rules, policy, shape, ch, flight)
        start, need, half, row_command = np.int64(NEVER), 3, np.int64(0), np.int64(NEVER)
        if flight.entered > flight.first:
            start, need, half, row_command = _request_step(rules, shape, ch, flight)
        if event <= min(start, refresh):
            ch.bus = event
        elif refresh <= start:
            _refresh(rules, ch, flight, log, refresh, command, place)
        elif need == 2:
            stop = min(min(row_command, refresh), ch.next_due)
            length = _run_length(rules, shape, ch, flight, half, start, stop)
            _read_run(rules, shape, ch, flight, log, half, start + 1, length)
        else:
            bank, row = _bank_and_row(rules, shape, half)
            slot = half & (HALVES - 1)
            if need == 1:
                flight.kind[slot] = _CONFLICT
                _precharge(rules, ch, flight, log, start, bank)
            else:
                flight.kind[slot] = max(flight.kind[slot], _MISS)
                _activate(rules, ch, flight, log, start, bank, row)
