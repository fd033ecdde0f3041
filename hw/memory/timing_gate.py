"""One timing parameter of the DRAM as hardware: a counter that keeps a command back."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class TimingGate(wiring.Component):
    """Closed from the tick of ``start`` until ``clocks`` ticks later, when it is open again.

    A command at tick k that pulses ``start`` lets the guarded command pass at tick k + clocks and not before.
    A start while closed begins anew.

    Parameters
    ----------
    clocks : int
        Distance in DRAM clocks, at least 1.

    Members
    -------
    tick : In, 1
        DRAM clock edge.
    start : In, 1
        The earlier command is issued; only looked at on a tick.
    open : Out, 1
        The later command may be issued on this tick. Open after reset.
    """

    def __init__(self, clocks: int):
        self._clocks = clocks
        super().__init__({"tick": In(1), "start": In(1), "open": Out(1)})

    def elaborate(self, platform):
        m = Module()
        remaining = Signal(range(max(self._clocks, 2)))
        m.d.comb += self.open.eq(remaining == 0)
        with m.If(self.tick):
            with m.If(self.start):
                m.d.sync += remaining.eq(self._clocks - 1)
            with m.Elif(~self.open):
                m.d.sync += remaining.eq(remaining - 1)
        return m
