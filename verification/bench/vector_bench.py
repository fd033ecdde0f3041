"""Drives `VectorUnit` with commands in Amaranth's simulator, beside RT and LT; records when and what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from hw.isa.encoding import UNIT_FIELDS, PeError, Unit
from hw.params import ChipParams
from hw.pe.vector.vector_unit import VectorUnit
from verification.bench.vector_reference import VectorCommand, Writes


@dataclass
class Ran:
    """One command: ``cycles`` = done - start (None: refused), ``error``, what it wrote."""

    cycles: int | None = None
    error: PeError = PeError.NONE
    writes: Writes = field(default_factory=Writes)

    def record(self, columns: int, enables: int, word: int, bits: int) -> None:
        """A cycle of the port to XM."""
        data = np.frombuffer(bits.to_bytes(4 * columns, "little"), np.uint8).reshape(4, columns)
        for piece in range(4):
            if enables >> piece & 1:
                pieces = self.writes.xm.setdefault(word, np.full((4, columns), -1, np.int16))
                pieces[piece] = data[piece]

    def record_piece(self, columns: int, piece: int, row: int, bits: int) -> None:
        """A cycle of the port to AV with its enable set."""
        self.writes.av[piece, row] = np.frombuffer(bits.to_bytes(columns, "little"), np.uint8)


class _Beside(wiring.Component):
    """The unit with RT and LT attached to both read ports."""

    def __init__(self, chip: ChipParams, rt: np.ndarray, lt: np.ndarray):
        self.unit = VectorUnit(chip)
        self._contents = {"rt": rt, "lt": lt}
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        for name, rows in self._contents.items():
            words = [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in rows]
            m.submodules[name] = memory = Memory(shape=32 * rows.shape[1], depth=len(rows), init=words)
            for unit_port in getattr(self.unit, name):
                port = memory.read_port()
                m.d.comb += [port.en.eq(unit_port.en), port.addr.eq(unit_port.addr), unit_port.data.eq(port.data)]
        return m


def run_commands(
    chip: ChipParams,
    rt: np.ndarray,
    lt: np.ndarray,
    commands: Sequence[VectorCommand],
    *,
    gap: Callable[[], int] = lambda: 0,
    deadline: int = 2000,
) -> list[Ran]:
    """Run ``commands`` one after the other, each with ``gap()`` idle cycles after it; fails after ``deadline`` cycles.

    Parameters
    ----------
    rt, lt : uint32 [rows, C]
        What the memories hold.
    """
    dut = _Beside(chip, rt, lt)
    unit, columns = dut.unit, chip.array.columns
    results: list[Ran] = []

    def record(ctx, ran: Ran) -> None:
        ran.record(columns, *(ctx.get(port) for port in (unit.xm.en, unit.xm.addr, unit.xm.data)))
        if ctx.get(unit.av.en):
            ran.record_piece(columns, *(ctx.get(port) for port in (unit.av.piece, unit.av.row, unit.av.data)))

    async def bench(ctx):
        for command in commands:
            ran = Ran()
            set_command(ctx, unit, command)
            ctx.set(unit.go, 1)
            for cycle in range(deadline):
                ran.error = PeError(ctx.get(unit.error))
                record(ctx, ran)
                done = ctx.get(unit.done)
                if done:
                    ran.cycles = cycle
                await ctx.tick()
                ctx.set(unit.go, 0)
                if done or ran.error:
                    break
            else:
                raise AssertionError(f"{command} is not done after {deadline} cycles")
            for _ in range(gap()):
                record(ctx, ran)
                assert not ctx.get(unit.done)
                await ctx.tick()
            results.append(ran)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def set_command(ctx, unit: VectorUnit, command: VectorCommand) -> None:
    """Put ``command`` on the unit's port."""
    port = unit.command
    ctx.set(port.opcode, int(command.opcode))
    for name in "dabn":
        ctx.set(getattr(port, name), getattr(command, name) & 0xFFFFFFFF)
    for spec in UNIT_FIELDS[Unit.VECTOR]:
        ctx.set(getattr(port.flags.vector, spec.name), int(command.fields.get(spec.name, 0)))
