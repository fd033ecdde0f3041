"""Hit rates of expert-cache policies on a trace, beside the Che approximation of LRU."""

from __future__ import annotations

import numpy as np

from sw_stack.elastic.cache_replay import replay
from sw_stack.elastic.che import lru_hit_rate
from sw_stack.elastic.slices import SliceSizes
from sw_stack.workloads.trace import Trace
from sw_stack.workloads.trace_statistics import expert_counts

FRACTIONS = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75)
BATCHES = (1, 8)
POLICIES = ("lru", "hotness")
PHASE_STEPS = 5
_SIZES = SliceSizes.of_weights(32)
"""With MSB entries only, hit rates depend on how many entries fit, not on their size."""


def hit_rates(trace: Trace) -> dict:
    """MSB hit rates by policy and batch, over ``FRACTIONS`` of a layer's experts, and Che's for LRU at batch 1."""
    found: dict[str, list[float]] = {"fraction": list(FRACTIONS)}
    entries = [int(fraction * trace.num_experts) for fraction in FRACTIONS]
    for policy in POLICIES:
        for batch in BATCHES:
            found[f"{policy} batch {batch}"] = [
                replay(
                    trace,
                    policy,
                    "msb-only",
                    _SIZES,
                    count * _SIZES.msb_bytes,
                    batch=batch,
                    phase_steps=PHASE_STEPS,
                ).msb_hit_rate
                for count in entries
            ]
    shares = expert_counts(trace).sum(axis=0) / trace.tokens
    found["che batch 1"] = [float(np.mean([lru_hit_rate(row, count) for row in shares])) for count in entries]
    return found
