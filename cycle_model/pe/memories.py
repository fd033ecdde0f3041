"""The PE's memories as values: NumPy arrays that know what was written, and raise on what docs/pe.md forbids."""

from __future__ import annotations

import numpy as np

from cycle_model.pe.races import RaceDetector
from hw.errors import UserError
from hw.isa.encoding import PeError
from hw.params import ROW_REGISTERS, ChipParams


class PeStop(Exception):
    """The PE stops with ``code``."""

    def __init__(self, code: PeError):
        super().__init__(code.name)
        self.code = code


class Memory:
    """Entries of bytes; ``grain`` bytes are addressed at once, entries are what the state shows.

    Parameters
    ----------
    entries, entry_bytes : size
    grain : bytes of one addressed unit, a divisor of ``entry_bytes``
    """

    def __init__(self, name: str, entries: int, entry_bytes: int, grain: int):
        self.name = name
        self.bytes = np.zeros(entries * entry_bytes, np.uint8)
        self.written = np.zeros(entries * entry_bytes // grain, bool)
        self.entry_bytes, self.grain = entry_bytes, grain
        self.races: RaceDetector | None = None

    def write(self, address: int, values: np.ndarray) -> None:
        """Bytes ``values``, whole grains, from grain ``address`` on; PeStop where they would leave the memory."""
        count = values.size // self.grain
        self.check(address, count)
        self._seen(address, count, write=True)
        self.bytes[address * self.grain : address * self.grain + values.size] = values
        self.written[address : address + count] = True

    def read(self, address: int, count: int) -> np.ndarray:
        """uint8 [count, grain]; PeStop outside the memory, UserError where a grain was never written."""
        self.check(address, count)
        self._seen(address, count, write=False)
        missing = np.flatnonzero(~self.written[address : address + count])
        if missing.size:
            raise UserError(f"reads {self.name}[{address + int(missing[0])}], which was never written")
        return self.bytes[address * self.grain : (address + count) * self.grain].reshape(count, self.grain)

    def _seen(self, grain: int, count: int, *, write: bool) -> None:
        if self.races is not None:
            self.races.access(self.name, len(self.written), grain, count, write=write)

    def check(self, address: int, count: int) -> None:
        """PeStop unless ``count`` grains from ``address`` on are inside."""
        if address + count > len(self.written):
            raise PeStop(PeError.ADDRESS)

    def entries(self) -> dict[int, int]:
        """Entries of which something was written, as integers."""
        used = np.flatnonzero(self.written.reshape(-1, self.entry_bytes // self.grain).any(axis=1))
        rows = self.bytes.reshape(-1, self.entry_bytes)
        return {int(i): int.from_bytes(rows[i].tobytes(), "little") for i in used}


class PieceMemory(Memory):
    """AL, AV or XM as group words: byte k + 32 r of a group word holds input k of row r.

    Written state is kept in grains that neither a word nor a piece cuts.
    """

    def __init__(self, name: str, entries: int, entry_bytes: int, grain: int, rows: int):
        super().__init__(name, entries, entry_bytes, grain)
        self.rows = rows

    def check_groups(self, group: int, count: int) -> None:
        """PeStop unless ``count`` group words from ``group`` on are inside."""
        if (group + count) * 32 * self.rows > self.bytes.size:
            raise PeStop(PeError.ADDRESS)

    def write_pieces(self, piece: int, values: np.ndarray) -> None:
        """int8 ``values`` [n, columns]: piece ``piece + i div rows`` of row i mod rows."""
        columns = values.shape[1]
        per_group = 32 // columns
        self.check_groups((piece + (len(values) - 1) // self.rows) // per_group, 1)
        for i, value in enumerate(values):
            group, place = divmod(piece + i // self.rows, per_group)
            at = 32 * self.rows * group + 32 * (i % self.rows) + columns * place
            self._seen(at // self.grain, columns // self.grain, write=True)
            self.bytes[at : at + columns] = value.view(np.uint8)
            self.written[at // self.grain : (at + columns) // self.grain] = True

    def read_groups(self, group: int, count: int) -> np.ndarray:
        """int8 [count, rows, 32]; rows never written read as zeros, but every piece must have been in some row."""
        self.check_groups(group, count)
        per_group = 32 * self.rows // self.grain
        self._seen(group * per_group, count * per_group, write=False)
        grains = self.written.reshape(-1, self.rows, 32 // self.grain)[group : group + count]
        missing = np.flatnonzero(~grains.any(axis=1).all(axis=1))
        if missing.size:
            raise UserError(f"reads {self.name} group {group + int(missing[0])}, which was never written")
        size = 32 * self.rows
        return self.bytes[group * size : (group + count) * size].view(np.int8).reshape(count, self.rows, 32)

    def words(self, address: int, count: int) -> list[int]:
        """Entries as integers; bytes never written are zeros, but every entry must have been written in part."""
        grains = self.entry_bytes // self.grain
        self.check(address * grains, count * grains)
        self._seen(address * grains, count * grains, write=False)
        some = self.written.reshape(-1, grains)[address : address + count].any(axis=1)
        if not some.all():
            raise UserError(f"reads {self.name}[{address + int(np.flatnonzero(~some)[0])}], which was never written")
        rows = self.bytes.reshape(-1, self.entry_bytes)[address : address + count]
        return [int.from_bytes(row.tobytes(), "little") for row in rows]


class Memories:
    """All memories of one PE of ``chip``, cleared."""

    def __init__(self, chip: ChipParams):
        pe, rows, columns = chip.pe, chip.array.rows, chip.array.columns
        word, group = 4 * columns, 32 * rows
        self.columns, self.word_bytes, self.rows = columns, word, rows
        self.wh = Memory("WH", pe.wh_words, word, word)
        self.wl = Memory("WL", pe.wl_words, word, word)
        self.al = PieceMemory("AL", pe.al_groups, group, min(32, word), rows)  # words of one row, or of several
        self.av = PieceMemory("AV", pe.av_groups, group, columns, rows)
        self.xm = PieceMemory("XM", pe.xm_words, word, columns, rows)
        self.rt = Memory("RT", pe.rt_rows, word, word)
        self.vt = Memory("VT", pe.vt_rows, word, word)
        self.lt = Memory("LT", pe.lt_rows, word, word)
        self.xm_words = pe.xm_words
        self.row = np.zeros((ROW_REGISTERS, rows), np.uint32)
        self.row_written = np.zeros(ROW_REGISTERS, bool)

    def watch(self, races: RaceDetector) -> None:
        """Tell ``races`` every access from now on; row registers and chains have one unit and need no watching."""
        for memory in (self.wh, self.wl, self.al, self.av, self.rt, self.vt, self.lt, self.xm):
            memory.races = races

    def entries(self) -> dict[str, dict[int, int]]:
        """`hw.isa.result.PeState.memories` but for REGISTER and HB."""
        memories = {
            memory.name: memory.entries()
            for memory in (self.wh, self.wl, self.al, self.av, self.rt, self.vt, self.lt, self.xm)
        }
        memories["ROW"] = {
            int(i): int.from_bytes(self.row[i].astype("<u4").tobytes(), "little")
            for i in np.flatnonzero(self.row_written)
        }
        return memories
