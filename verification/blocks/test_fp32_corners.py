"""Fp32Adder: sums that injected faults showed to be missing elsewhere, worked by hand."""

import pytest
from amaranth.sim import Simulator

from hw.array.fp32 import Fp32Adder
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
