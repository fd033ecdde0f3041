"""Made-up results of a comparison, with every feature that a report must show; no figure in it means anything."""

from __future__ import annotations

from sw_stack.comparison.cell import CellKey, CellResult, Results
from sw_stack.provenance import provenance

SPEED = {"xpu": 1.0, "xpu-pim": 1.5, "elmoe3d-8gb": 4.0}
"""Times faster than the xPU, at every batch of every workload."""


def made_up_results() -> Results:
    """Two models, two datasets, batch 1 and 16, three machines, and a GPU that one model does not fit."""
    cells = []
    for model in ("model-a", "model-b"):
        for dataset in ("gsm8k", "alpaca"):
            for batch in (1, 4, 16):
                for machine, speed in SPEED.items():
                    methods = ("none", "elastic") if machine.startswith("elmoe3d") else ("none",)
                    cells += [_cell(model, dataset, batch, machine, method, speed) for method in methods]
        key = CellKey("model-b" if model == "model-a" else model, "gsm8k", 1, "rtx4090", "none")
        if model == "model-a":
            cells.append(CellResult(key=key, fits=False, reason="needs 32 GB, has 24"))
    notes = {
        "machines": {
            name: {
                "note": "made up",
                "gpu": False,
                "peak_slice_macs_per_ns": 262144.0,
                "gb_per_s": 100.0 * speed,
                "numbers": [{"name": "bandwidth", "value": f"{100 * speed} GB/s", "source": "assumed: nothing"}],
            }
            for name, speed in SPEED.items()
        },
        "crossover": {
            "title": "model-a",
            "batches": [1, 4, 16],
            "acceptances": [0.3, 0.6, 0.9],
            "gain": [[0.8, 1.2, 1.9], [0.7, 1.0, 1.5], [0.5, 0.8, 1.1]],
        },
        "sensitivity": {
            "speed": {
                "base": 4.0,
                "title": "elmoe3d-8gb",
                "inputs": [{"input": "acceptance", "low": "0.4", "high": "0.8", "at_low": 3.0, "at_high": 5.0}],
            }
        },
        "assumptions": ["Everything is made up."],
        "text": {"note": "made up", "samples": ["<script>alert(1)</script> & text"]},
        "counts": {"cells": len(cells)},
    }
    return Results(provenance({"made": "up"}, 0), tuple(cells), notes)


def _cell(model: str, dataset: str, batch: int, machine: str, method: str, speed: float) -> CellResult:
    drafting = method != "none"
    seconds = 0.02 / speed * (1.25 if machine.startswith("elmoe3d") and not drafting else 1.0)
    return CellResult(
        key=CellKey(model, dataset, batch, machine, method),
        seconds_per_token=seconds,
        seconds_error=seconds / 50,
        roofline_seconds=seconds / 1.3,
        rounds=16,
        passes=16,
        accept_length=2.5 if drafting else 1.0,
        acceptance=0.6 if drafting else None,
        energy_pj={"HB": (1e8, 2e8, 4e8), "LPDDR": (3e8, 5e8, 9e8), "static": (1e8, 1e8, 2e8)},
        seconds_by={"LPDDR": 0.7, "HB": 0.2, "host": 0.1},
        bytes_by={"HB": 1e8, "LPDDR": 2e8},
        utilisation={"array": 0.2, "LPDDR": 0.9},
        slice_macs=6e9,
        assumed=(f"acceptance on {dataset}",) if dataset == "alpaca" else (),
        reason="faster by prediction",
        policy={"drafting": method},
        cache_hit_rate=0.5 if machine.startswith("elmoe3d") else None,
        unique_experts=40.0,
    )
