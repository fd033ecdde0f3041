"""Suites of cells, and how they are run: identical work once, in parallel, finished cells kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from hw.errors import UserError, nearest
from hw.files import write_atomic
from sw_stack.comparison.cell import CellKey, CellResult, from_json, to_json
from sw_stack.comparison.evaluate import Settings, acceptance_for, assumed_inputs
from sw_stack.comparison.heat import evaluate_settled
from sw_stack.comparison.workers import Workers
from sw_stack.machines.catalogue import machines
from sw_stack.machines.machine import METHODS, Machine
from sw_stack.workloads.datasets import DATASETS, dataset

PAPER_MODELS = ("qwen3-30b-a3b", "glm-4.7-flash", "deepseek-v2-lite", "gpt-oss-20b")
PAPER_BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Suite:
    """A grid: every legal combination is a cell."""

    name: str
    note: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    batches: tuple[int, ...]
    machines: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    rounds: int = 16


def suites() -> dict[str, Suite]:
    """All suites by name."""
    everything = tuple(machines())
    return {
        s.name: s
        for s in (
            Suite(
                "paper",
                "four models, four datasets, batch 1 to 16, every machine with every drafting method",
                PAPER_MODELS,
                tuple(DATASETS),
                PAPER_BATCHES,
                everything,
            ),
            Suite(
                "quick",
                "the same machines and methods for two models on one dataset at batch 1, 4 and 16",
                PAPER_MODELS[:2],
                ("gsm8k",),
                (1, 4, 16),
                everything,
            ),
            Suite(
                "sim",
                "what make sim shows: Qwen3-30B-A3B on GSM8K, plain decoding everywhere, Elastic-SD where it is legal",
                PAPER_MODELS[:1],
                ("gsm8k",),
                PAPER_BATCHES,
                everything,
                ("none", "elastic"),
                8,
            ),
        )
    }


def suite(name: str) -> Suite:
    """The suite called ``name``; raises UserError with the nearest known name."""
    if name not in suites():
        raise UserError(f"unknown suite {name!r}; {nearest(name, list(suites()))}")
    return suites()[name]


def cells_of(chosen: Suite) -> list[CellKey]:
    """Keys of all legal cells, workload by workload."""
    return [
        CellKey(model, data, batch, machine, method)
        for model in chosen.models
        for data in chosen.datasets
        for batch in chosen.batches
        for machine in chosen.machines
        for method in chosen.methods
        if method in machines()[machine].methods
    ]


@cache
def _sources() -> str:
    """SHA-256 over the code and data that decide a cell: kept cells of another state of the project are not reused."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for package in ("hw", "cycle_model", "sw_stack"):
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".json"):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def _machine_text(name: str) -> str:
    """Every number of a machine, with its source."""
    return repr(machines()[name])


@cache
def _curve(method: str, model: str, data: str, settings: Settings) -> tuple[tuple[float, ...], ...] | None:
    """Acceptance by position at three coverages; None for plain decoding."""
    acceptance = acceptance_for(CellKey(model, data, 1, "", method), settings)
    if acceptance is None:
        return None
    return tuple(
        tuple(acceptance.by_position(settings.tree, coverage, settings.corner).round(12).tolist())
        for coverage in (0.25, 0.5, 1.0)
    )


def _work_of(key: CellKey, settings: Settings) -> str:
    """What a cell's simulation depends on: two datasets with the same lengths and acceptance are one simulation."""
    data, curve = dataset(key.dataset), _curve(key.method, key.model, key.dataset, settings)
    inputs = [key.model, key.batch, key.machine, key.method, data.prompt_tokens, data.output_tokens, curve]
    config = asdict(settings) | {"tree": str(settings.tree)}
    text = json.dumps([_sources(), inputs, config, _machine_text(key.machine)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class SuiteRun:
    """Cells in the suite's order, and the distinct simulations behind them; ``reused`` of these were there already."""

    cells: list[CellResult]
    distinct: list[CellResult]
    reused: int

    @property
    def simulations(self) -> int:
        """Distinct ones."""
        return len(self.distinct)

    @property
    def counts(self) -> dict[str, int]:
        """For the report's head."""
        fitting = [c for c in self.cells if c.fits]
        return {
            "cells": len(self.cells),
            "cells that fit": len(fitting),
            "distinct simulations": self.simulations,
            "rounds in them": sum(c.rounds for c in self.distinct if c.fits),
            "engine passes in them": sum(c.passes for c in self.distinct if c.fits),
        }


def run_suite(
    keys: Iterable[CellKey],
    settings: Settings,
    folder: Path,
    workers: Workers | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> SuiteRun:
    """Simulate all cells; finished ones are read from ``folder`` and written there, so a stopped suite continues."""
    keys = list(keys)
    work = {key: _work_of(key, settings) for key in keys}
    first = {}
    for key in keys:
        first.setdefault(work[key], key)
    found: dict[str, CellResult] = {}
    for name in first:
        path = folder / f"{name[:24]}.json"
        if path.exists():
            try:
                found[name] = from_json(json.loads(path.read_text()), str(path))
            except (UserError, ValueError):  # cut by a crash of the machine: simulate again
                path.unlink()
    reused, total = len(found), len(first)
    missing = [(name, key) for name, key in first.items() if name not in found]

    simulate = [(key, machines()[key.machine], settings) for _, key in missing]
    for i, result in (workers or Workers()).each(evaluate_settled, simulate):
        name, key = missing[i]
        found[name] = result
        write_atomic(folder / f"{name[:24]}.json", json.dumps(to_json(result)))
        progress(key.label, len(found), total)
    cells = [
        replace(found[work[key]], key=key, assumed=assumed_inputs(key, acceptance_for(key, settings), settings))
        for key in keys
    ]
    return SuiteRun(cells, list(found.values()), reused)


def machine_notes(names: Iterable[str], made: dict[str, Machine] | None = None) -> dict[str, dict]:
    """What a report shows of each machine: numbers with sources, and roofs."""
    notes = {}
    for name in names:
        machine = (made or machines())[name]
        if machine.is_gpu:
            bandwidth = machine.gpu.gb_per_s.value
            peak = 1e3 * machine.gpu.int8_tops.value  # an INT8 operation is half a MAC, a MAC two slice MACs
        else:
            near = machine.near_memory.peak_gb_per_s(machine.lpddr) if machine.near_memory else 0.0
            bandwidth, peak = machine.lpddr_gb_per_s + machine.hb_gb_per_s + near, machine.slice_macs_per_ns
        notes[name] = {
            "note": machine.note,
            "gpu": machine.is_gpu,
            "peak_slice_macs_per_ns": peak,
            "gb_per_s": bandwidth,
            "numbers": [
                {"name": path, "value": str(number), "source": f"{number.kind}: {number.source}"}
                for path, number in machine.numbers.items()
            ],
        }
    return notes
