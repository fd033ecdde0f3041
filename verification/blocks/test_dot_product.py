"""DotProduct: exact sums, stated latency, holding while it does not advance."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.array.dot_product import DotProduct, dot_latency
from hw.params import ArrayParams

SIZES = [(2, 1), (4, 2), (8, 1), (8, 2), (32, 2), (32, 5)]  # depth, tree levels per register


def _params(depth: int, levels: int) -> ArrayParams:
    return ArrayParams(rows=1, columns=1, depth=depth, group_size=64, tree_levels_per_stage=levels)


def _run(dut: DotProduct, operands: np.ndarray, activations: np.ndarray, advance: np.ndarray) -> list[int]:
    """``dot`` before each clock edge, one beat offered per cycle."""
    seen = []

    async def bench(ctx):
        for o, a, go in zip(operands, activations, advance, strict=True):
            ctx.set(dut.operands, o.tolist())
            ctx.set(dut.activations, a.tolist())
            ctx.set(dut.advance, int(go))
            seen.append(ctx.get(dut.dot))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize(("depth", "levels"), SIZES)
def test_random_beats_and_holds(depth, levels):
    """Random beats with random holds: output i is the exact dot product of the i-th accepted beat."""
    rng = np.random.default_rng(depth * 8 + levels)
    cycles = 300
    dut = DotProduct(_params(depth, levels))
    operands = rng.integers(-16, 16, (cycles, depth))
    activations = rng.integers(-128, 128, (cycles, depth))
    advance = rng.random(cycles) < 0.7
    seen = _run(dut, operands, activations, advance)
    accepted = np.flatnonzero(advance)
    exact = (operands * activations).sum(axis=1)
    compared = 0
    for n, cycle in enumerate(accepted[: -dut.latency]):
        out = accepted[n + dut.latency - 1] + 1  # visible after `latency` advances, until the next
        if out < cycles:
            assert seen[out] == exact[cycle], f"beat {n}"
            compared += 1
    assert compared > 150


@pytest.mark.parametrize(("depth", "levels"), SIZES)
@pytest.mark.parametrize(("operand", "activation"), [(-16, -128), (-16, 127), (15, -128), (15, 127)])
def test_extremes_fit(depth, levels, operand, activation):
    """All lanes at an end of both ranges: the sum has its exact value, so no width overflows."""
    dut = DotProduct(_params(depth, levels))
    cycles = dut.latency + 1
    ones = np.ones((cycles, depth), int)
    seen = _run(dut, ones * operand, ones * activation, np.ones(cycles, bool))
    assert seen[-1] == depth * operand * activation


@pytest.mark.parametrize(
    ("depth", "levels", "latency"), [(2, 1, 2), (2, 2, 2), (8, 1, 4), (8, 2, 3), (32, 2, 4), (32, 5, 2), (64, 2, 4)]
)
def test_latency(depth, levels, latency):
    """Latency worked by hand: one product register, then ceil(log2(depth) / levels) tree registers."""
    assert dot_latency(_params(depth, levels)) == latency
