"""State of one LPDDR5 channel at the exact level: its record, its requests, its command trace and its counters."""

from __future__ import annotations

import numpy as np

from cycle_model.lpddr.rules import LONG_AGO, NEVER, first_refresh_due
from hw.errors import UserError

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
HIT, MISS, CONFLICT = 0, 1, 2
NONE = -1
# What a bank's candidate needs, in the order in which candidates of the same clock go.
NEED_ACT, NEED_PRE, NEED_COLUMN, IDLE = range(4)


# Rows of a channel's requests, (7, N) int64 in arrival order. ENTERED is the cycle at which a request got its queue
# place, DONE the cycle after its last data beat (also a write's); the model fills both.
BANK, ROW, UNIT, WRITE, ARRIVAL, ENTERED, DONE = range(7)
REQUEST_ROWS = 7
# Rows of a command trace, (4, capacity) int64; capacity 0 records nothing. PLACE is the burst address of a column and
# the row of an activate.
CYCLE, COMMAND, AT_BANK, PLACE = range(4)


def _dtype(*names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])


_RANK = _dtype(
    *("read_ok", "write_ok", "act_ok", "precharge_ok", "refpb_ok", "refab_ok"),
    *("oldest", "open_banks", "waiting", "due", "owed", "pair", "round"),
)
_ENTRY = _dtype("next", "previous", "row", "bank", "unit", "request", "sequence", "arrival", "kind")


# Places of a channel record: fixed, so that every organization and queue depth shares one compiled program.
MAX_RANKS, MAX_BANKS, MAX_ENTRIES = 8, 128, 512

# All state of one channel, one record that compiled code takes by reference (passing many arrays to each function costs
# three times the work itself). "*_ok": first cycle legal as far as this level knows. Of ``queue``, ``ranked`` and
# ``age`` the first index is 0 for reads and 1 for writes.
CHANNEL = np.dtype(
    [
        # open row or -1; last column; 1 where reserved for a refresh; queued requests
        ("bank", _dtype("row", "act_ok", "precharge_ok", "column_ok", "used", "blocked", "waiting"), (MAX_BANKS,)),
        ("group", _dtype("read_ok", "write_ok"), (MAX_BANKS,)),
        ("rank", _RANK, (MAX_RANKS,)),
        ("window", np.int64, (MAX_RANKS, 4)),  # cycles of the last four activates
        # entries of a bank in arrival order; the one that it would serve next and what that needs
        ("queue", _dtype("head", "tail", "candidate", "need"), (2, MAX_BANKS)),
        ("ranked", np.int64, (2, 3, MAX_BANKS)),  # banks by need, the oldest candidate first
        ("age", np.int64, (2, 3, MAX_BANKS)),  # the candidates' sequence numbers
        ("ranked_count", np.int64, (2, 3)),
        ("queued", np.int64, (2,)),
        ("entry", _ENTRY, (MAX_ENTRIES,)),
        ("free", np.int64, (MAX_ENTRIES,)),
        ("counter", np.int64, (COUNTERS,)),
        *((name, np.int64) for name in ("bus", "next_request", "draining", "next_due", "free_count", "sequence")),
        *((name, np.int64) for name in ("traced", "owed", "most_owed", "last_data")),
    ]
)


def new_channel(rules: np.record, policy: np.record) -> np.record:
    """A channel at cycle 0: all banks precharged, nothing queued, every constraint long past.

    Raises UserError where the organization or the queues have more places than the record.
    """
    ranks, entries = int(rules.ranks), int(policy.read_depth + policy.write_depth)
    if ranks > MAX_RANKS or ranks * rules.banks > MAX_BANKS or entries > MAX_ENTRIES:
        raise UserError(
            f"one channel must have at most {MAX_RANKS} ranks, {MAX_BANKS} banks and {MAX_ENTRIES} queue places, "
            f"not {ranks}, {ranks * int(rules.banks)} and {entries}"
        )
    ch = np.zeros(1, CHANNEL).view(np.recarray)[0]
    for level in ("bank", "group", "rank"):
        for name in ch[level].dtype.names:
            if name.endswith("_ok"):
                ch[level][name] = LONG_AGO
    ch.window[:] = LONG_AGO
    ch.bank["row"] = ch.bank["used"] = NONE
    ch.rank["pair"] = NONE
    ch.rank["round"] = (1 << (int(rules.banks) // 2)) - 1
    ch.rank["due"] = NEVER
    ch.rank["due"][:ranks] = first_refresh_due(policy, ranks)
    ch.next_due = ch.rank["due"].min()
    ch.queue["head"] = ch.queue["tail"] = ch.queue["candidate"] = NONE
    ch.queue["need"] = IDLE
    ch.free[:entries] = np.arange(entries)
    ch.free_count = entries
    return ch
