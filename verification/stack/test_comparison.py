"""Results and means of a comparison: hand-worked ratios, round trips, one-line errors."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from hw.errors import UserError
from sw_stack.comparison.aggregate import against_best_other, best_methods, mean, means, picojoules, ratios, seconds
from sw_stack.comparison.cell import CellKey, CellResult, Results, csv_text, load, save
from sw_stack.reports.difference import difference, speed_ratio
from verification.bench.comparison_results import SPEED, made_up_results


def against_xpu(cells):
    """Speed ratios."""
    return ratios(cells, "xpu", seconds)


def test_means_are_the_hand_worked_ones():
    """Ratios 2 and 8: arithmetic 5, geometric 4; nothing has no mean."""
    found = mean([2.0, 8.0])
    assert (found.arithmetic, found.geometric, found.workloads) == pytest.approx((5.0, 4.0, 2))
    assert mean([]) is None


def test_speed_against_the_reference_is_reference_over_machine():
    """The made-up machines are 1, 1.5 and 4 times as fast everywhere, so their means are that too."""
    found = {entry.machine: entry for entry in means(made_up_results().cells, against_xpu)}
    assert set(found) == set(SPEED)
    for machine, speed in SPEED.items():
        assert found[machine].all.geometric == pytest.approx(speed)
        assert found[machine].all.workloads == 12
        assert found[machine].without_assumed.workloads == 6  # one of the two datasets is assumed


def test_without_assumed_cells_a_machine_keeps_its_fastest_other_method():
    """Only the drafting cells of one dataset assumed: 4 in six workloads, 4 / 1.25 of plain decoding in the others."""
    cells = [
        replace(cell, assumed=cell.assumed if cell.key.method == "elastic" else ()) for cell in made_up_results().cells
    ]
    (found,) = (entry for entry in means(cells, against_xpu) if entry.machine == "elmoe3d-8gb")
    assert (found.all.geometric, found.all.workloads) == pytest.approx((4.0, 12))
    assert found.without_assumed.arithmetic == pytest.approx((6 * 4.0 + 6 * 3.2) / 12)


def test_no_ratio_without_a_reference():
    """Nothing is compared with a machine that has no cell, and no mean is made of nothing."""
    assert means(made_up_results().cells, lambda cells: ratios(cells, "h100", seconds)) == []


def test_a_machine_enters_with_its_fastest_method():
    """Drafting is faster in the made-up results, so every cell of the proposed machine is the drafting one."""
    best = best_methods(made_up_results().cells)
    assert {machines["elmoe3d-8gb"].key.method for machines in best.values()} == {"elastic"}


def test_the_best_rival_is_chosen_per_workload():
    """4 over 1.5 against the best of xpu and xpu-pim; the machine is no rival of itself."""
    found = against_best_other(made_up_results().cells, "elmoe3d-8gb", SPEED, seconds)
    assert [r.value for r in found] == pytest.approx([4 / 1.5] * 12)


def test_energy_sums_components_and_leaves_static_out_on_demand():
    """2e8 + 5e8 + 1e8 pJ; without static 7e8."""
    cell = made_up_results().cells[0]
    assert picojoules(cell) == pytest.approx(8e8)
    assert cell.energy(dynamic=True) == pytest.approx(7e8)
    assert cell.energy("high") == pytest.approx(15e8)
    assert cell.tokens_per_joule == pytest.approx(1250)


def test_results_survive_the_file(tmp_path):
    """save, then load, gives the same cells, provenance and notes."""
    results = made_up_results()
    again = load(save(results, tmp_path / "r.json"))
    assert repr(again.cells) == repr(results.cells)
    assert (again.provenance, again.notes) == (results.provenance, results.notes)


def test_csv_has_a_line_per_cell_and_a_column_per_component():
    """Read back by the csv module."""
    results = made_up_results()
    rows = list(csv.DictReader(io.StringIO(csv_text(results))))
    assert len(rows) == len(results.cells)
    assert float(rows[0]["energy_HB_pj_nominal"]) == 2e8
    assert rows[0]["machine"] == "xpu"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be a JSON file"),
        ("[]", "format_version"),
        ('{"format_version": 99}', "format_version"),
        ('{"format_version": 1}', "missing 'cells'"),
        ('{"format_version": 1, "provenance": {}, "notes": {}, "cells": [{"key": {}}]}', "must hold results"),
    ],
)
def test_a_malformed_file_is_one_clear_line(tmp_path, content, message):
    """Each names the file and says what is wrong."""
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        load(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_cell_without_energy_or_time_is_refused():
    """Unknown is an error, never zero."""
    key = CellKey("m", "d", 1, "xpu", "none")
    with pytest.raises(ValueError, match="energy"):
        CellResult(key=key, seconds_per_token=1.0)
    with pytest.raises(ValueError, match="above 0"):
        CellResult(key=key, seconds_per_token=0.0, energy_pj={"HB": (1, 1, 1)})


def test_difference_pairs_cells_and_orders_by_change(tmp_path):
    """One cell made twice as fast is the one change; a cell in one file only is listed."""
    first = made_up_results()
    document = json.loads(save(first, tmp_path / "a.json").read_text())
    document["cells"][3]["seconds_per_token"] /= 2
    dropped = document["cells"].pop(0)
    (tmp_path / "b.json").write_text(json.dumps(document))
    found = difference(load(tmp_path / "a.json"), load(tmp_path / "b.json"))
    assert len(found.changed) == 1 and speed_ratio(*found.changed[0]) == pytest.approx(2)
    assert len(found.only_first) == 1 and dropped["key"]["machine"] in found.only_first[0]
    assert not found.only_second


def test_results_of_one_machine_each_are_paired_whatever_their_names():
    """A preset against a file that changes it: the same workloads are compared."""
    whole = made_up_results()
    one, other = (Results({}, tuple(c for c in whole.cells if c.key.machine == name)) for name in ("xpu", "xpu-pim"))
    found = difference(one, other)
    assert len(found.pairs) == 12
    assert {round(speed_ratio(*pair), 6) for pair in found.pairs} == {1.5}
    halves = [Results({}, tuple(c for c in one.cells if c.key.model == name)) for name in ("model-a", "model-b")]
    with pytest.raises(UserError, match="in common"):
        difference(*halves)
