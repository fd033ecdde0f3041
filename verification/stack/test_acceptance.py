"""Acceptance of drafting methods: published lengths, the measured fit, its export; expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.elastic.tree import TreeShape
from sw_stack.workloads.acceptance import PAPER_RANGE, acceptance_of, measured
from sw_stack.workloads.acceptance_export import export, width_exponents
from sw_stack.workloads.datasets import DATASETS, EAGLE_LENGTHS, accept_length, chain_acceptance, dataset

GPT = "gpt-oss-20b"


def test_accept_length_of_a_chain_by_hand():
    """a = 1/2 over three positions: 1 + 1/2 + 1/4 + 1/8 tokens; the inverse gives 1/2 back; impossible ones refused."""
    assert accept_length(0.5, 3) == 1.875
    assert chain_acceptance(1.875, 3) == pytest.approx(0.5, abs=1e-10)
    assert chain_acceptance(1.0, 7) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UserError, match=r"1 to 4, not 4\.5"):
        chain_acceptance(4.5, 3)


def test_published_lengths_come_back():
    """At its own depth, an EAGLE head gives its published tokens per round: value, low and high."""
    for (name, data), published in EAGLE_LENGTHS.items():
        acceptance = acceptance_of("eagle", name, data)
        assert (acceptance.kind, acceptance.assumed) == ("paper", False)
        for corner in ("low", "nominal", "high"):
            got = acceptance.tokens_per_round(TreeShape(published.depth), corner=corner)
            assert got == pytest.approx(published.tokens.at(corner), abs=1e-6)


def test_unpublished_pairs_are_marked():
    """A model and data set without a publication, and any carried-over fit, are assumptions and say so."""
    assert ("gpt-oss-20b", "alpaca") not in EAGLE_LENGTHS
    for method, name in (("eagle", GPT), ("elastic", GPT), ("quant", "qwen3-30b-a3b"), ("slm", "glm-4.7-flash")):
        acceptance = acceptance_of(method, name, "alpaca")
        assert acceptance.assumed
        assert "carried over" in acceptance.source
    assert not acceptance_of("elastic", "elmoe-8m", "alpaca").assumed
    with pytest.raises(UserError, match="drafts"):
        acceptance_of("none", GPT, "alpaca")
    with pytest.raises(UserError, match="did you mean gsm8k"):
        dataset("gsm8")
    assert list(DATASETS) == ["mt-bench", "gsm8k", "alpaca", "humaneval"]


def test_acceptance_follows_the_measured_cells():
    """Against cells of the study itself: .63 at .77 coverage and .91 at full coverage, first position, within .03."""
    elastic = acceptance_of("elastic", "elmoe-8m", "alpaca")
    assert elastic.by_position(TreeShape(1), 0.772)[0] == pytest.approx(0.632, abs=0.05)
    assert elastic.by_position(TreeShape(1), 1.0)[0] == pytest.approx(0.912, abs=0.03)
    quant = acceptance_of("quant", "elmoe-8m", "alpaca")
    assert quant.by_position(TreeShape(1), 0.1)[0] == quant.by_position(TreeShape(1), 1.0)[0]  # uses every expert


def test_acceptance_is_monotone_with_a_band():
    """More router mass never lowers acceptance, low <= nominal <= high, wider trees accept more per level."""
    elastic = acceptance_of("elastic", GPT, "gsm8k")
    covered = np.linspace(0, 1, 21)
    nominal = [elastic.by_position(TreeShape(1), c)[0] for c in covered]
    assert (np.diff(nominal) >= -1e-9).all()
    low, high = (np.array([elastic.by_position(TreeShape(1), c, k)[0] for c in covered]) for k in ("low", "high"))
    assert (low <= nominal).all() and (nominal <= high).all() and (high - low > 0.05).any()
    chain, tree = (elastic.by_position(TreeShape(2, w), 0.8) for w in (1, 4))
    assert (tree > chain).all()
    assert PAPER_RANGE[0] < np.mean(nominal[10:]) < PAPER_RANGE[1]
    assert measured().fit.rows > 1000


def test_width_exponent_by_hand():
    """Acceptance 1/e in a chain and e^-1/2 with four nodes: 4^-g = 1/2, so g = 1/2."""
    first, later = width_exponents({"5": [np.exp(-1)] * 5, "2x4": [np.exp(-0.5), np.exp(-1)]})
    assert (first, later) == pytest.approx((0.5, 0.0))


def test_export_takes_what_serving_needs():
    """Chains of the methods with drafters, width exponents of all, the fit; incomplete or foreign files are refused."""
    base = {"scheme": "augmented", "fraction": 0.5, "policy": "hot"}
    cells = [
        base | {"method": "elastic", "tree": "5", "acceptance_by_position": [0.5] * 5},
        base | {"method": "slm", "tree": "5", "acceptance_by_position": [0.4] * 5},
        base | {"method": "slm", "tree": "2x4", "acceptance_by_position": [0.4**0.5, 0.4]},
        base | {"method": "slm", "tree": "8", "acceptance_by_position": [0.1] * 8, "fraction": 1.0},
    ]
    fit = {"schemes": ["int8"], "coefficients": [1], "resampled_coefficients": [[0.123456]], "rows": 1}
    study = {"format": "elmoe3d-study", "provenance": {"seed": 0}, "cells": cells, "fit": fit}
    found = export(study)
    assert found["chains"] == {"slm": [0.4] * 5}
    assert found["width"] == {"elastic": [0, 0], "slm": [0.5, 0.0]}
    assert found["fit"]["resampled_coefficients"] == [[0.12346]]
    with pytest.raises(UserError, match="a chain of 5 of slm"):
        export(study | {"cells": cells[:1] + cells[2:]})
    with pytest.raises(UserError, match="that elmoe3d study wrote"):
        export({"format": "other"})
