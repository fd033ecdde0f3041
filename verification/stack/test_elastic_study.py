"""``elmoe3d study``: the fit finds what generated data were made with; files, resumption, one-line errors."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

from sw_stack.commands.main import main
from sw_stack.elastic.slices import ALLOCATIONS
from sw_stack.elastic.study.caching import FRACTIONS, hit_rates
from sw_stack.elastic.study.cells import EXPERTS_ONLY, SCHEMES, BatchResult, Cell, CellResult, all_cells
from sw_stack.elastic.study.fit import fit_acceptance
from sw_stack.elastic.study.quality import perplexity
from sw_stack.models.float_reference import FloatReference
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.workloads.trace import SHIPPED, Trace, read_trace, write_trace
from verification.stack.elastic_models import moe_source, prompts, write_models

DEPTH = 5


def made_acceptance(scheme: str, uncovered: float, position: int) -> float:
    """The acceptance that `made_cells` draws from: k 0.1 (augmented), m 0.02, c 1.2, d 0.3, e -0.2."""
    coarse = scheme == "augmented"
    hazard = coarse * (0.1 + 0.02 * math.log2(position))
    return math.exp(-hazard - uncovered * (1.2 + 0.3 * uncovered - 0.2 * math.log2(position)))


def made_cells(rounds: int) -> list[CellResult]:
    """Cells with known acceptance: 24 sequences, coverages 0.3 to 1, two schemes."""
    rng = np.random.default_rng(11)
    results = []
    for scheme in ("int8", "augmented"):
        for uncovered in (0.0, 0.1, 0.25, 0.4, 0.7):
            tried, accepted = np.zeros((24, DEPTH), int), np.zeros((24, DEPTH), int)
            left = np.full(24, rounds)
            for p in range(DEPTH):
                tried[:, p] = left
                left = rng.binomial(left, made_acceptance(scheme, uncovered, p + 1))
                accepted[:, p] = left
            batch = BatchResult("made", tried.tolist(), accepted.tolist(), 1, 1, 1 - uncovered, 0.5, 4.0)
            results.append(CellResult(Cell(scheme=scheme, fraction=uncovered), [batch]))
    return results


def test_the_fit_finds_the_acceptance_that_data_were_made_with() -> None:
    """Within 0.02 of the truth everywhere, mostly inside the band, and exact where the draft is the target."""
    fit = fit_acceptance(made_cells(200), ("int8", "augmented"), 0)
    inside = []
    for scheme in fit.schemes:
        for position in (1, 3, 5):
            coverage = np.array([0.3, 0.5, 0.7, 0.9])
            truth = np.array([made_acceptance(scheme, 1 - c, position) for c in coverage])
            mean, low, high = fit.predict(scheme, coverage, position)
            assert np.abs(mean - truth).max() < 0.02
            assert (low <= mean).all() and (mean <= high).all()
            inside += [*((low <= truth) & (truth <= high))]
    assert np.mean(inside) > 0.6
    assert fit.predict("int8", [1.0], 5)[0] == 1.0
    assert fit.deviation < 0.02


def test_the_band_narrows_with_more_text() -> None:
    """Sixteen times the rounds: about a quarter of the width."""
    widths = []
    for rounds in (12, 192):
        _, low, high = fit_acceptance(made_cells(rounds), ("int8", "augmented"), 0).predict("augmented", [0.6], 2)
        widths.append(float((high - low)[0]))
    assert 2 < widths[0] / widths[1] < 8


def test_cells_cover_what_is_asked_for_once() -> None:
    """Every scheme at half and full residency, all policies, chains and trees; nothing twice."""
    cells = all_cells(("quant",))
    assert len(set(cells)) == len(cells)
    assert {(c.scheme, c.fraction) for c in cells} >= {(s, f) for s in (*SCHEMES, EXPERTS_ONLY) for f in (0.5, 1.0)}
    assert {c.policy for c in cells} == {"hot", "static", "random"}
    assert {"5", "8", "2x4"} <= {c.tree for c in cells}
    assert Cell(method="quant") in cells


def test_float_perplexity_is_that_of_the_reference() -> None:
    """Perplexity of the float numeric equals one computed from the float reference's logits."""
    windows = prompts(2, 3, (20, 21))
    found = perplexity(QuantizedModel(moe_source()), "float", {"a": windows[:1], "b": windows[1:]}, 1)
    nats = []
    for window in windows:
        logits = FloatReference(moe_source(), np.float64).logits(window[:-1])
        nats += list(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), window[1:]])
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-3)
    assert found["tokens"] == len(nats) == 38


