"""State of an LPDDR5 channel in stream mode, and the queue's view of the bursts of a stream."""

from __future__ import annotations

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.lpddr import channel

HALVES = 16  # half segments (one bank's part of a pair's rows) that can be in flight
HIT, MISS, CONFLICT = range(3)


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
def bank_and_row(rules, shape, half):
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
def queued(shape, flight, half):
    """Bursts of ``half`` that are in the queue."""
    bound = min(flight.entered, ((half >> 1) + 1) << shape.segment_bits)
    return max(0, (bound - flight.next[half & (HALVES - 1)] + 1) >> 1)


@njit(cache=True)
def enter(shape, flight, depth):
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
        flight.kind[slot] = HIT
        half += 1
    flight.entered = entered
    while (flight.oldest_half >> 1) < (last >> 1) and queued(shape, flight, flight.oldest_half) == 0:
        flight.oldest_half += 1
    return last - flight.oldest_half < HALVES
