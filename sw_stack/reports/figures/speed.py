"""Speed and energy over batch, and every cell."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sw_stack.comparison.aggregate import best_methods, mean, picojoules, ratios, seconds
from sw_stack.comparison.cell import BAND, Results
from sw_stack.reports.style import HATCH_ASSUMED, machine_style, tidy

REFERENCE = "xpu"


def machines_of(results: Results) -> list[str]:
    """Machines with a cell that fits, in the order of the results."""
    return list(dict.fromkeys(cell.key.machine for cell in results.cells if cell.fits))


def has_reference(results: Results) -> bool:
    """Whether the reference machine was simulated."""
    return REFERENCE in machines_of(results)


def _over_batch(results: Results, measure) -> dict[str, dict[int, float]]:
    """machine -> batch -> geometric mean of reference over machine."""
    grouped: dict[str, dict[int, list[float]]] = {}
    for ratio in ratios(results.cells, REFERENCE, measure):
        grouped.setdefault(ratio.machine, {}).setdefault(ratio.workload[2], []).append(ratio.value)
    return {
        machine: {batch: mean(values).geometric for batch, values in sorted(by_batch.items())}
        for machine, by_batch in grouped.items()
    }


def _finished(figure: Figure, results: Results) -> Figure:
    """Batch axes and one legend for all panels."""
    batches = sorted({cell.key.batch for cell in results.cells})
    for axes in figure.axes:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(batches, [str(b) for b in batches])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def speed_figure(results: Results) -> Figure | None:
    """Speed-up over batch; beside it tokens per second."""
    if not has_reference(results):
        return None
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = machines_of(results)
    speedup = _over_batch(results, seconds)
    rates: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for (_, _, batch), machines in best_methods(results.cells).items():
        for name, cell in machines.items():
            rates[name].setdefault(batch, []).append(cell.tokens_per_second)
    for name in names:
        style = machine_style(name, names)
        left.plot(list(speedup.get(name, {})), list(speedup.get(name, {}).values()), **style)
        by_batch = {batch: mean(values).geometric for batch, values in sorted(rates[name].items())}
        right.plot(list(by_batch), list(by_batch.values()), **style)
    tidy(left, "a  Against the xPU", "batch (sequences)", "speed-up over xPU (x)")
    tidy(right, "b  Absolute", "batch (sequences)", "tokens per second, all sequences")
    return _finished(figure, results)


def energy_figure(results: Results) -> Figure | None:
    """Energy against the reference over batch, with the band of the energy table."""
    if not has_reference(results):
        return None
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = machines_of(results)
    nominal = _over_batch(results, picojoules)
    bands = [_over_batch(results, lambda cell, b=b: cell.energy(b)) for b in (BAND[0], BAND[-1])]
    dynamic = _over_batch(results, lambda cell: cell.energy(dynamic=True))
    for name in names:
        style = machine_style(name, names)
        batches = list(nominal.get(name, {}))
        left.plot(batches, list(nominal.get(name, {}).values()), **style)
        ends = np.array([[band[name][b] for b in batches] for band in bands])
        if batches:
            left.fill_between(batches, ends.min(axis=0), ends.max(axis=0), color=style["color"], alpha=0.12, lw=0)
        right.plot(batches, [dynamic[name][b] for b in batches], **style)
    tidy(left, "a  Static power included", "batch (sequences)", "energy of the xPU over energy (x)")
    tidy(right, "b  Dynamic energy alone", "batch (sequences)", "energy of the xPU over energy (x)")
    return _finished(figure, results)


def cells_figure(results: Results) -> Figure | None:
    """Heat map: machines over workloads, hatched where an input was assumed."""
    if not has_reference(results):
        return None
    found = ratios(results.cells, REFERENCE, seconds)
    names = [name for name in machines_of(results) if name != REFERENCE]
    workloads = sorted({r.workload for r in found})
    if not names:
        return None
    grid = np.full((len(names), len(workloads)), np.nan)
    assumed = np.zeros(grid.shape, np.bool_)
    for ratio in found:
        if ratio.machine != REFERENCE:
            at = names.index(ratio.machine), workloads.index(ratio.workload)
            grid[at], assumed[at] = ratio.value, ratio.assumed
    figure = Figure(figsize=(max(8.0, 2.5 + 0.14 * len(workloads)), 1.8 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, aspect="auto", cmap="cividis", norm=LogNorm())
    for y, x in np.argwhere(assumed & ~np.isnan(grid)):
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch=HATCH_ASSUMED, edgecolor="white", lw=0, alpha=0.45)
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    groups = list(dict.fromkeys((model, dataset) for model, dataset, _ in workloads))
    starts = [next(i for i, w in enumerate(workloads) if w[:2] == group) for group in groups]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="white", lw=1.5)
    axes.set_xticks(starts, [f"{m}\n{d}" for m, d in groups], fontsize=6, rotation=60, ha="left")
    axes.xaxis.tick_top()
    axes.set_xlabel("model and dataset; within each, batch ascending from left to right")
    figure.colorbar(image, label="speed-up over xPU (x)")
    return figure
