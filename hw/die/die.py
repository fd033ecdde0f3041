"""The logic die: PEs on two links; banks, host and external memory are outside.

memory side, 2 sources ─► stream link ─► PEs (unicast, multicast, broadcast)
PEs and host ─► aggregation link ─► PEs and host (gather, maxima, all-gather, chains to merge)
"""

import dataclasses

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.die.links import ChunkHeader, ChunkLink
from hw.errors import UserError
from hw.hierarchy import Repeated, add_repeated
from hw.memory.hb_types import HbPinsSignature
from hw.params import ChipParams
from hw.params.links import LinkParams, die_links
from hw.pe.host_unit import HostRequest
from hw.pe.pe import Pe, TracePort
from hw.pe.sequencer import EventPort, LoadPort
from hw.pe.status import CounterValues, PeStatus


class PePort(wiring.Signature):
    """What of a PE reaches the outside of the die; members as of `hw.pe.pe.Pe`."""

    def __init__(self, chip: ChipParams):
        super().__init__(
            {
                "pins": Out(HbPinsSignature(chip.hb)),
                "dispatch": In(stream.Signature(unsigned(32))),
                "load": In(LoadPort(chip.pe)),
                "host": Out(stream.Signature(HostRequest())),
                "host_answer": In(1),
                "event": Out(EventPort()),
                "status": Out(PeStatus()),
                "counters": Out(CounterValues()),
                "trace": Out(TracePort()),
            }
        )


class DiePe(Pe, Repeated):
    """A PE of the die; an export defines it once."""

    module_name = "pe"


class GrantPort(wiring.Signature):
    """A link's arbitration: whose header is taken in this cycle."""

    def __init__(self, params: LinkParams):
        super().__init__({"valid": Out(1), "source": Out(range(max(params.sources, 2)))})


class LinkPort(wiring.Signature):
    """One source of a link, as the die sees it."""

    def __init__(self, params: LinkParams):
        super().__init__(
            {
                "headers": In(stream.Signature(ChunkHeader(params))),
                "words": In(stream.Signature(unsigned(params.word_bits))),
            }
        )


class Die(wiring.Component):
    """All PEs of a chip, each with a buffer for what it sends, so that a PE never waits for the aggregation link.

    Who sends how much to whom is said by headers: of the stream link by its sources, of the aggregation link by the
    host for every PE (its route), in the order in which the PE stores.

    Parameters
    ----------
    chip : ChipParams
    credit_words : int
        Buffer of each target of each link.

    Members
    -------
    pes : Out, array of PePort
    memory : In, array of LinkPort
        Sources of the stream link.
    routes : In, array of streams of ChunkHeader
        For what each PE sends.
    host : In, LinkPort
        What the host sends on the aggregation link; its last source.
    to_host : Out, stream of words
        The aggregation link's last target.
    stream_moved, stream_waits, aggregate_moved, aggregate_waits : Out, 32
        Counters of `ChunkLink`.
    stream_grant, aggregate_grant : Out, GrantPort

    Raises
    ------
    UserError
        PEs with another memory: `hw.die.axi_machine.AxiMachine` has them.
    """

    def __init__(self, chip: ChipParams, credit_words: int = 64):
        if chip.memory != "hb":
            raise UserError(f"chip memory must be hb on the die, whose pins are the banks', not {chip.memory!r}")
        self._chip = chip
        self._stream, self._aggregation = (
            dataclasses.replace(link, credit_words=credit_words) for link in die_links(chip)
        )
        word = unsigned(32 * chip.array.columns)
        super().__init__(
            {
                "pes": Out(PePort(chip)).array(chip.pes),
                "memory": Out(LinkPort(self._stream)).array(self._stream.sources),
                "routes": In(stream.Signature(ChunkHeader(self._aggregation))).array(chip.pes),
                "host": Out(LinkPort(self._aggregation)),
                "to_host": Out(stream.Signature(word)),
                "stream_moved": Out(32),
                "stream_waits": Out(32),
                "aggregate_moved": Out(32),
                "aggregate_waits": Out(32),
                "stream_grant": Out(GrantPort(self._stream)),
                "aggregate_grant": Out(GrantPort(self._aggregation)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chip = self._chip
        m.submodules.stream_link = weights = ChunkLink(self._stream)
        m.submodules.aggregation_link = rows = ChunkLink(self._aggregation)
        m.d.comb += [
            self.stream_moved.eq(weights.moved),
            self.stream_waits.eq(weights.waits),
            self.aggregate_moved.eq(rows.moved),
            self.aggregate_waits.eq(rows.waits),
            self.stream_grant.valid.eq(weights.grant),
            self.stream_grant.source.eq(weights.granted),
            self.aggregate_grant.valid.eq(rows.grant),
            self.aggregate_grant.source.eq(rows.granted),
        ]
        for i, source in enumerate(self.memory):
            connect(m, flipped(source.headers), weights.headers[i])
            connect(m, flipped(source.words), weights.words[i])
        connect(m, flipped(self.host.headers), rows.headers[chip.pes])
        connect(m, flipped(self.host.words), rows.words[chip.pes])
        connect(m, rows.out[chip.pes], flipped(self.to_host))
        for i, port in enumerate(self.pes):
            pe = DiePe(chip)
            add_repeated(m, f"pe_{i}", pe, platform)
            sent = SyncFIFO(width=32 * chip.array.columns, depth=chip.pe.xm_words)
            m.submodules[f"sent_{i}"] = sent
            connect(m, weights.out[i], pe.stream_in)
            connect(m, rows.out[i], pe.aggregate_in)
            connect(m, pe.aggregate_out, sent.w_stream)
            connect(m, sent.r_stream, rows.words[i])
            self._route(m, self.routes[i], rows.headers[i], sent)
            connect(m, pe.pins, flipped(port.pins))
            connect(m, flipped(port.dispatch), pe.dispatch)
            connect(m, flipped(port.load), pe.load)
            connect(m, pe.host, flipped(port.host))
            connect(m, pe.event, flipped(port.event))
            m.d.comb += [
                pe.host_answer.eq(port.host_answer),
                port.status.eq(pe.status),
                port.counters.eq(pe.counters),
            ]
            connect(m, pe.trace, flipped(port.trace))
        return m

    def _route(self, m, route, header, sent) -> None:
        """A PE's header is offered once its whole chunk lies in the buffer, so that a grant never waits for a PE."""
        unclaimed = Signal(range(self._chip.pe.xm_words + 1))
        complete = unclaimed >= route.payload.words
        granted = header.valid & header.ready
        m.d.comb += [
            header.payload.eq(route.payload),
            header.valid.eq(route.valid & complete),
            route.ready.eq(header.ready & complete),
        ]
        stored = sent.w_stream.valid & sent.w_stream.ready
        m.d.sync += unclaimed.eq(unclaimed + stored - Mux(granted, route.payload.words, 0))
