"""Suites of cells, and how they are run: identical work once, in parallel, finished cells kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from hw.errors import UserError, nearest
from hw.files import write_atomic
from sw_stack.comparison.cell import CellKey, CellResult, from_json, to_json
from sw_stack.comparison.evaluate import Settings, acceptance_for, assumed_inputs
from sw_stack.comparison.heat import evaluate_settled
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


def _work_of(key: CellKey, settings: Settings) -> str:
    """What a cell's simulation depends on: two datasets with the same lengths and acceptance are one simulation."""
    data, acceptance = dataset(key.dataset), acceptance_for(key, settings)
    curve = None
    if acceptance is not None:
        curve = [
            acceptance.by_position(settings.tree, coverage, settings.corner).round(12).tolist()
            for coverage in (0.25, 0.5, 1.0)
        ]
    inputs = [key.model, key.batch, key.machine, key.method, data.prompt_tokens, data.output_tokens, curve]
    config = asdict(settings) | {"tree": str(settings.tree)}
    text = json.dumps([_sources(), inputs, config, repr(machines()[key.machine])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _run(key: CellKey, settings: Settings) -> CellResult:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return evaluate_settled(key, machines()[key.machine], settings)


@dataclass
class SuiteRun:
    """Cells in the suite's order, and how many simulations they took."""

    cells: list[CellResult]
    simulations: int
    reused: int

    @property
    def counts(self) -> dict[str, int]:
        """For the report's head."""
        fitting = [c for c in self.cells if c.fits]
        return {
            "cells": len(self.cells),
            "cells that fit": len(fitting),
            "distinct simulations": self.simulations,
            "rounds in them": self._distinct("rounds"),
            "engine passes in them": self._distinct("passes"),
        }

    def _distinct(self, name: str) -> int:
        seen = {
            (c.key.model, c.key.batch, c.key.machine, c.key.method, c.seconds_per_token): c
            for c in self.cells
            if c.fits
        }
        return sum(getattr(c, name) for c in seen.values())


def run_suite(
    keys: Iterable[CellKey],
    settings: Settings,
    folder: Path,
    jobs: int = 2,
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

    def keep(name: str, key: CellKey, result: CellResult) -> None:
        found[name] = result
        write_atomic(folder / f"{name[:24]}.json", json.dumps(to_json(result)))
        progress(key.label, len(found), total)

    if jobs == 1 or len(missing) < 8:
        for name, key in missing:
            keep(name, key, _run(key, settings))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            running = {pool.submit(_run, key, settings): (name, key) for name, key in missing}
            try:
                for future in as_completed(running):
                    keep(*running[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    cells = [
        replace(found[work[key]], key=key, assumed=assumed_inputs(key, acceptance_for(key, settings), settings))
        for key in keys
    ]
    return SuiteRun(cells, total, reused)


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
