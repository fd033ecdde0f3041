"""What running a PE program gives, the same at every level: values and their digest, times, counters, the error.

Standard library only, since functional, fast and exact model, RTL simulation and reports all speak it.
"""

import hashlib
from dataclasses import dataclass, field

from hw.isa.encoding import PeError, Unit
from hw.params import ChipParams

MEMORIES = ("WH", "WL", "AL", "AV", "RT", "VT", "LT", "XM", "ROW", "REGISTER", "HB")
"""Names in `PeState.memories`; ROW holds row registers (address 8 bits: register), REGISTER r1 ... r15."""


def entry_bits(chip: ChipParams, memory: str) -> int:
    """Width of an entry of ``memory``: a word, a group word (AL, AV), R scalars (ROW), 32 bits (REGISTER)."""
    word = 32 * chip.array.columns
    rows = chip.array.rows
    return {"AL": 256 * rows, "AV": 256 * rows, "ROW": 32 * rows, "REGISTER": 32}.get(memory, word)


@dataclass(frozen=True)
class PeFault:
    """The first error: status register of the PE."""

    code: PeError
    unit: Unit
    instruction: int


@dataclass
class PeState:
    """Values left by a program; what `digest` covers.

    memories  memory -> {address: entry}: entries ever written, as unsigned integers of `entry_bits`, lowest value or
              byte in the low bits; bytes of an AL, AV or XM entry that were never written are 0. HB: data columns of
              the program's image and those refilled. REGISTER: r1 ... r15 whose value is not 0.
    out       words sent on the aggregation link, in order
    events    (kind, a, b) of MARK (kind 0, b = 0) and COUNT (kind 1), in order
    host      (a, b, d) of every HOST request, in order
    """

    memories: dict[str, dict[int, int]]
    out: list[int]
    events: list[tuple[int, int, int]]
    host: list[tuple[int, int, int]]

    def digest(self, chip: ChipParams) -> str:
        """SHA-256 (hex) of every written entry and its address, of words sent, events and HOST requests."""
        digest = hashlib.sha256()
        for memory in MEMORIES:
            entries = self.memories.get(memory, {})
            digest.update(f"{memory} {len(entries)}\n".encode())
            size = entry_bits(chip, memory) // 8
            for address in sorted(entries):
                digest.update(address.to_bytes(4, "little") + entries[address].to_bytes(size, "little"))
        digest.update(f"out {len(self.out)}\n".encode())
        for word in self.out:
            digest.update(word.to_bytes(4 * chip.array.columns, "little"))
        for name, items in (("events", self.events), ("host", self.host)):
            digest.update(f"{name} {len(items)}\n".encode())
            for item in items:
                digest.update(b"".join(value.to_bytes(4, "little") for value in item))
        return digest.hexdigest()


@dataclass
class RunResult:
    """One run of a program at one level.

    level        functional, fast, exact or rtl
    digest       `PeState.digest`; None where the level has no values, or the PE stopped with an error
    cycles       from the cycle of the first dispatch word (0) to the one in which the PE is idle again; None: no time
    counters     counter name -> value, the same names at every level that has time
    unit, instruction : the units' commands in program order: who executed which instruction
    start, done  their cycles as docs/pe.md defines them; empty where the level has no time
    """

    level: str
    digest: str | None = None
    cycles: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    unit: list[int] = field(default_factory=list)
    instruction: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    error: PeFault | None = None
    state: PeState | None = None
