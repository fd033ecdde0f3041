"""``elmoe3d synth``: what the arithmetic costs in cells, area and delay."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from hw.files import write_atomic
from hw.params import chip as chip_named
from sw_stack.reports import terminal

if TYPE_CHECKING:
    from rtl_gen.cost_study import CostStudy
    from rtl_gen.synth import Synthesis

# Of ASAP7 synthesis of a stand-in 32-lane unit, measured elsewhere; shown beside ours, never tuned to.
CROSS_CHECK = {
    "shared per weight": "0.2-0.35 %",
    "selection per MAC": "3-5 %",
    "two slices over native": "55-62 %",
    "dot unit, um2": "1,240-1,280",
}


def command(
    block: Annotated[str | None, typer.Option(help="One block (elmoe3d list blocks) instead of the study.")] = None,
    chip: Annotated[str, typer.Option(help="Sizes: a chip (elmoe3d list chips).")] = "4gb",
    liberty: Annotated[
        Path | None, typer.Option(help="Liberty file, plain or .gz; generic gates unless given.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON too.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Synthesise with Yosys and ABC: the cost of LSB augmentation.

    By placement, FP32 units apart, a native unit beside. With a Liberty file: um2 and the delay of the slowest
    combinational stage against 1 ns. Without: generic gates, gate equivalents and depth in gates. Results are kept
    in build/synth and reused while nothing they depend on changes.
    """
    from rtl_gen.cost_study import run_study
    from rtl_gen.liberty import read_liberty
    from rtl_gen.synth import synthesise
    from rtl_gen.verilog import build

    sizes = chip_named(chip)
    cells = read_liberty(liberty) if liberty is not None else None
    component = build(block, chip)[0] if block is not None else None
    about = f"cells of {cells.name}" if cells else "generic gates"
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True, disable=quiet
    ) as progress:
        task = progress.add_task("")

        def hear(name: str, done: int, of: int) -> None:
            progress.update(task, description=f"synthesising {name} ({done + 1} of {of})")

        if component is not None:
            hear(block, 0, 1)
            results = {block: synthesise(component, block, cells)}
            study = None
        else:
            study = run_study(sizes, cells, hear)
            results = study.units

    console = terminal.console()
    console.print(_units_table(f"{block or 'units'} of chip {chip}, {about}", results))
    if study:
        for table in _study_tables(study):
            console.print(table)
    if json_path:
        write_atomic(json_path, json.dumps(_as_json(chip, cells, results, study), indent=1) + "\n")


def _units_table(title: str, results: "dict[str, Synthesis]") -> Table:
    mapped = all(result.delay_ps is not None for result in results.values())
    unit = next(iter(results.values())).area_unit
    timing = ("stage ps, ABC", "slack at 1 ns") if mapped else ("depth, gates",)
    table = Table("unit", "cells", "flip-flops", f"area {unit}", *timing, title=title, title_justify="left")
    for name, result in results.items():
        times = (f"{result.delay_ps:.0f}", f"{result.slack_ps:.0f}") if mapped else (str(result.depth),)
        table.add_row(name, f"{result.cells:,}", f"{result.flip_flops:,}", f"{result.area:,.1f}", *times)
    return table


def _study_tables(study: "CostStudy") -> list[Table]:
    unit = next(iter(study.units.values())).area_unit
    array = study.chip.array
    placed = Table(
        "LSB augmentation",
        f"{unit} per dot unit",
        "over absent",
        "stand-in study",
        title=f"cost of the idea: what is formed per weight is shared by {array.rows} rows",
        title_justify="left",
    )
    for place in study.placements:
        overhead = f"{place.overhead_percent:+.3f} %"
        placed.add_row(place.name, f"{place.area:,.1f}", overhead, CROSS_CHECK.get(place.name, ""))
    placed.add_section()
    native = study.units["native_dot_unit"].area
    placed.add_row("native 8 x 8 dot unit", f"{native:,.1f}", "", "")
    over = f"{study.two_slices_over_native_percent:+.1f} %"
    placed.add_row("two slice units, same W8A8 rate", f"{2 * study.units['dot_unit'].area:,.1f}", "", "")
    placed.add_row("  over native", "", over, CROSS_CHECK["two slices over native"])

    parts = Table(
        "PE array",
        unit,
        "share",
        title=f"{array.rows} x {array.columns} x {array.depth}: {study.storage_bits:,} bits of FP32 chains",
        title_justify="left",
    )
    total = study.array_area["total"]
    for name, area in study.array_area.items():
        parts.add_row(name, f"{area:,.0f}", f"{100 * area / total:.1f} %")
    return [placed, parts]


def _as_json(chip: str, cells: object, results: "dict[str, Synthesis]", study: "CostStudy | None") -> dict:
    from dataclasses import asdict

    from rtl_gen.sidecar import GENERATOR

    document = {
        "format_version": 1,
        "generator": GENERATOR,
        "chip": chip,
        "liberty": {"name": cells.name, "sha256": cells.sha256} if cells else None,
        "units": {name: asdict(result) | {"slack_ps": result.slack_ps} for name, result in results.items()},
    }
    if study:
        document |= {
            "placements": [asdict(place) for place in study.placements],
            "two_slices_over_native_percent": study.two_slices_over_native_percent,
            "array_area": study.array_area,
            "storage_bits": study.storage_bits,
        }
    return document
