"""Hit rates of the expert-cache policies on a trace, over capacity and batch, beside the Che approximation."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from sw_stack.elastic.cache_replay import Replay, replay
from sw_stack.elastic.che import lru_hit_rate
from sw_stack.elastic.expert_cache import DEMAND
from sw_stack.elastic.slices import SliceSizes
from sw_stack.workloads.trace import Trace
from sw_stack.workloads.trace_statistics import expert_counts

RUNS = (
    ("lru", "msb-only"),
    ("lfu", "msb-only"),
    ("hotness", "msb-only"),
    ("static", "msb-only"),
    ("belady", "msb-only"),
    ("lru", "whole"),
    ("hotness", "whole"),
    ("hotness", "adaptive"),
    ("static", "adaptive"),
    ("belady", "whole"),
)
"""Policy and allocation of every row of the study."""


@dataclass(frozen=True)
class CachePoint:
    """All runs at one capacity and batch.

    fraction    capacity as a share of all MSB slices of a layer
    che_pooled  LRU's hit rate (MSB slices only) by Che's approximation from the whole trace's popularity
    che_within  the same from each sequence's own popularity, averaged by length: sequences one after another
    """

    fraction: float
    batch: int
    runs: tuple[Replay, ...]
    che_pooled: float
    che_within: float


def che_hit_rates(trace: Trace, entries: int, batch: int) -> tuple[float, float]:
    """Che's approximation from pooled and from within-sequence popularity, averaged over layers by accesses.

    A step of ``batch`` tokens reads an expert with 1 - (1 - p)^batch; the within-sequence value is for batch 1 and
    NaN otherwise, because slots then mix sequences.
    """
    counts = expert_counts(trace)
    lengths = np.diff(trace.offsets)
    used = 1 - (1 - counts.sum(0) / trace.tokens) ** batch
    pooled = float(np.average([lru_hit_rate(layer, entries) for layer in used], weights=used.sum(1)))
    if batch > 1:
        return pooled, float("nan")
    share = counts / lengths[:, None, None]
    own = [np.mean([lru_hit_rate(layer, entries) for layer in sequence]) for sequence in share]
    return pooled, float(np.average(own, weights=lengths))


def study(
    trace: Trace,
    sizes: SliceSizes,
    fractions: tuple[float, ...],
    batches: tuple[int, ...],
    *,
    phase_steps: int = 5,
    draft_weight: float = 0.0,
) -> list[CachePoint]:
    """Every policy at every capacity and batch; ``draft_weight`` is for the adaptive allocation only."""
    points = []
    for batch in batches:
        for fraction in fractions:
            entries = round(fraction * trace.num_experts)
            capacity = entries * sizes.msb_bytes
            runs = tuple(
                replay(
                    trace,
                    policy,
                    allocation,
                    sizes,
                    capacity,
                    batch=batch,
                    phase_steps=phase_steps,
                    draft_weight=draft_weight,
                )
                for policy, allocation in RUNS
            )
            points.append(CachePoint(fraction, batch, runs, *che_hit_rates(trace, entries, batch)))
    return points


def draw(points: list[CachePoint], model: str) -> str:
    """Hit rate of the MSB slices over capacity, one panel per batch, as SVG."""
    batches = sorted({point.batch for point in points})
    figure = Figure(figsize=(4.5 * len(batches), 3.8), layout="constrained")
    for axes, batch in zip(np.atleast_1d(figure.subplots(1, len(batches), sharey=True)), batches, strict=True):
        of_batch = [point for point in points if point.batch == batch]
        x = [point.fraction for point in of_batch]
        for i, (policy, allocation) in enumerate(RUNS):
            if allocation == "msb-only":
                style = "-" if policy in DEMAND else "--"
                axes.plot(x, [point.runs[i].msb_hit_rate for point in of_batch], style, marker="o", ms=3, label=policy)
        axes.plot(x, [point.che_pooled for point in of_batch], ":", color="grey", label="Che, pooled")
        if batch == 1:
            axes.plot(x, [point.che_within for point in of_batch], ":", color="black", label="Che, within sequences")
        axes.set(title=f"{model}, batch {batch}", xlabel="share of MSB slices resident", ylabel="hit rate", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
