"""Assembler of the PE's commands: readable text to 160-bit instructions.

    .define GROUPS 4                 a number                    ; to the end of the line: a comment
    .register tile r3                a name for a register
    .semaphore wh_full 1             a name for a semaphore
    .kernel project                  the next instruction is a kernel's entry
    again:                           a label
        set tile, 0x40               register, 32-bit value (fp32(1.5): the bits of that number)
        add tile, tile, 4            register = a + b
        loop n, done                 operands in the order of the command's description, or by name
        hb.load d=WH[tile], a=r2+8, n=18 ?wh_free !wh_full
        array.matmul d=RT[0], a=AL[0], w=WH[tile], s=WH[tile+16], n=GROUPS, m=1, mode=MSB, first, last ?wh_full
        vector.mul d=VT[0], a=RT[0], b=ROW[2], n=4

?name waits for a semaphore, !name signals one. SPACE[x] gives an operand and its memory; ROW[k] a row register.
Everything about commands and fields comes from `hw.isa.encoding`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from hw.errors import UserError, nearest
from hw.isa.encoding import (
    MNEMONICS,
    UNIT_FIELDS,
    Command,
    CommandSpec,
    Opcode,
    Operand,
    Unit,
    VectorSource,
    default_fields,
    pack,
)
from hw.params.pe import REGISTERS, ROW_REGISTERS, SEMAPHORES
from sw_stack.compiler.expressions import evaluate

_NAME = re.compile(r"[A-Za-z_]\w*$")
_SPACED = re.compile(r"([A-Za-z]+)\[(.*)\]$")
_TOKENS = re.compile(r"([?!])\s*(\w+)")
_LABEL = re.compile(r"([A-Za-z_]\w*)\s*:\s*")
ROW_FIELDS = ("row", "row_a", "row_b", "map")
"""Fields that hold the number of a row register."""


@dataclass
class Assembly:
    """instructions; kernel name -> entry; the source line of each instruction; names of semaphores."""

    instructions: list[int] = field(default_factory=list)
    kernels: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    semaphores: dict[str, int] = field(default_factory=dict)


@dataclass
class _Source:
    """What the first pass gathers: the names, and (line number, text) of every instruction."""

    file: str
    numbers: dict[str, int] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=lambda: {f"r{i}": i for i in range(REGISTERS)})
    semaphores: dict[str, int] = field(default_factory=lambda: {f"{i}": i for i in range(SEMAPHORES)})
    kernels: dict[str, int] = field(default_factory=dict)
    instructions: list[tuple[int, str]] = field(default_factory=list)


def assemble(text: str, file: str = "<text>", defines: dict[str, int] | None = None) -> Assembly:
    """Assemble ``text``; ``defines`` are numbers known from the start. UserError names ``file`` and the line."""
    source = _Source(file, numbers=dict(defines or {}))
    for number, line in enumerate(text.splitlines(), 1):
        with _Located(file, number):
            _gather(source, number, line.partition(";")[0].strip())
    commands = []
    for number, line in source.instructions:
        with _Located(file, number):
            commands.append(_command(line, source))
            pack(commands[-1])
    _check_semaphores(commands, source)
    named = {name: value for name, value in source.semaphores.items() if not name.isdigit()}
    lines = [line for _, line in source.instructions]
    return Assembly([pack(command) for command in commands], source.kernels, lines, named)


def assemble_file(path: Path | str, defines: dict[str, int] | None = None) -> Assembly:
    """`assemble` the text in ``path``."""
    return assemble(Path(path).read_text(), str(path), defines)


class _Located:
    """Puts file and line before a UserError's message."""

    def __init__(self, file: str, line: int):
        self.place = f"{file}:{line}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, UserError):
            raise UserError(f"{self.place}: {error}") from None


def _gather(source: _Source, number: int, line: str) -> None:
    while label := _LABEL.match(line):
        _new_name(source, label[1])
        source.numbers[label[1]] = len(source.instructions)
        line = line[label.end() :]
    if not line.startswith("."):
        if line:
            source.instructions.append((number, line))
        return
    words = line.split(None, 2)
    directive, name, value = words[0], words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else ""
    if directive not in (".define", ".register", ".semaphore", ".kernel"):
        raise UserError(f"unknown directive {directive!r}; .define, .register, .semaphore or .kernel")
    if not _NAME.match(name) or bool(value) == (directive == ".kernel"):
        raise UserError(f"{directive} must have a name{'' if directive == '.kernel' else ' and a value'}: {line!r}")
    if directive == ".define":
        if name not in source.numbers:  # a number given from outside wins over the text's
            _new_name(source, name)
            source.numbers[name] = _number(value, source, ".define")
    elif directive == ".register":
        _new_name(source, name)
        if value not in source.registers:
            raise UserError(f".register must be r0 to r{REGISTERS - 1}, not {value!r}")
        source.registers[name] = source.registers[value]
    elif directive == ".semaphore":
        _new_name(source, name)
        semaphore = _number(value, source, ".semaphore")
        taken = [other for other, used in source.semaphores.items() if used == semaphore and not other.isdigit()]
        if not 0 <= semaphore < SEMAPHORES or taken:
            raise UserError(f".semaphore must be a free one of 0 to {SEMAPHORES - 1}, not {semaphore}")
        source.semaphores[name] = semaphore
    else:
        _new_name(source, name)
        source.kernels[name] = len(source.instructions)
        source.numbers[name] = len(source.instructions)


