"""A memory behind AXI4 in place of an HB bank: on an FPGA with HBM, each PE owns one pseudo-channel."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HbError
from hw.memory.axi import BOUNDARY_BYTES, DATA_NONSECURE, NORMAL_BUFFERABLE, Burst, Response, axi_members
from hw.memory.hb_types import HbRequesterSignature, transfer_layout
from hw.memory.round_robin import RoundRobin
from hw.params import AxiMasterParams, HbParams


class AxiBankEvents(data.StructLayout):
    """What the counters ``axi_...`` of `hw.isa.counters` grow by in a cycle."""

    def __init__(self):
        names = ("read_bursts", "reads", "write_bursts", "writes", "errors")
        stalls = ("address_stalls", "read_stalls", "write_stalls", "response_stalls", "stream_stalls")
        super().__init__(dict.fromkeys((*names, *stalls), 1))


class AxiBank(wiring.Component):
    """Serves the requesters of an `HbController` from an AXI4 manager port, one transfer at a time, round robin.

    A transfer becomes INCR bursts that end at 4 KB boundaries and have at most ``burst_beats`` beats. Addresses of a
    read run ahead of its data; a write's next address follows its last beat. All bursts carry identifier 0, so
    responses come in order. A read beat with an error response is marked uncorrectable; a write with one is done
    with `HbError.BUS`. Transfers outside the bank are refused as the controller refuses them; no address goes out.

    A memory cannot be told to forget a burst. ``abandon`` ends the transfer in progress without its requester: beats
    read are dropped, beats to write go out without strobes. From the cycle of ``quiet`` on the requesters may be reset.

    Parameters
    ----------
    params : HbParams
        Without ECC.
    port : AxiMasterParams

    Members
    -------
    requesters : In, array of HbRequesterSignature
    base : In, address_bits
        Address of the bank's first byte, a multiple of 4096; taken with each transfer.
    abandon : In, 1
        No request is taken, and none answered. Held until ``quiet``.
    quiet : Out, 1
        No transfer is in progress.
    events : Out, AxiBankEvents
    m_axi_* : AXI4 manager, data as wide as a column
    """

    def __init__(self, params: HbParams, port: AxiMasterParams):
        if params.ecc != "none":
            raise ValueError("a memory behind AXI4 has no ECC of ours")
        self._params, self._port = params, port
        super().__init__(
            self.manager_members(params, port)
            | {
                "requesters": In(HbRequesterSignature(params)).array(params.requesters),
                "base": In(port.address_bits),
                "abandon": In(1),
                "quiet": Out(1),
                "events": Out(AxiBankEvents()),
            }
        )

    @staticmethod
    def manager_members(params: HbParams, port: AxiMasterParams) -> dict:
        """The ``m_axi_*`` ports."""
        return axi_members("m_axi", params.data_bits, port.address_bits, port.id_bits, manager=True)

    def elaborate(self, platform):
        m = Module()
        params = self._params
        lane_bits = (params.column_bytes - 1).bit_length()

        # Choice of a request -------------------------------------------------------------------------------------
        idle, waiting = Signal(), Signal()
        m.submodules.arbiter = arbiter = RoundRobin(params.requesters)
        chosen = Signal(transfer_layout(params))
        owner, tag = Signal.like(arbiter.grant), Signal(params.tag_bits)
        m.d.comb += [
            arbiter.requests.eq(Cat(each.request.valid for each in self.requesters)),
            waiting.eq(idle & ~self.abandon),
            arbiter.advance.eq(waiting),
            self.quiet.eq(idle),
        ]
        with m.Switch(arbiter.grant):
            for i, each in enumerate(self.requesters):
                with m.Case(i):
                    m.d.comb += [chosen.eq(each.request.payload), each.request.ready.eq(waiting)]
        first = chosen.row * params.data_columns + chosen.column
        refusal = Signal(HbError)
        with m.If(chosen.columns == 0):
            m.d.comb += refusal.eq(HbError.ZERO_LENGTH)
        with m.Elif(chosen.column >= params.data_columns):
            m.d.comb += refusal.eq(HbError.BAD_COLUMN)
        with m.Elif(first + chosen.columns > params.rows * params.data_columns):
            m.d.comb += refusal.eq(HbError.BEYOND_BANK)

        # The transfer: columns not yet addressed, and not yet moved ----------------------------------------------
        place = Signal(self._port.address_bits - lane_bits)  # of the memory, not of the bank
        unaddressed, unmoved = Signal(params.length_bits), Signal(params.length_bits)
        beats, in_burst = Signal(9), Signal(9)
        unanswered = Signal(params.length_bits + 1)
        failed = Signal()
        per_boundary = BOUNDARY_BYTES // params.column_bytes
        to_boundary = per_boundary - place % per_boundary
        burst = self._port.burst_beats
        shortest = Mux(to_boundary < burst, to_boundary, burst)
        m.d.comb += beats.eq(Mux(unaddressed < shortest, unaddressed, shortest))
        done, done_error = Signal(), Signal(HbError)
        m.d.sync += done.eq(0)
        for channel in ("aw", "ar"):
            m.d.comb += [
                getattr(self, f"m_axi_{channel}addr").eq(place << lane_bits),
                getattr(self, f"m_axi_{channel}len").eq(beats - 1),
                getattr(self, f"m_axi_{channel}size").eq(lane_bits),
                getattr(self, f"m_axi_{channel}burst").eq(Burst.INCR),
                getattr(self, f"m_axi_{channel}cache").eq(NORMAL_BUFFERABLE),
                getattr(self, f"m_axi_{channel}prot").eq(DATA_NONSECURE),
            ]
        # The beat on offer to the memory is in registers: it stays, whatever becomes of its requester.
        room = ~self.m_axi_wvalid | self.m_axi_wready
        offered, to_write = Signal(), Signal(params.data_bits)
        with m.Switch(owner):
            for i, each in enumerate(self.requesters):
                with m.Case(i):
                    m.d.comb += [offered.eq(each.write.valid), to_write.eq(each.write.payload)]
        for i, each in enumerate(self.requesters):
            m.d.comb += [
                each.done.eq(done & (owner == i)),
                each.done_tag.eq(tag),
                each.done_error.eq(done_error),
                each.read.payload.data.eq(self.m_axi_rdata),
                each.read.payload.tag.eq(tag),
                each.read.payload.last.eq(unmoved == 1),
                each.read.payload.uncorrectable.eq(self.m_axi_rresp != Response.OKAY),
            ]

        def addressed() -> None:
            m.d.sync += [place.eq(place + beats), unaddressed.eq(unaddressed - beats)]

        def finish(error) -> None:
            m.d.sync += [done.eq(~self.abandon), done_error.eq(error)]
            m.next = "idle"

        with m.If(self.m_axi_wready):
            m.d.sync += self.m_axi_wvalid.eq(0)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += idle.eq(1)
                with m.If(arbiter.valid & waiting):
                    m.d.sync += [
                        owner.eq(arbiter.grant),
                        tag.eq(chosen.tag),
                        place.eq((self.base >> lane_bits) + first),
                        unaddressed.eq(chosen.columns),
                        unmoved.eq(chosen.columns),
                        failed.eq(0),
                    ]
                    with m.If(refusal != HbError.NONE):
                        finish(refusal)
                    with m.Elif(chosen.write):
                        m.next = "write address"
                    with m.Else():
                        m.next = "read"

            with m.State("read"):
                m.d.comb += self.m_axi_arvalid.eq(unaddressed != 0)
                with m.If(self.m_axi_arvalid & self.m_axi_arready):
                    addressed()
                with m.If(self.abandon):
                    m.d.comb += self.m_axi_rready.eq(1)
                for i, each in enumerate(self.requesters):
                    with m.If((owner == i) & ~self.abandon):
                        m.d.comb += [each.read.valid.eq(self.m_axi_rvalid), self.m_axi_rready.eq(each.read.ready)]
                with m.If(self.m_axi_rvalid & self.m_axi_rready):
                    m.d.sync += unmoved.eq(unmoved - 1)
                    with m.If(unmoved == 1):
                        finish(HbError.NONE)
                m.d.comb += [
                    self.events.read_stalls.eq(~self.m_axi_rvalid),
                    self.events.stream_stalls.eq(self.m_axi_rvalid & ~self.m_axi_rready),
                ]

            with m.State("write address"):
                m.d.comb += self.m_axi_awvalid.eq(1)
                with m.If(self.m_axi_awready):
                    m.d.sync += in_burst.eq(beats)
                    addressed()
                    m.next = "write"
            with m.State("write"):
                for i, each in enumerate(self.requesters):
                    m.d.comb += each.write.ready.eq((owner == i) & room & ~self.abandon)
                m.d.comb += self.events.stream_stalls.eq(room & ~offered & ~self.abandon)
                with m.If(room & (offered | self.abandon)):
                    m.d.sync += [
                        self.m_axi_wvalid.eq(1),
                        self.m_axi_wdata.eq(to_write),
                        self.m_axi_wstrb.eq((~self.abandon).replicate(params.column_bytes)),
                        self.m_axi_wlast.eq(in_burst == 1),
                        in_burst.eq(in_burst - 1),
                    ]
                    with m.If(in_burst == 1):
                        with m.If(unaddressed != 0):
                            m.next = "write address"
                        with m.Else():
                            m.next = "write responses"
            with m.State("write responses"):
                m.d.comb += self.events.response_stalls.eq((unanswered != 0) & ~self.m_axi_wvalid)
                with m.If(unanswered == 0):
                    finish(Mux(failed, HbError.BUS, HbError.NONE))

        answered = self.m_axi_bvalid & self.m_axi_bready
        m.d.comb += self.m_axi_bready.eq(1)
        m.d.sync += unanswered.eq(unanswered + (self.m_axi_awvalid & self.m_axi_awready) - answered)
        with m.If(answered & (self.m_axi_bresp != Response.OKAY)):
            m.d.sync += failed.eq(1)
        self._count(m)
        return m

    def _count(self, m) -> None:
        """The events that need no knowledge of the transfer."""
        valid, taken = {}, {}
        for channel in ("aw", "w", "b", "ar", "r"):
            valid[channel] = getattr(self, f"m_axi_{channel}valid")
            taken[channel] = valid[channel] & getattr(self, f"m_axi_{channel}ready")
        wrong = {channel: getattr(self, f"m_axi_{channel}resp") != Response.OKAY for channel in ("b", "r")}
        m.d.comb += [
            self.events.read_bursts.eq(taken["ar"]),
            self.events.reads.eq(taken["r"]),
            self.events.write_bursts.eq(taken["aw"]),
            self.events.writes.eq(taken["w"]),
            self.events.errors.eq((taken["r"] & wrong["r"]) | (taken["b"] & wrong["b"])),
            self.events.address_stalls.eq((valid["ar"] & ~taken["ar"]) | (valid["aw"] & ~taken["aw"])),
            self.events.write_stalls.eq(valid["w"] & ~taken["w"]),
        ]
