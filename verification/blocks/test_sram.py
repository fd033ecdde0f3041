"""SRAM wrapper: the ports of a real SRAM, and nothing that a macro could not do."""

import pytest
from amaranth.hdl import Fragment
from amaranth.hdl._ir import Instance
from amaranth.sim import Simulator

from hw.memory.sram import SharedSram, Sram


def _run(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def test_reads_take_a_cycle_and_hold():
    """A word comes one cycle after its address, stays until the next read, and is old where written meanwhile."""
    dut = Sram(16, 32)

    async def bench(ctx):
        write, read = dut.write, dut.read
        ctx.set(write.en, 1)
        for address in range(16):
            ctx.set(write.addr, address)
            ctx.set(write.data, 0x100 + address)
            await ctx.tick()
        ctx.set(read.en, 1)
        ctx.set(read.addr, 5)
        ctx.set(write.addr, 5)
        ctx.set(write.data, 0xABC)
        await ctx.tick()
        assert ctx.get(read.data) == 0x105  # written in the same cycle: old value
        ctx.set(read.en, 0)
        ctx.set(read.addr, 6)
        ctx.set(write.data, 0xDEF)
        await ctx.tick()
        assert ctx.get(read.data) == 0x105  # no read: it stays
        ctx.set(read.en, 1)
        ctx.set(read.addr, 5)
        ctx.set(write.en, 0)
        await ctx.tick()
        assert ctx.get(read.data) == 0xDEF

    _run(dut, bench)


def test_granules_are_written_alone():
    """Each bit of ``en`` writes its granule and no other; both copies of a shared memory see it."""
    dut = SharedSram(2, 8, 32, 8)

    async def bench(ctx):
        expected = [0x44332211] * 8
        ctx.set(dut.write.en, 0b1111)
        ctx.set(dut.write.data, 0x44332211)
        for address in range(8):
            ctx.set(dut.write.addr, address)
            await ctx.tick()
        for mask in range(16):
            address, word = mask % 8, 0x01010101 * (0xA0 + mask)
            ctx.set(dut.write.en, mask)
            ctx.set(dut.write.addr, address)
            ctx.set(dut.write.data, word)
            await ctx.tick()
            bits = sum(0xFF << 8 * i for i in range(4) if mask >> i & 1)
            expected[address] = expected[address] & ~bits | word & bits
        ctx.set(dut.write.en, 0)
        for address in range(8):
            for i, port in enumerate(dut.reads):
                ctx.set(port.en, 1)
                ctx.set(port.addr, address if i == 0 else 7 - address)
            await ctx.tick()
            assert ctx.get(dut.reads[0].data) == expected[address]
            assert ctx.get(dut.reads[1].data) == expected[7 - address]

    _run(dut, bench)


def test_macro_is_one_instance():
    """With macros the wrapper holds nothing but one instance, whose name tells its size."""
    fragment = Fragment.get(Sram(64, 128, 32, macro=True), None)
    assert isinstance(fragment.subfragments[0][0], Instance)
    assert len(fragment.subfragments) == 1
    assert fragment.subfragments[0][0].type == "sram_64x128_by_32_macro"
    assert not fragment.statements


def test_granule_must_divide_the_word():
    """A granule that does not divide the word is refused."""
    with pytest.raises(ValueError, match="granule 24 does not divide a word of 32 bits"):
        Sram(8, 32, 24)
