"""docs/pe_commands.md, from the one description of the encoding (``python -m sw_stack.compiler.command_reference``)."""

from __future__ import annotations

from pathlib import Path

from hw.files import write_atomic
from hw.isa.encoding import (
    COMMANDS,
    FLAGS_OFFSET,
    OPERANDS,
    OPERANDS_OFFSET,
    UNIT_FIELDS,
    CommandSpec,
    PeError,
    Unit,
    field_offset,
)

PAGE = Path(__file__).parents[2] / "docs" / "pe_commands.md"


def command_reference() -> str:
    """The page's text."""
    lines = [
        "# Commands of the PE, bit by bit",
        "",
        "Generated from `hw/isa/commands.py` by `python -m sw_stack.compiler.command_reference`; a test compares them.",
        "What the commands do, and when, is in [pe.md](pe.md); how to write them, in `sw_stack/compiler/assembler.py`.",
        "",
        "| bits | |",
        "|---|---|",
        "| 0-5 | opcode |",
        "| 6-10, 11-15 | wait0, wait1: semaphore in the low 4 bits, valid on top |",
        "| 16-20, 21-25 | signal0, signal1 |",
        f"| {FLAGS_OFFSET}-63 | fields of the unit, below |",
    ]
    for index, slot in enumerate(OPERANDS):
        low = OPERANDS_OFFSET + 16 * index
        lines.append(f"| {low}-{low + 15} | operand {slot}: register in the low 4 bits, signed offset above |")
    lines += [
        f"| {OPERANDS_OFFSET}-{OPERANDS_OFFSET + 31} | of SET: the value |",
        "",
        "## Fields",
        "",
        "| unit | field | bits | values |",
        "|---|---|---|---|",
    ]
    for unit, fields in UNIT_FIELDS.items():
        for spec in fields:
            low, width = field_offset(unit, spec.name)
            values = ", ".join(f"{int(v)} {v.name}" for v in spec.values) if spec.values else f"0-{(1 << width) - 1}"
            bits = f"{low}-{low + width - 1}" if width > 1 else f"{low}"
            lines.append(f"| {unit.name} | {spec.name} | {bits} | {values} |")
    lines += ["", "## Commands", "", "| opcode | text | unit | operands | fields | |", "|---|---|---|---|---|---|"]
    lines += [_row(spec) for spec in COMMANDS.values()]
    lines += [
        "",
        "Every other opcode, and every field value outside the brackets, is ILLEGAL_COMMAND. Fields that a command",
        "does not use are ignored.",
        "",
        "## Error codes",
        "",
        *(f"- {int(error)} {error.name}" for error in PeError if error),
    ]
    return "\n".join(lines) + "\n"


def _row(spec: CommandSpec) -> str:
    operands = ", ".join(name if name == slot else f"{name} (slot {slot})" for name, slot in spec.operands.items())
    fields = []
    for name in spec.fields:
        values = next(f.values for f in UNIT_FIELDS[spec.unit] if f.name == name)
        legal = spec.legal.get(name)
        fields.append(name if legal is None else f"{name} [{' '.join(values(v).name for v in legal)}]")
    unit = "-" if spec.unit is Unit.SEQUENCER else spec.unit.name
    text = spec.text.replace("|", "\\|")
    return f"| {int(spec.opcode):#04x} | `{spec.mnemonic}` | {unit} | {operands} | {', '.join(fields)} | {text} |"


if __name__ == "__main__":
    write_atomic(PAGE, command_reference())
