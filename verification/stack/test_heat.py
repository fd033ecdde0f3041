"""Cells at the refresh class that their own power asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sw_stack.comparison import heat
from sw_stack.comparison.cell import CellKey, CellResult
from sw_stack.comparison.evaluate import Settings
from sw_stack.comparison.heat import (
    cell_stack_watts,
    derated,
    derating_sentence,
    die_sentence,
    evaluate_settled,
    heat_sentence,
    settled_machine,
)
from sw_stack.machines.catalogue import machine
from sw_stack.machines.sourced import Sourced
from sw_stack.machines.thermal import Thermal, at_temperature

KEY = CellKey("gpt-oss-20b", "gsm8k", 1, "elmoe3d-4gb", "none")


def made_up(seconds: float) -> CellResult:
    """1 J of HB and slice MACs, 5 J of LPDDR, 9 J static per token."""
    energy = {"HB": (0, 4e11, 0), "slice MACs": (0, 6e11, 0), "LPDDR": (0, 5e12, 0), "static": (0, 9e12, 0)}
    return CellResult(key=KEY, seconds_per_token=seconds, energy_pj=energy)


def test_power_by_hand():
    """1 J per 0.1 s token in the stack: 10 W, and 0.5 + 0.4 W at rest; LPDDR and its static power are elsewhere."""
    assert cell_stack_watts(made_up(0.1), machine("elmoe3d-4gb")) == pytest.approx(10.9)


def test_hot_cells_run_again_with_more_refresh(monkeypatch):
    """At 0.025 s per token 40.9 W lead to 96.9 C: evaluated again at 105 C; the HB timing then refreshes four times
    as often; 10.9 W stay at 85 C."""
    seen = []

    def run(seconds):
        def fake(key, there, settings, prices):
            seen.append(there.chip.hb.timing.tREFI_ns)
            return made_up(seconds)

        return fake

    monkeypatch.setattr(heat, "evaluate", run(0.025))
    cell = evaluate_settled(KEY, machine("elmoe3d-4gb"), Settings())
    assert (seen, cell.heat["class_c"], cell.heat["runs"]) == ([7800, 1950], 105, 2)
    assert cell.heat["dram_c"] == pytest.approx(45 + 1.27 * 40.9)
    assert derated(cell) and settled_machine(cell, machine("elmoe3d-4gb")).chip.hb.timing.tREFI_ns == 1950
    assert heat_sentence(cell) == (
        "stack 40.9 W, DRAM at most 97 C (45 C air, 1 K/W, assumed): refresh for up to 105 C"
    )
    monkeypatch.setattr(heat, "evaluate", run(0.1))
    cool = evaluate_settled(KEY, machine("elmoe3d-4gb"), Settings())
    assert cool.heat["class_c"] == 85 and not derated(cool)
    assert derating_sentence([cool]).startswith("Of 1 cells with stacked DRAM none is derated by temperature; the hot")
    assert f"derated by temperature: {KEY.label} (105 C); the hottest" in derating_sentence([cool, cell])
    assert derating_sentence([made_up(0.1)]) == ""
    seen.clear()
    warm = at_temperature(machine("elmoe3d-4gb"), 90)  # the machine's own temperature is where it begins
    assert evaluate_settled(KEY, warm, Settings()).heat["class_c"] == 95 and seen == [3900]
    hot = Thermal(sink_k_per_w=Sourced(4, "K/W", "assumed", "test"))
    monkeypatch.setattr(heat, "evaluate", run(0.025))
    molten = evaluate_settled(KEY, machine("elmoe3d-4gb"), Settings(), thermal=hot)
    assert not molten.fits and "too hot on elmoe3d-4gb: stacked DRAM must stay at or below 125 C" in molten.reason


def test_a_real_cell_stays_cool():
    """Memory-bound decoding draws a few watts: the class is that of 85 C, in one run. No HB: no state."""
    cell = evaluate_settled(KEY, machine("elmoe3d-4gb"), Settings(rounds=2))
    assert cell.fits and 0.9 < cell.heat["watts"] < 10 and (cell.heat["class_c"], cell.heat["runs"]) == (85, 1)
    assert evaluate_settled(replace(KEY, machine="xpu"), machine("xpu"), Settings(rounds=1)).heat == {}


def test_die_in_words():
    """The sum and what is missing; nothing for a GPU."""
    assert die_sentence(machine("elmoe3d-8gb")).startswith("logic die 36.1 mm2 or more; not synthesised: vector unit")
    assert die_sentence(machine("h100")) == ""
