"""The vector unit's commands as values: rows and row registers, bit-exact with docs/pe.md."""

from __future__ import annotations

import numpy as np

from cycle_model.functional import vector
from cycle_model.pe.memories import Memories, PeStop
from hw.errors import UserError
from hw.isa.encoding import Command, Opcode, PeError, VectorSource, VectorTarget

_BINARY = {
    Opcode.ADD: vector.add,
    Opcode.MUL: vector.multiply,
    Opcode.MAX: vector.maximum,
    Opcode.MIN: vector.minimum,
}


class VectorValues:
    """Executes vector commands on ``memories``."""

    def __init__(self, memories: Memories):
        self.memories = memories
        self._sources = {VectorSource.RT: memories.rt, VectorSource.VT: memories.vt, VectorSource.LT: memories.lt}

    def execute(self, command: Command, v: dict[str, int]) -> None:
        """The effect of ``command`` with operand values ``v``; PeStop, UserError."""
        opcode, fields, rows = command.opcode, command.fields, self.memories.rows
        if "n" in command.spec.operands:
            one_round = fields.get("indexed") or (opcode is Opcode.ROW_ABSMAX and fields["first"])
            if v["n"] == 0 or (one_round and v["n"] > rows):
                raise PeStop(PeError.ILLEGAL_COMMAND)
        self._check_addresses(command, v)
        if opcode in _BINARY:
            self._binary(opcode, fields, v)
        elif opcode in (Opcode.MOVE, Opcode.SIGMOID):
            a = self._rows(fields["a_space"], v["a"], v["n"])
            self._refuse_race(fields, v["d"] + np.arange(v["n"]), v["a"] + np.arange(v["n"]), None)
            self._write(fields["d_space"], v["d"], a if opcode is Opcode.MOVE else vector.sigmoid(a.view(np.float32)))
        elif opcode is Opcode.QUANTIZE:
            a = self._rows(fields["a_space"], v["a"], v["n"]).view(np.float32)
            factors = self._scalars(fields["row_b"])[np.arange(v["n"]) % rows].view(np.float32)
            target = self.memories.av if fields["d_space"] == VectorTarget.AV else self.memories.xm
            target.write_pieces(v["d"], vector.quantize(a, factors[:, None]))
        elif opcode is Opcode.ROW_ABSMAX:
            self._absmax(fields, v)
        elif opcode is Opcode.ROW_STORE:
            word = np.zeros(self.memories.columns, np.uint32)
            word[:rows] = self._scalars(fields["row_a"])
            self._write(VectorTarget.XM, v["d"], word[None])
        elif opcode is Opcode.ROW_LOAD:
            self._set(fields["row"], self._rows(VectorSource.LT, v["a"], 1)[0, :rows])
        else:
            self._scalar_operation(opcode, fields)

    def _check_addresses(self, command: Command, v: dict[str, int]) -> None:
        """PeStop where a row or piece would be outside its memory; a map takes rows modulo the memory."""
        fields, memories, n = command.fields, self.memories, v.get("n", 1)
        rows_used = 1 if fields.get("indexed") else n
        if "a" in v:
            self._sources[VectorSource(fields.get("a_space", VectorSource.LT))].check(v["a"], rows_used)
        if fields.get("b_space") in self._sources:
            self._sources[VectorSource(fields["b_space"])].check(v["b"], 1 if fields["broadcast"] else n)
        if command.opcode is Opcode.QUANTIZE:
            target = memories.av if fields["d_space"] == VectorTarget.AV else memories.xm
            pieces = -(-n // memories.rows)
            target.check_groups((v["d"] + pieces - 1) // (32 // memories.columns), 1)
        elif "d" in v and v["d"] + rows_used > self._target_rows(fields.get("d_space", VectorTarget.XM)):
            raise PeStop(PeError.ADDRESS)

    def _target_rows(self, space: int) -> int:
        return len(self.memories.vt.written) if space == VectorTarget.VT else self.memories.xm_words

    def _rows(self, space: int, address: int, count: int) -> np.ndarray:
        """uint32 [count, columns], a copy."""
        return self._sources[VectorSource(space)].read(address, count).copy().view("<u4")

    def _write(self, space: int, address: int, rows: np.ndarray) -> None:
        """Rows of float32 or uint32 to VT or XM."""
        data = np.ascontiguousarray(rows).view(np.uint8).reshape(-1)
        memory = self.memories.vt if space == VectorTarget.VT else self.memories.xm
        grains = self.memories.word_bytes // memory.grain
        memory.write(address * grains, data)

    def _scalars(self, register: int) -> np.ndarray:
        """uint32 [rows]."""
        if not self.memories.row_written[register]:
            raise UserError(f"reads row register {register}, which was never written")
        return self.memories.row[register]

    def _set(self, register: int, scalars: np.ndarray) -> None:
        self.memories.row[register] = scalars.view(np.uint32)
        self.memories.row_written[register] = True

    def _binary(self, opcode: Opcode, fields: dict[str, int], v: dict[str, int]) -> None:
        n, rows = v["n"], self.memories.rows
        source = self._sources[VectorSource(fields["a_space"])]
        a_places, d_places = v["a"] + np.arange(n), v["d"] + np.arange(n)
        b_places = None
        if fields["indexed"]:
            offsets = self._scalars(fields["map"])[:n].astype(np.int64)
            a_places = (v["a"] + offsets) % len(source.written)
            d_places = (v["d"] + offsets) % self._target_rows(fields["d_space"])
        if fields["b_space"] == VectorSource.IMMEDIATE:
            b = np.full((1, 1), v["b"], np.uint32)
        elif fields["b_space"] == VectorSource.ROW:
            b = self._scalars(fields["row_b"])[np.arange(n) % rows][:, None].copy()
        else:
            count = 1 if fields["broadcast"] else n
            b = self._rows(fields["b_space"], v["b"], count)
            b_places = np.broadcast_to(v["b"] + np.arange(count), n)
        self._refuse_race(fields, d_places, a_places, b_places)
        if fields["indexed"]:
            a = np.concatenate([self._rows(fields["a_space"], int(place), 1) for place in a_places])
        else:
            a = self._rows(fields["a_space"], v["a"], n)
        values = _BINARY[opcode](a.view(np.float32), b.view(np.float32))
        for first, part in zip(d_places, values[:, None], strict=True) if fields["indexed"] else [(v["d"], values)]:
            self._write(fields["d_space"], int(first), part)

    def _refuse_race(self, fields: dict[str, int], written: np.ndarray, a: np.ndarray, b: np.ndarray | None) -> None:
        """UserError where a row reads what an earlier row of the command writes, in VT."""
        if fields["d_space"] != VectorTarget.VT:
            return
        row_of = {}
        for i, place in enumerate(written.tolist()):
            row_of.setdefault(place, i)
        if len(row_of) < len(written):
            raise UserError("writes a row twice")
        for space, places in ((fields["a_space"], a), (fields.get("b_space"), b)):
            if space == VectorSource.VT and places is not None:
                for i, place in enumerate(places.tolist()):
                    if row_of.get(place, i) < i:
                        raise UserError(f"reads VT[{place}] in row {i}, which its row {row_of[place]} writes")

    def _absmax(self, fields: dict[str, int], v: dict[str, int]) -> None:
        values = self._rows(fields["a_space"], v["a"], v["n"]).view(np.float32)
        n, rows = v["n"], self.memories.rows
        if fields["first"]:
            maxima = self.memories.row[fields["row"]].view(np.float32).copy()
            maxima[:n] = 0
        else:
            maxima = self._scalars(fields["row"]).view(np.float32).copy()
        for begin in range(0, n, rows):
            part = values[begin : begin + rows]
            maxima[: len(part)] = vector.absolute_maximum(maxima[: len(part)], part)
        self._set(fields["row"], maxima)

    def _scalar_operation(self, opcode: Opcode, fields: dict[str, int]) -> None:
        a = self._scalars(fields["row_a"]).view(np.float32)
        if opcode is Opcode.ROW_SCALE:
            result = vector.scale(a)
        elif opcode is Opcode.ROW_RECIPROCAL:
            result = vector.reciprocal(a)
        else:
            b = self._scalars(fields["row_b"]).view(np.float32)
            result = vector.maximum(a, b) if opcode is Opcode.ROW_MAX else vector.multiply(a, b)
        self._set(fields["row"], result)
