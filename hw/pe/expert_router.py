"""Top-k of a router's scores, over all experts and over the resident ones at once.

Order: higher score first, equal scores by lower expert number; -0 equals +0. The unrestricted selection is what
the target would route to and what hotness counts; the resident one is what a draft routes to.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated, add_repeated
from hw.params import RoutingParams

FP32_NAN_FLOOR = 0x7F800000  # magnitudes above are NaN


class ScoreBeat(data.StructLayout):
    """One expert's score, in ascending expert order from 0; ``last`` marks the token's last expert."""

    def __init__(self):
        super().__init__({"score": unsigned(32), "resident": 1, "last": 1})


class Selection(data.StructLayout):
    """Up to k experts in the router's order: ``count`` of them count."""

    def __init__(self, params: RoutingParams):
        super().__init__(
            {
                "experts": data.ArrayLayout(range(params.experts), params.top_k),
                "scores": data.ArrayLayout(unsigned(32), params.top_k),
                "count": range(params.top_k + 1),
            }
        )


class RoutedToken(data.StructLayout):
    """Both selections of a token; ``invalid`` where a score was NaN, which is never selected."""

    def __init__(self, params: RoutingParams):
        super().__init__({"all": Selection(params), "resident": Selection(params), "invalid": 1})


class SortedInsert(Repeated):
    """The k best of the keys offered since ``restart``, kept in order, one offer per cycle.

    An offer goes behind every entry with an equal or higher key, so of equal keys the earlier stays ahead.

    Members
    -------
    offer : In, 1
    restart : In, 1
        With an offer: it is the first of a new list.
    key : In, 32
        Unsigned order.
    score : In, 32
    expert : In, range(experts)
    selection : Out, Selection
        The list with the offers of all earlier cycles.
    """

    def __init__(self, params: RoutingParams):
        self._params = params
        self.module_name = f"sorted_insert_{params.top_k}_of_{params.experts}"
        super().__init__(
            {
                "offer": In(1),
                "restart": In(1),
                "key": In(32),
                "score": In(32),
                "expert": In(range(params.experts)),
                "selection": Out(Selection(params)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        k = self._params.top_k
        filled = Signal(k)  # entry i counts; ones from the bottom up
        keys = [Signal(32, name=f"key_{i}") for i in range(k)]
        experts = [Signal(range(self._params.experts), name=f"expert_{i}") for i in range(k)]
        scores = [Signal(32, name=f"score_{i}") for i in range(k)]

        # ahead[i]: entry i stays before the offer. Ones from the bottom up, since entries are in order.
        live = Mux(self.restart, 0, filled)
        ahead = Signal(k)
        m.d.comb += ahead.eq(Cat(live[i] & (keys[i] >= self.key) for i in range(k)))
        with m.If(self.offer):
            m.d.sync += filled.eq((live << 1) | 1)
            for i in range(k):
                with m.If(~ahead[i]):
                    if i > 0:
                        with m.If(~ahead[i - 1]):
                            m.d.sync += [
                                keys[i].eq(keys[i - 1]),
                                experts[i].eq(experts[i - 1]),
                                scores[i].eq(scores[i - 1]),
                            ]
                    with m.If(ahead[i - 1] if i > 0 else 1):
                        m.d.sync += [keys[i].eq(self.key), experts[i].eq(self.expert), scores[i].eq(self.score)]

        m.d.comb += self.selection.count.eq(sum(filled[i] for i in range(k)))
        for i in range(k):
            m.d.comb += [self.selection.experts[i].eq(experts[i]), self.selection.scores[i].eq(scores[i])]
        return m


class ExpertRouter(wiring.Component):
    """Selects while scores stream in; one expert per cycle, a token's selections one cycle after its last score.

    While a result waits, no score is taken. What the weights of the selected experts are (softmax, renormalisation)
    is left to the host; the scores are passed on for it.

    Parameters
    ----------
    params : RoutingParams

    Members
    -------
    scores : In, stream of ScoreBeat
        FP32 bits of any monotone router score; 1 to ``experts`` beats per token. Beats beyond ``experts`` are
        dropped and mark the token invalid.
    routed : Out, stream of RoutedToken
    """

    def __init__(self, params: RoutingParams):
        self._params = params
        super().__init__(
            {"scores": In(stream.Signature(ScoreBeat())), "routed": Out(stream.Signature(RoutedToken(params)))}
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        beat, out = self.scores.payload, self.routed.payload

        # An unsigned key in score order: flip all bits of negatives, the sign bit of the others; -0 becomes +0.
        magnitude, negative = beat.score[:31], beat.score[31] & (beat.score[:31] != 0)
        key = Mux(negative, ~beat.score, Cat(magnitude, 1))
        is_nan = magnitude > FP32_NAN_FLOOR

        taken = Signal()
        started = Signal()
        expert = Signal(range(p.experts + 1))
        offer = Signal()
        invalid = Signal()
        m.d.comb += [
            self.scores.ready.eq(~self.routed.valid | self.routed.ready),
            taken.eq(self.scores.valid & self.scores.ready),
            offer.eq(taken & ~is_nan & (expert < p.experts)),
        ]

        # Each list restarts with the token's first offer of its own.
        for name, wanted in (("all", offer), ("resident", offer & beat.resident)):
            chooser = SortedInsert(p)
            add_repeated(m, f"choose_{name}", chooser, platform)
            fresh = Signal(init=1, name=f"fresh_{name}")
            with m.If(taken & beat.last):
                m.d.sync += fresh.eq(1)
            with m.Elif(wanted):
                m.d.sync += fresh.eq(0)
            empty = Signal(name=f"empty_{name}")  # the finished token offered nothing
            with m.If(taken & beat.last):
                m.d.sync += empty.eq(fresh & ~wanted)
            m.d.comb += [
                chooser.offer.eq(wanted),
                chooser.restart.eq(fresh),
                chooser.key.eq(key),
                chooser.score.eq(beat.score),
                chooser.expert.eq(expert),
                out[name].eq(chooser.selection),
            ]
            with m.If(empty):
                m.d.comb += out[name].count.eq(0)

        # Count experts and finish tokens.
        m.d.comb += out.invalid.eq(invalid)
        with m.If(self.routed.valid & self.routed.ready):
            m.d.sync += self.routed.valid.eq(0)
        with m.If(taken):
            bad = is_nan | (expert >= p.experts)
            m.d.sync += [
                invalid.eq(Mux(started, invalid, 0) | bad),
                started.eq(~beat.last),
                expert.eq(Mux(beat.last, 0, Mux(expert < p.experts, expert + 1, expert))),
                self.routed.valid.eq(beat.last),
            ]
        return m
