"""Time and energy of a token, by what takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from sw_stack.comparison.aggregate import best_methods
from sw_stack.comparison.cell import CellResult, Results
from sw_stack.reports.figures.speed import machines_of
from sw_stack.reports.style import PARTS, tidy


def shown_workloads(results: Results) -> list[tuple[str, str, int]]:
    """The first model and dataset at the smallest and the largest batch."""
    model, dataset, _ = results.cells[0].key.workload
    batches = sorted({c.key.batch for c in results.cells if c.key.workload[:2] == (model, dataset)})
    return [(model, dataset, batch) for batch in dict.fromkeys((batches[0], batches[-1]))]


def _stacked(
    results: Results,
    parts_of: Callable[[CellResult], dict[str, float]],
    unit: str,
    band: Callable[[CellResult], tuple[float, float]] | None,
    left_out: frozenset[str] = frozenset(),
) -> Figure | None:
    if not any(cell.fits for cell in results.cells):
        return None
    best = best_methods(results.cells)
    workloads = [w for w in shown_workloads(results) if w in best]
    if not workloads:
        return None
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    panels = figure.subplots(1, len(workloads), squeeze=False)[0]
    shown = [cell for w in workloads for name, cell in best[w].items() if name not in left_out]
    parts = list(dict.fromkeys(p for cell in shown for p in parts_of(cell)))
    for axes, workload in zip(panels, workloads, strict=True):
        names = [name for name in machines_of(results) if name in best[workload] and name not in left_out]
        bottom = np.zeros(len(names))
        for color, part in zip(PARTS * 3, parts, strict=False):
            heights = np.array([parts_of(best[workload][name]).get(part, 0.0) for name in names])
            axes.bar(range(len(names)), heights, bottom=bottom, color=color, label=part, width=0.7)
            bottom += heights
        if band:
            ends = np.array([band(best[workload][name]) for name in names]).T
            axes.errorbar(range(len(names)), bottom, abs(ends - bottom), fmt="none", ecolor="black", capsize=3, lw=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        tidy(axes, f"{workload[0]}, {workload[1]}, batch {workload[2]}", "", unit)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def time_breakdown(results: Results) -> Figure | None:
    """Critical-path time per token by resource."""

    def parts(cell: CellResult) -> dict[str, float]:
        return {name: 1e3 * share * cell.seconds_per_token for name, share in cell.seconds_by.items()}

    return _stacked(results, parts, "time per token, all sequences (ms)", None)


def energy_breakdown(results: Results) -> Figure | None:
    """Energy per token by component, with the band of the sum; GPUs, which have board power only, left out."""

    def parts(cell: CellResult) -> dict[str, float]:
        return {name: 1e-9 * values[1] for name, values in cell.energy_pj.items()}

    def band(cell: CellResult) -> tuple[float, float]:
        return 1e-9 * cell.energy("low"), 1e-9 * cell.energy("high")

    gpus = frozenset(name for name, machine in results.notes.get("machines", {}).items() if machine["gpu"])
    return _stacked(results, parts, "energy per token (mJ)", band, gpus)
