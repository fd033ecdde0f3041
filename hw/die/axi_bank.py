"""A memory behind AXI4 in place of an HB bank: on an FPGA with HBM, each PE owns one pseudo-channel."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.die.host_axi import BOUNDARY_BYTES, Burst, Response, axi_members
from hw.isa import HbError
from hw.memory.hb_types import HbRequesterSignature, transfer_layout
from hw.memory.round_robin import RoundRobin
from hw.params import HbParams


class AxiBank(wiring.Component):
    """Serves the requesters of an `HbController` from an AXI4 manager port, one transfer at a time, round robin.

    A transfer becomes INCR bursts that end at 4 KB boundaries and have at most ``burst_beats`` beats. Addresses of a
    read run ahead of its data; a write's next address follows its last beat. All bursts carry identifier 0, so
    responses come in order. A read beat with an error response is marked uncorrectable; a write with one is done
    with `HbError.BUS`. Transfers outside the bank are refused as the controller refuses them; no address goes out.

    Parameters
    ----------
    params : HbParams
        Without in-line ECC.
    address_bits, id_bits : int
    burst_beats : int
        Most beats of a burst; 16 suits AXI3 memories such as HBM.

    Members
    -------
    requesters : In, array of HbRequesterSignature
    base : In, address_bits
        Address of the bank's first byte, a multiple of 4096.
    m_axi_* : AXI4 manager, data as wide as a column
    """

    def __init__(self, params: HbParams, *, address_bits: int = 34, id_bits: int = 1, burst_beats: int = 16):
        if params.ecc == "inline":
            raise ValueError("an AXI memory has rows of a power of two of columns")
        self._params, self._address_bits, self._burst = params, address_bits, burst_beats
        super().__init__(
            axi_members("m_axi", params.data_bits, address_bits, id_bits, manager=True)
            | {
                "requesters": In(HbRequesterSignature(params)).array(params.requesters),
                "base": In(address_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        params = self._params
        lane_bits = (params.column_bytes - 1).bit_length()
        per_boundary = BOUNDARY_BYTES // params.column_bytes

        # Choice of a request -------------------------------------------------------------------------------------
        idle = Signal()
        m.submodules.arbiter = arbiter = RoundRobin(params.requesters)
        chosen = Signal(transfer_layout(params))
        owner, tag = Signal.like(arbiter.grant), Signal(params.tag_bits)
        m.d.comb += [
            arbiter.requests.eq(Cat(each.request.valid for each in self.requesters)),
            arbiter.advance.eq(idle),
        ]
        with m.Switch(arbiter.grant):
            for i, each in enumerate(self.requesters):
                with m.Case(i):
                    m.d.comb += [chosen.eq(each.request.payload), each.request.ready.eq(idle)]
        first = chosen.row * params.data_columns + chosen.column
        refusal = Signal(HbError)
        with m.If(chosen.columns == 0):
            m.d.comb += refusal.eq(HbError.ZERO_LENGTH)
        with m.Elif(chosen.column >= params.data_columns):
            m.d.comb += refusal.eq(HbError.BAD_COLUMN)
        with m.Elif(first + chosen.columns > params.rows * params.data_columns):
            m.d.comb += refusal.eq(HbError.BEYOND_BANK)

        # The transfer: columns not yet addressed, and not yet moved ----------------------------------------------
        place = Signal(range(params.rows * params.data_columns + 1))
        unaddressed, unmoved = Signal(params.length_bits), Signal(params.length_bits)
        beats, in_burst = Signal(9), Signal(9)
        unanswered = Signal(params.length_bits + 1)
        failed = Signal()
        to_boundary = per_boundary - (place % per_boundary)
        shortest = Mux(to_boundary < self._burst, to_boundary, self._burst)
        m.d.comb += beats.eq(Mux(unaddressed < shortest, unaddressed, shortest))
        done, done_error = Signal(), Signal(HbError)
        m.d.sync += done.eq(0)
        address = self.base + (place << lane_bits)
        for channel in ("aw", "ar"):
            m.d.comb += [
                getattr(self, f"m_axi_{channel}addr").eq(address),
                getattr(self, f"m_axi_{channel}len").eq(beats - 1),
                getattr(self, f"m_axi_{channel}size").eq(lane_bits),
                getattr(self, f"m_axi_{channel}burst").eq(Burst.INCR),
            ]
        m.d.comb += self.m_axi_wstrb.eq(~0)
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

        with m.FSM():
            with m.State("idle"):
                m.d.comb += idle.eq(1)
                with m.If(arbiter.valid):
                    m.d.sync += [
                        owner.eq(arbiter.grant),
                        tag.eq(chosen.tag),
                        place.eq(first),
                        unaddressed.eq(chosen.columns),
                        unmoved.eq(chosen.columns),
                        failed.eq(0),
                    ]
                    with m.If(refusal != HbError.NONE):
                        m.d.sync += [done.eq(1), done_error.eq(refusal)]
                    with m.Elif(chosen.write):
                        m.next = "write address"
                    with m.Else():
                        m.next = "read"

            with m.State("read"):
                m.d.comb += self.m_axi_arvalid.eq(unaddressed != 0)
                with m.If(self.m_axi_arvalid & self.m_axi_arready):
                    addressed()
                for i, each in enumerate(self.requesters):
                    with m.If(owner == i):
                        m.d.comb += [each.read.valid.eq(self.m_axi_rvalid), self.m_axi_rready.eq(each.read.ready)]
                with m.If(self.m_axi_rvalid & self.m_axi_rready):
                    m.d.sync += unmoved.eq(unmoved - 1)
                    with m.If(unmoved == 1):
                        m.d.sync += [done.eq(1), done_error.eq(HbError.NONE)]
                        m.next = "idle"

            with m.State("write address"):
                m.d.comb += self.m_axi_awvalid.eq(1)
                with m.If(self.m_axi_awready):
                    m.d.sync += in_burst.eq(beats)
                    addressed()
                    m.next = "write"
            with m.State("write"):
                for i, each in enumerate(self.requesters):
                    with m.If(owner == i):
                        m.d.comb += [
                            self.m_axi_wvalid.eq(each.write.valid),
                            self.m_axi_wdata.eq(each.write.payload),
                            each.write.ready.eq(self.m_axi_wready),
                        ]
                m.d.comb += self.m_axi_wlast.eq(in_burst == 1)
                with m.If(self.m_axi_wvalid & self.m_axi_wready):
                    m.d.sync += in_burst.eq(in_burst - 1)
                    with m.If(in_burst == 1):
                        with m.If(unaddressed != 0):
                            m.next = "write address"
                        with m.Else():
                            m.next = "write responses"
            with m.State("write responses"), m.If(unanswered == 0):
                m.d.sync += [done.eq(1), done_error.eq(Mux(failed, HbError.BUS, HbError.NONE))]
                m.next = "idle"

        answered = self.m_axi_bvalid & self.m_axi_bready
        m.d.comb += self.m_axi_bready.eq(1)
        m.d.sync += unanswered.eq(unanswered + (self.m_axi_awvalid & self.m_axi_awready) - answered)
        with m.If(answered & (self.m_axi_bresp != Response.OKAY)):
            m.d.sync += failed.eq(1)
        return m
