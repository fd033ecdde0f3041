"""What a command's operands say: the size of its work, and the error that its unit finds in them."""

from typing import NamedTuple

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe.steps import Step
from hw.isa.encoding import Opcode, PeError, Unit, VectorSource, VectorTarget
from hw.params import ChipParams

_D, _A, _B, _S, _N, _M = range(6)
_HB, _STREAM, _GATHER, _ARRAY = (int(u) for u in (Unit.HB, Unit.STREAM, Unit.GATHER, Unit.ARRAY))
_VECTOR, _STORE = int(Unit.VECTOR), int(Unit.STORE)
_ILLEGAL, _ADDRESS, _REFILL = int(PeError.ILLEGAL_COMMAND), int(PeError.ADDRESS), int(Opcode.STREAM_REFILL)
_FROM_RT, _FROM_VT, _FROM_LT = int(VectorSource.RT), int(VectorSource.VT), int(VectorSource.LT)
_TO_VT, _TO_AV = int(VectorTarget.VT), int(VectorTarget.AV)
_ROW_LOAD, _ROW_STORE = int(Opcode.ROW_LOAD), int(Opcode.ROW_STORE)
_QUANTIZE, _ROW_ABSMAX = int(Opcode.QUANTIZE), int(Opcode.ROW_ABSMAX)
_LAST_BINARY, _LAST_WITH_ROWS = int(Opcode.MIN), int(Opcode.ROW_ABSMAX)


class Fields(NamedTuple):
    """Fields of commands, int64 [instructions] each; 0 where a command has none of that name."""

    register: np.ndarray
    space: np.ndarray
    chain: np.ndarray
    last: np.ndarray
    a_space: np.ndarray
    w_space: np.ndarray
    s_space: np.ndarray
    b_space: np.ndarray
    d_space: np.ndarray
    broadcast: np.ndarray
    indexed: np.ndarray
    first: np.ndarray


class Limits(NamedTuple):
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


def limits_of(chip: ChipParams) -> Limits:
    """The capacities of ``chip``'s memories in the units in which commands count."""
    pe, array, hb = chip.pe, chip.array, chip.hb
    words_per_group = 8 * array.rows // array.columns
    pieces_per_group = 32 // array.columns
    return Limits(
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


@njit(cache=True)
def resolve(step, pc, opcode, unit, operands, fields, limits, array_times, vector_times):
    """Fill in a command for a queue: sizes, and the error that its unit will find in the operands."""
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
        outside = d + n > (limits.lt_rows if fields.space[pc] else limits.al_words)
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
        step[Step.SLOTS] = n if _has_rows(opcode) else 1
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
    chain, last, a_space, w_space, s_space = (
        fields.chain[pc],
        fields.last[pc],
        fields.a_space[pc],
        fields.w_space[pc],
        fields.s_space[pc],
    )
    d, a, w, s, n, m = operands
    wrong = n == 0 or m == 0 or chain + m > limits.chains
    outside = a + n * m > (limits.av_groups if a_space else limits.al_groups)
    outside = outside or w + 4 * n > (limits.wl_words if w_space else limits.wh_words)
    outside = outside or s + (n + 1) // 2 > (limits.wl_words if s_space else limits.wh_words)
    outside = outside or (last == 1 and (d % limits.rows != 0 or d + m * limits.rows > limits.rt_rows))
    return wrong, outside


@njit(cache=True)
def _has_rows(opcode):
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
    a_space, b_space, d_space = fields.a_space[pc], fields.b_space[pc], fields.d_space[pc]
    broadcast, indexed, first = fields.broadcast[pc], fields.indexed[pc], fields.first[pc]
    d, a, b, n = operands[_D], operands[_A], operands[_B], operands[_N]
    words = -(-limits.rows // limits.columns)
    if opcode == _ROW_LOAD:
        return False, a + words > limits.lt_rows
    if opcode == _ROW_STORE:
        return False, d + words > limits.xm_words
    if not _has_rows(opcode):
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
