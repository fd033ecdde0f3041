"""Fp32Adder and ScaleMultiplier: values that injected faults showed to be missing elsewhere, worked by hand."""

import pytest
from amaranth.sim import Simulator

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.params import ArrayParams

# (a, b, a + b) as FP32 bits.
ADDITIONS = [
    # In units of a's last place, hexadecimal: 0xFFFFFF + 0x800801 / 2^10 = 0xFFFFFF + 0x2002.004
    # = 0x1002001.004: one place right 0x801000.8 and a little, so up to 0x801001. Only the bit below the two places
    # that a carry moves past the guard bit tells this from a tie, which would stay at 0x801000.
    (0x3FFFFFFF, 0x3A800801, 0x40001001),
    (0xBFFFFFFF, 0xBA800801, 0xC0001001),
    # The same without the little: 0x801000.8 is a tie and stays even.
    (0x3FFFFFFF, 0x3A800800, 0x40001000),
]


@pytest.mark.parametrize(("a", "b", "total"), ADDITIONS)
def test_sticky_bit_survives_a_carry(a, b, total):
    """After a carry the last sticky place still decides between a tie and more than a tie."""
    dut = Fp32Adder(ArrayParams(rows=1, columns=1, depth=2, add_stages=1))

    async def bench(ctx):
        for first, second in ((a, b), (b, a)):
            ctx.set(dut.a, first)
            ctx.set(dut.b, second)
            ctx.set(dut.advance, 1)
            await ctx.tick()
            assert ctx.get(dut.total) == total

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("e8m0", [0, 1])
def test_most_negative_dot(e8m0):
    """-2^17 x 1: the one 18-bit number whose magnitude needs all 18 bits."""
    dut = ScaleMultiplier(ArrayParams(rows=1, columns=1, depth=32, scale_stages=1))

    async def bench(ctx):
        ctx.set(dut.dot, -(1 << 17))
        ctx.set(dut.scale, 128 if e8m0 else 0x3C00)
        ctx.set(dut.e8m0, e8m0)
        ctx.set(dut.advance, 1)
        await ctx.tick()
        assert ctx.get(dut.product) == 0xC8000000

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
