"""A random program in the making: its schedule, its links and memories, and which places hold a value.

What every random command needs and none decides: operands from registers and offsets, words that are good as weights,
scales, activations or FP32 rows, and runs of places that may be read. Nothing is read that was never written.
"""

from dataclasses import dataclass, field

import numpy as np

from hw.isa.encoding import OFFSET_MAX, OFFSET_MIN, Opcode, Operand, Unit, VectorSource, pack, record_header
from hw.isa.program import Chunk, PeProgram
from hw.params import ChipParams
from verification.programs.schedule import Place, Schedule

HB_COLUMNS = 64
"""Columns of the HB image, and where refills go."""
_LATENESS = {"none": (0, 1), "light": (60, 8), "heavy": (400, 3)}
"""Stall profile -> (cycles by which a chunk may be late, words of a chunk at most x 4)."""


@dataclass
class Known:
    """Places that hold a value."""

    columns: set[int] = field(default_factory=set)
    wh: set[int] = field(default_factory=set)
    wl: set[int] = field(default_factory=set)
    al: set[int] = field(default_factory=set)  # link words
    av: set[int] = field(default_factory=set)  # group words
    rt: set[int] = field(default_factory=set)
    vt: set[int] = field(default_factory=set)
    lt: set[int] = field(default_factory=set)
    xm: set[int] = field(default_factory=set)  # words, wholly written
    rows: set[int] = field(default_factory=set)
    maps: dict[int, list[int]] = field(default_factory=dict)  # row register -> its integers
    map_words: dict[int, list[int]] = field(default_factory=dict)  # LT row -> integers
    chains: set[int] = field(default_factory=set)


