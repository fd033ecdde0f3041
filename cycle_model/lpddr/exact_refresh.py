"""Refreshes that the exact LPDDR5 channel owes: when they fall due, for which banks, and what they want next."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr.channel import NONE
from cycle_model.lpddr.rules import NEVER, PRE, PREAB, REFAB, REFPB, REFRESH_ALL_BANK


@njit(cache=True)
def refresh_falls_due(rules, policy, ch, now):
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
def refresh_candidate(rules, policy, ch, bus):
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
