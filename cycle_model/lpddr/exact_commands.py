"""What each command of the exact LPDDR5 channel changes: ready times, open rows, queues, counters, the trace."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr.channel import (
    ACTIVATES,
    AT_BANK,
    COMMAND,
    CYCLE,
    DONE,
    HITS,
    MISS,
    NONE,
    PLACE,
    PRECHARGES,
    PRECHARGES_ALL,
    READS,
    REFRESHES_ALL_BANK,
    REFRESHES_PER_BANK,
    WRITES,
)
from cycle_model.lpddr.exact_queues import choose, find_hit, remove
from cycle_model.lpddr.rules import ACT1, ACT2, CAS, PRE, PREAB, RD, RDA, REFAB, REFPB, WR, WRA


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
def activate(rules, policy, ch, trace, cycle, bank, e):
    rank = bank // rules.banks
    row = ch.entry[e].row
    ch.entry[e].kind = max(ch.entry[e].kind, MISS)
    ch.bank[bank].row = row
    for queue in range(2):
        choose(policy, ch, queue, bank, cycle)
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
        choose(policy, ch, queue, bank, cycle)
    ch.bank[bank].act_ok = max(ch.bank[bank].act_ok, reopen_at)


@njit(cache=True)
def precharge(rules, policy, ch, trace, cycle, bank):
    rank = bank // rules.banks
    _close(policy, ch, bank, cycle, cycle + rules.rp)
    ch.rank[rank].open_banks -= 1
    ch.rank[rank].precharge_ok = cycle + rules.ppd
    ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, cycle + rules.rp)
    ch.counter[PRECHARGES] += 1
    ch.bus = cycle + 1
    _record(trace, ch, cycle, PRE, bank, 0)


@njit(cache=True)
def precharge_all(rules, policy, ch, trace, cycle, rank):
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
def issue_column(rules, policy, ch, req, trace, cycle, queue, e):
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
    remove(rules, ch, queue, e)
    row = ch.bank[bank].row
    auto = policy.closed_page and find_hit(ch, ch.queue[0, bank].head, row) < 0
    auto = auto and find_hit(ch, ch.queue[1, bank].head, row) < 0
    if auto:
        _close(policy, ch, bank, cycle, cycle + precharge + rules.rp)
        ch.rank[rank].open_banks -= 1
        ch.rank[rank].refab_ok = max(ch.rank[rank].refab_ok, ch.bank[bank].act_ok)
        ch.counter[PRECHARGES] += 1
    else:
        choose(policy, ch, queue, bank, cycle)
    _record(trace, ch, cycle - 1, CAS, bank, unit)
    command = (RDA if auto else RD) if queue == 0 else (WRA if auto else WR)
    _record(trace, ch, cycle, command, bank, unit)


@njit(cache=True)
def issue_refresh(rules, ch, trace, cycle, command, place):
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
