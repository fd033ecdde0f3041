"""What the published PE sustains on a projection, beside its published peak: 16, 64 and 256 tokens.

    python bench/bench_pe.py [--chip 4gb]

Cycles are those of the fast model (equal to exact and RTL), of whole programs: activations in, weights from HB and
link, rows out. Peak is one slice MAC per dot lane and cycle (16,384). With s dot units on one FP32 unit the array
itself takes s cycles a group and token block; s = 1 is a marked variant with eight times the FP32 units.
"""

import argparse
import dataclasses

import numpy as np

from cycle_model.numerics import QuantizedActivations, QuantizedWeights
from cycle_model.pe.fast import fast
from hw.params import ChipParams, chip
from sw_stack.compiler.projection_program import projection_program
from sw_stack.reports.terminal import console, table

OUTPUTS = 1024
TOKENS = (16, 64, 256)


def most_blocks(sizes: ChipParams, mode: str, tokens: int) -> int:
    """Token blocks at once: as many as chains, result slots and tokens allow."""
    slices = 2 if mode == "full" else 1
    fits = min(sizes.array.chains // slices, sizes.pe.rt_rows // (2 * sizes.array.rows * slices), 4)
    return min(fits, tokens // sizes.array.rows)


def measure(sizes: ChipParams, mode: str, tokens: int) -> tuple[int, int, dict[str, int], int]:
    """(blocks, cycles, counters, slice MACs) of a projection whose K just fits AL."""
    blocks = most_blocks(sizes, mode, tokens)
    inputs = 32 * (sizes.pe.al_groups // blocks)
    rng = np.random.default_rng(0)
    weights = QuantizedWeights(
        rng.integers(-127, 128, (OUTPUTS, inputs), np.int8), np.ones((OUTPUTS, inputs // 32), np.float16)
    )
    activations = QuantizedActivations(rng.integers(-127, 128, (tokens, inputs), np.int8), np.ones(tokens, np.float32))
    result = fast(projection_program(sizes, weights, activations, mode=mode, blocks=blocks))
    macs = tokens * OUTPUTS * inputs * (2 if mode == "full" else 1)
    return blocks, result.cycles, result.counters, macs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chip", default="4gb")
    published = chip(parser.parse_args().chip)
    unshared = dataclasses.replace(published, array=dataclasses.replace(published.array, dots_per_fp32=1))
    rows = table(
        "s", "mode", "tokens", "blocks", "cycles", "slice MACs / cycle", "% of peak", "array", "HB", "stream", "vector"
    )
    for sizes in (published, unshared):
        for mode in ("draft", "full"):
            for tokens in TOKENS:
                blocks, cycles, counters, macs = measure(sizes, mode, tokens)
                busy = [f"{counters[f'{u}_busy_cycles'] / cycles:.0%}" for u in ("array", "hb", "stream", "vector")]
                shared = sizes.array.dots_per_fp32
                rows.add_row(
                    f"{shared}" + (" (variant)" if sizes is unshared else ""),
                    mode,
                    f"{tokens}",
                    f"{blocks}",
                    f"{cycles:,}",
                    f"{macs / cycles:,.0f}",
                    f"{macs / cycles / sizes.array.slice_macs:.1%}",
                    *busy,
                )
    console().print(rows)


if __name__ == "__main__":
    main()
