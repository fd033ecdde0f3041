"""What a comparison leaves behind: terminal tables, results.json and .csv, figures, and the HTML report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from hw.files import write_atomic
from sw_stack.comparison.aggregate import MEASURES, best_methods
from sw_stack.comparison.cell import Results, csv_text, save
from sw_stack.comparison.evaluate import Settings
from sw_stack.comparison.heat import derating_sentence
from sw_stack.comparison.sensitivity import PROPOSED, crossover, sensitivity
from sw_stack.comparison.suite import SuiteRun, machine_notes
from sw_stack.comparison.workers import Workers
from sw_stack.provenance import provenance
from sw_stack.reports.figures import DRAWINGS
from sw_stack.reports.html import html, mean_rows, rival_rows
from sw_stack.reports.style import render
from sw_stack.reports.terminal import table

KINDS = ("svg", "png", "pdf")
STUDY_BATCH = 8
ASSUMPTIONS = (
    "Every machine has the same PEs, links, host operations and 64 GiB of LPDDR5-6400; they differ in hybrid-bonded"
    " DRAM, units in the memory, and what is legal on them. GPUs are rooflines with stated efficiencies.",
    "Near-memory machines may compute every product in the memory; dense weights too.",
    "Acceptance of Elastic-SD and of the 4-bit copy is fitted on the shipped model and carried over, with its band.",
    "Routing comes from generators fitted to published statistics; four datasets share a model's generator.",
    "A refill that was not streamed anyway is read from LPDDR once more; HB writes queue behind reads.",
    "Static power is assumed; figures without it stand beside.",
)
Progression = Callable[[str], Callable[[str, int, int], None]]


@contextmanager
def with_progress(screen: Console) -> Iterator[Progression]:
    """A bar per task on a terminal; a line now and then elsewhere."""
    columns = (
        TextColumn("{task.fields[kind]}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:

        def begin(kind: str) -> Callable[[str, int, int], None]:
            task = bar.add_task("", total=None, kind=kind)

            def progress(what: str, done: int, of: int) -> None:
                bar.update(task, description=what, completed=done, total=of)
                if not screen.is_terminal and (done == of or done % max(1, of // 10) == 0):
                    screen.print(f"{kind}: {done}/{of} {what}", markup=False)

            return progress

        yield begin


def finish(
    run: SuiteRun,
    settings: Settings,
    config: dict,
    out: Path,
    json_path: Path,
    screen: Console,
    progress: Progression | None,
    title: str,
    text: dict | None = None,
    workers: Workers | None = None,
) -> Results:
    """Notes, files, tables. ``progress``: also run sensitivity and crossover, on the first model and dataset."""
    names = list(dict.fromkeys(cell.key.machine for cell in run.cells))
    notes = {"machines": machine_notes(names), "assumptions": list(ASSUMPTIONS), "counts": run.counts}
    if text:
        notes["text"] = text
    if progress is not None:
        model, dataset, _ = run.cells[0].key.workload
        notes["sensitivity"] = sensitivity(model, dataset, STUDY_BATCH, settings, workers, progress("sensitivity"))
        notes["crossover"] = crossover(
            model, dataset, PROPOSED, settings, workers=workers, progress=progress("crossover")
        )
    settings_document = asdict(settings) | {"tree": str(settings.tree)}
    results = Results(provenance(config | settings_document, settings.seed), tuple(run.cells), notes)
    save(results, json_path)
    write_atomic(json_path.with_suffix(".csv"), csv_text(results))
    write_report(results, out, title)
    show(results, screen)
    counted = ", ".join(f"{value:,} {name}" for name, value in run.counts.items())
    screen.print(f"\n{counted}; {run.reused} simulations were there already", markup=False)
    screen.print(f"written: {out / 'report.html'}, {json_path}, {json_path.with_suffix('.csv')}", markup=False)
    return results


def write_report(results: Results, out: Path, title: str) -> Path:
    """The HTML file, and every figure in three formats."""
    for drawing in DRAWINGS:
        figure = drawing.draw(results)
        if figure is not None:
            for kind in KINDS:
                write_atomic(out / "figures" / f"{drawing.name}.{kind}", render(figure, kind))
    return write_atomic(out / "report.html", html(results, title))


def show(results: Results, screen: Console) -> None:
    """Tables for the terminal: tokens per second by batch, then means."""
    best = best_methods(results.cells)
    groups = list(dict.fromkeys(workload[:2] for workload in best))
    batches = sorted({workload[2] for workload in best})
    names = list(dict.fromkeys(cell.key.machine for cell in results.cells))
    for model, dataset in groups[:1]:
        shown = table("machine", *(f"batch {b}" for b in batches), title=f"Tokens per second, {model}, {dataset}")
        for name in names:
            row = []
            for batch in batches:
                cell = best.get((model, dataset, batch), {}).get(name)
                row.append("does not fit" if cell is None else f"{cell.tokens_per_second:,.1f} {cell.key.method}")
            shown.add_row(name, *row)
        screen.print(shown)
    rows = mean_rows(results)
    if rows:
        shown = table(
            "machine",
            *MEASURES,
            "workloads",
            "speed without assumed inputs",
            title="Geometric mean (arithmetic) against xpu; above 1 is better",
        )
        for row in rows:
            if "speed" in row:
                cells = [f"{row[m].all.geometric:.2f} ({row[m].all.arithmetic:.2f})" for m in MEASURES]
                sound = row["speed"].without_assumed
                rest = f"{sound.geometric:.2f} ({sound.workloads} workloads)" if sound else "no workload"
                shown.add_row(row["machine"], *cells, str(row["speed"].all.workloads), rest)
        screen.print(shown)
    for row in rival_rows(results):
        parts = ", ".join(f"{name} {row[name].all.geometric:.2f}" for name in MEASURES if name in row)
        screen.print(f"{row['machine']} against the best other machine, GPUs apart: {parts}", markup=False)
    if sentence := derating_sentence(results.cells):
        screen.print(sentence, markup=False)
