"""Bookkeeping of refreshes: how many are owed, and when one cannot wait any longer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.timing import MAX_POSTPONED, HbClocks


class RefreshScheduler(wiring.Component):
    """Counts the refreshes owed: one more every nREFI ticks, one less per refresh issued.

    At tick k, ``owed`` is floor(k / nREFI) minus the refreshes issued at earlier ticks. When to serve them is
    the controller's choice, between three degrees:

    - ``owed`` above zero: an idle bank may refresh;
    - ``due``: more than ``postpone`` are owed, so a row boundary must refresh;
    - ``urgent``: 8 are owed and the ninth comes before a row that is open now could be closed later.

    Parameters
    ----------
    clocks : HbClocks
    postpone : int
        Refreshes that may stay owed at a row boundary, 0 to 7.

    Members
    -------
    tick : In, 1
        DRAM clock edge.
    issued : In, 1
        A refresh is issued on this tick.
    owed : Out, 4
        Refreshes owed, at most 8 under a controller that heeds ``urgent``.
    due, urgent : Out, 1
        As above.
    """

    def __init__(self, clocks: HbClocks, postpone: int):
        self._clocks = clocks
        self._postpone = postpone
        super().__init__({"tick": In(1), "issued": In(1), "owed": Out(4), "due": Out(1), "urgent": Out(1)})

    def elaborate(self, platform):
        m = Module()
        clocks = self._clocks
        elapsed = Signal(range(clocks.nREFI))
        interval_ends = Signal()
        m.d.comb += [
            interval_ends.eq(elapsed == clocks.nREFI - 1),
            self.due.eq(self.owed > self._postpone),
            self.urgent.eq((self.owed >= MAX_POSTPONED) & (elapsed >= clocks.nREFI - clocks.close_clocks)),
        ]
        with m.If(self.tick):
            m.d.sync += [
                elapsed.eq(elapsed + 1),
                self.owed.eq(self.owed + interval_ends - self.issued),
            ]
            with m.If(interval_ends):
                m.d.sync += elapsed.eq(0)
        return m
