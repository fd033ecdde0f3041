"""The figure of ``elmoe3d dram --plot``: latency over delivered bandwidth, one line per kind of traffic."""

from __future__ import annotations

from matplotlib.figure import Figure

from sw_stack.workloads.lpddr_study import Point

# Okabe and Ito's palette, which common colour-blindness keeps apart; markers differ as well.
_STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


def draw(curves: dict[str, list[Point]], peak_gb_per_s: float, title: str) -> Figure:
    """Mean (solid) and 99th percentile (dashed) latency in ns over GB/s; a dotted line marks the peak."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    for (name, points), (color, marker) in zip(curves.items(), _STYLES, strict=False):
        bandwidth = [p.gb_per_s for p in points]
        axes.plot(bandwidth, [p.mean_ns for p in points], color=color, marker=marker, ms=4, label=name)
        axes.plot(bandwidth, [p.p99_ns for p in points], color=color, ls="--", lw=1)
    axes.axvline(peak_gb_per_s, color="0.4", ls=":", lw=1)
    axes.text(peak_gb_per_s, 0.98, "peak ", transform=axes.get_xaxis_transform(), ha="right", va="top", color="0.3")
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("delivered bandwidth (GB/s, GB = 1e9 bytes)")
    axes.set_ylabel("latency, arrival to last data beat (ns)")
    axes.set_title(f"{title}; solid: mean, dashed: 99th percentile", loc="left", fontsize=11)
    axes.grid(alpha=0.25, which="both", lw=0.5)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=len(curves))
    return figure