class Draft:
    """A program for ``chip`` with an HB image and nothing else yet.

    chip, rng      the chip; where all randomness comes from
    schedule       the commands so far, ordered by tokens
    known          places that hold a value
    image          HB columns at the begin
    stream, gather  words of the two links so far
    registers      values of the sequencer's registers that are known
    descriptors    words of the descriptor memory
    words_per_group, pieces  link words of a group word; pieces of a row that a group word takes
    """

    def __init__(self, chip: ChipParams, rng: np.random.Generator, lateness: str):
        self.chip, self.rng, self._lateness = chip, rng, lateness
        self.schedule = Schedule()
        self.known = Known()
        self.stream: list[int] = []
        self.gather: list[int] = []
        self.registers: dict[int, int] = {}
        self.descriptors: list[int] = []
        self._records: list[tuple[int, list[int]]] = []  # (entry of the kernel, register words)
        self.words_per_group = 8 * chip.array.rows // chip.array.columns
        self.pieces = 32 // chip.array.columns
        self._word_bytes = 4 * chip.array.columns
        self.begin_kernel()
        self.image = {column: self.word() for column in range(HB_COLUMNS)}
        self.known.columns = set(self.image)

    def program(self) -> PeProgram:
        """The program; the links are as late as asked for."""
        dispatch = []
        for entry, values in self._records:
            dispatch += [record_header(entry, len(values)), *values]
        host = tuple(int(x) for x in self.rng.integers(0, 40, 5))
        return PeProgram(
            self.chip,
            instructions=[pack(entry.command()) for entry in self.schedule.entries],
            descriptors=self.descriptors,
            dispatch=dispatch,
            hb=self.image,
            stream=self._chunks(self.stream),
            aggregation=self._chunks(self.gather),
            host_cycles=host,
            kernels={f"kernel_{i}": entry for i, (entry, _) in enumerate(self._records)},
        )

    def _chunks(self, words: list[int]) -> list[Chunk]:
        late, length = _LATENESS[self._lateness]
        chunks, at, cycle = [], 0, 0
        while at < len(words):
            size = int(self.rng.integers(1, 4 * length + 1)) if late else len(words)
            cycle += int(self.rng.integers(0, late + 1)) if self.rng.random() < 0.7 else 0
            chunks.append(Chunk(cycle, tuple(words[at : at + size])))
            at += size
        return chunks

    def begin_kernel(self) -> None:
        """A new dispatch record, its registers set; the kernel's code begins here."""
        number = int(self.rng.integers(0, 5))
        values = [int(x) for x in self.rng.integers(0, 200, number)]
        self._records.append((len(self.schedule.entries), values))
        self.registers.update(enumerate(values, start=1))

    def end_kernel(self) -> None:
        """The kernel returns."""
        self.schedule.control(Opcode.RETURN)

    def word(self) -> int:
        """A word that is a good weight, scale, activation or FP32 row: ordinary FP16 values, sometimes anything."""
        if self.rng.random() < 0.1:
            return int.from_bytes(self.rng.bytes(self._word_bytes), "little")
        halves = self.rng.lognormal(-3, 1, self._word_bytes // 2).astype(np.float16)
        halves *= self.rng.choice([-1, 1], halves.size).astype(np.float16)
        return int.from_bytes(halves.tobytes(), "little")

    def row_word(self) -> int:
        """FP32 values, ordinary or any bits."""
        if self.rng.random() < 0.1:
            return self.word()
        return int.from_bytes(self.rng.standard_normal(self.chip.array.columns).astype("<f4").tobytes(), "little")

    def operands(self, values: dict[str, int]) -> dict[str, Operand]:
        """Register + offset for each value. Registers are set before any is used, so that none changes meanwhile."""
        large = [value for value in values.values() if value > OFFSET_MAX]
        for register, value in enumerate(large, start=int(self.rng.integers(1, 7))):
            self.set_register(register, value)
        return {slot: self.operand(value) for slot, value in values.items()}

    def operand(self, value: int) -> Operand:
        """Register + offset that give ``value``; one that is too large for an offset has its register already."""
        near = [r for r, known in self.registers.items() if OFFSET_MIN <= value - known <= OFFSET_MAX]
        if near and (value > OFFSET_MAX or self.rng.random() < 0.5):
            register = int(self.rng.choice(near))
            return Operand(register, value - self.registers[register])
        return Operand(0, value)

    def set_register(self, register: int, value: int) -> None:
        """Set ``register`` and remember its value."""
        self.schedule.control(Opcode.SET, value=value, register=register)
        self.registers[register] = value

    def add(
        self, opcode: Opcode, unit: Unit, values: dict[str, int], reads: set[Place], writes: set[Place], **fields: int
    ) -> None:
        """Append a unit's command with its ``reads`` and ``writes``; now and then it also waits for an earlier one."""
        operands = self.operands(values)
        numbers = {name: int(value) for name, value in fields.items()}
        entries = self.schedule.entries
        after = len(entries) - int(self.rng.integers(1, 6)) if self.rng.random() < 0.3 else None
        self.schedule.add(unit, opcode, operands, reads, writes, numbers, after if after and after > 0 else None)

    def pick(self, *values):
        """One of ``values``, each as likely."""
        return values[self.rng.integers(len(values))]

    def run_of(self, places: set[int], most: int, multiple: int = 1) -> tuple[int, int] | None:
        """Random (first, count) of consecutive known places, at most ``most`` and a multiple; None where none fit."""
        starts = [p for p in places if all(p + i in places for i in range(multiple))]
        if not starts:
            return None
        first = int(self.rng.choice(starts))
        longest = 0
        while longest < most and first + longest in places:
            longest += 1
        longest -= longest % multiple
        if longest < multiple:
            return None
        count = multiple * int(self.rng.integers(1, longest // multiple + 1))
        return first, count

    def rows_of(self, space: VectorSource) -> set[int]:
        """Rows of RT, VT or LT that hold a value."""
        return {VectorSource.RT: self.known.rt, VectorSource.VT: self.known.vt, VectorSource.LT: self.known.lt}[space]


class Commands:
    """Random commands of one kind; what they share with the others is the draft."""

    def __init__(self, draft: Draft):
        self._draft, self._chip, self._rng, self._known = draft, draft.chip, draft.rng, draft.known
        self._schedule = draft.schedule
