"""The PE's functional level: values only, in program order, bit-exact with docs/pe.md.

A legal program is free of races, so the order in which its units really work changes no value; program order is one
legal order. What a program must not do and the PE cannot notice is a UserError here: reading what was never written,
or rows of a vector command that read what an earlier row of it wrote.
"""

from __future__ import annotations

import contextlib

import numpy as np

from cycle_model.numerics import fp32_add, scale_dots, slice_operand, widen_e8m0_scale, widen_fp16_scale
from cycle_model.pe.memories import Memories, PeStop
from cycle_model.pe.races import RaceDetector
from cycle_model.pe.sequence import Sequencer, Step
from cycle_model.pe.vector_values import VectorValues
from hw.errors import UserError
from hw.isa import WeightMode
from hw.isa.encoding import ActivationSpace, GatherSpace, Opcode, PeError, Unit, WeightSpace
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import PeFault, PeState, RunResult
from hw.params import SEMAPHORE_MAX, SEMAPHORES


def functional(program: PeProgram, *, find_races: bool = False) -> RunResult:
    """Run ``program``; digest and state, or the error that stops the PE.

    ``find_races`` also refuses accesses of two units that nothing orders (`cycle_model.pe.races`); slower. An error of
    several units that the PE would meet in another order of time is reported in program order.

    Raises
    ------
    UserError
        A program that is not legal in a way that the PE cannot notice; names instruction and command.
    """
    pe = FunctionalPe(program, RaceDetector() if find_races else None)
    result = RunResult("functional")
    sequencer = Sequencer(program)
    unit, instruction = Unit.SEQUENCER, 0
    try:
        for step in sequencer.steps():
            unit, instruction = step.command.spec.unit, step.instruction
            if unit is not Unit.SEQUENCER:
                result.unit.append(int(unit))
                result.instruction.append(instruction)
            pe.execute(step)
            unit = Unit.SEQUENCER
    except PeStop as stop:
        where = sequencer.instruction if unit is Unit.SEQUENCER else instruction
        if stop.code in (PeError.WATCHDOG, PeError.SEMAPHORE):
            unit, where = Unit.SEQUENCER, 0
        result.error = PeFault(stop.code, unit, where)
        return result
    except UserError as error:
        raise UserError(f"instruction {instruction} ({step.command.spec.mnemonic}) {error}") from None
    result.state = pe.state(sequencer.registers)
    result.digest = result.state.digest(program.chip)
    return result


def words_sent(program: PeProgram) -> list[int]:
    """Words that ``program`` sends before it ends, stops, or waits for words that its links do not have."""
    pe = FunctionalPe(program)
    # Where words are missing, later ones lie in their places, and may be no legal operands.
    with contextlib.suppress(PeStop, UserError):
        for step in Sequencer(program).steps():
            pe.execute(step)
    return pe.out


class _Link:
    """Words of a link in order; a unit that finds none waits for ever."""

    def __init__(self, chunks: list[Chunk]):
        self._words = [word for chunk in chunks for word in chunk.words]
        self._next = 0

    def take(self, count: int, word_bytes: int) -> np.ndarray:
        """uint8 [count x word_bytes]; PeStop(WATCHDOG) where fewer are left."""
        if count > len(self._words) - self._next:
            raise PeStop(PeError.WATCHDOG)
        words = self._words[self._next : self._next + count]
        self._next += count
        return np.frombuffer(b"".join(word.to_bytes(word_bytes, "little") for word in words), np.uint8)


