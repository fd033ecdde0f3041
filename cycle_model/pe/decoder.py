"""From a program to the sequence of executed instructions with resolved operands; exact and fast share it.

Control flow depends on dispatch words, registers and descriptors only, never on time or on what the units compute, so
the sequence is known before any cycle is. What is decided here is what an instruction *is*; when it happens is decided
by `exact` and `fast`, each in its own way. Bit places come from `hw.isa.encoding`.
"""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe import durations
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
    VectorSource,
    VectorTarget,
    field_offset,
)
from hw.isa.program import PeProgram
from hw.isa.vector_timing import vector_interval, vector_latency
from hw.params import LOOP_LEVELS, REGISTERS, ChipParams


class Kind(IntEnum):
    """How the sequencer spends time on a step."""

    RECORD = 0  # dispatch words, WORDS of them
    PLAIN = 1  # fetch, execute
    DESCRIBE = 2  # one cycle more
    WAIT = 3
    PUSH = 4  # a command for a queue
    BAD_FETCH = 5  # an error: in fetch, in execute, in the third cycle of DESCRIBE
    BAD_EXECUTE = 6
    BAD_DESCRIBE = 7
    ENDLESS = 8  # a loop of the sequencer alone, cut after more instructions than the watchdog has cycles


class Step(IntEnum):
    """Columns of a step.

    WAIT0 ... SIGNAL1  semaphores, -1 for none
    IS_REFILL          STREAM: REFILL
    WORDS              words or HB columns of a transfer, words of a record, rows of a vector command,
                       token blocks of a MATMUL
    COLUMN             first HB data column, linear
    SLOTS, INTERVAL, LATENCY  ARRAY: slots, cycles from one to the next, from the begin of the last to done;
                       VECTOR: rows, cycles of each, latency
    ERROR              `PeError` that the unit finds in its operands at start, or that the sequencer finds
    """

    KIND = 0
    UNIT = 1
    INSTRUCTION = 2
    WAIT0 = 3
    WAIT1 = 4
    SIGNAL0 = 5
    SIGNAL1 = 6
    IS_REFILL = 7
    WORDS = 8
    COLUMN = 9
    SLOTS = 10
    INTERVAL = 11
    LATENCY = 12
    ERROR = 13


STEP_COLUMNS = len(Step)
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
    fields: dict[str, np.ndarray]


class _Limits(NamedTuple):
    """Sizes that operands are checked against."""

    instructions: int
    descriptors: int
    wh_words: int
    wl_words: int
    al_words: int
    lt_rows: int
    al_groups: int
    av_groups: int
    rt_rows: int
    vt_rows: int
    xm_words: int
    av_pieces: int
    xm_pieces: int
    watchdog: int
    hb_columns: int
    hb_length: int
    rows: int
    columns: int
    chains: int


def limits_of(chip: ChipParams) -> _Limits:
    """The capacities of ``chip``'s memories in the units in which commands count."""
    pe, array, hb = chip.pe, chip.array, chip.hb
    words_per_group = 8 * array.rows // array.columns
    pieces_per_group = 32 // array.columns
    return _Limits(
        instructions=pe.instructions,
        descriptors=pe.descriptors,
        wh_words=pe.wh_words,
        wl_words=pe.wl_words,
        al_words=pe.al_groups * words_per_group,
        lt_rows=pe.lt_rows,
        al_groups=pe.al_groups,
        av_groups=pe.av_groups,
        rt_rows=pe.rt_rows,
        vt_rows=pe.vt_rows,
        xm_words=pe.xm_words,
        av_pieces=pe.av_groups * pieces_per_group,
        xm_pieces=pe.xm_words // words_per_group * pieces_per_group,
        watchdog=pe.watchdog_cycles,
        hb_columns=hb.rows * hb.data_columns,
        hb_length=(1 << hb.length_bits) - 1,
        rows=array.rows,
        columns=array.columns,
        chains=array.chains,
    )


