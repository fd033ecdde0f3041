"""The DRAM clock as an enable on the logic clock: tick k lies at logic cycle ceil(k x num / den)."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.timing import HbClocks


class TickGenerator(wiring.Component):
    """Marks the logic cycles that carry an edge of a slower clock, phase zero at reset.

    With r = (cycle x den) mod num, cycle is ceil(k x num / den) for some k exactly where r < den: one adder
    modulo num. The first cycle after reset is tick 0.

    Parameters
    ----------
    clocks : HbClocks
        ``tick_num / tick_den`` logic cycles per tick, at least 1.

    Members
    -------
    tick : Out, 1
        High in the cycles that carry an edge.
    """

    def __init__(self, clocks: HbClocks):
        self._num, self._den = clocks.tick_num, clocks.tick_den
        super().__init__({"tick": Out(1)})

    def elaborate(self, platform):
        m = Module()
        remainder = Signal(range(self._num + self._den))
        following = Signal.like(remainder)
        m.d.comb += [
            following.eq(remainder + self._den),
            self.tick.eq(remainder < self._den),
        ]
        m.d.sync += remainder.eq(following)
        with m.If(following >= self._num):
            m.d.sync += remainder.eq(following - self._num)
        return m
