"""The command set of the PE: packing on plain integers. Standard library only.

A command is 160 bits, five 32-bit words, lowest word first (docs/pe.md):

    bits 0-5      opcode
    bits 6-25     wait0, wait1, signal0, signal1: 5 bits each, semaphore in the low 4, valid on top
    bits 26-63    flags: the fields of the command's unit, lowest first; what a command does not use is ignored
    bits 64-159   six operands d, a, b, s, n, m: 16 bits each, register in the low 4, signed 12-bit offset on top

An operand's value is register + sign-extended offset, modulo 2^32, read as unsigned; r0 is 0. SET has its 32-bit value
in the places of d and a.

The RTL's layouts, assembler, disassembler and the tables of docs/pe_commands.md are generated from `UNIT_FIELDS` and
`COMMANDS` of `hw.isa.commands`; nothing else knows where a bit is.
"""

from dataclasses import dataclass, field

from hw.errors import UserError
from hw.isa.commands import (
    COMMANDS,
    MNEMONICS,
    OPERANDS,
    UNIT_FIELDS,
    ActivationSpace,
    CommandSpec,
    FieldSpec,
    GatherSpace,
    Opcode,
    PeError,
    Unit,
    VectorSource,
    VectorTarget,
    WeightSpace,
)
from hw.params.pe import REGISTERS, ROW_REGISTERS, SEMAPHORES

__all__ = [
    "COMMANDS",
    "COMMAND_BITS",
    "COMMAND_WORDS",
    "DESCRIPTOR_VALID",
    "FLAGS_BITS",
    "FLAGS_OFFSET",
    "MNEMONICS",
    "OFFSET_BITS",
    "OFFSET_MAX",
    "OFFSET_MIN",
    "OPCODE_BITS",
    "OPERANDS",
    "OPERANDS_OFFSET",
    "RECORD_ENTRY_BITS",
    "REGISTER_BITS",
    "SEMAPHORE_BITS",
    "UNIT_FIELDS",
    "ActivationSpace",
    "Command",
    "CommandSpec",
    "FieldSpec",
    "GatherSpace",
    "Opcode",
    "Operand",
    "PeError",
    "Unit",
    "VectorSource",
    "VectorTarget",
    "WeightSpace",
    "check",
    "default_fields",
    "field_offset",
    "from_words",
    "pack",
    "record_header",
    "to_words",
    "unpack",
]

COMMAND_BITS = 160
COMMAND_WORDS = 5
OPCODE_BITS = 6
SEMAPHORE_BITS = 4
FLAGS_OFFSET = 26
FLAGS_BITS = 38
OPERANDS_OFFSET = 64
REGISTER_BITS = 4
OFFSET_BITS = 12
OFFSET_MIN, OFFSET_MAX = -(1 << (OFFSET_BITS - 1)), (1 << (OFFSET_BITS - 1)) - 1
DESCRIPTOR_VALID = 1 << 31
"""A descriptor is a 31-bit address under this bit."""
RECORD_ENTRY_BITS = 16
"""A dispatch record's first word: entry instruction in these low bits, number of register words in the next 4."""


def field_offset(unit: Unit, name: str) -> tuple[int, int]:
    """(lowest bit in the command, width) of a field of ``unit``'s flags."""
    offset = FLAGS_OFFSET
    for spec in UNIT_FIELDS[unit]:
        if spec.name == name:
            return offset, spec.bits
        offset += spec.bits
    raise KeyError(f"{unit.name} has no field {name}")


@dataclass(frozen=True)
class Operand:
    """register + offset."""

    register: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Command:
    """One decoded command; operands by slot name of `OPERANDS`, fields by name, ``value`` of SET only."""

    opcode: Opcode
    waits: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    fields: dict[str, int] = field(default_factory=dict)
    operands: dict[str, Operand] = field(default_factory=dict)
    value: int = 0

    @property
    def spec(self) -> CommandSpec:
        return COMMANDS[self.opcode]


def check(command: Command) -> None:
    """UserError where the command is none that `pack` can hold or that the PE would refuse whatever its operands."""
    spec = command.spec
    for what, semaphores in (("waits", command.waits), ("signals", command.signals)):
        if len(semaphores) > 2:
            raise UserError(f"{spec.mnemonic} {what} must be at most two semaphores, not {len(semaphores)}")
        for semaphore in semaphores:
            _require_range("semaphore", semaphore, 0, SEMAPHORES - 1)
    used = command.waits + command.signals
    if len(set(used)) != len(used):
        raise UserError(f"{spec.mnemonic} must name a semaphore once, not {list(used)!r}")
    if spec.unit is Unit.SEQUENCER and (command.waits or (command.signals and command.opcode is not Opcode.WAIT)):
        raise UserError(f"{spec.mnemonic} is executed by the sequencer and must have no waits or signals")
    _check_fields(spec, command.fields)
    for slot, operand in command.operands.items():
        if slot not in spec.operands.values():
            raise UserError(f"{spec.mnemonic} has no operand {slot!r}")
        _require_range("register", operand.register, 0, REGISTERS - 1)
        _require_range("offset", operand.offset, OFFSET_MIN, OFFSET_MAX)
    _require_range("value", command.value, 0, 0xFFFFFFFF if command.opcode is Opcode.SET else 0)


