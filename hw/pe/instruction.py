"""The command set as layouts: instruction words as fetched, commands as the units get them.

Everything here is generated from `hw.isa.encoding`; see docs/pe.md.
"""

from amaranth.hdl import Const, Module, Signal, Value, signed
from amaranth.lib import data

from hw.isa.encoding import (
    COMMAND_BITS,
    COMMANDS,
    FLAGS_BITS,
    OFFSET_BITS,
    OPCODE_BITS,
    OPERANDS,
    REGISTER_BITS,
    SEMAPHORE_BITS,
    UNIT_FIELDS,
    Opcode,
    Unit,
)
from hw.params import PeParams

OPERAND_BITS = 32
QUEUED_UNITS = tuple(unit for unit in Unit if unit is not Unit.SEQUENCER)
"""Units with a command queue, in the order of their number."""


class Token(data.StructLayout):
    """A semaphore to wait for or to signal, where ``valid``."""

    def __init__(self):
        super().__init__({"semaphore": SEMAPHORE_BITS, "valid": 1})


class Flags(data.UnionLayout):
    """A command's flags as each unit reads them: ``flags.array.mode``, ``flags.vector.row`` ..."""

    def __init__(self):
        units = {
            unit.name.lower(): data.StructLayout({field.name: field.bits for field in fields})
            for unit, fields in UNIT_FIELDS.items()
            if fields
        }
        super().__init__({"bits": FLAGS_BITS} | units)


class Instruction(data.StructLayout):
    """160 bits as they lie in IM: operands are register + offset."""

    def __init__(self):
        operand = data.StructLayout({"register": REGISTER_BITS, "offset": signed(OFFSET_BITS)})
        tokens = data.ArrayLayout(Token(), 2)
        super().__init__(
            {"opcode": OPCODE_BITS, "waits": tokens, "signals": tokens, "flags": Flags()}
            | {slot: operand for slot in OPERANDS}
        )
        assert self.size == COMMAND_BITS


class Command(data.StructLayout):
    """A decoded command, as queues and units get it.

    opcode          of `Opcode`
    waits, signals  two semaphores each
    flags           `Flags`
    instruction     its index in IM
    d, a, b, s, n, m  values of the operands, unsigned
    """

    def __init__(self, params: PeParams):
        tokens = data.ArrayLayout(Token(), 2)
        super().__init__(
            {
                "opcode": OPCODE_BITS,
                "waits": tokens,
                "signals": tokens,
                "flags": Flags(),
                "instruction": range(params.instructions),
            }
            | {slot: OPERAND_BITS for slot in OPERANDS}
        )


def is_legal(m: Module, opcode: Value, flags: data.View) -> Signal:
    """Whether opcode and fields are ones that some command has; operands are the units' to judge."""
    legal = Signal(name="legal")
    with m.Switch(opcode):
        for code, spec in COMMANDS.items():
            with m.Case(code):
                fields = getattr(flags, spec.unit.name.lower()) if UNIT_FIELDS[spec.unit] else None
                checks = [_is_one_of(getattr(fields, name), values) for name, values in spec.legal.items()]
                m.d.comb += legal.eq(1)
                for check in checks:
                    with m.If(~check):
                        m.d.comb += legal.eq(0)
    return legal


def _is_one_of(value: Value, values: tuple[int, ...]) -> Value:
    found: Value = Const(0, 1)
    for each in values:
        found |= value == each
    return found


def unit_of(m: Module, opcode: Value) -> Signal:
    """The `Unit` that executes ``opcode``."""
    unit = Signal(range(len(Unit)), name="unit")
    with m.Switch(opcode):
        for each in QUEUED_UNITS:
            with m.Case(*(code for code, spec in COMMANDS.items() if spec.unit is each)):
                m.d.comb += unit.eq(each)
    return unit


__all__ = [
    "OPERAND_BITS",
    "QUEUED_UNITS",
    "Command",
    "Flags",
    "Instruction",
    "Opcode",
    "Token",
    "is_legal",
    "unit_of",
]
