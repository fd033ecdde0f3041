"""What running a program gives, the same at every level: a digest of values, times, counters, the error."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from hw.isa.encoding import PeError, Unit


@dataclass(frozen=True)
class PeFault:
    """The first error: status register of the PE."""

    code: PeError
    unit: Unit
    instruction: int


@dataclass
class PeState:
    """Values left by a program; what `digest` covers.

    memories  name (WH WL AL AV RT VT LT XM ROW REGISTERS) -> uint32 [..., words]: contents, and where they were written
    out       uint32 [words sent, C]: words of the aggregation link out, in order
    hb        uint32 [data columns, C], linear
    events    (kind, a, b) of MARK (kind 0, b 0) and COUNT (kind 1), in order
    host      (a, b, d) of every HOST command, in order
    """

    memories: dict[str, np.ndarray]
    written: dict[str, np.ndarray]
    out: np.ndarray
    hb: np.ndarray
    events: list[tuple[int, int, int]]
    host: list[tuple[int, int, int]]

    def digest(self) -> str:
        """SHA-256 (hex) of every written value and its place, of words sent, HB contents, events, HOST requests."""
        digest = hashlib.sha256()

        def add(name: str, values: np.ndarray) -> None:
            values = np.ascontiguousarray(values, "<u4")
            digest.update(f"{name} {values.shape}\n".encode())
            digest.update(values.tobytes())

        for name in sorted(self.memories):
            where = np.flatnonzero(self.written[name])
            add(f"{name} places", where)
            add(name, self.memories[name].reshape(len(self.written[name]), -1)[where])
        add("out", self.out)
        add("hb", self.hb)
        for name, items in (("events", self.events), ("host", self.host)):
            add(name, np.array(items, np.uint32).reshape(len(items), 3))
        return digest.hexdigest()


@dataclass
class RunResult:
    """One run of a program at one level.

    level       functional, fast, exact or rtl
    digest      `PeState.digest`; None where the level has no values (fast), or the PE stopped with an error
    cycles      from the first dispatch word's cycle (0) to the cycle in which the PE is idle again; None: no time
    counters    counter name -> value, the same names at every level that has time; empty at functional
    commands    units' commands in program order: parallel arrays below have an entry for each
    unit, instruction : int32, who executed which instruction
    start, done : int64, cycles as docs/pe.md defines them; empty where the level has no time
    """

    level: str
    digest: str | None = None
    cycles: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    unit: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    instruction: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    start: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    done: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    error: PeFault | None = None
    state: PeState | None = None
