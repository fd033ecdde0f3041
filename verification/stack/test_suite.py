"""Suites: legal cells only, identical work once, the same results however they are run, nothing lost when stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hw.errors import UserError
from sw_stack.comparison.cell import CellKey, to_json
from sw_stack.comparison.evaluate import Settings, evaluate
from sw_stack.comparison.heat import evaluate_settled
from sw_stack.comparison.sensitivity import inputs
from sw_stack.comparison.suite import cells_of, machine_notes, run_suite, suite, suites
from sw_stack.machines.catalogue import machines

SETTINGS = Settings(rounds=2)
MODEL = "gpt-oss-20b"
KEYS = [
    CellKey(MODEL, data, 2, machine, method)
    for data in ("gsm8k", "alpaca")
    for machine, method in (("xpu", "none"), ("elmoe3d-8gb", "elastic"), ("h100", "none"), ("xpu-pim", "eagle"))
]


def test_the_paper_suite_is_the_whole_legal_grid():
    """4 models x 4 datasets x 5 batches x (2 machines with 5 methods, 13 with 4)."""
    keys = cells_of(suite("paper"))
    assert len(keys) == len(set(keys)) == 4 * 4 * 5 * (2 * 5 + 13 * 4)
    assert not [key for key in keys if key.method == "elastic" and not key.machine.startswith("elmoe3d")]
    assert {"paper", "quick", "sim"} == set(suites())


def test_an_unknown_suite_names_the_nearest():
    """One line."""
    with pytest.raises(UserError, match=r"papr.*paper"):
        suite("papr")


def test_a_stopped_suite_continues_and_gives_the_same_cells(tmp_path):
    """Two cells, then all with one cut file: equal to a run in one piece; datasets share simulations."""
    whole = run_suite(KEYS, SETTINGS, tmp_path / "whole")
    run_suite(KEYS[:2], SETTINGS, tmp_path / "parts")
    cut = next((tmp_path / "parts").iterdir())
    cut.write_text(cut.read_text()[:40])
    resumed = run_suite(KEYS, SETTINGS, tmp_path / "parts")
    assert [to_json(cell) for cell in resumed.cells] == [to_json(cell) for cell in whole.cells]
    assert resumed.reused == 1
    # xpu, h100 and Elastic-SD do not depend on the dataset; the EAGLE head has a published length on GSM8K only.
    assert whole.simulations == 5


def test_cells_of_another_state_of_the_project_are_not_reused(tmp_path, monkeypatch):
    """Finished cells are kept for a stopped run, not for changed code or data."""
    run_suite(KEYS[:1], SETTINGS, tmp_path)
    assert run_suite(KEYS[:1], SETTINGS, tmp_path).reused == 1
    monkeypatch.setattr("sw_stack.comparison.suite._sources", lambda: "another")
    assert run_suite(KEYS[:1], SETTINGS, tmp_path).reused == 0


def test_cells_say_what_they_assume(tmp_path):
    """EAGLE on GSM8K is published, on Alpaca it is not; Elastic-SD never is; locality of this model never is."""
    run = run_suite(KEYS, SETTINGS, tmp_path)
    assumed = {(c.key.dataset, c.key.method): [a.split(" of ")[0] for a in c.assumed] for c in run.cells}
    assert assumed["gsm8k", "eagle"] == ["locality"]
    assert assumed["alpaca", "eagle"] == ["acceptance", "locality"]
    assert assumed["gsm8k", "elastic"] == ["acceptance", "locality"]
    assert assumed["gsm8k", "none"] == ["locality"]


def test_a_cell_is_what_the_evaluation_gives(tmp_path):
    """The suite adds nothing to `evaluate_settled`, the path that ``elmoe3d sim`` takes; temperature is in it."""
    key = KEYS[1]
    cell = run_suite([key], SETTINGS, tmp_path).cells[0]
    assert json.dumps(to_json(cell)) == json.dumps(to_json(evaluate_settled(key, machines()[key.machine], SETTINGS)))
    assert cell.heat["class_c"] == 85 and cell.heat["dram_c"] > 45


def test_no_machine_beats_its_roofline(tmp_path):
    """Simulated time is at least the time at all peaks, for every machine and method."""
    keys = [
        CellKey(MODEL, "gsm8k", batch, machine, method)
        for batch in (1, 16)
        for machine, made in machines().items()
        for method in made.methods
        if method in ("none", "elastic")
    ]
    cells = [cell for cell in run_suite(keys, Settings(rounds=1), tmp_path).cells if cell.fits]
    assert len(cells) > 20
    assert not [cell.key.label for cell in cells if cell.seconds_per_token < cell.roofline_seconds]


def test_a_model_that_does_not_fit_is_a_cell_that_says_so():
    """30 B parameters at 8.5 bits on 24 GB."""
    cell = evaluate(CellKey("qwen3-30b-a3b", "gsm8k", 1, "rtx4090", "none"), machines()["rtx4090"], SETTINGS)
    assert not cell.fits and "GB" in cell.reason


def test_every_sensitivity_input_changes_something():
    """Each end differs from the base in machine, settings or prices: an input that does nothing is a mistake."""
    chosen = inputs()
    assert len({item.name for item in chosen}) == len(chosen) >= 12
    for item in chosen:
        ends = [
            ([repr(change.machine(machines()[m])) for m in ("elmoe3d-8gb", "xpu", "xpu-pim")],
             repr(change.settings(SETTINGS)), repr(change.prices))
            for change in (item.at_low, item.at_high)
        ]  # fmt: skip
        assert ends[0] != ends[1], item.name


def test_notes_show_every_number_with_its_source():
    """Numbers of a processor and of a GPU, none without a source."""
    notes = machine_notes(["elmoe3d-8gb", "h100"])
    for note in notes.values():
        assert note["numbers"] and all(": " in number["source"] for number in note["numbers"])
    assert notes["elmoe3d-8gb"]["gb_per_s"] == pytest.approx(32 * 51.2 + 102.4)


def test_settings_change_results():
    """A higher given acceptance makes drafting faster."""
    key = KEYS[1]
    made = machines()[key.machine]
    slow, fast = (evaluate(key, made, replace(SETTINGS, acceptance=a, rounds=4)).seconds_per_token for a in (0.1, 0.95))
    assert fast < slow
