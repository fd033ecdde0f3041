"""Power -> temperature bound -> refresh class of the hybrid-bonded DRAM, which its timing then feels.

Steady state of an assumed 40 mm2 stack with the DRAM towards the sink (HotSpot 7): kelvin per watt of logic power at
three heat sinks, between them by straight lines; a watt in the DRAM heats the DRAM as one in the logic does. A bound,
not a prediction: no transients, power spread evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hw.errors import UserError
from hw.timing import HB_TREFI_HALVES_ABOVE_C
from sw_stack.machines.energy import Energy
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import Sourced

SINK_K_PER_W = (0.1, 1.0, 4.0)
DRAM_K_PER_W = (0.36, 1.27, 4.27)
LOGIC_K_PER_W = (0.58, 1.48, 4.48)
"""Kelvin per watt of logic power at each sink. Kind derived: HotSpot 7 on an assumed stack."""

ELSEWHERE = ("LPDDR", "near memory")
"""Energy components outside the stack."""
LIMIT_C = 125.0
"""Hottest junction that the refresh table covers."""


AMBIENT = Sourced(45, "C", "assumed", "air inside an on-premises enclosure", 25, 55)
SINK = Sourced(1, "K/W", "assumed", "a small fan-cooled sink", 0.1, 4)


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """Surroundings.

    ambient_c     air at the sink
    sink_k_per_w  of the heat sink, 0.1 (server) to 4 (small, no fan)
    """

    ambient_c: Sourced = AMBIENT
    sink_k_per_w: Sourced = SINK

    def __post_init__(self) -> None:
        low, high = SINK_K_PER_W[0], SINK_K_PER_W[-1]
        if not low <= self.sink_k_per_w.value <= high:
            raise UserError(f"heat sink must be {low:g} to {high:g} K/W, not {self.sink_k_per_w.value!r}")

    def dram_c(self, watts: float) -> float:
        """Temperature of the stacked DRAM at ``watts`` of the whole stack."""
        return self._at(DRAM_K_PER_W, watts)

    def logic_c(self, watts: float) -> float:
        """Temperature of the logic at ``watts`` of the whole stack, all of it in the logic."""
        return self._at(LOGIC_K_PER_W, watts)

    def _at(self, table: tuple[float, ...], watts: float) -> float:
        if not watts >= 0:
            raise UserError(f"power must be at least 0 W, not {watts!r}")
        sink = self.sink_k_per_w.value
        i = 0 if sink <= SINK_K_PER_W[1] else 1
        share = (sink - SINK_K_PER_W[i]) / (SINK_K_PER_W[i + 1] - SINK_K_PER_W[i])
        return self.ambient_c.value + watts * (table[i] + share * (table[i + 1] - table[i]))


@dataclass(frozen=True)
class ThermalState:
    """Where the loop ended.

    watts           of the stack in that run (logic and HB; the external memory is elsewhere)
    dram_c, logic_c bound at that power
    class_c         temperature that the DRAM timing was set to: the class's upper end
    runs            how many runs it took
    """

    watts: float
    dram_c: float
    logic_c: float
    class_c: float
    runs: int


def stack_watts(machine: Machine, energy: Energy, seconds: float) -> float:
    """Mean power of logic and HB in a run: what heats the stack. The external memory and its units are elsewhere."""
    dynamic = sum(band.nominal for name, band in energy.components.items() if name not in ELSEWHERE)
    return dynamic / seconds + machine.static.logic_w.value + machine.static.hb_w.value


def refresh_class_c(dram_c: float) -> float:
    """Upper end of the refresh class that holds a temperature: 85, 95, 105 or 125.

    UserError above that: the stack cannot run there.
    """
    for limit in (*HB_TREFI_HALVES_ABOVE_C, LIMIT_C):
        if dram_c <= limit:
            return float(limit)
    raise UserError(f"stacked DRAM must stay at or below {LIMIT_C:g} C, not {dram_c:.0f} C; use a better heat sink")


def at_temperature(machine: Machine, temperature_c: float) -> Machine:
    """The machine with its HB timing at another temperature."""
    hb = replace(machine.chip.hb, temperature_c=temperature_c)
    return replace(machine, chip=replace(machine.chip, hb=hb))


def settle(
    machine: Machine, stack_watts: Callable[[Machine], float], thermal: Thermal | None = None
) -> tuple[Machine, ThermalState]:
    """Run in the machine's own refresh class, find the temperature, run again in its class until the class holds.

    A class is never left downwards (a hotter class runs slower and so cooler; going back would oscillate), so there
    are at most four runs. ``stack_watts`` runs a machine and gives its mean power of logic and HB.
    """
    thermal = thermal or Thermal()
    class_c = refresh_class_c(machine.chip.hb.temperature_c)
    runs = 0
    while True:
        runs += 1
        there = at_temperature(machine, class_c)
        watts = stack_watts(there)
        dram_c = thermal.dram_c(watts)
        needed = refresh_class_c(dram_c)
        if needed <= class_c:
            return there, ThermalState(watts, dram_c, thermal.logic_c(watts), class_c, runs)
        class_c = needed
