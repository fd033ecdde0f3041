"""Runs PE programs on a board through its register map, and says what came out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hw.errors import UserError
from hw.isa.counters import COUNTER_PLACES, counters_of
from hw.isa.encoding import PeError, Unit, to_words
from hw.isa.program import PeProgram
from hw.isa.result import PeFault, PeState
from hw.memory_map import (
    IDENTITY,
    MAP_VERSION,
    PAGE_BYTES,
    WORD_BYTES,
    BankWindows,
    BufferSizes,
    MemoryMap,
    Register,
    Window,
    die_map,
)
from hw.params import ChipParams
from sw_stack.host.link import HostLink

FINISH_SECONDS = 60.0
"""Longest wait for a program to end, unless asked otherwise."""


@dataclass(frozen=True)
class BoardRun:
    """What a board says of a run.

    cycles, counters  as in `hw.isa.result.RunResult`
    state             HB columns asked for, words sent, events, HOST requests: what can be seen from outside
    error             the PE's first, or None
    seconds           of the run itself, as the host saw it
    """

    cycles: int
    counters: dict[str, int]
    state: PeState
    error: PeFault | None
    seconds: float


def visible(state: PeState) -> PeState:
    """The part of a model's state that a board can show."""
    return PeState({"HB": state.memories.get("HB", {})}, state.out, state.events, state.host)


