"""``elmoe3d study``: acceptance, quality and expert locality of the shipped model, measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hw.files import write_atomic
from sw_stack.commands.generate_command import DEFAULT_MODEL


def command(
    model: Annotated[Path, typer.Option(help="Folder of the model.", show_default="shipped model")] = DEFAULT_MODEL,
    trace: Annotated[
        Path | None, typer.Option(help="Routing trace to compare hit rates with.", show_default="shipped excerpt")
    ] = None,
    prompts: Annotated[int, typer.Option(help="Prompts per domain, decoded as one batch.")] = 8,
    tokens: Annotated[int, typer.Option(help="New tokens per prompt.")] = 64,
    windows: Annotated[int, typer.Option(help="Texts per domain for perplexity and the model's own trace.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the fit's resampling.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; changes no result.")] = 2,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers here.", show_default="OUT/study.json")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of figures and finished cells.")] = Path("build/study"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """How much of a draft is accepted, and what it depends on.

    Decodes held-out text with Elastic-SD over draft bits, resident
    fractions, hot, static and random sets, kinds of text and tree shapes,
    fits a(coverage, bits, depth) with a band, measures the perplexity of
    each numeric and the hit rates of expert caches. Finished cells are kept:
    a run that was stopped continues. docs/elastic_sd.md explains the figures.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from sw_stack.elastic.study.figures import acceptance_figure, allocation_figure, quality_figure
    from sw_stack.elastic.study.run import StudyConfig, run_study
    from sw_stack.reports.style import render
    from sw_stack.reports.terminal import console
    from sw_stack.workloads.trace import SHIPPED

    config = StudyConfig(
        model=model, trace=trace or SHIPPED, seed=seed, prompts=prompts, tokens=tokens, windows=windows, threads=threads
    )
    screen = console(quiet)
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of)
            if not screen.is_terminal:
                screen.print(f"{done}/{of} {what}", markup=False)

        study = run_study(config, out / "cells", progress)
    written = [
        write_atomic(out / f"{name}.{kind}", render(figure, kind))
        for name, figure in (
            ("acceptance", acceptance_figure(study)),
            ("quality", quality_figure(study)),
            ("allocation", allocation_figure(study)),
        )
        for kind in ("png", "svg")
    ]
    document = json.dumps(_document(study), indent=1, allow_nan=False) + "\n"
    written.append(write_atomic(json_path or out / "study.json", document))
    _print(study, screen)
    screen.print(f"\nwritten: {', '.join(map(str, written))}", markup=False, soft_wrap=True)


def _document(study) -> dict:
    """The JSON form: see docs/elastic_sd.md."""
    from sw_stack.provenance import provenance

    config = {k: v for k, v in asdict(study.config).items() if k not in ("seed", "threads", "model", "trace")}
    config |= {"model": study.config.model.name, "trace": study.config.trace.name}

    def shares(values) -> list[float | None]:
        return [None if value != value else float(value) for value in values]

    return {
        "format": "elmoe3d-study",
        "format_version": 1,
        "provenance": provenance(config, study.config.seed),
        "cells": [
            {
                **asdict(result.cell),
                "acceptance_by_position": shares(result.acceptance()),
                "accept_length": result.accept_length(),
                "mean_acceptance": result.mean_acceptance,
                "router_mass_covered": result.coverage,
                "by_domain": {
                    b.domain: {
                        "acceptance_by_position": shares(result.acceptance(b.domain)),
                        "accept_length": result.accept_length(b.domain),
                        "router_mass_covered": b.coverage,
                        "cache_hit_rate": b.hit_rate,
                        "experts_touched_per_layer": b.touched,
                    }
                    for b in result.batches
                },
            }
            for result in study.cells
        ],
        "allocations": [
            asdict(r.cell) | {k: v for k, v in asdict(r).items() if k != "cell"} for r in study.allocations
        ],
        "fit": {
            "formula": "-ln a = k[scheme] + m log2(p) [but int8] + u (c + d u + e log2(p))",
            "variables": "p drafted position, u = 1 - router mass covered; coefficients: k by scheme, m, c, d, e",
            "schemes": list(study.fit.schemes),
            "coefficients": study.fit.coefficients.tolist(),
            "resampled_coefficients": study.fit.resampled.tolist(),
            "rows": study.fit.rows,
            "deviation_rms": study.fit.deviation,
        },
        "perplexity": study.perplexity,
        "hit_rates": study.hit_rates,
    }


def _allocation_table(results):
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title="Allocations of the same HB bytes, per new token", title_justify="left"
    )
    for name in ("method, batch, share", "slices kept", "LPDDR KB", "HB KB", "roofline us", "MSB hits", "length"):
        table.add_column(name, justify="left" if name in ("method, batch, share", "slices kept") else "right")
    for r in results:
        cell = r.cell
        table.add_row(
            f"{cell.method} {'1' if cell.batch else 'all prompts'} {cell.fraction:g}", cell.allocation,
            f"{r.lpddr_bytes / 1e3:.1f}", f"{r.hb_bytes / 1e3:.1f}", f"{1e6 * r.roofline_seconds:.2f}",
            f"{r.msb_hit_rate:.3f}", f"{r.accept_length:.2f}",
        )  # fmt: skip
    return table


def _print(study, screen) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Acceptance by drafted position", title_justify="left")
    for name in ("cell: method, weights, resident, set, tree", "1", "2", "3", "4", "5", "length", "mass covered"):
        table.add_column(name, justify="left" if name.startswith("cell") else "right", no_wrap=True)
    for result in study.cells:
        shares = [f"{share:.3f}" if share == share else "-" for share in result.acceptance()[:5]]
        shares += [""] * (5 - len(shares))
        table.add_row(str(result.cell), *shares, f"{result.accept_length():.2f}", f"{result.coverage:.2f}")
    screen.print(table)
    screen.print(_allocation_table(study.allocations))
    fit = study.fit
    screen.print("[bold]Fitted acceptance[/bold] with 5 to 95 % band over texts, augmented MSB4")
    screen.print(f"  (means of cells deviate from the fit by {fit.deviation:.3f} RMS, their own noise included)")
    for position in (1, 3, 5):
        mean, low, high = fit.predict("augmented", [0.5, 0.75, 1.0], position)
        cells = "   ".join(
            f"mass {c}: {m:.3f} [{a:.3f}, {b:.3f}]"
            for c, m, a, b in zip(("0.50", "0.75", "1.00"), mean, low, high, strict=True)
        )
        screen.print(f"  position {position}   {cells}", markup=False)
    screen.print("\n[bold]Perplexity[/bold] per token on held-out text")
    for name, found in study.perplexity.items():
        screen.print(
            f"  {name:18} {found['perplexity']:8.3f}   {found['bits_per_token']['all']:.4f} bits", markup=False
        )
    for name, rates in study.hit_rates.items():
        at = rates["fraction"].index(0.25)
        cells = ", ".join(f"{series} {values[at]:.3f}" for series, values in rates.items() if series != "fraction")
        screen.print(f"\nHit rates on {name}, a quarter resident: {cells}", markup=False)
