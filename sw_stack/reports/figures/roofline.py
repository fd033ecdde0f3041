"""Roofline of the compared machines, and how far simulation lies above it."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from sw_stack.comparison.aggregate import best_methods
from sw_stack.comparison.cell import Results
from sw_stack.reports.figures.speed import machines_of
from sw_stack.reports.style import machine_style, tidy


def roofline_figure(results: Results) -> Figure | None:
    """Cells as points; roofs from ``notes["machines"][name]``: peak_slice_macs_per_ns, gb_per_s."""
    roofs = results.notes.get("machines", {})
    names = [name for name in machines_of(results) if name in roofs]
    best = best_methods(results.cells)
    if not names:
        return None
    figure = Figure(figsize=(8.5, 5.0), layout="constrained")
    axes = figure.subplots()
    for name in names:
        style = machine_style(name, names)
        cells = [machines[name] for machines in best.values() if name in machines]
        points = [
            (c.slice_macs / sum(c.bytes_by.values()), c.slice_macs * c.tokens_per_second / 1e12)
            for c in cells
            if c.bytes_by and not math.isnan(c.slice_macs)
        ]
        if not points:
            continue
        x, y = np.array(points).T
        axes.plot(x, y, **{**style, "linestyle": "none", "alpha": 0.6})
        roof = roofs[name]
        peak = roof["peak_slice_macs_per_ns"] / 1e3
        ramp = np.geomspace(x.min() / 2, max(x.max() * 2, 1e3 * peak / roof["gb_per_s"] * 2), 64)
        axes.plot(ramp, np.minimum(peak, ramp * roof["gb_per_s"] / 1e3), color=style["color"], lw=0.8, alpha=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    tidy(axes, "Roofline", "slice MACs per byte of any memory", "10^12 slice MACs per second")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def fidelity_figure(results: Results) -> Figure | None:
    """Simulated over roofline time by batch, geometric mean over models and datasets."""
    best = best_methods(results.cells)
    names = machines_of(results)
    if not names:
        return None
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in names:
        by_batch: dict[int, list[float]] = {}
        for (_, _, batch), machines in best.items():
            if name in machines and not math.isnan(machines[name].roofline_seconds):
                by_batch.setdefault(batch, []).append(
                    math.log(machines[name].seconds_per_token / machines[name].roofline_seconds)
                )
        batches = sorted(by_batch)
        axes.plot(batches, [math.exp(np.mean(by_batch[b])) for b in batches], **machine_style(name, names))
    axes.set_xscale("log", base=2)
    ticks = sorted({cell.key.batch for cell in results.cells})
    axes.set_xticks(ticks, [str(b) for b in ticks])
    axes.axhline(1, color="black", lw=0.8)
    tidy(axes, "Simulated over roofline", "batch (sequences)", "time over roofline time (x)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
