"""``python -m sw_stack.machines.document``: remakes the tables of docs/machines.md and docs/energy.md from the code.

A table stands between ``<!-- table NAME -->`` and ``<!-- end NAME -->``; everything else is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.machines import tables

DOCS = Path(__file__).parents[2] / "docs"
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "machines.md": {
        "processors": lambda: tables.markdown(tables.PROCESSOR_COLUMNS, tables.processor_rows()),
        "gpus": lambda: tables.markdown(tables.GPU_COLUMNS, tables.gpu_rows()),
        "numbers": lambda: tables.markdown(tables.NUMBER_COLUMNS, tables.number_rows()),
        "accept-lengths": lambda: tables.markdown(tables.LENGTH_COLUMNS, tables.length_rows()),
    },
    "energy.md": {
        "energy": lambda: tables.markdown(tables.ENERGY_COLUMNS, tables.energy_rows()),
        "area": lambda: tables.markdown(tables.AREA_COLUMNS, tables.area_rows()),
    },
}
"""File -> table -> its text."""


def with_tables(text: str, made: dict[str, Callable[[], str]]) -> str:
    """``text`` with every table made anew; UserError where one has no place."""
    for name, make in made.items():
        marks = f"<!-- table {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
        if not pattern.search(text):
            raise UserError(f"the document must have a place for its table {name}: {marks[0]} ... {marks[1]}")
        body = f"{marks[0]}\n{make()}\n{marks[1]}"
        text = pattern.sub(lambda _, body=body: body, text)
    return text


def main() -> None:
    """Rewrite both documents."""
    for file, made in TABLES.items():
        path = DOCS / file
        print(write_atomic(path, with_tables(path.read_text(), made)))


if __name__ == "__main__":
    main()
