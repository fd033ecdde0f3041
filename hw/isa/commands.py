"""The command set of the PE as data: units, opcodes, fields, legal values, effects. Standard library only.

Where the bits are follows from `UNIT_FIELDS` and the slots of `OPERANDS`; `hw.isa.encoding` packs and unpacks.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from hw.isa.modes import WeightMode

OPERANDS = ("d", "a", "b", "s", "n", "m")
"""Operand slots, lowest first."""


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
