"""cocotb tests of the exported vector unit."""

import os

import cocotb
import numpy as np

from hw.isa.encoding import UNIT_FIELDS, PeError, Unit
from hw.isa.vector_timing import vector_interval, vector_latency
from hw.params import chip
from hw.pe.instruction import Command
from verification.bench.cocotb_streams import falling, reset, rising, sample
from verification.bench.vector_bench import Ran
from verification.bench.vector_commands import VECTOR_COMMANDS, CommandGenerator
from verification.bench.vector_reference import VectorCommand, VectorReference


def _packed(command: VectorCommand) -> int:
    flags = {spec.name: int(command.fields.get(spec.name, 0)) for spec in UNIT_FIELDS[Unit.VECTOR]}
    operands = {name: getattr(command, name) & 0xFFFFFFFF for name in "dabn"}
    layout = Command(chip(os.environ["CHIP"]).pe)
    return layout.const({"opcode": int(command.opcode), "flags": {"vector": flags}} | operands).as_bits()


class _Memory:
    """RT or LT: what was asked for in a cycle is on the port from the next one on."""

    def __init__(self, dut, name: str, rows: np.ndarray):
        self._ports = [(getattr(dut, f"{name}__{i}__en"), getattr(dut, f"{name}__{i}__addr")) for i in range(2)]
        self._data = [getattr(dut, f"{name}__{i}__data") for i in range(2)]
        self._words = [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in rows]

    def answers(self) -> list[tuple[object, int]]:
        """(port, word) to drive after the next edge."""
        asked = zip(self._ports, self._data, strict=True)
        return [(data, self._words[sample(addr)]) for (en, addr), data in asked if sample(en)]


@cocotb.test()
async def every_operation(dut):
    """Every operation and an eighth of all kinds of operand: values, places and cycles, as docs/pe.md has them."""
    sizes = chip(os.environ["CHIP"])
    columns, generator = sizes.array.columns, CommandGenerator(sizes, 51)
    rt, lt = generator.memories()
    memories = [_Memory(dut, "rt", rt), _Memory(dut, "lt", lt)]
    reference = VectorReference(sizes, rt, lt)
    await reset(dut, ["go", "command", *(f"{name}__{i}__data" for name in ("rt", "lt") for i in range(2))])
    commands = [*generator.preparation(), *generator.some_of_each(8), *generator.contents()]
    for command in commands:
        dut.command.value = _packed(command)
        dut.go.value = 1
        ran = Ran()
        expected = command.n * vector_interval(sizes, command.opcode) + vector_latency(sizes, command.opcode) - 1
        for cycle in range(expected + 1):
            await falling(dut)
            assert PeError(sample(dut.error)) is PeError.NONE
            assert sample(dut.done) == (cycle == expected), (command, cycle)
            if sample(dut.xm__en):
                ran.record(columns, sample(dut.xm__en), sample(dut.xm__addr), sample(dut.xm__data))
            if sample(dut.av__en):
                ran.record_piece(columns, sample(dut.av__piece), sample(dut.av__row), sample(dut.av__data))
            answers = [answer for memory in memories for answer in memory.answers()]
            await rising(dut)
            dut.go.value = 0
            for port, word in answers:
                port.value = word
        want = reference.execute(command)
        for got, wanted in ((ran.writes.xm, want.xm), (ran.writes.av, want.av)):
            assert got.keys() == wanted.keys(), command
            assert all(np.array_equal(got[key], wanted[key]) for key in got), command
    assert {command.opcode for command in commands} == set(VECTOR_COMMANDS)