class FunctionalPe:
    """Contents of everything a command can read or write; `execute` applies one."""

    def __init__(self, program: PeProgram, races: RaceDetector | None = None):
        self.chip = program.chip
        self.memories = Memories(program.chip)
        self.races = races
        if races is not None:
            self.memories.watch(races)
        self.vector = VectorValues(self.memories)
        self.hb = dict(program.hb)
        self.stream, self.aggregation = _Link(program.stream), _Link(program.aggregation)
        chains = (program.chip.array.chains, program.chip.array.rows, program.chip.array.columns)
        self.chains = np.zeros(chains, np.float32)
        self.chains_started = np.zeros(chains[0], bool)
        self.semaphores = [0] * SEMAPHORES
        self.out: list[int] = []
        self.events: list[tuple[int, int, int]] = []
        self.host: list[tuple[int, int, int]] = []

    def execute(self, step: Step) -> None:
        """The effect of one instruction; PeStop, UserError."""
        command, values = step.command, step.values
        for semaphore in command.waits:
            self.semaphores[semaphore] -= 1
            if self.semaphores[semaphore] < 0:
                raise PeStop(PeError.WATCHDOG)  # nothing before it in the program gives it
        watched = self.races is not None and (command.spec.unit is not Unit.SEQUENCER or command.opcode is Opcode.WAIT)
        if watched:
            self.races.begin(command, step.instruction)
        if command.spec.unit is Unit.VECTOR:
            self.vector.execute(command, values)
        elif command.opcode in _EXECUTE:
            if values.get("n") == 0 and command.opcode is not Opcode.LOOP:
                raise PeStop(PeError.ILLEGAL_COMMAND)
            _EXECUTE[command.opcode](self, command.fields, values)
        if watched:
            self.races.end(command)
        for semaphore in command.signals:
            self.semaphores[semaphore] += 1
            if self.semaphores[semaphore] > SEMAPHORE_MAX:
                raise PeStop(PeError.SEMAPHORE)

    def _hb_columns(self, first: int, count: int) -> None:
        """What the controller, or the unit before it, refuses."""
        hb = self.chip.hb
        columns = hb.rows * hb.data_columns
        if first >= columns or count >= 1 << hb.length_bits:
            raise PeStop(PeError.ADDRESS)
        if first + count > columns:
            raise PeStop(PeError.HB_REFUSED)

    def _see_hb(self, first: int, count: int, *, write: bool) -> None:
        if self.races is not None:
            self.races.access("HB", self.chip.hb.rows * self.chip.hb.data_columns, first, count, write=write)

    def _hb_load(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.memories.wh.check(v["d"], v["n"])
        self._hb_columns(v["a"], v["n"])
        self._see_hb(v["a"], v["n"], write=False)
        missing = [column for column in range(v["a"], v["a"] + v["n"]) if column not in self.hb]
        if missing:
            raise UserError(f"reads HB column {missing[0]}, which was never written")
        self.memories.wh.write(v["d"], self._words(self.hb[column] for column in range(v["a"], v["a"] + v["n"])))

    def _words(self, words) -> np.ndarray:
        size = self.memories.word_bytes
        return np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8)

    def _stream_load(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.memories.wl.check(v["d"], v["n"])
        self.memories.wl.write(v["d"], self.stream.take(v["n"], self.memories.word_bytes))

    def _stream_refill(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self._hb_columns(v["d"], v["n"])
        if self.chip.hb.ecc == "inline" and (v["d"] % 8 or v["n"] % 8):
            raise PeStop(PeError.HB_REFUSED)
        self._see_hb(v["d"], v["n"], write=True)
        words = self.stream.take(v["n"], self.memories.word_bytes).reshape(v["n"], -1)
        self.hb.update((v["d"] + i, int.from_bytes(word.tobytes(), "little")) for i, word in enumerate(words))

    def _gather_load(self, fields: dict[str, int], v: dict[str, int]) -> None:
        memory = self.memories.lt if fields["space"] == GatherSpace.LT else self.memories.al
        size = self.memories.word_bytes
        grains = size // memory.grain  # AL is written in words and read by rows
        memory.check(v["d"] * grains, v["n"] * grains)
        memory.write(v["d"] * grains, self.aggregation.take(v["n"], size))

    def _matmul(self, fields: dict[str, int], v: dict[str, int]) -> None:
        memories, array = self.memories, self.chip.array
        groups, blocks, chain = v["n"], v["m"], fields["chain"]
        if blocks == 0 or chain + blocks > array.chains:
            raise PeStop(PeError.ILLEGAL_COMMAND)
        weights, scales = (
            memories.wl if fields[space] == WeightSpace.WL else memories.wh for space in ("w_space", "s_space")
        )
        activations = memories.av if fields["a_space"] == ActivationSpace.AV else memories.al
        activations.check_groups(v["a"], groups * blocks)
        weights.check(v["b"], 4 * groups)  # slot b is w
        scales.check(v["s"], (groups + 1) // 2)
        if fields["last"]:
            if v["d"] % array.rows:
                raise PeStop(PeError.ADDRESS)
            memories.rt.check(v["d"], blocks * array.rows)
        if not fields["first"] and not self.chains_started[chain : chain + blocks].all():
            raise UserError("continues a chain that was never begun")
        mode = WeightMode(fields["mode"])
        operands = slice_operand(_codes(weights.read(v["b"], 4 * groups), groups, array), mode).astype(np.int32)
        tokens = activations.read_groups(v["a"], groups * blocks).astype(np.int32)
        dots = np.einsum("kgri,gci->kgrc", tokens.reshape(blocks, groups, array.rows, 32), operands)
        raw = scales.read(v["s"], (groups + 1) // 2).reshape(-1).view("<u2").reshape(-1, array.columns)[:groups]
        wide = widen_e8m0_scale((raw & 0xFF).astype(np.uint8)) if mode is WeightMode.MXFP4 else widen_fp16_scale(raw)
        terms = scale_dots(dots, wide[None, :, None, :], mode.dot_shift)
        totals = np.zeros_like(terms[:, 0]) if fields["first"] else self.chains[chain : chain + blocks]
        for group in range(groups):
            totals = fp32_add(totals, terms[:, group])
        self.chains[chain : chain + blocks] = totals
        self.chains_started[chain : chain + blocks] = True
        if fields["last"]:
            memories.rt.write(v["d"], np.ascontiguousarray(totals, "<f4").view(np.uint8).reshape(-1))

    def _store(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.out += self.memories.xm.words(v["a"], v["n"])

    def _host(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.host.append((v["a"], v["b"], v["d"]))

    def _mark(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.events.append((0, v["a"], 0))

    def _count(self, fields: dict[str, int], v: dict[str, int]) -> None:
        self.events.append((1, v["a"], v["b"]))

    def state(self, registers: list[int]) -> PeState:
        """Everything left behind."""
        memories = self.memories.entries()
        memories["REGISTER"] = {i: value for i, value in enumerate(registers) if value}
        memories["HB"] = self.hb
        return PeState(memories, self.out, self.events, self.host)


_EXECUTE = {
    Opcode.HB_LOAD: FunctionalPe._hb_load,
    Opcode.STREAM_LOAD: FunctionalPe._stream_load,
    Opcode.STREAM_REFILL: FunctionalPe._stream_refill,
    Opcode.GATHER_LOAD: FunctionalPe._gather_load,
    Opcode.MATMUL: FunctionalPe._matmul,
    Opcode.STORE: FunctionalPe._store,
    Opcode.HOST: FunctionalPe._host,
    Opcode.MARK: FunctionalPe._mark,
    Opcode.COUNT: FunctionalPe._count,
}


def _codes(words: np.ndarray, groups: int, array) -> np.ndarray:
    """uint8 [groups, columns, 32] of the words of ``groups`` tile groups: docs/pe.md, Weights."""
    packed = words.reshape(groups, -1)
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(groups, array.beats, array.columns, array.depth)
    return nibbles.transpose(0, 2, 1, 3).reshape(groups, array.columns, 32)
