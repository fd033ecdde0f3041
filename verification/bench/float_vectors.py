"""FP32 operands that force what random ones miss, and a driver for pipelined arithmetic units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from amaranth.lib import wiring
from amaranth.sim import Simulator

NAN = 0x7FC00000


def run_pipeline(
    dut: wiring.Component, columns: Mapping[str, np.ndarray], output: str, seed: int | None = None
) -> list[int]:
    """``output`` for each vector of ``columns`` (input port -> values) after ``dut.latency`` advances.

    With ``seed``, ``advance`` is low in random cycles; a unit without ``advance`` takes one vector a cycle.
    """
    count = len(next(iter(columns.values())))
    rng = np.random.default_rng(seed)
    results: list[int] = []

    async def bench(ctx):
        accepted = 0
        while accepted < count + dut.latency:
            if accepted < count:
                for name, values in columns.items():
                    ctx.set(getattr(dut, name), int(values[accepted]))
            go = seed is None or rng.random() < 0.6
            if hasattr(dut, "advance"):
                ctx.set(dut.advance, int(go))
            if go:
                if accepted >= dut.latency:
                    results.append(ctx.get(getattr(dut, output)))
                accepted += 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def canonical_bits(values: np.ndarray) -> np.ndarray:
    """FP32 bits of float32 ``values``, every NaN the canonical one."""
    return np.where(np.isnan(values), np.uint32(NAN), values.astype(np.float32).view(np.uint32))


_FIELDS = [0, 1, 2, 3, 24, 25, 26, 27, 63, 64, 100, 124, 125, 126, 127, 128, 130, 131, 190, 191, 253, 254, 255]
_FRACTIONS = [0, 1, 2, 3, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFE, 0x7FFFFF]


def hard_values(count: int, rng: np.random.Generator) -> np.ndarray:
    """uint32 bits: fields and fractions at the edges of every case, mixed with random ones."""
    field = np.where(rng.random(count) < 0.6, rng.choice(_FIELDS, count), rng.integers(0, 256, count))
    fraction = np.where(rng.random(count) < 0.4, rng.choice(_FRACTIONS, count), rng.integers(0, 1 << 23, count))
    return (rng.integers(0, 2, count) << 31 | field << 23 | fraction).astype(np.uint32)
