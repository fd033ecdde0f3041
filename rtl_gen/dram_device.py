"""An HB DRAM bank as seen from its pins, for Amaranth's simulator and for cocotb.

It stores what is written, answers reads at the moment the part would, and drives poison at every other moment, so
that a controller which samples a tick early or late reads rubbish. It trusts the timing; judging it is the
checker's work (`verification.bench.dram_checker`). Shares no code with controller or model.
"""

import hashlib

ACTIVATE, READ, WRITE, PRECHARGE = 1, 2, 3, 4


class HbDramDevice:
    """Step it once per logic cycle, `step` before the clock edge; drive what it returns after the edge.

    Parameters
    ----------
    data_bits : int
        Width of a column.
    check_bits : int
        Width of the side-band column beside it, 0 without.
    read_clocks : int
        Clocks from read command to the end of its burst (CL + BL).
    write_clocks : int
        Clocks from write command to its data (CWL).
    encode : callable, optional
        Data column -> check bits, for cells that were never written (a part is initialised before use).
    """

    def __init__(
        self, data_bits: int, *, check_bits: int = 0, read_clocks: int = 2, write_clocks: int = 1, encode=None
    ):
        self.data_bits = data_bits
        self.check_bits = check_bits
        self._read_clocks = read_clocks
        self._write_clocks = write_clocks
        self._encode = encode if encode is not None else lambda word: 0
        self._cells: dict[tuple[int, int], tuple[int, int]] = {}
        self._open_row: int | None = None
        self._tick = -1
        self._reads: dict[int, tuple[int, int]] = {}
        self._writes: dict[int, tuple[int, int]] = {}

    def initial(self, row: int, column: int) -> int:
        """What a cell holds before it is written: a digest of its address."""
        seed = hashlib.sha256(f"{row}/{column}".encode()).digest()
        return int.from_bytes(seed * (self.data_bits // 256 + 1), "little") & ((1 << self.data_bits) - 1)

    def cell(self, row: int, column: int) -> tuple[int, int]:
        """Data and check bits of a cell."""
        if (row, column) not in self._cells:
            word = self.initial(row, column)
            self._cells[row, column] = (word, self._encode(word))
        return self._cells[row, column]

    def write_cell(self, row: int, column: int, word: int, check: int = 0) -> None:
        """Set a cell past the pins."""
        self._cells[row, column] = (word, check)

    def flip(self, row: int, column: int, bit: int) -> None:
        """Invert one cell: data bits from 0, side-band check bits behind them."""
        word, check = self.cell(row, column)
        if bit < self.data_bits:
            word ^= 1 << bit
        else:
            check ^= 1 << (bit - self.data_bits)
        self._cells[row, column] = (word, check)

    @property
    def poison(self) -> tuple[int, int]:
        """What the pins carry outside a burst: alternating bits with (almost surely) wrong check bits."""
        word = int("5a" * (self.data_bits // 8), 16)
        return word, ~self._encode(word) & ((1 << self.check_bits) - 1)

    def step(
        self, tick: int, command: int, row: int, column: int, write_data: int, write_check: int = 0
    ) -> tuple[int, int]:
        """The pins of one logic cycle; returns the read data and check bits to drive from the next edge on.

        The burst of a read at tick k is on the pins in the last cycles up to and including tick k + read_clocks.
        """
        if tick:
            self._tick += 1
            self._bank(command, row, column)
            if self._tick in self._writes:
                self._cells[self._writes.pop(self._tick)] = (write_data, write_check)
        return self._reads.get(self._tick + 1, self.poison)

    def _bank(self, command: int, row: int, column: int) -> None:
        self._reads.pop(self._tick, None)
        if command == ACTIVATE:
            self._open_row = row
        elif command == PRECHARGE:
            self._open_row = None
        elif command == READ:
            found = self.poison if self._open_row is None else self.cell(self._open_row, column)
            self._reads[self._tick + self._read_clocks] = found
        elif command == WRITE and self._open_row is not None:
            self._writes[self._tick + self._write_clocks] = (self._open_row, column)
