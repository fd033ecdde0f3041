"""A cell evaluated at the refresh class that its own power asks for, and what it says about the die."""

from __future__ import annotations

from hw.errors import UserError
from sw_stack.comparison.cell import STATIC, CellKey, CellResult
from sw_stack.comparison.evaluate import Settings, evaluate
from sw_stack.machines.area import die_area
from sw_stack.machines.machine import Machine
from sw_stack.machines.thermal import ELSEWHERE, Thermal, ThermalState, settle


def cell_stack_watts(cell: CellResult, machine: Machine) -> float:
    """Mean power of logic and HB while the cell ran, static power included."""
    dynamic = sum(band[1] for name, band in cell.energy_pj.items() if name not in (*ELSEWHERE, STATIC))
    static = machine.static.logic_w.value + machine.static.hb_w.value
    return 1e-12 * dynamic / cell.seconds_per_token + static


def evaluate_settled(
    key: CellKey, machine: Machine, settings: Settings, thermal: Thermal | None = None
) -> tuple[CellResult, ThermalState | None]:
    """The cell, and the state of the stack; None where no DRAM is stacked on the logic or the model does not fit.

    The HB timing has the refresh class of the temperature that the run's own power leads to; a run that turns out
    too hot is evaluated again in the hotter class. Raises UserError where no class is hot enough.
    """
    done: dict[str, CellResult] = {}

    def watts(there: Machine) -> float:
        done["cell"] = evaluate(key, there, settings)
        return cell_stack_watts(done["cell"], there) if done["cell"].fits else 0.0

    if not machine.has_hb:
        return evaluate(key, machine, settings), None
    _, state = settle(machine, watts, thermal)
    return done["cell"], state if done["cell"].fits else None


def heat_sentence(state: ThermalState, thermal: Thermal | None = None) -> str:
    """Power, temperature bound and refresh class in words."""
    t = thermal or Thermal()
    where = f"{t.ambient_c.value:g} C air, {t.sink_k_per_w.value:g} K/W"
    return (
        f"stack {state.watts:.1f} W, DRAM at most {state.dram_c:.0f} C ({where}, assumed): "
        f"refresh for up to {state.class_c:g} C"
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
