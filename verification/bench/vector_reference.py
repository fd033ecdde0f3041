"""The vector unit's commands on arrays, row after row: what `VectorUnit` must do to its memories.

Written from docs/pe.md; the arithmetic is `cycle_model.functional.vector`, compared with NumPy and rational numbers on
its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cycle_model.functional import vector
from hw.isa.encoding import Opcode, VectorSource, VectorTarget
from hw.params import ChipParams
from hw.params.pe import ROW_REGISTERS

_BINARY = {
    Opcode.ADD: vector.add,
    Opcode.MUL: vector.multiply,
    Opcode.MAX: vector.maximum,
    Opcode.MIN: vector.minimum,
}


@dataclass
class VectorCommand:
    """A vector command: fields that are not named are 0."""

    opcode: Opcode
    d: int = 0
    a: int = 0
    b: int = 0
    n: int = 1
    fields: dict[str, int] = field(default_factory=dict)


@dataclass
class Writes:
    """What a command sent outside: XM (word -> pieces, -1 where not written), AV ((piece, row) -> bytes)."""

    xm: dict[int, np.ndarray] = field(default_factory=dict)
    av: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)


class VectorReference:
    """Memories as uint32 [rows, C], row registers uint32 [8, R]; bits, so that NaN payloads count."""

    def __init__(self, chip: ChipParams, rt: np.ndarray, lt: np.ndarray):
        self.chip = chip
        self.rows, self.columns = chip.array.rows, chip.array.columns
        self.memories = {
            VectorSource.RT: rt,
            VectorSource.VT: np.zeros((chip.pe.vt_rows, self.columns), np.uint32),
            VectorSource.LT: lt,
        }
        self.registers = np.zeros((ROW_REGISTERS, self.rows), np.uint32)

    def execute(self, command: VectorCommand) -> Writes:
        """Changes VT and row registers; returns what goes to XM and AV."""
        writes = Writes()
        if command.opcode >= Opcode.ROW_LOAD:
            self._whole_register(command, writes)
        else:
            for i in range(command.n):
                self._row(command, i, writes)
        return writes

    def _whole_register(self, command: VectorCommand, writes: Writes) -> None:
        f = {"row": 0, "row_a": 0, "row_b": 0} | command.fields
        a, b = (self.registers[f[name]].view(np.float32) for name in ("row_a", "row_b"))
        match command.opcode:
            case Opcode.ROW_LOAD:
                result = self.memories[VectorSource.LT][command.a, : self.rows].view(np.float32)
            case Opcode.ROW_STORE:
                word = np.zeros(self.columns, np.uint32)
                word[: self.rows] = self.registers[f["row_a"]]
                self._to_xm(writes, command.d, word)
                return
            case Opcode.ROW_MAX:
                result = vector.maximum(a, b)
            case Opcode.ROW_MUL:
                result = vector.multiply(a, b)
            case Opcode.ROW_SCALE:
                result = vector.scale(a)
            case Opcode.ROW_RECIPROCAL:
                result = vector.reciprocal(a)
        self.registers[f["row"]] = result.astype(np.float32).view(np.uint32)

    def _row(self, command: VectorCommand, i: int, writes: Writes) -> None:
        names = ("a_space", "b_space", "d_space", "broadcast", "indexed", "first", "row", "row_b", "map")
        f = dict.fromkeys(names, 0) | command.fields
        op, binary = command.opcode, command.opcode in _BINARY
        offset = int(self.registers[f["map"], i % self.rows]) if binary and f["indexed"] else i
        memory = self.memories[f["a_space"]]
        a = memory[(command.a + offset) % len(memory)].view(np.float32)
        if op is Opcode.ROW_ABSMAX:
            target = self.registers[f["row"]]
            so_far = np.zeros(1, np.float32) if f["first"] else target[i % self.rows].view(np.float32)[None]
            target[i % self.rows] = vector.absolute_maximum(so_far, a[None])[0].view(np.uint32)
            return
        if op is Opcode.QUANTIZE:
            codes = vector.quantize(a, self.registers[f["row_b"], i % self.rows].view(np.float32))
            self._piece(writes, f["d_space"], command.d + i // self.rows, i % self.rows, codes)
            return
        if binary:
            result = _BINARY[op](a, self._b(command, f, i))
        else:
            result = vector.sigmoid(a) if op is Opcode.SIGMOID else a
        bits = result.astype(np.float32).view(np.uint32)
        if f["d_space"] == VectorTarget.VT:
            self.memories[VectorSource.VT][(command.d + offset) % self.chip.pe.vt_rows] = bits
        else:
            self._to_xm(writes, (command.d + offset) % self.chip.pe.xm_words, bits)

    def _b(self, command: VectorCommand, f: dict[str, int], i: int) -> np.ndarray:
        if f["b_space"] == VectorSource.ROW:
            return np.broadcast_to(self.registers[f["row_b"], i % self.rows].view(np.float32), self.columns)
        if f["b_space"] == VectorSource.IMMEDIATE:
            return np.broadcast_to(np.uint32(command.b).view(np.float32), self.columns)
        return self.memories[f["b_space"]][command.b + (0 if f["broadcast"] else i)].view(np.float32)

    def _to_xm(self, writes: Writes, word: int, bits: np.ndarray) -> None:
        writes.xm[word] = bits.view(np.uint8).reshape(4, self.columns).astype(np.int16)

    def _piece(self, writes: Writes, space: int, piece: int, row: int, codes: np.ndarray) -> None:
        if space == VectorTarget.AV:
            writes.av[piece, row] = codes.view(np.uint8)
            return
        per_row = 32 // self.columns
        byte = 32 * self.rows * (piece // per_row) + 32 * row + self.columns * (piece % per_row)
        word = writes.xm.setdefault(byte // (4 * self.columns), np.full((4, self.columns), -1, np.int16))
        word[byte % (4 * self.columns) // self.columns] = codes.view(np.uint8)
