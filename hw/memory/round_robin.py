"""Round-robin choice between requesters."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grants the next requester in circular order after the one granted last.

    A requester that keeps asking is passed over at most ``count - 1`` times: each grant to another one brings it
    nearer to the front.

    Parameters
    ----------
    count : int
        Requesters, at least 1.

    Members
    -------
    requests : In, count
        Who asks.
    advance : In, 1
        The choice is taken; the next one starts behind it.
    grant : Out, range(count)
        The choice, in the same cycle.
    valid : Out, 1
        Somebody asks.
    """

    def __init__(self, count: int):
        self._count = count
        super().__init__({"requests": In(count), "advance": In(1), "grant": Out(range(max(count, 2))), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        last = Signal(range(max(self._count, 2)), init=self._count - 1)
        m.d.comb += self.valid.eq(self.requests.any())
        with m.Switch(last):
            for previous in range(self._count):
                with m.Case(previous):
                    choice = previous
                    for distance in reversed(range(1, self._count)):
                        candidate = (previous + distance) % self._count
                        choice = Mux(self.requests[candidate], candidate, choice)
                    m.d.comb += self.grant.eq(choice)
        with m.If(self.advance & self.valid):
            m.d.sync += last.eq(self.grant)
        return m
