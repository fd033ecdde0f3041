"""Fit of the generator's parameters to published statistics; ``python -m sw_stack.workloads.generator_fit`` remakes
sw_stack/data/traces/generator_presets.json.

Procedure, the same for every model, from fixed starting values and with a fixed seed. Repeat 30 times: generate 96
sequences, measure them with `sw_stack.workloads.trace_statistics`, then

* popularity   *= sqrt((1 - H) / (1 - H measured)), H the pooled normalised entropy;
* reweighting  *= sqrt((1 - H) / (1 - H measured)), H the entropy within a sequence; for Qwen3-30B-A3B, whose entropy
  is only known to lie in 0.62-0.81, *= (S - 1/8) / (S measured - 1/8), S the top experts' share within a sequence;
* stickiness   *= (R - k/N) / (R measured - k/N), R the lag-1 reuse;
* locality_l   *= the square root of the same ratio of layer l's own reuse; then normalised to a mean of 1.

The time constant of the stickiness is not fitted: 3 tokens, the middle of the published "decays over 2 to 4 tokens".
Everything else that is published (Zipf exponents, reuse at lags 8 and 64, unique experts) is not used for the fit
and so tests it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hw.files import write_atomic
from sw_stack.workloads.generator import GeneratorParams, generate
from sw_stack.workloads.published import PUBLISHED, REUSE_BY_DEPTH, Published
from sw_stack.workloads.trace_statistics import TOP_SHARE, compute

PRESETS_FILE = Path(__file__).parent.parent / "data" / "traces" / "generator_presets.json"
ITERATIONS = 30
SEQUENCES = 96
SEED = 1
MEMORY_TOKENS = 3.0
RANK_SHIFT = 0.25
SHAPES = {"qwen3-30b-a3b": (48, 128, 8, 512), "deepseek-v2-lite": (26, 64, 6, 512), "gpt-oss-20b": (24, 32, 4, 340)}
"""MoE layers, experts, top-k (config.json) and tokens per sequence: GPT-OSS as in its trace, the others assumed."""
FITTED_TO_TOP_SHARE = ("qwen3-30b-a3b",)


def reuse_targets(name: str) -> np.ndarray:
    """Lag-1 reuse of every MoE layer [layers]: published points joined by lines, with the published mean.

    Where the last layer is not published it takes the value that gives the published mean; where all points are, the
    whole profile is scaled to that mean.
    """
    layers, mean = SHAPES[name][0], PUBLISHED[name]["reuse_lag_1"].middle
    points = list(REUSE_BY_DEPTH[name])
    depth = np.linspace(0, 1, layers)
    if points[-1][0] < 1:
        x, y = zip(*points, strict=True)
        low, high = (np.interp(depth, [*x, 1.0], [*y, last]).mean() for last in (0.0, 1.0))
        points.append((1.0, float((mean - low) / (high - low))))
    profile = np.interp(depth, *zip(*points, strict=True))
    return profile * mean / profile.mean()


def _deficit(published: dict[str, Published], scalars: dict[str, float], name: str) -> float:
    """Square root of the ratio by which an entropy must move away from 1; a deficit grows with the square of spread."""
    return ((1 - published[name].middle) / (1 - scalars[name])) ** 0.5


def fit(name: str, iterations: int = ITERATIONS) -> GeneratorParams:
    """Parameters of a model whose statistics are published."""
    layers, num_experts, top_k, tokens = SHAPES[name]
    published = PUBLISHED[name]
    targets, chance = reuse_targets(name), top_k / num_experts
    params = GeneratorParams(
        name=name,
        num_experts=num_experts,
        top_k=top_k,
        popularity=1.0,
        rank_shift=RANK_SHIFT,
        reweighting=0.8,
        stickiness=0.3,
        memory_tokens=MEMORY_TOKENS,
        locality=(1.0,) * layers,
    )
    for _ in range(iterations):
        found = compute(generate(params, SEQUENCES, tokens, SEED))
        scalars = found.scalars
        locality = np.array(params.locality) * np.sqrt(
            (targets - chance) / np.maximum(found.reuse_by_layer - chance, 1e-3)
        )
        popularity_ratio = _deficit(published, scalars, "entropy_pooled")
        if name in FITTED_TO_TOP_SHARE:
            share = published["top_share_within"].middle
            reweighting_ratio = (share - TOP_SHARE) / (scalars["top_share_within"] - TOP_SHARE)
        else:
            reweighting_ratio = _deficit(published, scalars, "entropy_within")
        excess = (published["reuse_lag_1"].middle - chance) / (scalars["reuse_lag_1"] - chance)
        params = replace(
            params,
            popularity=params.popularity * popularity_ratio,
            reweighting=params.reweighting * reweighting_ratio,
            stickiness=params.stickiness * excess,
            locality=tuple(locality / locality.mean()),
        )
    return params


def _rounded(params: GeneratorParams) -> dict:
    """Four decimals: finer than the seeds' own scatter."""
    return {
        key: round(value, 4)
        if isinstance(value, float)
        else [round(float(v), 4) for v in value]
        if key == "locality"
        else value
        for key, value in asdict(params).items()
    }


def main() -> None:
    """Fit every model and write the presets."""
    presets = {name: _rounded(fit(name)) for name in SHAPES}
    write_atomic(PRESETS_FILE, json.dumps(presets, indent=1) + "\n")
    print(f"{PRESETS_FILE} written")


if __name__ == "__main__":
    main()
