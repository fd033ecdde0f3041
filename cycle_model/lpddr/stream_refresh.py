"""Refreshes in stream mode: which rank or pair of banks comes next, when, and what the command changes."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr import channel
from cycle_model.lpddr.rules import LONG_AGO, NEVER, PRE, PREAB, REFAB, REFPB, REFRESH_ALL_BANK
from cycle_model.lpddr.stream_commands import log_step, precharge
from cycle_model.lpddr.stream_state import bank_and_row, queued


@njit(cache=True)
def _ranks_in_use(rules, shape, flight):
    """Bit set of the ranks with queued bursts."""
    ranks = np.int64(0)
    half = flight.oldest_half
    while flight.entered > flight.first and half <= ((flight.entered - 1) >> shape.segment_bits << 1 | 1):
        if queued(shape, flight, half):
            ranks |= np.int64(1) << (bank_and_row(rules, shape, half)[0] // rules.banks)
        half += 1
    return ranks


@njit(cache=True)
def _bank_queue(rules, shape, flight, bank):
    total = 0
    half = flight.oldest_half
    while flight.entered > flight.first and half <= ((flight.entered - 1) >> shape.segment_bits << 1 | 1):
        if bank_and_row(rules, shape, half)[0] == bank:
            total += queued(shape, flight, half)
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
def refresh_step(rules, policy, shape, ch, flight):
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
def issue_refresh(rules, ch, flight, log, cycle, command, place):
    if command == PRE:
        precharge(rules, ch, flight, log, cycle, place)
        return
    rank = ch.rank[place // rules.banks]
    ch.bus = cycle + 1
    log_step(log, flight, cycle, command, place, 1)
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
