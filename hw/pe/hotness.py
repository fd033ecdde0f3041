"""Hotness: how often each expert of each layer was routed to, and the set that should be resident next."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.params import RoutingParams


class HotnessOperation(IntEnum):
    """What a command does to one layer: CLEAR its counters, or SELECT its hot set."""

    CLEAR = 0
    SELECT = 1


class RoutedExpert(data.StructLayout):
    """One expert that a token was routed to."""

    def __init__(self, params: RoutingParams):
        super().__init__({"layer": range(params.layers), "expert": range(params.experts)})


class HotnessCommand(data.StructLayout):
    """``operation`` on ``layer``; SELECT takes the ``budget`` most counted experts."""

    def __init__(self, params: RoutingParams):
        super().__init__(
            {"operation": HotnessOperation, "layer": range(params.layers), "budget": range(params.experts + 1)}
        )


class HotSet(data.StructLayout):
    """Bit e of ``members``: expert e of ``layer`` should be resident."""

    def __init__(self, params: RoutingParams):
        super().__init__({"layer": range(params.layers), "members": unsigned(params.experts)})


def select_cycles(params: RoutingParams) -> int:
    """Cycles from the transfer of a SELECT to its hot set being offered, whatever counts and budget are."""
    return (params.counter_bits + 2) * (params.experts + 1) + 1


class Hotness(wiring.Component):
    """Saturating counters in one memory, and selection of the most counted.

    An event takes 2 cycles (read, write). CLEAR takes ``experts`` cycles. SELECT takes `select_cycles`: it finds the
    budget-th largest count bit by bit, one pass over the layer per bit, counts the experts above it in one more pass,
    and marks members in the last: all above, then those equal to it by ascending number until the budget is used.
    Commands go before events. Reset does not clear the counters; CLEAR does.

    Parameters
    ----------
    params : RoutingParams

    Members
    -------
    events : In, stream of RoutedExpert
    commands : In, stream of HotnessCommand
    hot_sets : Out, stream of HotSet
        One per SELECT, in order.
    """

    def __init__(self, params: RoutingParams):
        self._params = params
        super().__init__(
            {
                "events": In(stream.Signature(RoutedExpert(params))),
                "commands": In(stream.Signature(HotnessCommand(params))),
                "hot_sets": Out(stream.Signature(HotSet(params))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        m.submodules.counters = counters = Memory(shape=unsigned(p.counter_bits), depth=p.experts * p.layers, init=[])
        read, write = counters.read_port(), counters.write_port()
        out = self.hot_sets.payload

        layer = Signal(range(p.layers))
        expert = Signal(range(p.experts + 1))
        base = layer * p.experts
        budget = Signal(range(p.experts + 1))
        bit = Signal(range(p.counter_bits), init=p.counter_bits - 1)
        threshold = Signal(p.counter_bits)
        tally = Signal(range(p.experts + 1))  # experts of this pass that reach the trial, or members so far
        members = Signal(p.experts)

        # A pass reads expert 0 first and judges expert n - 1 while reading n: experts + 1 cycles.
        judged = read.data
        judging = expert != 0
        pass_end = expert == p.experts
        trial = threshold | (1 << bit)[: p.counter_bits]
        m.d.comb += [read.addr.eq(base + expert), out.layer.eq(layer), out.members.eq(members)]
        m.d.comb += read.en.eq(1)

        with m.FSM():
            with m.State("idle"):
                with m.If(self.commands.valid):
                    command = self.commands.payload
                    m.d.comb += self.commands.ready.eq(1)
                    m.d.sync += [
                        layer.eq(command.layer),
                        budget.eq(command.budget),
                        expert.eq(0),
                        tally.eq(0),
                        threshold.eq(0),
                        bit.eq(p.counter_bits - 1),
                        members.eq(0),
                    ]
                    with m.If(command.operation == HotnessOperation.CLEAR):
                        m.next = "clear"
                    with m.Else():
                        m.next = "threshold"
                with m.Elif(self.events.valid):  # read the counter; the event itself is taken with the write
                    m.d.comb += read.addr.eq(self.events.payload.layer * p.experts + self.events.payload.expert)
                    m.next = "count"

            with m.State("count"):
                m.d.comb += [
                    self.events.ready.eq(1),
                    write.addr.eq(self.events.payload.layer * p.experts + self.events.payload.expert),
                    write.data.eq(Mux(judged.all(), judged, judged + 1)),
                    write.en.eq(1),
                ]
                m.next = "idle"

            with m.State("clear"):
                m.d.comb += [write.addr.eq(base + expert), write.data.eq(0), write.en.eq(1)]
                m.d.sync += expert.eq(expert + 1)
                with m.If(expert == p.experts - 1):
                    m.next = "idle"

            with m.State("threshold"):  # the largest value that at least `budget` experts reach, bit by bit
                reached = Signal.like(tally)
                m.d.comb += reached.eq(tally + (judging & (judged >= trial)))
                m.d.sync += [expert.eq(expert + 1), tally.eq(reached)]
                with m.If(pass_end):
                    m.d.sync += [expert.eq(0), tally.eq(0), bit.eq(bit - 1)]
                    with m.If(reached >= budget):
                        m.d.sync += threshold.eq(trial)
                    with m.If(bit == 0):
                        m.next = "above"

            with m.State("above"):  # how many exceed it: they are all members
                m.d.sync += [expert.eq(expert + 1), tally.eq(tally + (judging & (judged > threshold)))]
                with m.If(pass_end):
                    m.d.sync += expert.eq(0)
                    m.next = "mark"

            with m.State("mark"):  # those equal to it follow by number while there is room
                above, equal = judging & (judged > threshold), judging & (judged == threshold) & (tally < budget)
                m.d.sync += [expert.eq(expert + 1), tally.eq(tally + equal)]
                with m.If(judging):  # in from the top: expert 0 ends at bit 0
                    m.d.sync += members.eq(Cat(members[1:], (above & (budget != 0)) | equal))
                with m.If(pass_end):
                    m.next = "offer"

            with m.State("offer"):
                m.d.comb += self.hot_sets.valid.eq(1)
                with m.If(self.hot_sets.ready):
                    m.next = "idle"
        return m
