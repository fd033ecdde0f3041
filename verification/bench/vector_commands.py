"""Random legal commands for the vector unit, of every operation and kind of operand, and memories that suit them."""

from __future__ import annotations

from itertools import product

import numpy as np

from hw.isa.encoding import COMMANDS, Opcode, Unit, VectorSource, VectorTarget
from hw.params import ChipParams
from hw.params.pe import ROW_REGISTERS
from verification.bench.float_vectors import hard_values
from verification.bench.vector_reference import VectorCommand

VECTOR_COMMANDS = tuple(opcode for opcode, spec in COMMANDS.items() if spec.unit is Unit.VECTOR)
_BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)
_RT, _VT, _LT, _ROW, _IMMEDIATE = VectorSource
_TO_VT, _TO_XM, _TO_AV = VectorTarget
_MEMORIES = (_RT, _VT, _LT)


class CommandGenerator:
    """Legal commands on small random places; never one that reads a row after it wrote it."""

    def __init__(self, sizes: ChipParams, seed: int):
        self.sizes, self.rng = sizes, np.random.default_rng(seed)
        self.rows = sizes.array.rows

    def memories(self) -> tuple[np.ndarray, np.ndarray]:
        """Contents of _RT and _LT: nine tenths calm, the rest at the edges of FP32; _LT row 0 is a map."""
        shapes = [(depth, self.sizes.array.columns) for depth in (self.sizes.pe.rt_rows, self.sizes.pe.lt_rows)]
        calm = [self.rng.normal(0, 3, shape).astype(np.float32).view(np.uint32) for shape in shapes]
        hard = [hard_values(int(np.prod(shape)), self.rng).reshape(shape) for shape in shapes]
        rt, lt = (
            np.where(self.rng.random(c.shape) < 0.1, h, c).astype(np.uint32) for c, h in zip(calm, hard, strict=True)
        )
        lt[0] = self.rng.permutation(3 * self.sizes.array.columns)[: self.sizes.array.columns]
        lt[1] = self.rng.normal(0, 30, self.sizes.array.columns).astype(np.float32).view(np.uint32)
        return rt, lt

    def preparation(self) -> list[VectorCommand]:
        """Row registers 0 (a map), 1 (calm scalars), 2 to 7 (anything), and 48 rows of _VT."""
        loads = [VectorCommand(Opcode.ROW_LOAD, a=r, fields={"row": r}) for r in range(ROW_REGISTERS)]
        moves = [VectorCommand(Opcode.MOVE, d=d, a=d % 16, n=16, fields={"a_space": _RT}) for d in (0, 16, 32)]
        return loads + moves

    def contents(self) -> list[VectorCommand]:
        """Everything VT (64 rows) and the row registers hold, sent to XM."""
        fields = {"a_space": _VT, "d_space": _TO_XM}
        rows = [VectorCommand(Opcode.MOVE, d=0, a=a, n=16, fields=fields) for a in (0, 16, 32, 48)]
        return rows + self.registers()

    def registers(self) -> list[VectorCommand]:
        """Everything the row registers hold, sent to XM."""
        return [VectorCommand(Opcode.ROW_STORE, d=r, fields={"row_a": r}) for r in range(ROW_REGISTERS)]

    def binary(self, opcode, a_space, b_kind, d_space, indexed) -> VectorCommand:
        n = int(self.rng.integers(1, self.rows + 1 if indexed else 7))
        fields = {"a_space": a_space, "d_space": d_space, "indexed": indexed, "row_b": int(self.rng.integers(1, 8))}
        fields |= {"broadcast": int(b_kind == "broadcast")}
        b = int(self.rng.integers(0, 16))
        if b_kind == "broadcast":
            fields["b_space"] = int(self.rng.choice(_MEMORIES))
        else:
            fields["b_space"] = b_kind
        if b_kind == _IMMEDIATE:
            b = int(hard_values(1, self.rng)[0])
        a = int(self.rng.integers(0, 16 if not indexed else 4))
        in_place = a_space == _VT and d_space == _TO_VT and self.rng.random() < 0.5 and fields["b_space"] != _VT
        d = a if in_place else 32 + int(self.rng.integers(0, 16))
        return VectorCommand(opcode, d=d, a=a, b=b, n=n, fields=fields)

    def unary(self, opcode, a_space, d_space) -> VectorCommand:
        n = int(self.rng.integers(1, 10))
        d = 32 + int(self.rng.integers(0, 16)) if opcode is not Opcode.QUANTIZE else int(self.rng.integers(0, 24))
        fields = {"a_space": a_space, "d_space": d_space, "row_b": 1}
        return VectorCommand(opcode, d=d, a=int(self.rng.integers(0, 16)), n=n, fields=fields)

    def register(self, opcode) -> VectorCommand:
        row, row_a, row_b = (int(r) for r in self.rng.integers(2, 8, 3))
        return VectorCommand(
            opcode, a=2, d=int(self.rng.integers(0, 8)), fields={"row": row, "row_a": row_a, "row_b": row_b}
        )

    def absmax(self, a_space, first) -> VectorCommand:
        n = int(self.rng.integers(1, self.rows + 1 if first else 3 * self.rows))
        fields = {"a_space": a_space, "first": first, "row": int(self.rng.integers(2, 8))}
        return VectorCommand(Opcode.ROW_ABSMAX, a=int(self.rng.integers(0, 16)), n=n, fields=fields)

    def every_kind(self) -> list[VectorCommand]:
        """Commands of every operation, kind of operand and destination, in random order.

        Of two-operand ones every combination of operands, destination and map, each with two of the four operations, so
        that any two of these five choices meet.
        """
        choices = (_MEMORIES, (*_MEMORIES, "broadcast", _ROW, _IMMEDIATE), (_TO_VT, _TO_XM), (0, 1))
        commands = []
        for places in product(*(range(len(choice)) for choice in choices)):
            kind = [choice[place] for choice, place in zip(choices, places, strict=True)]
            commands += [self.binary(opcode, *kind) for opcode in _BINARY[sum(places) % 2 :: 2]]
        commands += [self.unary(*kind) for kind in product((Opcode.MOVE, Opcode.SIGMOID), _MEMORIES, (_TO_VT, _TO_XM))]
        commands += [self.unary(*kind) for kind in product((Opcode.QUANTIZE,), _MEMORIES, (_TO_XM, _TO_AV))]
        commands += [self.absmax(*kind) for kind in product(_MEMORIES, (0, 1))]
        commands += [self.register(opcode) for opcode in VECTOR_COMMANDS if opcode >= Opcode.ROW_LOAD]
        return [each for i in self.rng.permutation(len(commands)) for each in self._observed(commands[i])]

    def some_of_each(self, step: int) -> list[VectorCommand]:
        """One command of every operation, and every ``step``-th of `every_kind`."""
        kinds = self.every_kind()
        return [*{command.opcode: command for command in kinds}.values(), *kinds[::step]]

    def _observed(self, command: VectorCommand) -> list[VectorCommand]:
        """``command``, and the row register that it changes sent to XM before another one overwrites it."""
        if command.opcode < Opcode.ROW_ABSMAX or command.opcode is Opcode.ROW_STORE:
            return [command]
        return [command, VectorCommand(Opcode.ROW_STORE, d=0, fields={"row_a": command.fields["row"]})]
