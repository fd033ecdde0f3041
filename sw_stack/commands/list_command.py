"""``elmoe3d list``: the names that other commands take."""

from collections.abc import Callable

import typer
from rich.table import Table

from hw.errors import UserError, nearest
from hw.params import CHIPS
from sw_stack.reports.terminal import console


def _chips() -> Table:
    table = Table("chip", "PEs", "rows x columns x depth", "slice MACs / PE", "dot units / FP32 unit", "chains", "note")
    for chip in CHIPS.values():
        a = chip.array
        size = f"{a.rows} x {a.columns} x {a.depth}"
        table.add_row(
            chip.name,
            str(chip.pes),
            size,
            f"{a.slice_macs:,}",
            str(a.dots_per_fp32),
            str(a.chains),
            chip.note,
        )
    return table


def _blocks() -> Table:
    from rtl_gen.blocks import BLOCKS

    table = Table("block", "what it is")
    for name, block in BLOCKS.items():
        table.add_row(name, block.summary)
    return table


CATALOGUES: dict[str, Callable[[], Table]] = {"chips": _chips, "blocks": _blocks}


def command(what: str = typer.Argument("all", help="chips, blocks, or all")) -> None:
    """List the presets and blocks by name: chips (--chip) and Verilog blocks (--block)."""
    if what != "all" and what not in CATALOGUES:
        raise UserError(f"unknown catalogue {what!r}; {nearest(what, [*CATALOGUES, 'all'])}")
    out = console()
    for name in CATALOGUES if what == "all" else [what]:
        out.print(CATALOGUES[name]())