def _check_fields(spec: CommandSpec, fields: dict[str, int]) -> None:
    bits = {f.name: f.bits for f in UNIT_FIELDS[spec.unit]}
    for name, value in fields.items():
        if name not in spec.fields:
            raise UserError(f"{spec.mnemonic} has no field {name!r}")
        _require_range(f"{spec.mnemonic} {name}", value, 0, (1 << bits[name]) - 1)
        legal = spec.legal.get(name)
        if legal is not None and value not in legal:
            raise UserError(f"{spec.mnemonic} {name} must be one of {[int(v) for v in legal]}, not {value}")


def _require_range(thing: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UserError(f"{thing} must be {least} to {most}, not {value}")


def default_fields(spec: CommandSpec) -> dict[str, int]:
    """Every field of ``spec`` with its lowest legal value."""
    return {name: int(min(spec.legal.get(name, (0,)))) for name in spec.fields}


def pack(command: Command) -> int:
    """The 160 bits of ``command``; UserError where it is not legal."""
    check(command)
    spec = command.spec
    bits = int(command.opcode)
    for place, semaphores in ((OPCODE_BITS, command.waits), (OPCODE_BITS + 2 * (SEMAPHORE_BITS + 1), command.signals)):
        for i, semaphore in enumerate(semaphores):
            bits |= (semaphore | 1 << SEMAPHORE_BITS) << (place + i * (SEMAPHORE_BITS + 1))
    for name, value in (default_fields(spec) | command.fields).items():
        bits |= int(value) << field_offset(spec.unit, name)[0]
    for slot, operand in command.operands.items():
        word = operand.register | (operand.offset & ((1 << OFFSET_BITS) - 1)) << REGISTER_BITS
        bits |= word << (OPERANDS_OFFSET + 16 * OPERANDS.index(slot))
    return bits | command.value << OPERANDS_OFFSET


def unpack(bits: int) -> Command:
    """The command in 160 ``bits``, as the PE reads it: UserError for an unknown opcode or an illegal field value."""
    number = bits & ((1 << OPCODE_BITS) - 1)
    if number not in COMMANDS:
        raise UserError(f"opcode must be a known one, not {number:#04x}")
    spec = COMMANDS[Opcode(number)]
    tokens = [bits >> (OPCODE_BITS + i * (SEMAPHORE_BITS + 1)) & 31 for i in range(4)]
    waits, signals = (
        tuple(t & (SEMAPHORES - 1) for t in pair if t >> SEMAPHORE_BITS) for pair in (tokens[:2], tokens[2:])
    )
    fields = {}
    for name in spec.fields:
        offset, width = field_offset(spec.unit, name)
        fields[name] = bits >> offset & ((1 << width) - 1)
    operands = {}
    for slot in spec.operands.values():
        word = bits >> (OPERANDS_OFFSET + 16 * OPERANDS.index(slot)) & 0xFFFF
        offset = word >> REGISTER_BITS
        operands[slot] = Operand(word & (REGISTERS - 1), offset - (1 << OFFSET_BITS if offset > OFFSET_MAX else 0))
    if spec.unit is Unit.SEQUENCER:
        waits, signals = (), signals if spec.opcode is Opcode.WAIT else ()
    value = bits >> OPERANDS_OFFSET & 0xFFFFFFFF if spec.opcode is Opcode.SET else 0
    _check_fields(spec, fields)
    return Command(spec.opcode, waits, signals, fields, operands, value)


def to_words(bits: int) -> tuple[int, ...]:
    """Five 32-bit words, lowest first."""
    return tuple(bits >> 32 * i & 0xFFFFFFFF for i in range(COMMAND_WORDS))


def from_words(words: tuple[int, ...]) -> int:
    """160 bits of five 32-bit words, lowest first."""
    return sum(word << 32 * i for i, word in enumerate(words))


def record_header(entry: int, registers: int) -> int:
    """First word of a dispatch record: kernel at instruction ``entry``; words for r1 ... r``registers`` follow."""
    _require_range("entry", entry, 0, (1 << RECORD_ENTRY_BITS) - 1)
    _require_range("registers", registers, 0, REGISTERS - 1)
    return entry | registers << RECORD_ENTRY_BITS


assert ROW_REGISTERS == 1 << 3
assert all(sum(f.bits for f in fields) <= FLAGS_BITS for fields in UNIT_FIELDS.values())
