"""The largest absolute value of a row."""

from amaranth.hdl import Const, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa.vector_timing import maximum_stages
from hw.params import ChipParams
from hw.pe.vector.fp32_compare import canonical_magnitude
from hw.pipeline import cut, spread


class RowMaximum(wiring.Component):
    """``maximum`` of the magnitudes, the canonical NaN where one is NaN.

    A tree of integer comparisons, since magnitudes with one NaN are ordered as integers. Latency ``latency`` cycles, a
    row a cycle.

    Members
    -------
    magnitudes : In, columns x 31
        FP32 bits without their signs.
    maximum : Out, 32
        FP32 bits.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        super().__init__({"magnitudes": In(data.ArrayLayout(31, chip.array.columns)), "maximum": Out(32)})

    @property
    def latency(self) -> int:
        """Cycles from ``magnitudes`` to ``maximum``."""
        return maximum_stages(self._chip)

    def elaborate(self, platform):
        m = Module()
        columns = self._chip.array.columns
        levels = (columns - 1).bit_length()  # a power of two of columns
        cuts = spread(self.latency, levels)
        heads = [canonical_magnitude(self.magnitudes[c]) for c in range(columns)]
        for level in range(1, levels + 1):
            pairs = zip(heads[::2], heads[1::2], strict=True)
            winners = {f"level_{level}_{i}": Mux(a < b, b, a) for i, (a, b) in enumerate(pairs)}
            heads = list(vars(cut(m, Const(1), level in cuts, **winners)).values())
        if not levels:  # a single column: nothing to compare, but the row still takes its cycle
            heads = [cut(m, Const(1), True, only=heads[0]).only]
        m.d.comb += self.maximum.eq(heads[0])
        return m
