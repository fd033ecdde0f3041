"""The command set of the PE: one declarative description, and packing on plain integers. Standard library only.

A command is 160 bits, five 32-bit words, lowest word first (docs/pe.md):

    bits 0-5      opcode
    bits 6-25     wait0, wait1, signal0, signal1: 5 bits each, semaphore in the low 4, valid on top
    bits 26-63    flags: the fields of the command's unit, lowest first; what a command does not use is ignored
    bits 64-159   six operands d, a, b, s, n, m: 16 bits each, register in the low 4, signed 12-bit offset on top

An operand's value is register + sign-extended offset, modulo 2^32, read as unsigned; r0 is 0. SET has its 32-bit value
in the places of d and a.

The RTL's layouts, assembler, disassembler and the tables of docs/pe_commands.md are generated from `UNIT_FIELDS` and
`COMMANDS`; nothing else knows where a bit is.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from hw.errors import UserError
from hw.isa.modes import WeightMode
from hw.params.pe import REGISTERS, ROW_REGISTERS, SEMAPHORES

COMMAND_BITS = 160
COMMAND_WORDS = 5
OPCODE_BITS = 6
SEMAPHORE_BITS = 4
FLAGS_OFFSET = 26
FLAGS_BITS = 38
OPERANDS_OFFSET = 64
OPERANDS = ("d", "a", "b", "s", "n", "m")
"""Operand slots, lowest first."""
REGISTER_BITS = 4
OFFSET_BITS = 12
OFFSET_MIN, OFFSET_MAX = -(1 << (OFFSET_BITS - 1)), (1 << (OFFSET_BITS - 1)) - 1
DESCRIPTOR_VALID = 1 << 31
"""A descriptor is a 31-bit address under this bit."""
RECORD_ENTRY_BITS = 16
"""A dispatch record's first word: entry instruction in these low bits, number of register words in the next 4."""


class Unit(IntEnum):
    """Who executes a command; all but the sequencer have a queue, in this order."""

    SEQUENCER = 0
    HB = 1
    STREAM = 2
    GATHER = 3
    ARRAY = 4
    VECTOR = 5
    STORE = 6
    HOST = 7


class Opcode(IntEnum):
    """Opcodes; 0 is illegal, so that empty memory stops the PE."""

    SET = 0x01
    ADD_REGISTER = 0x02
    LOOP = 0x03
    NEXT = 0x04
    BRANCH = 0x05
    DESCRIBE = 0x06
    WAIT = 0x07
    MARK = 0x08
    COUNT = 0x09
    RETURN = 0x0A
    HB_LOAD = 0x10
    STREAM_LOAD = 0x11
    STREAM_REFILL = 0x12
    GATHER_LOAD = 0x13
    MATMUL = 0x14
    STORE = 0x15
    HOST = 0x16
    ADD = 0x20
    MUL = 0x21
    MAX = 0x22
    MIN = 0x23
    MOVE = 0x24
    SIGMOID = 0x25
    QUANTIZE = 0x26
    ROW_ABSMAX = 0x27
    ROW_LOAD = 0x28
    ROW_STORE = 0x29
    ROW_MAX = 0x2A
    ROW_MUL = 0x2B
    ROW_SCALE = 0x2C
    ROW_RECIPROCAL = 0x2D


class GatherSpace(IntEnum):
    """Where GATHER LOAD writes."""

    AL = 0
    LT = 1


class ActivationSpace(IntEnum):
    """Where MATMUL reads activations."""

    AL = 0
    AV = 1


class WeightSpace(IntEnum):
    """Where MATMUL reads codes or scales."""

    WH = 0
    WL = 1


class VectorSource(IntEnum):
    """Where a vector operation reads operand a or b; ROW and IMMEDIATE only b."""

    RT = 0
    VT = 1
    LT = 2
    ROW = 3
    IMMEDIATE = 4


class VectorTarget(IntEnum):
    """Where a vector operation writes; AV only QUANTIZE, VT not QUANTIZE."""

    VT = 0
    XM = 1
    AV = 2


