"""Request queues of the exact LPDDR5 channel: who waits for which bank, and each bank's candidate by need and age."""

from __future__ import annotations

from cycle_model.kernel_cache import njit
from cycle_model.lpddr.channel import (
    BANK,
    DONE,
    ENTERED,
    FORWARDED,
    HIT,
    IDLE,
    NEED_ACT,
    NEED_COLUMN,
    NEED_PRE,
    NONE,
    ROW,
    UNIT,
    WRITE,
)


@njit(cache=True)
def find_hit(ch, entry, row):
    """The first entry from ``entry`` on (arrival order within a bank) that wants ``row``."""
    while entry >= 0 and ch.entry[entry].row != row:
        entry = ch.entry[entry].next
    return entry


@njit(cache=True)
def choose(policy, ch, queue, bank, now):
    """Set the bank's candidate in ``queue`` and put it in its place by need and age.

    The candidate is the oldest hit of the open row, unless it would pass a request older than ``age_limit``.
    """
    q = ch.queue[queue, bank]
    e, need = q.head, IDLE
    if e >= 0:
        need = NEED_ACT
        if ch.bank[bank].row >= 0:
            hit = find_hit(ch, e, ch.bank[bank].row)
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
def admit(rules, policy, ch, req, now):
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
        choose(policy, ch, queue, bank, now)
    ch.queued[queue] += 1
    ch.bank[bank].waiting += 1
    ch.rank[bank // rules.banks].waiting += 1
    req[ENTERED, i] = now
    ch.next_request = i + 1
    return True


@njit(cache=True)
def remove(rules, ch, queue, e):
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