def test_hit_rates_of_a_trace_worked_by_hand() -> None:
    """One layer of 16 experts, top-1, always expert 3: one miss, whatever fits; the hot set misses its first phase."""
    experts = np.full((100, 1, 1), 3, np.uint8)
    trace = Trace(experts=experts, offsets=np.array([0, 100]), num_experts=16, model="m", source="s", licence="l")
    found = hit_rates(trace)
    assert found["fraction"] == list(FRACTIONS)
    assert found["lru batch 1"] == pytest.approx([0.99] * len(FRACTIONS))
    assert found["hotness batch 1"] == pytest.approx([0.95] * len(FRACTIONS))
    for che in ("che pooled", "che within sequences"):
        assert found[che] == pytest.approx([1.0] * len(FRACTIONS))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random target with both draft models beside it."""
    return write_models(tmp_path_factory.mktemp("models"))


def study(model: Path, out: Path, *arguments: object) -> int:
    """Exit status of a small study."""
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "study",
                "--model",
                str(model),
                "--out",
                str(out),
                "--prompts",
                "2",
                "--tokens",
                "4",
                "--windows",
                "1",
                *map(str, arguments),
            ]
        )
    return stop.value.code


def test_files_are_written_and_a_second_run_measures_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Figures, JSON with every cell, the same bytes again from kept cells alone; a deleted cell is measured anew."""
    small = tmp_path / "small.npz"
    excerpt = read_trace(SHIPPED)
    write_trace(small, excerpt.select(np.arange(1), 40))
    assert study(tiny, tmp_path, "--trace", small) == 0
    printed = capsys.readouterr().out
    document = json.loads((tmp_path / "study.json").read_text())
    assert len(document["cells"]) == len(all_cells(("quant", "slm", "eagle")))
    for cell in document["cells"]:
        assert f"{cell['accept_length']:.2f}" in printed
    assert set(document["hit_rates"]) == {"tiny", excerpt.model}
    by_cell = {tuple(r[k] for k in ("method", "allocation", "fraction", "batch")): r for r in document["allocations"]}
    assert len(by_cell) == 2 * 3 * 3 * 2
    for fraction in (0.25, 0.5, 0.75):  # the same bytes: whole experts are fewer, so fewer of them are found
        hits = {a: by_cell["none", a, fraction, 1]["msb_hit_rate"] for a in ALLOCATIONS}
        assert hits["whole"] <= hits["adaptive"] <= hits["msb-only"]
        assert by_cell["none", "whole", fraction, 1]["accept_length"] == 1
        reads = [by_cell["none", a, fraction, 1][f"{tier}_bytes"] for a in ALLOCATIONS for tier in ("hb", "lpddr")]
        assert min(reads) > 0
        assert f"{by_cell['elastic', 'adaptive', fraction, 0]['lpddr_bytes'] / 1e3:.1f}" in printed
    for name in ("acceptance", "quality", "allocation"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        xml.etree.ElementTree.fromstring((tmp_path / f"{name}.svg").read_text())
    full = next(
        c for c in document["cells"] if c["scheme"] == "int8" and c["fraction"] == 1 and c["method"] == "elastic"
    )
    assert set(full["acceptance_by_position"]) <= {1.0, None}

    before = [(tmp_path / name).read_bytes() for name in ("study.json", "acceptance.svg", "quality.svg")]
    kept = sorted((tmp_path / "cells").iterdir())
    kept[0].unlink()
    assert study(tiny, tmp_path, "--trace", small) == 0
    printed = capsys.readouterr().out
    assert printed.count("(kept)") == len(kept) - 1
    assert before == [(tmp_path / name).read_bytes() for name in ("study.json", "acceptance.svg", "quality.svg")]
    assert sorted((tmp_path / "cells").iterdir()) == kept
    kept[0].write_text("{}")
    assert study(tiny, tmp_path, "--trace", small) == 2
    assert f"{kept[0]}: not a finished result" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--trace", "/nowhere.npz"), "/nowhere.npz: no such trace file"),
        (("--model", "/nowhere"), "/nowhere: no such folder"),
        (("--prompts", "0"), "prompts must be 1 to 64, not 0"),
        (("--threads", "0"), "threads must be 1 to 64, not 0"),
    ],
)
def test_mistakes_give_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: tuple, line: str
) -> None:
    """Exit status 2."""
    assert study(tiny, tmp_path, *arguments) == 2
    captured = capsys.readouterr()
    assert line in captured.err and captured.err.count("\n") == 1
