"""Figures of a comparison; each function takes `Results` and gives a Figure, or None where it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from sw_stack.comparison.cell import Results
from sw_stack.reports.figures.breakdown import energy_breakdown, time_breakdown
from sw_stack.reports.figures.roofline import fidelity_figure, roofline_figure
from sw_stack.reports.figures.sensitivity import tornado_figure
from sw_stack.reports.figures.speculation import crossover_figure, speculation_figure
from sw_stack.reports.figures.speed import cells_figure, energy_figure, speed_figure


@dataclass(frozen=True)
class Drawing:
    """One figure of a report: file name, heading, what it shows, and the function that draws it."""

    name: str
    heading: str
    caption: str
    draw: Callable[[Results], Figure | None]


DRAWINGS = (
    Drawing("speed", "Speed over batch", "Geometric mean over models and datasets, each machine with its best legal"
            " method. Above 1 is faster than the xPU.", speed_figure),
    Drawing("energy", "Energy over batch", "Energy per token of the xPU over that of the machine, geometric mean;"
            " the band is low to high of every number in the energy table, both machines alike.", energy_figure),
    Drawing("cells", "Every cell", "Speed against the xPU. Hatched: acceptance or locality was neither measured nor"
            " published for that model and dataset.", cells_figure),
    Drawing("time", "Where the time goes", "Time per token along the critical path, by resource.", time_breakdown),
    Drawing("energy-parts", "Where the energy goes", "Energy per token by component, GPUs apart; the whisker is the"
            " table's band.", energy_breakdown),
    Drawing("roofline", "Roofline", "Achieved arithmetic against arithmetic per byte read from any memory.",
            roofline_figure),
    Drawing("fidelity", "What fidelity adds", "Simulated time over roofline time: 1 would mean that nothing but peak"
            " bandwidth and peak arithmetic mattered.", fidelity_figure),
    Drawing("speculation", "Cache and acceptance", "Share of touched experts whose MSB slice was resident, and accept"
            " length, by batch.", speculation_figure),
    Drawing("crossover", "When speculation pays", "Time per token of plain decoding over that of Elastic-SD by batch"
            " and acceptance per drafted token. The line is 1.", crossover_figure),
    Drawing("sensitivity", "Sensitivity", "Speed against the xPU as each assumed input moves between its ends, the"
            " others staying.", tornado_figure),
)  # fmt: skip

__all__ = ["DRAWINGS", "Drawing"]
