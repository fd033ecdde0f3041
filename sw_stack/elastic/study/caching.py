"""Hit rates of expert-cache policies on a trace, beside the Che approximation of LRU."""

from __future__ import annotations

from sw_stack.elastic.cache_replay import replay
from sw_stack.elastic.cache_study import che_hit_rates
from sw_stack.elastic.slices import SliceSizes
from sw_stack.workloads.trace import Trace

FRACTIONS = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75)
BATCHES = (1, 8)
POLICIES = ("lru", "hotness")
PHASE_STEPS = 5
_SIZES = SliceSizes.of_weights(32)
"""With MSB entries only, hit rates depend on how many entries fit, not on their size."""


def hit_rates(trace: Trace) -> dict:
    """MSB hit rates by policy and batch, over ``FRACTIONS`` of a layer's experts, and Che's of LRU at batch 1."""
    found: dict[str, list[float]] = {"fraction": list(FRACTIONS)}
    entries = [round(fraction * trace.num_experts) for fraction in FRACTIONS]
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
    che = [che_hit_rates(trace, count, 1) for count in entries]
    found["che pooled"] = [pooled for pooled, _ in che]
    found["che within sequences"] = [within for _, within in che]
    return found
