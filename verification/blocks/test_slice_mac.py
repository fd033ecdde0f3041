"""SliceMac behind WeightDecoder: every product of every mode."""

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.sim import Simulator

from cycle_model.formats import slice_operand
from hw.array.slice_mac import SliceMac
from hw.array.weight_feed import WeightDecoder
from hw.isa import WeightMode
from hw.params import ArrayParams

PARAMS = ArrayParams(rows=1, columns=1, depth=16)  # 16 lanes: all 16 codes at once

# The contract's table, written out by hand: operand of code 0..15.
OPERANDS = {
    WeightMode.MSB: [0, 2, 4, 6, 8, 10, 12, 14, -16, -14, -12, -10, -8, -6, -4, -2],
    WeightMode.LSB: list(range(16)),
    WeightMode.DRAFT: [1, 3, 5, 7, 9, 11, 13, 15, -15, -13, -11, -9, -7, -5, -3, -1],
    WeightMode.MXFP4: [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12],
}


class DecodedMacs(Elaboratable):
    """One decoder and a MAC per lane."""

    def __init__(self):
        self.decoder = WeightDecoder(PARAMS)
        self.macs = [SliceMac(PARAMS) for _ in range(16)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = self.decoder
        for k, mac in enumerate(self.macs):
            m.submodules[f"mac_{k}"] = mac
            m.d.comb += mac.operand.eq(self.decoder.operands[k])
        return m


@pytest.mark.parametrize("mode", WeightMode)
def test_every_product(mode):
    """All 16 codes x 256 activations: operand as the contract's table says, product exact in its width."""
    dut = DecodedMacs()
    compared = 0

    async def bench(ctx):
        nonlocal compared
        ctx.set(dut.decoder.mode, mode)
        ctx.set(dut.decoder.codes, list(range(16)))
        for activation in range(-128, 128):
            for mac in dut.macs:
                ctx.set(mac.activation, activation)
            await ctx.delay(1e-9)
            for code, mac in enumerate(dut.macs):
                assert ctx.get(mac.product) == OPERANDS[mode][code] * activation, (mode, code, activation)
                compared += 1

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    assert compared == 16 * 256


@pytest.mark.parametrize("mode", WeightMode)
def test_functional_operands(mode):
    """The functional model's operands equal the same hand-written table."""
    assert slice_operand(np.arange(16, dtype=np.uint8), mode).tolist() == OPERANDS[mode]


def test_slices_recombine():
    """For every weight q and activation a: 8 (2h) a + l a = q a, and 8 (2h + 1) a = (16 h + 8) a."""
    q = np.arange(-128, 128)[:, None]
    a = np.arange(-128, 128)[None, :]
    msb = np.array(OPERANDS[WeightMode.MSB])[(q >> 4) & 15]
    lsb = np.array(OPERANDS[WeightMode.LSB])[q & 15]
    draft = np.array(OPERANDS[WeightMode.DRAFT])[(q >> 4) & 15]
    assert (8 * msb * a + lsb * a == q * a).all()
    assert (8 * draft * a == (16 * (q >> 4) + 8) * a).all()