class BankMemory(Protocol):
    """The banks as bytes: what an AXI4 memory port is to a host. Both raise where the answer is an error."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, content: bytes) -> None: ...


class RemoteBoard:
    """A board that was found to answer with this chip's sizes.

    Parameters
    ----------
    link : HostLink
    chip : ChipParams
        Sizes that the board must have; UserError where it has others, or is no such board.
    pe : which PE of the board
    memory : the way to the banks; through the BANK window unless given, which an AXI4 memory does not have
    base : where the PE's memory begins, a multiple of 4096; only with chip.memory "axi"
    """

    def __init__(self, link: HostLink, chip: ChipParams, pe: int = 0, memory: BankMemory | None = None, base: int = 0):
        if chip.memory == "axi" and memory is None:
            raise UserError("host must be given a way to the memory of a PE whose chip memory is axi")
        self._link, self._chip, self._pe, self._memory, self._base = link, chip, pe, memory, base
        self._map: MemoryMap = die_map(chip, BufferSizes())
        self._identify()

    def _identify(self) -> None:
        registers = self._map.blocks[0].registers
        found = dict(zip((r.name for r in registers), self._link.read(0, len(registers)), strict=True))
        if found["IDENTITY"] != IDENTITY:
            raise UserError(f"board must identify itself as {IDENTITY:#x}, not {found['IDENTITY']:#x}")
        for register in registers:
            got, wanted = register.unpack(found[register.name]), register.unpack(register.constant)
            wanted["map"] = MAP_VERSION
            for field in register.fields:
                pes = field.name == "pes"
                if register.name == "SCRATCH" or (pes and got["pes"] > self._pe):
                    continue
                if got[field.name] != wanted[field.name]:
                    raise UserError(
                        f"board's {register.name.lower()} {field.name} must be {wanted[field.name]} "
                        f"(chip {self._chip.name}), not {got[field.name]}"
                    )

    def _find(self, name: str) -> tuple[int, Register | Window]:
        return self._map.find(f"pe.{name}", self._pe)

    def _write(self, name: str, words: Sequence[int], first: int = 0) -> None:
        address, entry = self._find(name)
        if first + len(words) > entry.words:
            raise UserError(f"program's {name.lower()} must fit {entry.words} words on the board, not {len(words)}")
        self._link.write(address + WORD_BYTES * first, words)

    def _read(self, name: str, count: int = 1, first: int = 0) -> list[int]:
        address, _ = self._find(name)
        return self._link.read(address + WORD_BYTES * first, count) if count else []

    def load(self, program: PeProgram) -> None:
        """Stop the PE and fill its memories. Raises UserError for what the board's buffers cannot hold or imitate."""
        program.check()
        lanes = self._chip.array.columns
        if any(chunk.available for chunk in (*program.stream, *program.aggregation)):
            raise UserError("program's link words must be available from cycle 0 on a board")
        if len(set(program.host_cycles)) > 1:
            raise UserError("program's host_cycles must all be equal on a board")
        self._write("CONTROL", [0])
        instructions = [word for value in program.instructions for word in (*to_words(value), 0, 0, 0)]
        self._write("INSTRUCTIONS", instructions)
        self._write("DESCRIPTORS", program.descriptors)
        self._fill_bank(program.hb)
        for name, entries, parts in (
            ("DISPATCH", program.dispatch, 1),
            ("STREAM", [word for chunk in program.stream for word in chunk.words], lanes),
            ("AGGREGATE", [word for chunk in program.aggregation for word in chunk.words], lanes),
        ):
            self._write(name, [part for word in entries for part in _split(word, parts)])
            self._write(f"{name}_COUNT", [len(entries)])
        self._write("HOST_LATENCY", [program.host_cycles[0]])

    def _fill_bank(self, image: dict[int, int]) -> None:
        if self._chip.memory == "axi":
            self._write("MEMORY_BASE", [self._base // PAGE_BYTES])
        lanes, width = self._chip.array.columns, self._chip.hb.column_bytes
        for run in _runs(image):
            if self._memory:
                self._memory.write(self._place(run[0]), b"".join(image[i].to_bytes(width, "little") for i in run))
            else:
                self._write("BANK", [part for i in run for part in _split(image[i], lanes)], lanes * run[0])

    def _look_at_bank(self, columns: Iterable[int]) -> dict[int, int]:
        lanes, width = self._chip.array.columns, self._chip.hb.column_bytes
        bank = {}
        for run in _runs(columns):
            if self._memory:
                content = self._memory.read(self._place(run[0]), width * len(run))
                values = [int.from_bytes(content[at : at + width], "little") for at in range(0, len(content), width)]
            else:
                words = self._read("BANK", lanes * len(run), lanes * run[0])
                values = [_join(words[lanes * i : lanes * (i + 1)]) for i in range(len(run))]
            bank |= zip(run, values, strict=True)
        return bank

    def _place(self, column: int) -> int:
        """Address of a data column on the memory port."""
        if self._chip.memory == "axi":
            return self._base + column * self._chip.hb.column_bytes
        return BankWindows(self._chip.hb, self._chip.pes).address(self._pe, column)

    def run(self, program: PeProgram, columns: Iterable[int] = (), seconds: float = FINISH_SECONDS) -> BoardRun:
        """Load and run ``program``; of the bank, ``columns`` are read back.

        Raises UserError where it does not end within ``seconds``, or sends more than the board keeps.
        """
        self.load(program)
        begin = time.monotonic()
        self._write("CONTROL", [1])
        while not (status := self._status())["finished"]:
            if time.monotonic() - begin > seconds:
                self._write("CONTROL", [0])
                raise UserError(f"program did not end within {seconds:g} s on the board; it was stopped")
        taken = time.monotonic() - begin
        if status["overflow"]:
            raise UserError("program sends more words, events or requests than the board's buffers hold")
        if status.get("violation"):
            raise UserError("the board's bank saw a command before its time: the design is broken")
        error = None
        if status["error"]:
            error = PeFault(PeError(status["error"]), Unit(status["unit"]), self._read("INSTRUCTION")[0])
        counters = self._counters()
        cycles = self._read("CYCLES")[0]
        return BoardRun(cycles, counters, self._state(columns), error, taken)

    def _status(self) -> dict[str, int]:
        _, register = self._find("STATUS")
        return register.unpack(self._read("STATUS")[0])

    def _counters(self) -> dict[str, int]:
        """Every counter that the PE has; neighbours in one access."""
        names = {COUNTER_PLACES[name]: name for name in counters_of(self._chip.memory)}
        counters = {}
        for run in _runs(names):
            counters |= zip((names[i] for i in run), self._read(names[run[0]].upper(), len(run)), strict=True)
        return counters

    def _state(self, columns: Iterable[int]) -> PeState:
        lanes = self._chip.array.columns
        kept = {name: self._entries(name, width) for name, width in (("OUT", lanes), ("EVENTS", 4), ("HOST", 4))}
        self._write("CONTROL", [0])
        return PeState(
            {"HB": self._look_at_bank(columns)},
            [_join(words) for words in kept["OUT"]],
            [tuple(words[:3]) for words in kept["EVENTS"]],
            [tuple(words[:3]) for words in kept["HOST"]],
        )

    def _entries(self, name: str, width: int) -> list[list[int]]:
        count = self._read(f"{name}_COUNT")[0]
        words = self._read(name, width * count)
        return [words[width * i : width * (i + 1)] for i in range(count)]


def _split(value: int, parts: int) -> list[int]:
    return [value >> 32 * i & 0xFFFFFFFF for i in range(parts)]


def _join(words: Sequence[int]) -> int:
    return sum(word << 32 * i for i, word in enumerate(words))


def _runs(columns: Iterable[int]) -> list[list[int]]:
    """Consecutive numbers together."""
    runs: list[list[int]] = []
    for column in sorted(columns):
        if runs and runs[-1][-1] == column - 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs
