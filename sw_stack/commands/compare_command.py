"""``elmoe3d compare``: every machine on every workload of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    suite: Annotated[str, typer.Option(help="Suite of cells: paper, quick or sim.")] = "paper",
    quick: Annotated[
        bool, typer.Option("--quick", help="The suite 'quick': fewer models, datasets and batches.")
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="Rounds simulated per cell.", show_default="the suite's")] = None,
    study: Annotated[bool, typer.Option(help="Also sensitivity and the crossover map.")] = True,
    text: Annotated[
        bool, typer.Option("--text", help="First decode text with the shipped model, checked against plain decoding.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes; changes no result.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of routing and acceptance.")] = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the results here.", show_default="OUT/results.json")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of report, figures and finished cells.")] = Path("build/compare"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Compare all machines: speed, energy, breakdowns, sensitivity.

    Simulates every legal cell of a suite (model, dataset, batch, machine,
    drafting method) with the whole-model engine and writes one self-contained
    HTML report, figures, JSON and CSV. Finished cells are kept in OUT/cells:
    a run that was stopped continues. docs/comparison.md explains the figures.
    """
    from sw_stack.comparison.evaluate import Settings
    from sw_stack.comparison.suite import cells_of, run_suite
    from sw_stack.comparison.suite import suite as suite_of
    from sw_stack.comparison.workers import Workers
    from sw_stack.reports.comparison import finish, with_progress
    from sw_stack.reports.terminal import console

    chosen = suite_of("quick" if quick else suite)
    settings = Settings(rounds=rounds or chosen.rounds, seed=seed)
    screen = console(quiet)
    keys = cells_of(chosen)
    sample = None
    if text:
        from sw_stack.comparison.sample_text import sample_text

        sample = sample_text()
        screen.print(sample["note"], markup=False)
        for each in sample["samples"]:
            screen.print(f"\n{each}", markup=False)
        screen.print()
    with Workers(jobs) as workers, with_progress(screen) as progress:
        run = run_suite(keys, settings, out / "cells", workers, progress("cells"))
        finish(
            run,
            settings,
            {"suite": chosen.name, "models": chosen.models, "datasets": chosen.datasets, "batches": chosen.batches},
            out,
            json_path or out / "results.json",
            screen,
            progress if study else None,
            title=f"Comparison: {chosen.note}",
            text=sample,
            workers=workers,
        )
