"""Speed of trace generation, statistics and cache replay, in token-layers per CPU-second, beside a NumPy generator.

    python bench/bench_trace.py [--sequences 64]

One core, CPU time, compilation excluded, best of three. A token-layer is one token's top-k in one layer. The NumPy
generator draws the same distribution without stickiness (which is sequential) by perturbed log weights; the ratio is
what constant-time draws gain over work proportional to the number of experts.
"""

import argparse
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import cpu_seconds

from sw_stack.elastic.cache_replay import replay
from sw_stack.elastic.slices import SliceSizes
from sw_stack.workloads.generator import GeneratorParams, generate
from sw_stack.workloads.generator_presets import PRESETS, GeneratorPreset
from sw_stack.workloads.trace_statistics import compute

SIZES = SliceSizes(9, 8)
POLICIES = ("lru", "hotness", "belady")


def numpy_generator(params: GeneratorParams, tokens: int) -> np.ndarray:
    """Top-k without replacement of one sequence by Gumbel noise on the log weights, all layers."""
    rng = np.random.default_rng(0)
    logs = rng.standard_normal((params.layers, params.num_experts))
    keys = logs - np.log(-np.log(rng.random((tokens, params.layers, params.num_experts))))
    return np.argpartition(-keys, params.top_k - 1, axis=2)[..., : params.top_k]


def measure(preset: GeneratorPreset, sequences: int) -> tuple[list[float], float]:
    """Token-layers per second of generator, statistics and three replays, and the generator's ratio to NumPy's."""
    params, tokens = preset.params, preset.sequence_tokens
    trace = generate(params, sequences, tokens, 0)
    capacity = params.num_experts // 4 * SIZES.msb_bytes

    def replayed(policy: str) -> Callable[[], object]:
        return lambda: replay(trace, policy, "msb-only", SIZES, capacity)

    steps: list[Callable[[], object]] = [
        lambda: generate(params, sequences, tokens, 0),
        lambda: compute(trace),
        *map(replayed, POLICIES),
    ]
    for step in steps:
        step()  # compiles
    rates = [trace.tokens * trace.layers / cpu_seconds(step) for step in steps]
    plain = tokens * params.layers / cpu_seconds(lambda: numpy_generator(params, tokens))
    return rates, rates[0] / plain


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=64)
    sequences = parser.parse_args().sequences
    table = Table(title="million token-layers per CPU-second")
    for title in ("model", "generate", "x NumPy", "statistics", *(f"replay, {policy}" for policy in POLICIES)):
        table.add_column(title, no_wrap=title == "model", justify="left" if title == "model" else "right")
    for name, preset in PRESETS.items():
        rates, ratio = measure(preset, sequences)
        generated, *others = (f"{rate / 1e6:.1f}" for rate in rates)
        table.add_row(name, generated, f"{ratio:.1f}", *others)
    Console().print(table)


if __name__ == "__main__":
    main()
