"""Tornado of the assumed inputs."""

from __future__ import annotations

from matplotlib.figure import Figure

from sw_stack.comparison.cell import Results
from sw_stack.reports.style import tidy

_QUANTITY = {
    "speed": "speed-up over xPU (x)",
    "energy": "energy of the xPU over energy (x)",
    "pim": "speed-up over xPU-PIM (x)",
}


def tornado_figure(results: Results) -> Figure | None:
    """Bars of ``notes["sensitivity"]``: per quantity the base and, per input, the value at its low and its high end."""
    data = results.notes.get("sensitivity")
    if not data:
        return None
    quantities = [name for name in _QUANTITY if name in data]
    rows = max(len(data[name]["inputs"]) for name in quantities)
    figure = Figure(figsize=(5.2 * len(quantities), 1.6 + 0.34 * rows), layout="constrained")
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, name in zip(panels, quantities, strict=True):
        base = data[name]["base"]
        bars = sorted(data[name]["inputs"], key=lambda item: abs(item["at_high"] - item["at_low"]))
        for y, bar in enumerate(bars):
            for end, color in (("at_low", "#0072B2"), ("at_high", "#D55E00")):
                axes.barh(y, bar[end] - base, left=base, color=color, height=0.62, label=end if y == 0 else None)
        labels = [f"{bar['input']}\n{bar['low']} .. {bar['high']}" for bar in bars]
        axes.set_yticks(range(len(bars)), labels, fontsize=7)
        axes.axvline(base, color="black", lw=0.8)
        title = data[name].get("title", name).replace(", ", "\n", 1)  # a panel is narrow
        tidy(axes, title, _QUANTITY[name], "")
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles, ["input at its low end", "input at its high end"], loc="outside lower center", ncols=2)
    return figure
