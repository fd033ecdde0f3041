"""FP32 to INT8: the nearest integer, ties to even, clipped to -127 .. 127; NaN becomes 0."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated
from hw.pe.vector.fp32_compare import is_nan
from hw.pipeline import cut

LARGEST = 127
_HALF_FIELD = 126  # exponent field of 0.5: below it everything rounds to 0
_BEYOND_FIELD = 127 + 7  # of 128


class Int8Rounder(Repeated):
    """``rounded = clip(rne(value))``. Latency 1 advance, throughput one per advance.

    Members
    -------
    value : In, 32
        FP32 bits.
    advance : In, 1
    rounded : Out, signed(8)
        -127 to 127.
    """

    module_name = "int8_rounder"
    latency = 1

    def __init__(self):
        super().__init__({"value": In(32), "advance": In(1), "rounded": Out(signed(8))})

    def elaborate(self, platform):
        m = Module()
        field = self.value[23:31]
        fixed = Signal(32)  # the magnitude in units of 2^-24, for fields from 0.5's to 64's
        magnitude = Signal(8)
        clipped = Signal(7)
        m.d.comb += [
            fixed.eq((self.value[:23] | 1 << 23) << (field - _HALF_FIELD)[:3]),
            magnitude.eq(fixed[24:] + (fixed[23] & (fixed[:23].any() | fixed[24]))),
            clipped.eq(Mux(magnitude > LARGEST, LARGEST, magnitude)),
        ]
        with m.If(is_nan(self.value) | (field < _HALF_FIELD)):
            m.d.comb += clipped.eq(0)
        with m.Elif(field >= _BEYOND_FIELD):
            m.d.comb += clipped.eq(LARGEST)
        result = Mux(self.value[31], -clipped, clipped)
        m.d.comb += self.rounded.eq(cut(m, self.advance, True, result=result).result[:8].as_signed())
        return m
