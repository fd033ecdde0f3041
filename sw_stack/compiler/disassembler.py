"""Disassembler of the PE's commands: text that assembles to the same bits, and listings with addresses."""

from __future__ import annotations

from hw.errors import UserError
from hw.isa.encoding import UNIT_FIELDS, Command, Opcode, Operand, VectorSource, to_words, unpack
from sw_stack.compiler.assembler import ROW_FIELDS

_FIXED_SPACES = {
    Opcode.HB_LOAD: {"d": "WH"},
    Opcode.STREAM_LOAD: {"d": "WL"},
    Opcode.STORE: {"a": "XM"},
    Opcode.MATMUL: {"d": "RT"},
    Opcode.ROW_LOAD: {"a": "LT"},
    Opcode.ROW_STORE: {"d": "XM"},
    Opcode.DESCRIBE: {"a": "DM"},
}
"""Memories that a command always means; shown for the reader."""


def disassemble(instructions: list[int], kernels: dict[str, int] | None = None) -> str:
    """Text of ``instructions``: labels where loops and branches go, `.kernel` lines; assembles to the same bits."""
    commands = [unpack(bits) for bits in instructions]
    return "\n".join(_lines(commands, kernels or {})) + "\n"


def listing(instructions: list[int], kernels: dict[str, int] | None = None) -> str:
    """For reading: address, the five words (highest first), text; what is no command is shown as such."""
    names: dict[int, list[str]] = {}
    for name, entry in (kernels or {}).items():
        names.setdefault(entry, []).append(name)
    lines = []
    for address, bits in enumerate(instructions):
        lines += [f".kernel {name}" for name in names.get(address, [])]
        try:
            text = format_command(unpack(bits), {})
        except UserError as error:
            text = f"; no command: {error}"
        words = "_".join(f"{word:08x}" for word in reversed(to_words(bits)))
        lines.append(f"{address:4d}  {words}  {text}")
    return "\n".join(lines) + "\n"


def _lines(commands: list[Command], kernels: dict[str, int]) -> list[str]:
    targets = {
        command.operands["b"].offset
        for command in commands
        if command.opcode in (Opcode.LOOP, Opcode.BRANCH) and not command.operands["b"].register
    }
    labels = {target: f"L{target}" for target in sorted(targets) if 0 <= target <= len(commands)}
    lines = []
    for address in range(len(commands) + 1):
        lines += [f".kernel {name}" for name, entry in kernels.items() if entry == address]
        if address in labels:
            lines.append(f"{labels[address]}:")
        if address < len(commands):
            lines.append("    " + format_command(commands[address], labels))
    return lines


def format_command(command: Command, labels: dict[int, str]) -> str:
    """One command as text; ``labels`` name the instructions that loops and branches go to."""
    spec, fields = command.spec, dict(command.fields)
    parts = []
    if "register" in fields:
        parts.append(f"r{fields.pop('register')}")
    if command.opcode is Opcode.SET:
        parts.append(f"{command.value:#x}")
    kinds = {f.name: f for f in UNIT_FIELDS[spec.unit]}
    for name, slot in spec.operands.items():
        text = _operand_text(command.operands[slot])
        space = f"{name}_space" if f"{name}_space" in fields else "space"
        if name == "target" and not command.operands[slot].register:
            text = labels.get(command.operands[slot].offset, text)
        if space in fields and name in ("d", "a", "b", "w", "s"):
            value = kinds[space].values(fields.pop(space))
            if value is VectorSource.ROW and name == "b" and command.operands[slot] == Operand():
                text = str(fields.pop("row_b"))
            elif value is VectorSource.ROW:  # an offset that the PE ignores: spelled out, so that no bit is lost
                parts.append(f"b_space=ROW, b={text}")
                continue
            text = f"{value.name}[{text}]"
        elif name in _FIXED_SPACES.get(command.opcode, {}):
            text = f"{_FIXED_SPACES[command.opcode][name]}[{text}]"
        parts.append(text if spec.unit == 0 else f"{name}={text}")
    for name, value in fields.items():
        if kinds[name].values is not None:
            parts.append(f"{name}={kinds[name].values(value).name}")
        elif kinds[name].bits == 1:
            parts += [name] if value else []
        elif value or name in ROW_FIELDS[:1]:
            parts.append(f"{name}={value}")
    tokens = "".join(f" ?{s}" for s in command.waits) + "".join(f" !{s}" for s in command.signals)
    return f"{spec.mnemonic} {', '.join(parts)}{tokens}".strip()


def _operand_text(operand: Operand) -> str:
    if not operand.register:
        return str(operand.offset)
    return f"r{operand.register}{operand.offset:+d}" if operand.offset else f"r{operand.register}"
