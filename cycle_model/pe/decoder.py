"""From a program to the sequence of executed instructions with resolved operands; exact and fast share it.

Control flow depends on dispatch words, registers and descriptors only, never on time or on what the units compute, so
the sequence is known before any cycle is. What is decided here is what an instruction *is*; when it happens is decided
by `exact` and `fast`, each in its own way. Bit places come from `hw.isa.encoding`, what operands mean to a unit from
`cycle_model.pe.operands`.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe import durations
from cycle_model.pe.operands import Fields, limits_of, resolve
from cycle_model.pe.steps import STEP_COLUMNS, Kind, Step
from hw.errors import UserError
from hw.isa.encoding import (
    COMMANDS,
    OFFSET_BITS,
    OPCODE_BITS,
    OPERANDS,
    OPERANDS_OFFSET,
    RECORD_ENTRY_BITS,
    REGISTER_BITS,
    SEMAPHORE_BITS,
    UNIT_FIELDS,
    Opcode,
    PeError,
    Unit,
    field_offset,
)
from hw.isa.program import PeProgram
from hw.isa.vector_timing import vector_interval, vector_latency
from hw.params import LOOP_LEVELS, REGISTERS
from hw.params.checks import require

MAX_STEPS = 1 << 26


class _Table(NamedTuple):
    """One line per instruction of IM: plain integers out of the 160 bits."""

    opcode: np.ndarray
    unit: np.ndarray
    legal: np.ndarray
    tokens: np.ndarray  # [instructions, 4], -1 for none
    registers: np.ndarray  # [instructions, 6], in the order of OPERANDS
    offsets: np.ndarray
    value: np.ndarray
    fields: Fields


def _fields_of(unit: Unit, bits: int) -> dict[str, int]:
    places = {spec.name: field_offset(unit, spec.name) for spec in UNIT_FIELDS[unit]}
    return {name: bits >> offset & ((1 << width) - 1) for name, (offset, width) in places.items()}


@lru_cache(maxsize=16)
def _table(instructions: tuple[int, ...]) -> _Table:
    number = len(instructions)
    table = _Table(
        *(np.zeros(number, dtype=np.int64) for _ in range(3)),
        np.full((number, 4), -1, dtype=np.int64),
        *(np.zeros((number, len(OPERANDS)), dtype=np.int64) for _ in range(2)),
        np.zeros(number, dtype=np.int64),
        Fields(*(np.zeros(number, dtype=np.int64) for _ in Fields._fields)),
    )
    for i, bits in enumerate(instructions):
        opcode = bits & ((1 << OPCODE_BITS) - 1)
        table.opcode[i] = opcode
        if opcode not in COMMANDS:
            continue
        spec = COMMANDS[Opcode(opcode)]
        fields = _fields_of(spec.unit, bits)
        table.unit[i] = spec.unit
        table.legal[i] = all(fields[name] in legal for name, legal in spec.legal.items())
        for k in range(4):
            token = bits >> (OPCODE_BITS + k * (SEMAPHORE_BITS + 1))
            if token >> SEMAPHORE_BITS & 1:
                table.tokens[i, k] = token & ((1 << SEMAPHORE_BITS) - 1)
        for k in range(len(OPERANDS)):
            word = bits >> (OPERANDS_OFFSET + 16 * k)
            offset = word >> REGISTER_BITS & ((1 << OFFSET_BITS) - 1)
            table.registers[i, k] = word & ((1 << REGISTER_BITS) - 1)
            table.offsets[i, k] = offset - (offset >> (OFFSET_BITS - 1) << OFFSET_BITS)
        table.value[i] = bits >> OPERANDS_OFFSET & 0xFFFFFFFF
        for name, value in fields.items():
            if name in Fields._fields:
                getattr(table.fields, name)[i] = value
    return table


def decode(program: PeProgram) -> np.ndarray:
    """Steps of the whole run, int64 [steps, STEP_COLUMNS]; it ends with the first error of the sequencer, if any.

    Raises UserError where the run takes more than 2^26 steps (a kernel that never returns), or the bank's times are not
    known: a memory behind AXI4 is somebody else's.
    """
    chip = program.chip
    require(chip.memory == "hb", "chip memory", "hb where cycles are to be known", chip.memory)
    table = _table(tuple(program.instructions))
    vector_times = np.zeros((1 << OPCODE_BITS, 2), dtype=np.int64)
    for opcode, spec in COMMANDS.items():
        if spec.unit is Unit.VECTOR:
            vector_times[opcode] = vector_interval(chip, opcode), vector_latency(chip, opcode)
    array_times = np.zeros((chip.array.chains + 1, 2), dtype=np.int64)
    for blocks in range(1, chip.array.chains + 1):
        one = durations.matmul(chip, 1, blocks)
        array_times[blocks] = one.interval, one.done - one.lead - (blocks - 1) * one.interval
    room = 1024
    while room <= MAX_STEPS:
        steps = np.zeros((room, STEP_COLUMNS), dtype=np.int64)
        used = _walk(
            *table,
            limits_of(chip),
            array_times,
            vector_times,
            np.array(program.descriptors, dtype=np.int64),
            np.array(program.dispatch, dtype=np.int64),
            steps,
        )
        if used >= 0:
            return steps[:used]
        room *= 4
    raise UserError(f"program must end within {MAX_STEPS} executed instructions; a kernel seems to loop for ever")


_MASK = 0xFFFFFFFF
_A, _B, _N = OPERANDS.index("a"), OPERANDS.index("b"), OPERANDS.index("n")
_O = Opcode
_SET, _ADD_REGISTER, _LOOP, _NEXT, _BRANCH = (int(o) for o in (_O.SET, _O.ADD_REGISTER, _O.LOOP, _O.NEXT, _O.BRANCH))
_DESCRIBE, _WAIT, _RETURN = (int(o) for o in (_O.DESCRIBE, _O.WAIT, _O.RETURN))
_ILLEGAL, _ADDRESS, _BAD_DESCRIPTOR = (int(e) for e in (PeError.ILLEGAL_COMMAND, PeError.ADDRESS, PeError.DESCRIPTOR))


@njit(cache=True)
def _walk(
    opcodes,
    units,
    legal,
    tokens,
    sources,
    offsets,
    values,
    fields,
    limits,
    array_times,
    vector_times,
    memory,
    words,
    steps,
):
    """Execute all records; returns the number of steps, -1 where there is no room."""
    registers = np.zeros(REGISTERS, dtype=np.int64)
    operands = np.zeros(6, dtype=np.int64)
    starts = np.zeros(LOOP_LEVELS, dtype=np.int64)
    left = np.zeros(LOOP_LEVELS, dtype=np.int64)
    used = 0
    at = 0
    while at < len(words):
        number = words[at] >> RECORD_ENTRY_BITS & 15
        pc = words[at] & ((1 << RECORD_ENTRY_BITS) - 1)
        if used == len(steps):
            return -1
        steps[used, Step.KIND], steps[used, Step.WORDS] = Kind.RECORD, 1 + number
        used += 1
        for i in range(1, number + 1):
            if at + i < len(words):
                registers[i] = words[at + i]
        at += 1 + number
        level = 0
        alone = 0  # instructions since the last command for a unit
        while True:
            if used == len(steps):
                return -1
            step = steps[used]
            used += 1
            if alone > limits.watchdog:
                step[Step.KIND] = Kind.ENDLESS
                return used
            alone += 1
            step[Step.INSTRUCTION] = pc
            step[Step.KIND] = Kind.PLAIN
            if pc >= limits.instructions:
                step[Step.KIND], step[Step.ERROR] = Kind.BAD_FETCH, _ADDRESS
                return used
            if pc >= len(opcodes) or not legal[pc]:
                step[Step.KIND], step[Step.ERROR] = Kind.BAD_EXECUTE, _ILLEGAL
                return used
            for k in range(6):
                operands[k] = (registers[sources[pc, k]] + offsets[pc, k]) & _MASK
            opcode, unit = opcodes[pc], units[pc]
            target = fields.register[pc]
            following = pc + 1
            if unit != 0:
                step[Step.KIND], step[Step.UNIT] = Kind.PUSH, unit
                alone = 0
                for k in range(4):
                    step[Step.WAIT0 + k] = tokens[pc, k]
                resolve(step, pc, opcode, unit, operands, fields, limits, array_times, vector_times)
            elif opcode == _SET:
                registers[target] = values[pc]
            elif opcode == _ADD_REGISTER:
                registers[target] = (operands[_A] + operands[_B]) & _MASK
            elif opcode == _LOOP:
                if operands[_N] == 0:
                    following = operands[_B]
                elif level == LOOP_LEVELS:
                    step[Step.KIND], step[Step.ERROR] = Kind.BAD_EXECUTE, _ILLEGAL
                    return used
                else:
                    starts[level], left[level] = pc + 1, operands[_N]
                    level += 1
            elif opcode == _NEXT:
                if level == 0:
                    step[Step.KIND], step[Step.ERROR] = Kind.BAD_EXECUTE, _ILLEGAL
                    return used
                if left[level - 1] == 1:
                    level -= 1
                else:
                    left[level - 1] -= 1
                    following = starts[level - 1]
            elif opcode == _BRANCH:
                if operands[_A] == 0:
                    following = operands[_B]
            elif opcode == _DESCRIBE:
                step[Step.KIND] = Kind.DESCRIBE
                if operands[_A] >= limits.descriptors:
                    step[Step.KIND], step[Step.ERROR] = Kind.BAD_EXECUTE, _ADDRESS
                    return used
                descriptor = memory[operands[_A]] if operands[_A] < len(memory) else 0
                if descriptor >> 31 == 0:
                    step[Step.KIND], step[Step.ERROR] = Kind.BAD_DESCRIBE, _BAD_DESCRIPTOR
                    return used
                registers[target] = descriptor & 0x7FFFFFFF
            elif opcode == _WAIT:
                step[Step.KIND] = Kind.WAIT
                for k in range(4):
                    step[Step.WAIT0 + k] = tokens[pc, k] if k >= 2 else -1
            elif opcode == _RETURN:
                if level > 0:
                    step[Step.KIND], step[Step.ERROR] = Kind.BAD_EXECUTE, _ILLEGAL
                    return used
                break
            registers[0] = 0
            pc = following
    return used
