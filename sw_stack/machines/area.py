"""Die area from synthesis results, with what is not in the sum named.

Cell areas are what ``elmoe3d synth --chip 4gb --liberty <ASAP7 RVT TT>`` prints (docs/verilog_export.md); blocks that
were synthesised to generic gates only are converted at the array's own ratio of um2 per gate equivalent.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError
from hw.params import ChipParams
from sw_stack.machines.sourced import Sourced

PUBLISHED_ROWS, PUBLISHED_COLUMNS, PUBLISHED_DEPTH = 16, 32, 32
"""Size of the array that the areas were measured at."""

_SYNTH = "elmoe3d synth --chip 4gb --liberty asap7_rvt_tt"
_GATES = "elmoe3d synth --chip 4gb --block {}, generic gates at the array's um2 per gate"

ARRAY_UM2 = Sourced(765_905, "um2", "measured", _SYNTH)
ARRAY_GE = Sourced(13_352_224, "GE", "measured", "elmoe3d synth --chip 4gb, generic gates")
BLOCKS_GE: dict[str, Sourced] = {
    "HB controller": Sourced(175_925, "GE", "measured", _GATES.format("hb_controller")),
    "expert router": Sourced(17_589, "GE", "measured", _GATES.format("expert_router")),
    "hotness counters": Sourced(1_039_957, "GE", "measured", _GATES.format("hotness") + "; as flip-flops"),
}
"""Blocks measured in gate equivalents; the first is per PE, the others once per die."""
PER_PE = ("HB controller",)
SRAM_UM2 = Sourced(9000, "um2", "derived", "32 KB at 7 nm; two per PE, weights and I/O", 6000, 14_000)
UTILISATION = Sourced(0.7, "of area", "assumed", "cells over placed area, with wires and clock tree", 0.55, 0.8)
ABSENT = ("vector unit", "sequencer", "links", "host interface", "LPDDR5 controllers and PHY", "HB vias")
"""What no synthesis result covers: the sum is a lower bound."""


@dataclass(frozen=True)
class Area:
    """mm2 of one die by part, memories and cells, after utilisation; ``absent`` names what is missing."""

    parts: dict[str, float]
    absent: tuple[str, ...]

    @property
    def total_mm2(self) -> float:
        """Of all parts: a lower bound of the die."""
        return sum(self.parts.values())


def die_area(chip: ChipParams) -> Area:
    """Area of a chip with the published array; UserError for other array sizes, which were not measured."""
    a = chip.array
    size = (a.rows, a.columns, a.depth)
    if size != (PUBLISHED_ROWS, PUBLISHED_COLUMNS, PUBLISHED_DEPTH):
        raise UserError(f"area of an array of {' x '.join(map(str, size))} must be measured first: elmoe3d synth")
    um2_per_ge = ARRAY_UM2.value / ARRAY_GE.value
    placed = 1e-6 / UTILISATION.value
    parts = {"PE arrays": chip.pes * ARRAY_UM2.value * placed}
    for name, gates in BLOCKS_GE.items():
        parts[name] = (chip.pes if name in PER_PE else 1) * gates.value * um2_per_ge * placed
    parts["SRAM"] = 2 * chip.pes * SRAM_UM2.value * 1e-6
    return Area(parts, ABSENT)
