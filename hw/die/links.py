"""The links of the die: chunks of words from one source to any set of targets, on credits.

The stream link brings weights and slices to PEs (unicast, multicast, broadcast). The aggregation link is the same thing
between PEs, at a quarter of the pace, and can take the maximum of several sources on the way.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.memory.round_robin import RoundRobin
from hw.params.links import LinkParams


class ChunkHeader(data.StructLayout):
    """What a source wants to send next.

    targets  a bit for each
    words    1 to ``credit_words``
    reduce   the targets get, value by value, the greatest of the ``members``' words; every member sends such a header
    members  sources that take part, this one among them. Without ``reduce`` they take turns: each sends a chunk of its
             own, in ascending order, before any of them has another turn. 0: on its own
    """

    def __init__(self, params: LinkParams):
        super().__init__(
            {
                "targets": params.targets,
                "words": range(params.credit_words + 1),
                "reduce": 1,
                "members": params.sources,
            }
        )


class ChunkLink(wiring.Component):
    """Grants one chunk at a time, round robin among sources whose targets all have room for the whole chunk.

    A chunk once granted never waits for a target. Its first word can move in the cycle after the grant, the next ones
    ``cycles_per_word`` apart; the next grant can be in the cycle of its last word. A word is at its targets
    ``stages`` + 1 cycles after it moved. A reduction is granted when all members ask for it, and takes all their
    headers. Words of a reduction are FP32 values that are not negative (maxima of absolute values), so that their bits
    order them; the canonical NaN is the greatest. Members that take turns (an all-gather, whose pieces must arrive in
    order) wait for those before them; chunks of others pass meanwhile. Rounds of a link have the same members or none
    in common.

    A header with no words or more than a target can hold, without targets, or with members but without its own source
    is taken, sends nothing, and raises ``refused``.

    Parameters
    ----------
    params : LinkParams

    Members
    -------
    headers : In, array of streams of ChunkHeader
    words : In, array of streams of ``word_bits``
        A source's words, of all its chunks in order.
    out : Out, array of streams of ``word_bits``
        One for each target.
    grant : Out, 1
        A header is taken in this cycle, ``granted`` says whose.
    granted : Out, range(sources)
    refused : Out, 1
        Some header was wrong; stays.
    moved : Out, 32
        Words moved, for the link's utilisation; wraps.
    waits : Out, 32
        Cycles in which the link was free, somebody asked and nobody could be granted; wraps.
    """

    def __init__(self, params: LinkParams):
        self._params = params
        word = unsigned(params.word_bits)
        super().__init__(
            {
                "headers": In(stream.Signature(ChunkHeader(params))).array(params.sources),
                "words": In(stream.Signature(word)).array(params.sources),
                "out": Out(stream.Signature(word)).array(params.targets),
                "grant": Out(1),
                "granted": Out(range(max(params.sources, 2))),
                "refused": Out(1),
                "moved": Out(32),
                "waits": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        m.submodules.arbiter = arbiter = RoundRobin(p.sources)
        credits = [
            Signal(range(p.credit_words + 1), init=p.credit_words, name=f"credits_{i}") for i in range(p.targets)
        ]

        # The chunk under way -----------------------------------------------------------------------------------------
        chunk = Signal(ChunkHeader(p))
        senders = Signal(p.sources)  # whose words move together
        left = Signal(range(p.credit_words + 1))
        pace = Signal(range(p.cycles_per_word))
        offered = Cat(each.valid for each in self.words)
        move = Signal()
        free = Signal()
        m.d.comb += [
            move.eq((left != 0) & (pace == 0) & ((offered & senders) == senders)),
            free.eq((left == 0) | (move & (left == 1))),
        ]
        with m.If(move):
            m.d.sync += [left.eq(left - 1), pace.eq(p.cycles_per_word - 1), self.moved.eq(self.moved + 1)]
        with m.Elif(pace != 0):
            m.d.sync += pace.eq(pace - 1)

        # Grants ------------------------------------------------------------------------------------------------------
        asking = Cat(each.valid for each in self.headers)
        reducing = Cat(each.valid & each.payload.reduce for each in self.headers)
        served = Signal(p.sources)  # who had a turn in a round that is not over
        wrong, eligible = Signal(p.sources), Signal(p.sources)
        for i, each in enumerate(self.headers):
            head = each.payload
            room = Cat(~head.targets[t] | (credits[t] >= head.words) for t in range(p.targets)).all()
            together = ~head.reduce | ((reducing & head.members) == head.members)
            turn = head.reduce | ~head.members.any() | (~served[i] & ((head.members[:i] & ~served[:i]) == 0))
            outside = (head.words == 0) | (head.words > p.credit_words) | (head.targets == 0)
            m.d.comb += [
                wrong[i].eq(outside | ((head.reduce | head.members.any()) & ~head.members[i])),
                eligible[i].eq(each.valid & (wrong[i] | (room & together & turn))),
            ]
        header = Signal(ChunkHeader(p))
        refuse, begin = Signal(), Signal()
        one = Signal(p.sources)
        taken = Signal(p.sources)
        m.d.comb += [
            arbiter.requests.eq(eligible),
            arbiter.advance.eq(free),
            self.grant.eq(free & arbiter.valid),
            self.granted.eq(arbiter.grant),
            one.eq(1 << arbiter.grant),
            refuse.eq(self.grant & (wrong & one).any()),
            begin.eq(self.grant & ~refuse),
            taken.eq(Mux(begin & header.reduce, header.members, one) & self.grant.replicate(p.sources)),
        ]
        with m.Switch(arbiter.grant):
            for i, each in enumerate(self.headers):
                with m.Case(i):
                    m.d.comb += header.eq(each.payload)
        with m.If(begin):
            m.d.sync += [chunk.eq(header), senders.eq(taken), left.eq(header.words)]
            with m.If(header.members.any() & ~header.reduce):
                over = (header.members & ~(served | one)) == 0
                m.d.sync += served.eq(Mux(over, served & ~header.members, served | one))
        with m.If(refuse):
            m.d.sync += self.refused.eq(1)
        with m.If(free & asking.any() & ~self.grant):
            m.d.sync += self.waits.eq(self.waits + 1)
        for i in range(p.sources):
            m.d.comb += [self.headers[i].ready.eq(taken[i]), self.words[i].ready.eq(move & senders[i])]

        # Words to their targets --------------------------------------------------------------------------------------
        word = self._reduced(m, senders)
        arriving, targets = word, Mux(move, chunk.targets, 0)
        for stage in range(p.stages):
            next_word = Signal(p.word_bits, name=f"word_{stage}", reset_less=True)
            next_targets = Signal(p.targets, name=f"targets_{stage}")
            m.d.sync += [next_word.eq(arriving), next_targets.eq(targets)]
            arriving, targets = next_word, next_targets
        for i, out in enumerate(self.out):
            buffer = SyncFIFO(width=p.word_bits, depth=p.credit_words)
            m.submodules[f"buffer_{i}"] = buffer
            leaves = out.valid & out.ready
            reserved = Mux(begin & header.targets[i], header.words, 0)
            m.d.comb += [
                buffer.w_data.eq(arriving),
                buffer.w_en.eq(targets.bit_select(i, 1)),
                out.payload.eq(buffer.r_data),
                out.valid.eq(buffer.r_rdy),
                buffer.r_en.eq(out.ready),
            ]
            m.d.sync += credits[i].eq(credits[i] - reserved + leaves)
        return m

    def _reduced(self, m, senders):
        """The sender's word; of several, the greatest of each 32-bit value."""
        p = self._params
        word = Signal(p.word_bits)
        for lane in range(p.word_bits // 32):
            greatest = 0
            for i, each in enumerate(self.words):
                value = Mux(senders[i], each.payload.word_select(lane, 32), 0)
                greatest = Mux(value > greatest, value, greatest)
            m.d.comb += word.word_select(lane, 32).eq(greatest)
        return word
