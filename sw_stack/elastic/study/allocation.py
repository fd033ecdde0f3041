"""What allocations of the same bytes save: MSB slices only, whole experts, or what saves most external bytes.

Each cell decodes the study's prompts, alone or as one batch per kind of text, plainly or with Elastic-SD, with hot sets
of as many bytes as a fraction of a layer's MSB slices takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product

from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation, SpeculativeDecoder
from sw_stack.elastic.slices import ALLOCATIONS
from sw_stack.elastic.study.cells import Store
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig

METHODS = ("none", "elastic")
FRACTIONS = (0.25, 0.5, 0.75)
TOGETHER = 0
"""As a batch size: all prompts of a kind of text."""
TREE = "5"


@dataclass(frozen=True, kw_only=True)
class AllocationCell:
    """One configuration; ``batch`` 1 or ``TOGETHER``."""

    method: str
    allocation: str
    fraction: float
    batch: int

    def __str__(self) -> str:
        batch = "batch 1" if self.batch else "all prompts"
        return f"allocation {self.allocation} {self.fraction:g} {self.method} {batch}"


@dataclass(frozen=True)
class AllocationResult:
    """Of all kinds of text together, per new token (prefill not counted).

    lpddr_bytes, hb_bytes   read, refills included
    roofline_seconds        passes of a phase added up, then the slowest of both memories and the array: a lower bound
    msb_hit_rate            of the target's passes
    accept_length           tokens per draft, 1 without
    """

    cell: AllocationCell
    lpddr_bytes: float
    hb_bytes: float
    roofline_seconds: float
    msb_hit_rate: float
    accept_length: float


def allocation_cells() -> list[AllocationCell]:
    """Every cell."""
    return [
        AllocationCell(method=method, allocation=allocation, fraction=fraction, batch=batch)
        for method, batch, fraction, allocation in product(METHODS, (1, TOGETHER), FRACTIONS, ALLOCATIONS)
    ]


def run_allocation(
    runtime: Runtime, cell: AllocationCell, prompts: dict[str, list[list[int]]], tokens: int, threads: int
) -> AllocationResult:
    """Decode greedily, drafting in every round where the method drafts."""
    decoders: list[SpeculativeDecoder] = []
    for texts in prompts.values():
        for batch in [[text] for text in texts] if cell.batch else [texts]:
            decoder = make_decoder(
                runtime,
                cell.method,
                Speculation(TreeShape.parse(TREE), "always"),
                HotSetChoice(fraction=cell.fraction, allocation=cell.allocation),
                batch=len(batch),
                threads=threads,
            )
            for _ in decoder.decode(batch, tokens, SamplingConfig(), 0):
                pass
            decoders.append(decoder)
    meters, statistics = [d.meter for d in decoders], [d.statistics for d in decoders]
    made = sum(s.tokens for s in statistics)
    verify = [m.verify + PassWork(lpddr_bytes=m.refill_bytes) for m in meters]
    seconds = sum(d.scheduler.predictor.seconds(w) for d, w in zip(decoders, verify, strict=True))
    seconds += sum(d.scheduler.predictor.seconds(d.meter.draft) for d in decoders)
    drafted = sum(s.drafted_rounds for s in statistics)
    return AllocationResult(
        cell,
        sum(m.draft.lpddr_bytes + w.lpddr_bytes for m, w in zip(meters, verify, strict=True)) / made,
        sum(m.draft.hb_bytes + m.verify.hb_bytes for m in meters) / made,
        seconds / made,
        sum(m.reads.hits for m in meters) / sum(m.reads.touched for m in meters),
        sum(s.drafted_tokens for s in statistics) / drafted if drafted else 1.0,
    )


def stored_allocation(
    store: Store, cell: AllocationCell, make: Callable[[], AllocationResult]
) -> tuple[AllocationResult, bool]:
    """A cell from the store, or measured now; and whether it was there."""

    def figures() -> dict:
        return {key: value for key, value in asdict(make()).items() if key != "cell"}

    found, there = store.get("allocation", asdict(cell), figures)
    return AllocationResult(cell, **found), there