def _fields_of(unit: Unit, bits: int) -> dict[str, int]:
    places = {spec.name: field_offset(unit, spec.name) for spec in UNIT_FIELDS[unit]}
    return {name: bits >> offset & ((1 << width) - 1) for name, (offset, width) in places.items()}


_FIELDS = ("register", "space", "chain", "last", "a_space", "w_space", "s_space", "b_space", "d_space")
_FIELDS += ("broadcast", "indexed", "first")


@lru_cache(maxsize=16)
def _table(instructions: tuple[int, ...]) -> _Table:
    number = len(instructions)
    table = _Table(
        *(np.zeros(number, dtype=np.int64) for _ in range(3)),
        np.full((number, 4), -1, dtype=np.int64),
        *(np.zeros((number, len(OPERANDS)), dtype=np.int64) for _ in range(2)),
        np.zeros(number, dtype=np.int64),
        {name: np.zeros(number, dtype=np.int64) for name in _FIELDS},
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
            if name in table.fields:
                table.fields[name][i] = value
    return table


def decode(program: PeProgram) -> np.ndarray:
    """Steps of the whole run, int64 [steps, STEP_COLUMNS]; it ends with the first error of the sequencer, if any.

    Raises UserError where the run takes more than 2^26 steps (a kernel that never returns).
    """
    chip = program.chip
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
            *table[:-1],
            tuple(table.fields[name] for name in _FIELDS),
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
_D, _A, _B, _S, _N, _M = range(6)
_O = Opcode
_SET, _ADD_REGISTER, _LOOP, _NEXT, _BRANCH = (int(o) for o in (_O.SET, _O.ADD_REGISTER, _O.LOOP, _O.NEXT, _O.BRANCH))
_DESCRIBE, _WAIT, _RETURN, _REFILL = (int(o) for o in (_O.DESCRIBE, _O.WAIT, _O.RETURN, _O.STREAM_REFILL))
_HB, _STREAM, _GATHER, _ARRAY = (int(u) for u in (Unit.HB, Unit.STREAM, Unit.GATHER, Unit.ARRAY))
_VECTOR, _STORE = int(Unit.VECTOR), int(Unit.STORE)
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
    register_field = fields[0]
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
            target = register_field[pc]
            following = pc + 1
            if unit != 0:
                step[Step.KIND], step[Step.UNIT] = Kind.PUSH, unit
                alone = 0
                for k in range(4):
                    step[Step.WAIT0 + k] = tokens[pc, k]
                _command(step, pc, opcode, unit, operands, fields, limits, array_times, vector_times)
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


@njit(cache=True)
def _command(step, pc, opcode, unit, operands, fields, limits, array_times, vector_times):
    """Fill in a command for a queue: sizes, and the error that its unit will find in the operands."""
    space = fields[1]
    d, a, n, m = operands[_D], operands[_A], operands[_N], operands[_M]
    wrong = n == 0
    outside = False
    if unit == _HB:
        step[Step.WORDS], step[Step.COLUMN] = n, a
        outside = d + n > limits.wh_words or a >= limits.hb_columns or n > limits.hb_length
    elif unit == _STREAM:
        step[Step.WORDS], step[Step.COLUMN] = n, d
        if opcode == _REFILL:
            step[Step.IS_REFILL] = 1
            outside = d >= limits.hb_columns or n > limits.hb_length
        else:
            outside = d + n > limits.wl_words
    elif unit == _GATHER:
        step[Step.WORDS] = n
        outside = d + n > (limits.lt_rows if space[pc] else limits.al_words)
    elif unit == _STORE:
        step[Step.WORDS] = n
        outside = a + n > limits.xm_words
    elif unit == _ARRAY:
        wrong, outside = _matmul_errors(pc, operands, fields, limits)
        if not wrong:
            step[Step.SLOTS], step[Step.WORDS] = n * m, m
            step[Step.INTERVAL], step[Step.LATENCY] = array_times[m, 0], array_times[m, 1]
    elif unit == _VECTOR:
        wrong, outside = _vector_errors(pc, opcode, operands, fields, limits)
        step[Step.WORDS] = n
        step[Step.SLOTS] = n if has_rows(opcode) else 1
        step[Step.INTERVAL], step[Step.LATENCY] = vector_times[opcode, 0], vector_times[opcode, 1]
    else:
        wrong = False
    if wrong:
        step[Step.ERROR] = _ILLEGAL
    elif outside:
        step[Step.ERROR] = _ADDRESS


@njit(cache=True)
def _matmul_errors(pc, operands, fields, limits):
    """(ILLEGAL_COMMAND, ADDRESS) of a MATMUL."""
    chain, last, a_space, w_space, s_space = fields[2][pc], fields[3][pc], fields[4][pc], fields[5][pc], fields[6][pc]
    d, a, w, s, n, m = operands
    wrong = n == 0 or m == 0 or chain + m > limits.chains
    outside = a + n * m > (limits.av_groups if a_space else limits.al_groups)
    outside = outside or w + 4 * n > (limits.wl_words if w_space else limits.wh_words)
    outside = outside or s + (n + 1) // 2 > (limits.wl_words if s_space else limits.wh_words)
    outside = outside or (last == 1 and (d % limits.rows != 0 or d + m * limits.rows > limits.rt_rows))
    return wrong, outside


@njit(cache=True)
def has_rows(opcode):
    """Whether a vector operation has an operand n; the others take one row."""
    return opcode <= _LAST_WITH_ROWS


@njit(cache=True)
def _rows_of(source, limits):
    """Rows of the memory that a vector operand is read from."""
    if source == _FROM_RT:
        return limits.rt_rows
    return limits.vt_rows if source == _FROM_VT else limits.lt_rows


@njit(cache=True)
def _vector_errors(pc, opcode, operands, fields, limits):
    """(ILLEGAL_COMMAND, ADDRESS) of a vector command."""
    a_space, b_space, d_space = fields[4][pc], fields[7][pc], fields[8][pc]
    broadcast, indexed, first = fields[9][pc], fields[10][pc], fields[11][pc]
    d, a, b, n = operands[_D], operands[_A], operands[_B], operands[_N]
    words = -(-limits.rows // limits.columns)
    if opcode == _ROW_LOAD:
        return False, a + words > limits.lt_rows
    if opcode == _ROW_STORE:
        return False, d + words > limits.xm_words
    if not has_rows(opcode):
        return False, False
    binary = opcode <= _LAST_BINARY
    indexed = indexed and binary
    wrong = n == 0 or (indexed and n > limits.rows) or (opcode == _ROW_ABSMAX and first and n > limits.rows)
    target = limits.vt_rows if d_space == _TO_VT else limits.xm_words
    if indexed:
        outside = a >= _rows_of(a_space, limits) or d >= target
    else:
        outside = a + n > _rows_of(a_space, limits)
        if opcode == _QUANTIZE:
            pieces = (n + limits.rows - 1) // limits.rows
            outside = outside or d + pieces > (limits.av_pieces if d_space == _TO_AV else limits.xm_pieces)
        elif opcode != _ROW_ABSMAX:
            outside = outside or d + n > target
    if binary and b_space <= _FROM_LT:
        outside = outside or b + (1 if broadcast else n) > _rows_of(b_space, limits)
    return wrong, outside


_FROM_RT, _FROM_VT, _FROM_LT = int(VectorSource.RT), int(VectorSource.VT), int(VectorSource.LT)
_TO_VT, _TO_AV = int(VectorTarget.VT), int(VectorTarget.AV)
_ROW_LOAD, _ROW_STORE, _QUANTIZE, _ROW_ABSMAX = (
    int(o) for o in (_O.ROW_LOAD, _O.ROW_STORE, _O.QUANTIZE, _O.ROW_ABSMAX)
)
_LAST_BINARY, _LAST_WITH_ROWS = int(Opcode.MIN), int(Opcode.ROW_ABSMAX)
