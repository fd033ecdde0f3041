"""A PE program as plain data: everything that a run at any level needs. Standard library only.

`sw_stack.compiler.program` reads and writes it as a file.
"""

from dataclasses import dataclass, field

from hw.errors import UserError
from hw.isa.encoding import COMMAND_BITS
from hw.params import ChipParams


@dataclass(frozen=True)
class Chunk:
    """Words of a link that are offered, one a cycle, from cycle ``available`` on, after those of earlier chunks."""

    available: int
    words: tuple[int, ...]


@dataclass
class PeProgram:
    """A program for one PE of ``chip``.

    instructions  IM, 160-bit integers (`hw.isa.encoding.pack`)
    descriptors   DM, 32-bit integers
    dispatch      words of the dispatch stream: records
    hb            HB image: data column, counted linearly -> its bits
    stream, aggregation : what the two links deliver
    host_cycles   latency of each HOST answer in turn, cycles from the request's first cycle on the port to the answer;
                  the last one repeats
    kernels       kernel name -> entry instruction, for listings
    expected      digest that a run must end with, "" where none is known
    """

    chip: ChipParams
    instructions: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    dispatch: list[int] = field(default_factory=list)
    hb: dict[int, int] = field(default_factory=dict)
    stream: list[Chunk] = field(default_factory=list)
    aggregation: list[Chunk] = field(default_factory=list)
    host_cycles: tuple[int, ...] = (1,)
    kernels: dict[str, int] = field(default_factory=dict)
    expected: str = ""

    def check(self) -> None:
        """UserError where something does not fit the chip."""
        pe, word = self.chip.pe, 32 * self.chip.array.columns
        for what, size, most in (
            ("instructions", len(self.instructions), pe.instructions),
            ("descriptors", len(self.descriptors), pe.descriptors),
        ):
            if size > most:
                raise UserError(f"program's {what} must be at most {most} (chip {self.chip.name}), not {size}")
        columns = self.chip.hb.rows * self.chip.hb.data_columns
        outside = [column for column in self.hb if not 0 <= column < columns]
        if outside:
            raise UserError(
                f"program's HB image must lie in {columns} data columns (chip {self.chip.name}), not at {max(outside)}"
            )
        words = [w for chunk in (*self.stream, *self.aggregation) for w in chunk.words]
        for what, values, bits in (
            ("instructions", self.instructions, COMMAND_BITS),
            ("descriptors", self.descriptors, 32),
            ("dispatch words", self.dispatch, 32),
            ("HB columns", self.hb.values(), word),
            ("link words", words, word),
        ):
            if any(not 0 <= value < 1 << bits for value in values):
                raise UserError(f"program's {what} must have {bits} bits (chip {self.chip.name})")
        if not self.host_cycles or min(self.host_cycles) < 0:
            raise UserError(f"program's host_cycles must be one or more latencies, not {self.host_cycles!r}")
