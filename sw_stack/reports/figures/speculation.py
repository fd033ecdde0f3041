"""What speculation rests on: resident experts, acceptance, and where it pays."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sw_stack.comparison.aggregate import mean
from sw_stack.comparison.cell import CellResult, Results
from sw_stack.reports.style import PARTS, machine_style, tidy

_METHOD = {
    "none": ("#000000", "x", "plain decoding"),
    "elastic": ("#D55E00", "o", "Elastic-SD"),
    "quant": ("#0072B2", "^", "Quant-SD"),
    "slm": ("#009E73", "s", "small model"),
    "eagle": ("#CC79A7", "D", "EAGLE head"),
}


def speculation_figure(results: Results) -> Figure | None:
    """Hit rate and accept length over batch, by machine capacity and by method."""
    drafting = [c for c in results.cells if c.fits and c.acceptance is not None]
    cached = [c for c in results.cells if c.fits and c.cache_hit_rate is not None]
    if not drafting and not cached:
        return None
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    hits, lengths = figure.subplots(1, 2)
    _draw_hits(hits, cached)
    for method, (color, marker, label) in _METHOD.items():
        by_batch: dict[int, list[float]] = {}
        for cell in drafting:
            if cell.key.method == method:
                by_batch.setdefault(cell.key.batch, []).append(cell.accept_length)
        if by_batch:
            batches = sorted(by_batch)
            lengths.plot(
                batches, [mean(by_batch[b]).arithmetic for b in batches], color=color, marker=marker, label=label
            )
    tidy(lengths, "b  Acceptance", "batch (sequences)", "accept length, bonus token included (tokens)")
    if lengths.lines:
        lengths.legend(fontsize=8)
    return figure


def _draw_hits(axes: Axes, cached: list[CellResult]) -> None:
    """A line per machine and model: colour says which model, marker and dashes which machine."""
    machines = list(dict.fromkeys(c.key.machine for c in cached))
    models = list(dict.fromkeys(c.key.model for c in cached))
    colors = dict(zip(models, cycle(PARTS), strict=False))
    for machine in machines:
        for model in models:
            by_batch: dict[int, list[float]] = {}
            for cell in cached:
                if (cell.key.machine, cell.key.model) == (machine, model):
                    by_batch.setdefault(cell.key.batch, []).append(cell.cache_hit_rate)
            batches = sorted(by_batch)
            style = machine_style(machine, machines) | {"color": colors[model], "label": None}
            axes.plot(batches, [np.mean(by_batch[b]) for b in batches], **style)
    axes.set_ylim(0, 1)
    tidy(axes, "a  Expert cache", "batch (sequences)", "touched experts with resident MSB slice (share)")
    keys = [Line2D([], [], color=colors[model], label=model) for model in models]
    keys += [Line2D([], [], **machine_style(machine, machines) | {"color": "0.3"}) for machine in machines]
    if keys:
        axes.legend(handles=keys, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def crossover_figure(results: Results) -> Figure | None:
    """Map of ``notes["crossover"]``: batches, acceptances, and gain[batch][acceptance] of Elastic-SD over AR."""
    data = results.notes.get("crossover")
    if not data:
        return None
    gain = np.array(data["gain"], np.float64)
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    low, high = min(gain.min(), 0.99), max(gain.max(), 1.01)
    image = axes.pcolormesh(
        np.arange(len(data["batches"]) + 1) - 0.5,
        np.arange(len(data["acceptances"]) + 1) - 0.5,
        gain.T,
        cmap="PuOr_r",
        norm=TwoSlopeNorm(1.0, low, high),
    )
    if gain.min() < 1 < gain.max():
        axes.contour(np.arange(gain.shape[0]), np.arange(gain.shape[1]), gain.T, [1.0], colors="black")
    for (i, k), value in np.ndenumerate(gain):
        shade = image.norm(value)
        color = "white" if shade < 0.2 or shade > 0.8 else "black"
        axes.annotate(f"{value:.2f}", (i, k), ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(data["batches"])), [str(b) for b in data["batches"]])
    axes.set_yticks(range(len(data["acceptances"])), [f"{a:.2f}" for a in data["acceptances"]])
    tidy(axes, data.get("title", ""), "batch (sequences)", "acceptance per drafted token (share)")
    axes.grid(False)
    figure.colorbar(image, label="AR time over Elastic-SD time (x)")
    return figure
