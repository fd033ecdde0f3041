"""A cell evaluated at the refresh class that its own power asks for, and what it says about the die."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from hw.errors import UserError
from hw.timing import HB_TREFI_HALVES_ABOVE_C
from sw_stack.comparison.cell import STATIC, CellKey, CellResult
from sw_stack.comparison.evaluate import Settings, evaluate
from sw_stack.machines.area import die_area
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import Sourced
from sw_stack.machines.thermal import ELSEWHERE, Thermal, at_temperature, settle

COOL_C = HB_TREFI_HALVES_ABOVE_C[0]
"""Up to here HB refreshes at its longest interval."""


def cell_stack_watts(cell: CellResult, machine: Machine) -> float:
    """Mean power of logic and HB while the cell ran, static power included."""
    dynamic = sum(band[1] for name, band in cell.energy_pj.items() if name not in (*ELSEWHERE, STATIC))
    static = machine.static.logic_w.value + machine.static.hb_w.value
    return 1e-12 * dynamic / cell.seconds_per_token + static


def evaluate_settled(
    key: CellKey,
    machine: Machine,
    settings: Settings,
    prices: dict[str, Sourced] | None = None,
    thermal: Thermal | None = None,
) -> CellResult:
    """The cell as every report shows it, ``heat`` filled in where DRAM is stacked on the logic.

    The HB timing has the refresh class of the temperature that the run's own power leads to; a run that turns out
    too hot is evaluated again in the hotter class. Where no class is hot enough the cell does not fit.
    """
    if not machine.has_hb:
        return evaluate(key, machine, settings, prices)
    done: dict[str, CellResult] = {}

    def watts(there: Machine) -> float:
        done["cell"] = evaluate(key, there, settings, prices)
        return cell_stack_watts(done["cell"], there) if done["cell"].fits else 0.0

    try:
        _, state = settle(machine, watts, thermal)
    except UserError as error:
        return CellResult(key=key, fits=False, reason=f"is too hot on {machine.name}: {error}")
    return replace(done["cell"], heat=asdict(state)) if done["cell"].fits else done["cell"]


def settled_machine(cell: CellResult, machine: Machine) -> Machine:
    """The machine with the HB timing that the cell ended at."""
    return at_temperature(machine, cell.heat["class_c"]) if cell.heat else machine


def heat_sentence(cell: CellResult, thermal: Thermal | None = None) -> str:
    """Power, temperature bound and refresh class in words; empty where no DRAM is stacked."""
    if not cell.heat:
        return ""
    t, h = thermal or Thermal(), cell.heat
    where = f"{t.ambient_c.value:g} C air, {t.sink_k_per_w.value:g} K/W"
    return (
        f"stack {h['watts']:.1f} W, DRAM at most {h['dram_c']:.0f} C ({where}, assumed): "
        f"refresh for up to {h['class_c']:g} C"
    )


def derated(cell: CellResult) -> bool:
    """Whether the cell's DRAM refreshes more often than cool DRAM, and so runs slower."""
    return bool(cell.heat) and cell.heat["class_c"] > COOL_C


def derating_sentence(cells: Iterable[CellResult]) -> str:
    """Which cells of a comparison are derated by their temperature; empty where none has stacked DRAM."""
    heated = [cell for cell in cells if cell.heat]
    if not heated:
        return ""
    hottest = max(heated, key=lambda cell: cell.heat["dram_c"])
    slow = [f"{cell.key.label} ({cell.heat['class_c']:g} C)" for cell in heated if derated(cell)]
    what = f"derated by temperature: {', '.join(slow)}" if slow else "none is derated by temperature"
    return (
        f"Of {len(heated)} cells with stacked DRAM {what}; the hottest, {hottest.key.label}: {heat_sentence(hottest)}."
    )


def die_sentence(machine: Machine) -> str:
    """Area of the logic die in words; empty for a GPU and for arrays that were not synthesised."""
    if machine.is_gpu:
        return ""
    try:
        area = die_area(machine.chip)
    except UserError:
        return ""
    return f"logic die {area.total_mm2:.1f} mm2 or more; not synthesised: {', '.join(area.absent)}"
