"""The HOST unit: asks the host for an operation and waits for its answer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.params import PeParams
from hw.pe.instruction import OPERAND_BITS
from hw.pe.unit import unit_members


class HostRequest(data.StructLayout):
    """Operation ``a`` with arguments ``b`` and ``d``."""

    def __init__(self):
        super().__init__({"a": OPERAND_BITS, "b": OPERAND_BITS, "d": OPERAND_BITS})


class HostUnit(wiring.Component):
    """Offers its request from the cycle after its start; done in the cycle of the answer.

    Parameters
    ----------
    params : PeParams

    Members
    -------
    go, command, done, error
        As of `unit_members`; there are no wrong operands.
    request : Out, stream of HostRequest
    answer : In, 1
        The oldest request taken, or the one that is taken now, has been carried out.
    """

    def __init__(self, params: PeParams):
        super().__init__(unit_members(params) | {"request": Out(stream.Signature(HostRequest())), "answer": In(1)})

    def elaborate(self, platform):
        m = Module()
        asking, asked = Signal(), Signal()
        taken = asking & self.request.ready
        m.d.comb += [self.request.valid.eq(asking), self.done.eq((taken | asked) & self.answer)]
        with m.If(self.go):
            m.d.sync += [
                asking.eq(1),
                self.request.payload.a.eq(self.command.a),
                self.request.payload.b.eq(self.command.b),
                self.request.payload.d.eq(self.command.d),
            ]
        with m.Elif(taken):
            m.d.sync += asking.eq(0)
        with m.If(self.done):
            m.d.sync += asked.eq(0)
        with m.Elif(taken):
            m.d.sync += asked.eq(1)
        return m
