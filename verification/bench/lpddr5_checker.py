"""Independent legality checker of LPDDR5-6400 command traces.

Shares nothing with the model: the constraint table below was written from the standard's rules, in clocks of CK at
6400 Mb/s for 16 Gb dies, and is applied pairwise to the trace, where the model keeps running ready times. It also
checks what no distance expresses: one command per clock, CAS directly before its column, ACT-2 after ACT-1, open and
closed rows, the data bus, the refresh rate and the rounds of REFpb.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

BURST, READ_LATENCY, WRITE_LATENCY = 2, 17, 9
ACT2_WINDOW = 8
FOUR_ACTIVATES = 16
RANK_GAP = 2  # clocks without data between bursts of different ranks
REFRESH_INTERVAL = {"all-bank": 3125, "per-bank": 391}
POSTPONED = 8


class Command(NamedTuple):
    """One command: CK cycle, name, place. ``bank`` is 0 to 15 within the rank; ``row`` is what a column wants."""

    cycle: int
    name: str
    rank: int
    bank: int
    row: int = 0

    @property
    def group(self) -> int:
        """Bank group of the bank."""
        return self.bank // 4


class Rule(NamedTuple):
    """``after`` may come ``clocks`` after ``before`` at the earliest, within ``scope``."""

    name: str
    scope: str  # bank, pair (b and b + 8), group, rank, other rank, channel
    before: tuple[str, ...]
    after: tuple[str, ...]
    clocks: int


_READ, _WRITE = ("RD", "RDA"), ("WR", "WRA")
_COLUMN = _READ + _WRITE
_PRE_ANY = ("PRE", "PREab")
RULES = (
    Rule("tCCD_S", "channel", _READ, _READ, 2),
    Rule("tCCD_S", "channel", _WRITE, _WRITE, 2),
    Rule("tCCD_L", "group", _READ, _READ, 4),
    Rule("tCCD_L", "group", _WRITE, _WRITE, 4),
    Rule("tRTW", "rank", _READ, _WRITE, 12),
    Rule("tWTR_S", "rank", _WRITE, _READ, 16),
    Rule("tWTR_L", "group", _WRITE, _READ, 23),
    Rule("rank switch", "other rank", _COLUMN, _COLUMN, 4),
    Rule("rank turnaround", "other rank", _WRITE, _READ, 12),
    Rule("rank turnaround", "other rank", _READ, _WRITE, 12),
    Rule("tRCD", "bank", ("ACT-1",), _COLUMN, 15),
    Rule("tRAS", "bank", ("ACT-1",), ("PRE",), 34),
    Rule("tRAS", "rank", ("ACT-1",), ("PREab",), 34),
    Rule("tRC", "bank", ("ACT-1",), ("ACT-1",), 49),
    Rule("tRC", "rank", ("ACT-1",), ("REFab",), 49),
    Rule("tRRD", "rank", ("ACT-1",), ("ACT-1",), 4),
    Rule("tRTP", "bank", _READ, ("PRE",), 8),
    Rule("tRTP", "rank", _READ, ("PREab",), 8),
    Rule("tWR", "bank", _WRITE, ("PRE",), 39),
    Rule("tWR", "rank", _WRITE, ("PREab",), 39),
    Rule("tRPpb", "bank", ("PRE",), ("ACT-1",), 15),
    Rule("tRPpb", "pair", ("PRE",), ("REFpb",), 15),
    Rule("tRPpb", "rank", ("PRE",), ("REFab",), 15),
    Rule("tRPab", "rank", ("PREab",), ("ACT-1", "REFab", "REFpb"), 17),
    Rule("tPPD", "rank", _PRE_ANY, _PRE_ANY, 2),
    Rule("RDA", "bank", ("RDA",), ("ACT-1",), 23),
    Rule("RDA", "pair", ("RDA",), ("REFpb",), 23),
    Rule("RDA", "rank", ("RDA",), ("REFab",), 23),
    Rule("WRA", "bank", ("WRA",), ("ACT-1",), 54),
    Rule("WRA", "pair", ("WRA",), ("REFpb",), 54),
    Rule("WRA", "rank", ("WRA",), ("REFab",), 54),
    Rule("tRFCab", "rank", ("REFab",), ("ACT-1", "REFab", "REFpb", *_PRE_ANY, *_COLUMN), 224),
    Rule("tRFCpb", "pair", ("REFpb",), ("ACT-1", "REFpb"), 112),
    Rule("tRFCpb", "rank", ("REFpb",), ("REFab",), 112),
    Rule("tpbR2pbR", "rank", ("REFpb",), ("REFpb",), 72),
    Rule("tpbR2act", "rank", ("REFpb",), ("ACT-1",), 6),
)
NAMES = ("ACT-1", "ACT-2", "CAS", *_COLUMN, *_PRE_ANY, "REFab", "REFpb")


class Violation(AssertionError):
    """A command that the standard forbids there: names the rule, the cycle and the command."""


@dataclass
class Checker:
    """Feed the commands of one channel in order; raises ``Violation`` at the first illegal one.

    refresh    "none", "all-bank" or "per-bank": the rate that ``finish`` and every refresh are held to
    first_due  cycle at which each rank's first refresh falls due
    """

    refresh: str = "none"
    first_due: tuple[int, ...] = (0, 0, 0, 0)
    seen: int = 0
    _last: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _open: dict[tuple[int, int], int] = field(default_factory=dict)
    _activates: dict[int, list[int]] = field(default_factory=dict)
    _refreshed: dict[int, list[int]] = field(default_factory=dict)
    _bursts: list[tuple[int, int]] = field(default_factory=list)
    _cycle: int = -1
    _cas: Command | None = None
    _half: Command | None = None

    def feed(self, command: Command) -> None:
        """Check one command and remember it."""
        name, cycle, rank, bank = command.name, command.cycle, command.rank, command.bank
        if name not in NAMES:
            raise Violation(f"unknown command {name!r}")
        self._require(cycle > self._cycle, "one command per clock", command)
        self._structure(command)
        for rule in RULES:
            if name in rule.after:
                for before in rule.before:
                    latest = self._latest(before, rule.scope, command)
                    self._require(latest is None or cycle - latest >= rule.clocks, rule.name, command)
        if name == "ACT-1":
            recent = self._activates.setdefault(rank, [])
            self._require(len(recent) < 4 or cycle - recent[-4] >= FOUR_ACTIVATES, "tFAW", command)
            recent.append(cycle)
        if name in _COLUMN:
            self._data_bus(command)
        if name in ("REFab", "REFpb"):
            self._refresh(command)
        self._cycle = cycle
        self.seen += 1
        for scope, place in _places(rank, bank):
            self._last[name, scope, place] = cycle
        if name == "REFpb":
            self._last[name, "bank", rank * 16 + bank + 8] = cycle

    def finish(self, cycle: int) -> None:
        """End of the trace at ``cycle``: nothing half done, no rank behind with its refreshes."""
        if self._cas is not None or self._half is not None:
            raise Violation("trace ends between the halves of a command pair")
        if self.refresh != "none":
            for rank in range(4):
                self._rate(rank, cycle, f"end of trace at {cycle}")

    def _require(self, legal: bool, rule: str, command: Command) -> None:
        if not legal:
            raise Violation(
                f"{rule} violated by {command.name} at {command.cycle}, rank {command.rank} bank {command.bank}"
            )

    def _latest(self, name: str, scope: str, command: Command) -> int | None:
        if scope == "other rank":
            times = [self._last.get((name, "rank", rank)) for rank in range(4) if rank != command.rank]
            return max((t for t in times if t is not None), default=None)
        if scope == "pair":
            base = command.rank * 16 + command.bank % 8
            times = [self._last.get((name, "bank", base + half)) for half in (0, 8)]
            if command.name == "ACT-1":
                times = [self._last.get((name, "bank", command.rank * 16 + command.bank))]
            return max((t for t in times if t is not None), default=None)
        place = dict(_places(command.rank, command.bank))[scope]
        return self._last.get((name, scope, place))

    def _structure(self, command: Command) -> None:
        name, place = command.name, (command.rank, command.bank)
        pending, self._cas = self._cas, None
        if name in _COLUMN:
            paired = pending is not None and command.cycle == pending.cycle + 1
            self._require(paired and (pending.rank, pending.bank) == place, "CAS directly before a column", command)
            self._require(self._half is None or self._half[2:4] != place, "ACT-2 before a column", command)
            self._require(self._open.get(place) == command.row, "open row", command)
            if name in ("RDA", "WRA"):
                del self._open[place]
            return
        self._require(pending is None, "CAS directly before a column", command)
        if self._half is not None:
            late = command.cycle - self._half.cycle > ACT2_WINDOW
            self._require(not late, "tAAD", command)
        if name == "CAS":
            self._cas = command
        elif name == "ACT-1":
            self._require(self._half is None, "ACT-2 before another ACT-1", command)
            self._require(place not in self._open, "closed bank", command)
            self._half = command
        elif name == "ACT-2":
            self._require(self._half is not None and self._half[2:4] == place, "ACT-1 before ACT-2", command)
            self._open[place] = self._half.row
            self._half = None
        elif name == "PRE":
            self._open.pop(place, None)
        elif name == "PREab":
            self._open = {p: row for p, row in self._open.items() if p[0] != command.rank}
        elif name == "REFab":
            self._require(all(p[0] != command.rank for p in self._open), "closed bank", command)
        elif name == "REFpb":
            self._require(command.bank < 8, "REFpb names the lower bank of a pair", command)
            closed = place not in self._open and (command.rank, command.bank + 8) not in self._open
            self._require(closed, "closed bank", command)

    def _data_bus(self, command: Command) -> None:
        start = command.cycle + (READ_LATENCY if command.name in _READ else WRITE_LATENCY)
        for other, rank in self._bursts[-16:]:
            gap = BURST + (RANK_GAP if rank != command.rank else 0)
            self._require(abs(start - other) >= gap, "data bus", command)
        self._bursts.append((start, command.rank))

    def _refresh(self, command: Command) -> None:
        done = self._refreshed.setdefault(command.rank, [])
        if self.refresh != "none":
            self._rate(command.rank, command.cycle, f"{command.name} at {command.cycle}")
        if command.name == "REFpb":
            current = done[len(done) // 8 * 8 :]
            self._require(command.bank not in current, "REFpb round covers each pair once", command)
        done.append(command.bank)

    def _rate(self, rank: int, cycle: int, where: str) -> None:
        """Fewer than nine refreshes may be owed."""
        interval = REFRESH_INTERVAL[self.refresh]
        fallen_due = max(0, (cycle - self.first_due[rank]) // interval + 1)
        owed = fallen_due - len(self._refreshed.get(rank, []))
        if owed > POSTPONED:
            raise Violation(f"tREFI violated: rank {rank} owes {owed} refreshes at {where}")


def _places(rank: int, bank: int) -> tuple[tuple[str, int], ...]:
    return (("bank", rank * 16 + bank), ("group", rank * 4 + bank // 4), ("rank", rank), ("channel", 0))


def check(commands: list[Command], refresh: str = "none", first_due: tuple[int, ...] = (0, 0, 0, 0)) -> int:
    """Check a whole trace of one channel; the number of commands looked at."""
    checker = Checker(refresh=refresh, first_due=first_due)
    for command in commands:
        checker.feed(command)
    if commands:
        checker.finish(commands[-1].cycle + 1 if commands[-1].name not in ("CAS", "ACT-1") else 0)
    return checker.seen
