"""Time of the vector unit's commands, composed of the stage counts of `PeParams`. Standard library only.

A command on n rows that starts in cycle s is done in cycle s + n `vector_interval` + `vector_latency` - 1; commands
without operand n count as one row.
"""

from hw.isa.encoding import Opcode
from hw.params import ChipParams

PREPARE_CYCLES = 2
"""From a command's start to the address of its first row: take the command, read row registers."""
SCALAR_AT_A_TIME = frozenset({Opcode.ROW_SCALE, Opcode.ROW_RECIPROCAL})
"""Commands that take the R scalars of a row register one a cycle."""


def sigmoid_stages(chip: ChipParams) -> int:
    """Registers of a sigmoid unit: segment, distance, Horner's three steps, reflection."""
    return 1 + 5 * chip.pe.vector_add_stages + 3 * chip.pe.vector_mul_stages


def maximum_stages(chip: ChipParams) -> int:
    """Registers of the maximum over the C values of a row, at least one."""
    levels = (chip.array.columns - 1).bit_length()
    return max(1, -(-levels // chip.pe.max_levels_per_stage))


def vector_stages(chip: ChipParams, opcode: Opcode) -> int:
    """Registers between operands and result."""
    pe = chip.pe
    return {
        Opcode.ADD: pe.vector_add_stages,
        Opcode.MUL: pe.vector_mul_stages,
        Opcode.MAX: 1,
        Opcode.MIN: 1,
        Opcode.MOVE: 1,
        Opcode.SIGMOID: sigmoid_stages(chip),
        Opcode.QUANTIZE: pe.vector_mul_stages + 1,
        Opcode.ROW_ABSMAX: maximum_stages(chip),
        Opcode.ROW_LOAD: 1,
        Opcode.ROW_STORE: 1,
        Opcode.ROW_MAX: 1,
        Opcode.ROW_MUL: pe.vector_mul_stages,
        Opcode.ROW_SCALE: pe.vector_divide_stages,
        Opcode.ROW_RECIPROCAL: pe.vector_divide_stages,
    }[opcode]


def vector_latency(chip: ChipParams, opcode: Opcode) -> int:
    """Cycles from start to done of a command on one row, less the interval, plus one."""
    return PREPARE_CYCLES + chip.pe.vector_read_stages + vector_stages(chip, opcode) + chip.pe.vector_write_stages


def vector_interval(chip: ChipParams, opcode: Opcode) -> int:
    """Cycles of the command per row; of the commands on whole row registers, per command."""
    if opcode is Opcode.SIGMOID:
        return chip.array.columns // chip.pe.sigmoid_units
    return chip.array.rows if opcode in SCALAR_AT_A_TIME else 1