def _new_name(source: _Source, name: str) -> None:
    if name in source.numbers or name in source.registers or name in source.semaphores or name in MNEMONICS:
        raise UserError(f"name must be new, not {name!r}")


def _number(text: str, source: _Source, what: str) -> int:
    value = evaluate(text, source.numbers, source.registers)
    if value.register:
        raise UserError(f"{what} must be a number, not the register in {text!r}")
    return value.offset


def _command(line: str, source: _Source) -> Command:
    mnemonic, _, rest = line.partition(" ")
    spec = MNEMONICS.get(mnemonic)
    if spec is None:
        raise UserError(f"unknown command {mnemonic!r}; {nearest(mnemonic, list(MNEMONICS))}")
    waits, signals = [], []
    for mark, name in _TOKENS.findall(rest):
        if name not in source.semaphores:
            raise UserError(f"unknown semaphore {name!r}; {nearest(name, list(source.semaphores))}")
        (waits if mark == "?" else signals).append(source.semaphores[name])
    fields = default_fields(spec)
    operands: dict[str, Operand] = {}
    value = 0
    positions = [*(("register",) if "register" in fields else ()), *spec.operands]
    if spec.opcode is Opcode.SET:
        positions.append("value")
    given = set()
    for index, argument in enumerate(a.strip() for a in _TOKENS.sub("", rest).split(",")):
        if not argument:
            continue
        name, equals, text = (part.strip() for part in argument.partition("="))
        if not equals and name in fields and _is_flag(spec, name):
            text = "1"
        elif not equals:
            if index >= len(positions):
                raise UserError(f"{mnemonic} must have {_expected(spec, positions)}, not {argument!r}")
            name, text = positions[index], argument
        if name in given:
            raise UserError(f"{mnemonic} must have {name} once")
        given.add(name)
        if name == "value" and spec.opcode is Opcode.SET:
            value = _number(text, source, "value") & 0xFFFFFFFF
        elif name in spec.operands:
            operands[spec.operands[name]] = _operand(spec, name, text, fields, source)
        elif name in fields:
            fields[name] = _field(spec, name, text, source)
        else:
            raise UserError(f"{mnemonic} must have {_expected(spec, positions)}, not {name!r}")
    missing = [name for name in positions if name not in given]
    if missing and not (missing == ["b"] and fields.get("b_space") == VectorSource.ROW):
        raise UserError(f"{mnemonic} must have {', '.join(missing)}")
    return Command(spec.opcode, tuple(waits), tuple(signals), fields, operands, value)


def _expected(spec: CommandSpec, positions: list[str]) -> str:
    return ", ".join([*positions, *(f for f in spec.fields if f not in positions)]) or "nothing"


def _is_flag(spec: CommandSpec, name: str) -> bool:
    return any(f.name == name and f.bits == 1 and f.values is None for f in UNIT_FIELDS[spec.unit])


def _operand(spec: CommandSpec, name: str, text: str, fields: dict[str, int], source: _Source) -> Operand:
    """An operand; SPACE[x] also sets the field of its memory, ROW[k] the row register."""
    spaced = _SPACED.match(text)
    field_name = f"{name}_space" if f"{name}_space" in fields else "space"
    if spaced and field_name in fields:
        fields[field_name] = _field(spec, field_name, spaced[1], source)
        text = spaced[2]
        if fields[field_name] == VectorSource.ROW and "row_b" in fields and name == "b":
            fields["row_b"] = _row(_number(text, source, "ROW"))
            return Operand()
    elif spaced:  # a memory that the command always means
        text = spaced[2]
    value = evaluate(text, source.numbers, source.registers)
    return Operand(value.register, value.offset)


def _row(number: int) -> int:
    if not 0 <= number < ROW_REGISTERS:
        raise UserError(f"row register must be 0 to {ROW_REGISTERS - 1}, not {number}")
    return number


def _field(spec: CommandSpec, name: str, text: str, source: _Source) -> int:
    if name == "register":
        if text not in source.registers:
            raise UserError(f"register must be one of {', '.join(source.registers)}, not {text!r}")
        return source.registers[text]
    values = next(f.values for f in UNIT_FIELDS[spec.unit] if f.name == name)
    if values is None:
        number = _number(text, source, name)
        return _row(number) if name in ROW_FIELDS else number
    legal = spec.legal.get(name, tuple(values))
    if text not in values.__members__ or values[text] not in legal:
        raise UserError(f"{spec.mnemonic} {name} must be {', '.join(values(v).name for v in legal)}, not {text!r}")
    return int(values[text])


def _check_semaphores(commands: list[Command], source: _Source) -> None:
    """A semaphore has one producing and one consuming unit (WAIT, with all units idle, may give to any)."""
    owners: dict[tuple[str, int], Unit] = {}
    for command, (number, line) in zip(commands, source.instructions, strict=True):
        if command.opcode is Opcode.WAIT:
            continue
        for role, semaphores in (("consumed", command.waits), ("produced", command.signals)):
            for semaphore in semaphores:
                owner = owners.setdefault((role, semaphore), command.spec.unit)
                if owner is not command.spec.unit:
                    raise UserError(
                        f"{source.file}:{number}: semaphore {semaphore} must be {role} by one unit, "
                        f"not {owner.name} and {command.spec.unit.name}: {line}"
                    )