class PeError(IntEnum):
    """Why a PE stopped; the first error stays in the status register."""

    NONE = 0
    ILLEGAL_COMMAND = 1
    ADDRESS = 2
    HB_REFUSED = 3
    HB_UNCORRECTABLE = 4
    SEMAPHORE = 5
    DESCRIPTOR = 6
    WATCHDOG = 7


@dataclass(frozen=True)
class FieldSpec:
    """A field of a unit's flags: ``bits`` wide, values of ``values`` where it is an enumeration."""

    name: str
    bits: int
    values: type[IntEnum] | None = None


UNIT_FIELDS: dict[Unit, tuple[FieldSpec, ...]] = {
    Unit.SEQUENCER: (FieldSpec("register", 4),),
    Unit.HB: (),
    Unit.STREAM: (),
    Unit.GATHER: (FieldSpec("space", 1, GatherSpace),),
    Unit.ARRAY: (
        FieldSpec("mode", 2, WeightMode),
        FieldSpec("chain", 6),
        FieldSpec("first", 1),
        FieldSpec("last", 1),
        FieldSpec("a_space", 1, ActivationSpace),
        FieldSpec("w_space", 1, WeightSpace),
        FieldSpec("s_space", 1, WeightSpace),
    ),
    Unit.VECTOR: (
        FieldSpec("a_space", 2, VectorSource),
        FieldSpec("b_space", 3, VectorSource),
        FieldSpec("d_space", 2, VectorTarget),
        FieldSpec("broadcast", 1),
        FieldSpec("indexed", 1),
        FieldSpec("first", 1),
        FieldSpec("row", 3),
        FieldSpec("row_a", 3),
        FieldSpec("row_b", 3),
        FieldSpec("map", 3),
    ),
    Unit.STORE: (),
    Unit.HOST: (),
}
"""Fields of each unit's flags, lowest first."""


@dataclass(frozen=True)
class CommandSpec:
    """One command.

    operands  what the text calls an operand -> its slot of `OPERANDS`
    fields    the unit's fields that it uses
    legal     fields whose other values are illegal -> the legal ones
    """

    opcode: Opcode
    unit: Unit
    mnemonic: str
    operands: dict[str, str]
    fields: tuple[str, ...]
    text: str
    legal: dict[str, tuple[int, ...]] = field(default_factory=dict)


def _slots(text: str) -> dict[str, str]:
    """Operand names -> slots from "d a w:b": name alone is its own slot."""
    pairs = (item.partition(":") for item in text.split())
    return {name: slot or name for name, _, slot in pairs}


_TILES = (VectorSource.RT, VectorSource.VT, VectorSource.LT)
_ROWS_OUT = {"a_space": _TILES, "d_space": (VectorTarget.VT, VectorTarget.XM)}
_BINARY = ("a_space", "b_space", "d_space", "broadcast", "indexed", "row_b", "map")
_BINARY_LEGAL = {**_ROWS_OUT, "b_space": tuple(VectorSource)}


