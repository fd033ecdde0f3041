"""What row commands and runs of reads change in stream mode: ready times, open rows, counters, the log."""

from __future__ import annotations

from cycle_model.kernel_cache import njit
from cycle_model.lpddr import channel
from cycle_model.lpddr.rules import ACT1, PRE, RD
from cycle_model.lpddr.stream_state import HALVES, HIT, bank_and_row


@njit(cache=True)
def log_step(log, flight, cycle, command, bank, count):
    """A step: ``count`` alternate reads from ``cycle`` on beginning with ``bank``, or one other command."""
    if log.shape[1]:
        n = flight.logged
        log[0, n] = cycle
        log[1, n] = command
        log[2, n] = bank
        log[3, n] = count
        flight.logged = n + 1


@njit(cache=True)
def activate(rules, ch, flight, log, cycle, bank, row):
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
    log_step(log, flight, cycle, ACT1, bank, 1)


@njit(cache=True)
def precharge(rules, ch, flight, log, cycle, bank):
    rank = ch.rank[bank // rules.banks]
    ch.bank[bank].row = -1
    ch.bank[bank].act_from = max(ch.bank[bank].act_from, cycle + rules.rp)
    rank.precharge_from = cycle + rules.ppd
    rank.refab_from = max(rank.refab_from, cycle + rules.rp)
    ch.counter[channel.PRECHARGES] += 1
    ch.bus = cycle + 1
    log_step(log, flight, cycle, PRE, bank, 1)


@njit(cache=True)
def read_run(rules, shape, ch, flight, log, half, cycle, length):
    """Issue ``length`` alternate reads, the first at ``cycle``."""
    for which in range(2):
        count = (length + 1 - which) >> 1
        if count == 0:
            continue
        mine = half ^ which
        bank, _ = bank_and_row(rules, shape, mine)
        slot = mine & (HALVES - 1)
        last = cycle + 2 * which + 4 * (count - 1)
        ch.counter[channel.HITS + flight.kind[slot]] += 1
        ch.counter[channel.HITS] += count - 1
        flight.kind[slot] = HIT
        flight.next[slot] += 2 * count
        ch.bank[bank].used = last
        ch.bank[bank].precharge_from = max(ch.bank[bank].precharge_from, last + rules.rtp)
        ch.group_read_from[bank // rules.banks_per_group] = last + rules.ccd_l
    bank, _ = bank_and_row(rules, shape, half)
    final = cycle + 2 * (length - 1)
    for r in range(rules.ranks):
        gap = rules.ccd_s if r == bank // rules.banks else rules.rank_switch
        ch.rank[r].read_from = max(ch.rank[r].read_from, final + gap)
    flight.issued += length
    ch.counter[channel.READS] += length
    ch.bus = final + 1
    ch.last_data = final + rules.cl + rules.burst
    log_step(log, flight, cycle, RD, bank, length)
