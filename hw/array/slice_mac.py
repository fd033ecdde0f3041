"""The multiplier of the bit-sliced array: one slice operand times one activation.

A stored 4-bit weight code reaches the multiplier as a 5-bit signed operand (2h, 2h + 1, l or 2 x E2M1; see
`hw.array.weight_feed`), so one multiplier serves every mode.
"""

from amaranth.hdl import Module, signed
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated
from hw.params import ArrayParams


class SliceMac(Repeated):
    """One slice product: ``product = operand * activation``; the sum is the dot unit's adder tree.

    Combinational (latency 0). Registers, accumulation and flow control are left to the dot unit.

    Parameters
    ----------
    params : ArrayParams

    Members
    -------
    operand : In, signed(operand_bits)
        Weight slice operand, -16 .. 15.
    activation : In, signed(activation_bits)
        Activation, -128 .. 127.
    product : Out, signed(product_bits)
        Exact product; the extremes -16 x -128 = 2048 and -16 x 127 = -2032 fit.
    """

    clocked = False

    def __init__(self, params: ArrayParams):
        self.module_name = f"slice_mac_{params.operand_bits}x{params.activation_bits}"
        super().__init__(
            {
                "operand": In(signed(params.operand_bits)),
                "activation": In(signed(params.activation_bits)),
                "product": Out(signed(params.product_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(self.operand * self.activation)
        return m