def _specs() -> tuple[CommandSpec, ...]:
    o, u = Opcode, Unit

    def control(opcode: Opcode, mnemonic: str, operands: str, fields: tuple[str, ...], text: str) -> CommandSpec:
        return CommandSpec(opcode, u.SEQUENCER, mnemonic, _slots(operands), fields, text)

    def vector(
        opcode: Opcode,
        operands: str,
        fields: tuple[str, ...],
        text: str,
        legal: dict[str, tuple[int, ...]] | None = None,
    ) -> CommandSpec:
        return CommandSpec(
            opcode, u.VECTOR, f"vector.{opcode.name.lower()}", _slots(operands), fields, text, legal or {}
        )

    return (
        control(o.SET, "set", "", ("register",), "register = 32-bit value"),
        control(o.ADD_REGISTER, "add", "a b", ("register",), "register = a + b"),
        control(
            o.LOOP, "loop", "n target:b", (), "the body up to the NEXT before `target`, n times; 0 goes to `target`"
        ),
        control(o.NEXT, "next", "", (), "end of the innermost loop's body"),
        control(o.BRANCH, "branch", "a target:b", (), "to instruction `target` where a is 0"),
        control(o.DESCRIBE, "describe", "a", ("register",), "register = address in descriptor DM[a]"),
        control(o.WAIT, "wait", "", (), "until all queues are empty and all units idle; then gives its signals"),
        control(o.MARK, "mark", "a", (), "event: mark a"),
        control(o.COUNT, "count", "a b", (), "event: expert b of layer a was used"),
        control(o.RETURN, "return", "", (), "end of the kernel"),
        CommandSpec(o.HB_LOAD, u.HB, "hb.load", _slots("d a n"), (), "WH[d ...] = n HB columns from data column a"),
        CommandSpec(
            o.STREAM_LOAD, u.STREAM, "stream.load", _slots("d n"), (), "WL[d ...] = n words of the stream link"
        ),
        CommandSpec(
            o.STREAM_REFILL, u.STREAM, "stream.refill", _slots("d n"), (), "HB data columns d ... = n words of the link"
        ),
        CommandSpec(
            o.GATHER_LOAD, u.GATHER, "gather.load", _slots("d n"), ("space",), "AL or LT[d ...] = n words of the link"
        ),
        CommandSpec(
            o.MATMUL,
            u.ARRAY,
            "array.matmul",
            _slots("d a w:b s n m"),
            ("mode", "chain", "first", "last", "a_space", "w_space", "s_space"),
            "chain + k += tile group g x activation word a + k n + g, for g < n, k < m",
        ),
        vector(o.ADD, "d a b n", _BINARY, "a + b", _BINARY_LEGAL),
        vector(o.MUL, "d a b n", _BINARY, "a x b", _BINARY_LEGAL),
        vector(o.MAX, "d a b n", _BINARY, "the greater of a and b", _BINARY_LEGAL),
        vector(o.MIN, "d a b n", _BINARY, "the lesser of a and b", _BINARY_LEGAL),
        vector(o.MOVE, "d a n", ("a_space", "d_space"), "a", _ROWS_OUT),
        vector(o.SIGMOID, "d a n", ("a_space", "d_space"), "sigmoid(a)", _ROWS_OUT),
        vector(
            o.QUANTIZE,
            "d a n",
            ("a_space", "d_space", "row_b"),
            "INT8 rne(rne(a x row register row_b)), pieces d ...",
            {"a_space": _TILES, "d_space": (VectorTarget.XM, VectorTarget.AV)},
        ),
        vector(
            o.ROW_ABSMAX,
            "a n",
            ("a_space", "row", "first"),
            "row register `row` = max(itself, |a|)",
            {"a_space": _TILES},
        ),
        vector(o.ROW_LOAD, "a", ("row",), "row register `row` = first R values of LT row a"),
        vector(o.ROW_STORE, "d", ("row_a",), "XM word d = row register row_a, then zeros"),
        vector(o.ROW_MAX, "", ("row", "row_a", "row_b"), "row = max(row_a, row_b)"),
        vector(o.ROW_MUL, "", ("row", "row_a", "row_b"), "row = row_a x row_b"),
        vector(o.ROW_SCALE, "", ("row", "row_a"), "row = rne(row_a / 127)"),
        vector(o.ROW_RECIPROCAL, "", ("row", "row_a"), "row = rne(127 / row_a), 0 where that is infinite"),
        CommandSpec(o.STORE, u.STORE, "store", _slots("a n"), (), "n words of XM to the aggregation link"),
        CommandSpec(o.HOST, u.HOST, "host", _slots("a b d"), (), "host operation a with b, d"),
    )


COMMANDS: dict[Opcode, CommandSpec] = {spec.opcode: spec for spec in _specs()}
MNEMONICS: dict[str, CommandSpec] = {spec.mnemonic: spec for spec in COMMANDS.values()}


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
