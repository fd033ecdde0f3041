"""One cell of a comparison: a model, a dataset and a batch on a machine with a drafting method, and what came out.

Cells are plain data with a JSON form (docs/results.md), so that a stopped suite continues, two runs can be compared and
a report can be drawn again without simulating anything.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic

FORMAT_VERSION = 1
BAND = ("low", "nominal", "high")
STATIC = "static"
"""The energy component that flows whatever the machine does; figures without it are called dynamic."""


@dataclass(frozen=True, order=True)
class CellKey:
    """What is run: names as ``elmoe3d list`` shows them, and sequences decoded together."""

    model: str
    dataset: str
    batch: int
    machine: str
    method: str

    @property
    def workload(self) -> tuple[str, str, int]:
        """What cells on different machines have in common."""
        return self.model, self.dataset, self.batch

    @property
    def label(self) -> str:
        """One line for progress bars and file names."""
        return "/".join(map(str, (self.model, self.dataset, self.batch, self.machine, self.method)))


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What a cell gave. Means are over rounds; a token is a committed token of one sequence.

    fits                whether the model fits the machine; if not, ``reason`` says why and there are no figures
    seconds_per_token   of the whole batch: wall time over tokens of all sequences together
    seconds_error       standard error of it over rounds
    roofline_seconds    the same at roofline fidelity
    rounds, passes      simulated rounds, and engine passes among them with distinct routing
    accept_length       committed tokens per round and sequence, the bonus token included; 1 without drafting
    acceptance          share of drafted tokens that were accepted; None without drafting
    energy_pj           component -> (low, nominal, high) per token; `STATIC` is apart
    seconds_by          resource -> share of seconds_per_token on the critical path, summing to 1
    bytes_by            memory tier -> bytes per token
    utilisation         resource -> share of its peak
    slice_macs          4-bit by 8-bit multiply-adds per token
    assumed             inputs that were neither measured nor published for this model and dataset
    reason              why the runtime chose what it did
    policy              drafting, allocation and mapping that were chosen
    cache_hit_rate      share of touched experts whose MSB slice was resident; None without a cache
    unique_experts      distinct experts per layer and verification pass
    heat                of a machine with stacked DRAM, `sw_stack.machines.thermal.ThermalState` as a dictionary
    """

    key: CellKey
    fits: bool = True
    seconds_per_token: float = math.nan
    seconds_error: float = 0.0
    roofline_seconds: float = math.nan
    rounds: int = 0
    passes: int = 0
    accept_length: float = 1.0
    acceptance: float | None = None
    energy_pj: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    seconds_by: dict[str, float] = field(default_factory=dict)
    bytes_by: dict[str, float] = field(default_factory=dict)
    utilisation: dict[str, float] = field(default_factory=dict)
    slice_macs: float = math.nan
    assumed: tuple[str, ...] = ()
    reason: str = ""
    policy: dict[str, str] = field(default_factory=dict)
    cache_hit_rate: float | None = None
    unique_experts: float | None = None
    heat: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fits:
            return
        if not self.seconds_per_token > 0:
            raise ValueError(f"{self.key.label}: seconds per token must be above 0, not {self.seconds_per_token!r}")
        if not self.energy_pj:
            raise ValueError(f"{self.key.label}: energy must have components; unknown energy is an error, not 0")

    @property
    def tokens_per_second(self) -> float:
        """Of the whole batch."""
        return 1 / self.seconds_per_token

    @property
    def seconds_per_output_token(self) -> float:
        """Time between two tokens of one sequence."""
        return self.seconds_per_token * self.key.batch

    def energy(self, band: str = "nominal", dynamic: bool = False) -> float:
        """pJ per token, all components; without the static one where ``dynamic``."""
        index = BAND.index(band)
        return sum(values[index] for name, values in self.energy_pj.items() if not (dynamic and name == STATIC))

    @property
    def tokens_per_joule(self) -> float:
        """Nominal energy, static included."""
        return 1e12 / self.energy()


def to_json(result: CellResult) -> dict:
    """JSON values; NaN of a cell that does not fit becomes null."""
    document = asdict(result)
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in document.items()}


def from_json(document: dict, where: str) -> CellResult:
    """The inverse of `to_json`; UserError naming ``where`` where the document is none."""
    try:
        values = dict(document)
        values["key"] = CellKey(**values["key"])
        values["energy_pj"] = {name: tuple(map(float, band)) for name, band in values["energy_pj"].items()}
        values["assumed"] = tuple(values["assumed"])
        for name in ("seconds_per_token", "roofline_seconds", "slice_macs"):
            if values[name] is None:
                values[name] = math.nan
        return CellResult(**values)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{where} must hold results of elmoe3d, format {FORMAT_VERSION}: {error}") from error


@dataclass(frozen=True)
class Results:
    """Cells of one run, and where they come from.

    provenance  of `sw_stack.provenance.provenance`
    cells       in the order of the suite
    notes       extra documents of a run, by name: machines, sensitivity, crossover, text
    """

    provenance: dict
    cells: tuple[CellResult, ...]
    notes: dict = field(default_factory=dict)


def save(results: Results, path: Path) -> Path:
    """Write the JSON form."""
    document = {
        "format_version": FORMAT_VERSION,
        "provenance": results.provenance,
        "cells": [to_json(cell) for cell in results.cells],
        "notes": results.notes,
    }
    return write_atomic(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def load(path: Path) -> Results:
    """Read what `save` wrote; UserError in one line otherwise."""
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be a JSON file that elmoe3d wrote: {error}") from error
    if not isinstance(document, dict) or document.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} must have format_version {FORMAT_VERSION}; write it again with this version")
    try:
        cells = tuple(from_json(cell, str(path)) for cell in document["cells"])
        return Results(document["provenance"], cells, document["notes"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} must hold provenance, cells and notes: missing {error}") from error


def csv_text(results: Results) -> str:
    """One line per cell; dictionaries become columns such as ``energy_hb_pj_nominal``."""
    rows = []
    for cell in results.cells:
        row = asdict(cell.key)
        for item in fields(CellResult):
            value = getattr(cell, item.name)
            if item.name == "key":
                continue
            if item.name == "energy_pj":
                for component, band in value.items():
                    row |= {f"energy_{component}_pj_{b}": v for b, v in zip(BAND, band, strict=True)}
            elif isinstance(value, dict):
                row |= {f"{item.name}_{name}": v for name, v in value.items()}
            elif isinstance(value, tuple):
                row[item.name] = "; ".join(value)
            else:
                row[item.name] = value
        rows.append(row)
    import csv
    import io

    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
