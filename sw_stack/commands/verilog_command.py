"""``elmoe3d verilog``: export blocks as Verilog with a JSON sidecar."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    block: Annotated[str, typer.Option(help="A block (elmoe3d list blocks), or all.")] = "all",
    chip: Annotated[str, typer.Option(help="Sizes to build: a chip (elmoe3d list chips).")] = "tiny",
    out: Annotated[Path | None, typer.Option(help="Folder to write into; build/verilog/CHIP unless given.")] = None,
) -> None:
    """Export a block as one Verilog file with a JSON sidecar.

    The sidecar has parameters, latency, ports and payload layouts. The same sources give the same bytes. Every
    repeated module is defined once, so the full-size array stays readable.
    """
    from rtl_gen.blocks import BLOCKS
    from rtl_gen.verilog import export, write

    for name in BLOCKS if block == "all" else [block]:
        exported = export(name, chip)
        verilog, sidecar = write(exported, out)
        size = len(exported.verilog.encode())
        typer.echo(
            f"{verilog} ({size:,} bytes, {exported.modules} modules, {exported.seconds:.1f} s), sidecar {sidecar.name}"
        )
