"""The cells of the acceptance study: one drafting configuration each, decoded over all domains and kept on disk.

A cell is finished or absent: its file is named by a hash of everything that determines it (model, texts, cell), so a
run that was stopped continues where it was, and changed weights are measured anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.precision import DRAFT_EXPERTS, Precision, WeightScheme
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig

RESULTS_VERSION = 2
"""To be raised when what is measured changes, so that kept results are not mixed with new ones."""
SCHEMES = ("int8", "augmented", "truncated", "rounded", "copy4")
"""Draft weights of Elastic-SD cells; ``int8`` restricts experts only."""
EXPERTS_ONLY = "augmented-experts"
"""Augmented slices in the routed experts, everything dense in full: the optional draft of the contract."""
FRACTIONS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
TREES = ("8", "2x2", "2x4", "3x2", "4x2", "3x4", "5x4")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One configuration. ``scheme`` matters to method elastic only."""

    method: str = "elastic"
    scheme: str = "augmented"
    fraction: float = 0.5
    policy: str = "hot"
    tree: str = "5"

    @property
    def precision(self) -> Precision:
        """Of the draft."""
        return DRAFT_EXPERTS if self.scheme == EXPERTS_ONLY else Precision.uniform(WeightScheme(self.scheme))

    def __str__(self) -> str:
        parts = [self.method, *([self.scheme] if self.method == "elastic" else []), f"{self.fraction:g}", self.policy]
        return " ".join([*parts, self.tree])


def all_cells(methods: tuple[str, ...]) -> list[Cell]:
    """Every cell once; ``methods`` are those beside Elastic-SD that have weights here."""
    base = Cell()
    cells = [replace(base, scheme=scheme, fraction=f) for scheme in (*SCHEMES, EXPERTS_ONLY) for f in (0.5, 1.0)]
    cells += [replace(base, scheme=scheme, fraction=f) for scheme in ("augmented", "int8") for f in FRACTIONS]
    cells += [replace(base, policy=policy, fraction=f) for policy in ("random", "static") for f in (0.25, 0.5, 0.75)]
    cells += [replace(base, tree=tree) for tree in TREES]
    cells += [Cell(method=method, tree=tree) for method in methods for tree in ("5", "2x4")]
    return list(dict.fromkeys(cells))


@dataclass(frozen=True)
class BatchResult:
    """One batch of a cell, all of one domain.

    tried, accepted        [sequences][depth], see `SpeculationStatistics`
    drafted_rounds, drafted_tokens   for the accept length
    coverage               router mass on residents, in drafts
    hit_rate, touched      of the target's passes: MSB slices resident; experts per layer
    """

    domain: str
    tried: list[list[int]]
    accepted: list[list[int]]
    drafted_rounds: int
    drafted_tokens: int
    coverage: float
    hit_rate: float
    touched: float


@dataclass
class CellResult:
    """All batches of a cell."""

    cell: Cell
    batches: list[BatchResult] = field(default_factory=list)

    def acceptance(self, domain: str | None = None) -> np.ndarray:
        """Share accepted by position, NaN where nothing was tried."""
        chosen = [b for b in self.batches if domain in (None, b.domain)]
        tried = sum(np.sum(b.tried, axis=0) for b in chosen)
        accepted = sum(np.sum(b.accepted, axis=0) for b in chosen)
        return np.divide(accepted, tried, out=np.full(len(tried), np.nan), where=tried > 0)

    def accept_length(self, domain: str | None = None) -> float:
        """Tokens per drafted round, bonus included."""
        chosen = [b for b in self.batches if domain in (None, b.domain)]
        return sum(b.drafted_tokens for b in chosen) / sum(b.drafted_rounds for b in chosen)

    @property
    def mean_acceptance(self) -> float:
        """Accepted of all tried, all positions together."""
        return float(sum(np.sum(b.accepted) for b in self.batches) / sum(np.sum(b.tried) for b in self.batches))

    @property
    def coverage(self) -> float:
        """Mean over batches."""
        return float(np.mean([b.coverage for b in self.batches]))


def run_cell(
    runtime: Runtime, cell: Cell, prompts: dict[str, list[list[int]]], tokens: int, folder: Path | None, threads: int
) -> CellResult:
    """Decode every domain's prompts as one batch, greedily, drafting in every round."""
    result = CellResult(cell)
    for domain, batch in prompts.items():
        speculation = Speculation(TreeShape.parse(cell.tree), "always")
        choice = HotSetChoice(fraction=cell.fraction, policy=cell.policy)
        decoder = make_decoder(
            runtime,
            cell.method,
            speculation,
            choice,
            batch=len(batch),
            folder=folder,
            threads=threads,
            precision=cell.precision,
        )
        for _ in decoder.decode(batch, tokens, SamplingConfig(), 0):
            pass
        statistics, reads = decoder.statistics, decoder.meter.reads
        result.batches.append(
            BatchResult(
                domain,
                statistics.tried.tolist(),
                statistics.accepted.tolist(),
                statistics.drafted_rounds,
                statistics.drafted_tokens,
                statistics.coverage,
                reads.hits / reads.touched,
                reads.touched / reads.layer_passes,
            )
        )
    return result


class Store:
    """Finished results in a folder, by hash of what determines them.

    ``identity`` JSON values common to all: model, texts, sizes.
    """

    def __init__(self, folder: Path, identity: dict) -> None:
        self.folder, self.identity = folder, identity

    def get(self, name: str, what: dict, make: Callable[[], dict]) -> tuple[dict, bool]:
        """The result of ``make`` for ``what``, from disk where it is there; and whether it was."""
        key = json.dumps({"version": RESULTS_VERSION, "name": name, **what, **self.identity}, sort_keys=True)
        path = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        if path.exists():
            try:
                return json.loads(path.read_text())["result"], True
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: not a finished result ({error}); delete it") from error
        result = make()
        write_atomic(path, json.dumps({"key": json.loads(key), "result": result}) + "\n")
        return result, False


def stored_cell(store: Store, cell: Cell, make: Callable[[], CellResult]) -> tuple[CellResult, bool]:
    """A cell from the store, or measured now; and whether it was there."""
    found, there = store.get("cell", asdict(cell), lambda: {"batches": [asdict(b) for b in make().batches]})
    return CellResult(cell, [BatchResult(**batch) for batch in found["batches"]]), there
