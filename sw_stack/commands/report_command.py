"""``elmoe3d report``: draw results again, or show what changed between two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    first: Annotated[Path, typer.Argument(help="results.json of a run.", show_default=False)],
    second: Annotated[Path | None, typer.Argument(help="Another, to compare with.", show_default="none")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report and its figures.")] = Path("build/report"),
    limit: Annotated[int, typer.Option(help="Changed cells to list.")] = 20,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Write the HTML report of results, or compare two of them.

    With one file: report and figures, without simulating anything. With two:
    cells that changed, the largest change of speed first.
    """
    from sw_stack.comparison.cell import load
    from sw_stack.reports.terminal import console, table

    screen = console(quiet)
    results = load(first)
    if second is None:
        from sw_stack.reports.comparison import show, write_report

        path = write_report(results, out, f"Report of {first.name}")
        show(results, screen)
        screen.print(f"written: {path}", markup=False)
        return
    from sw_stack.reports.difference import difference, speed_ratio

    found = difference(results, load(second))
    changed = found.changed
    screen.print(f"{len(found.pairs)} cells in both, {len(changed)} of them differ", markup=False)
    for name, labels in ((first, found.only_first), (second, found.only_second)):
        if labels:
            screen.print(f"{len(labels)} only in {name}: {', '.join(labels[:5])}{' ...' if len(labels) > 5 else ''}")
    if changed:
        shown = table("cell", "tokens/s", "", "faster", "mJ per token", "")
        for a, b in changed[:limit]:
            if a.fits and b.fits:
                numbers = (f"{a.tokens_per_second:.1f}", f"{b.tokens_per_second:.1f}", f"{speed_ratio(a, b):.3f} x")
                shown.add_row(a.key.label, *numbers, f"{1e-9 * a.energy():.2f}", f"{1e-9 * b.energy():.2f}")
            else:
                shown.add_row(a.key.label, *("fits" if cell.fits else "does not fit" for cell in (a, b)), "", "", "")
        screen.print(shown)
