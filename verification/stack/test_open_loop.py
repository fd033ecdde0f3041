"""Arriving requests on the engine."""

from __future__ import annotations

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.comparison import evaluate
from sw_stack.comparison.cell import CellKey
from sw_stack.comparison.evaluate import Settings
from sw_stack.comparison.open_loop import OpenLoop, serve
from sw_stack.machines.catalogue import machine
from sw_stack.workloads.datasets import Dataset
from sw_stack.workloads.requests import Arrivals, Request

KEY = CellKey("gpt-oss-20b", "gsm8k", 2, "elmoe3d-4gb", "none")


def test_percentiles_by_hand():
    """Requests that waited 1, 2 and 9 s and took 2, 4 and 6 s for ten later tokens each."""
    done = [Request(i, 0.0, 5, 11, float(w), w + t) for i, (w, t) in enumerate(((1, 2), (2, 4), (9, 6)))]
    run = OpenLoop(KEY, Arrivals(1.0, 3), tuple(done), 15.0, 33, 1.5)
    assert run.tokens_per_s == pytest.approx(2.2)
    assert run.first_token_s()[0] == 2 and run.per_token_s()[0] == pytest.approx(0.4)
    assert run.first_token_s()[1] == pytest.approx(2 + 0.8 * 7)


def test_load_costs_latency(monkeypatch):
    """The same six requests: all at once share the machine and wait longer than far apart, and give more tokens/s."""
    monkeypatch.setattr(evaluate, "dataset_of", lambda _: Dataset("short", "test", 16, 6))
    rare, rush = (serve(KEY, machine("elmoe3d-4gb"), Settings(seed=2), Arrivals(rate, 6)) for rate in (0.01, 1e6))
    assert len(rare.requests) == len(rush.requests) == 6
    assert rare.tokens == rush.tokens == 36
    assert rush.tokens_per_s > 10 * rare.tokens_per_s
    assert rare.mean_batch == 1 and 1 < rush.mean_batch <= 2
    assert (rush.first_token_s() > rare.first_token_s()).all()
    assert np.isfinite(rare.per_token_s()).all()
    with pytest.raises(UserError, match="does not fit rtx4090"):
        serve(CellKey("qwen3-30b-a3b", "gsm8k", 1, "rtx4090", "none"), machine("rtx4090"), Settings(), Arrivals(1.0, 1))
