"""AXI4 for the host: AXI4-Lite to the register map, AXI4 to a memory bank.

Port names are flat (``s_axil_awaddr``), so that vendor packagers infer the interfaces by themselves.
"""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.die.host_bus import ADDRESS_BITS, HostBus
from hw.isa import HbError
from hw.memory.hb_types import HbRequesterSignature
from hw.params import HbParams

BOUNDARY_BYTES = 4096
"""No AXI burst crosses such a boundary."""


class Response(IntEnum):
    """AXI's answers; EXOKAY is never given, DECERR is the interconnect's."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Burst(IntEnum):
    """AXI's kinds of burst."""

    FIXED = 0
    INCR = 1
    WRAP = 2


def axil_members() -> dict:
    """An AXI4-Lite port as its subordinate sees it."""
    return {
        "s_axil_awaddr": In(ADDRESS_BITS),
        "s_axil_awprot": In(3),
        "s_axil_awvalid": In(1),
        "s_axil_awready": Out(1),
        "s_axil_wdata": In(32),
        "s_axil_wstrb": In(4),
        "s_axil_wvalid": In(1),
        "s_axil_wready": Out(1),
        "s_axil_bresp": Out(2),
        "s_axil_bvalid": Out(1),
        "s_axil_bready": In(1),
        "s_axil_araddr": In(ADDRESS_BITS),
        "s_axil_arprot": In(3),
        "s_axil_arvalid": In(1),
        "s_axil_arready": Out(1),
        "s_axil_rdata": Out(32),
        "s_axil_rresp": Out(2),
        "s_axil_rvalid": Out(1),
        "s_axil_rready": In(1),
    }


class AxiLiteSubordinate(wiring.Component):
    """AXI4-Lite accesses to the host bus, one at a time, reads and writes in turn where both wait.

    Address and data of a write are taken in either order. SLVERR answers an address outside the map, a write to a
    register that cannot be written, and a write of a part of a word, which changes nothing. A response waits for its
    ready as long as it takes; addresses of the next access are taken meanwhile.

    Members
    -------
    s_axil_* : AXI4-Lite subordinate, 32 bits of address and data
    bus : Out, HostBus
    """

    def __init__(self):
        super().__init__(axil_members() | {"bus": Out(HostBus())})

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        aw, w, ar = (Signal(name=f"{name}_held") for name in ("aw", "w", "ar"))
        aw_address, ar_address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        data, strobe = Signal(32), Signal(4)
        m.d.comb += [
            self.s_axil_awready.eq(~aw),
            self.s_axil_wready.eq(~w),
            self.s_axil_arready.eq(~ar),
            bus.data.eq(data),
        ]
        with m.If(self.s_axil_awvalid & ~aw):
            m.d.sync += [aw.eq(1), aw_address.eq(self.s_axil_awaddr)]
        with m.If(self.s_axil_wvalid & ~w):
            m.d.sync += [w.eq(1), data.eq(self.s_axil_wdata), strobe.eq(self.s_axil_wstrb)]
        with m.If(self.s_axil_arvalid & ~ar):
            m.d.sync += [ar.eq(1), ar_address.eq(self.s_axil_araddr)]

        read_was_last = Signal()
        with m.FSM():
            with m.State("idle"):
                with m.If(aw & w & (read_was_last | ~ar)):
                    m.d.sync += read_was_last.eq(0)
                    with m.If(strobe == 0xF):
                        m.d.comb += [bus.en.eq(1), bus.write.eq(1), bus.address.eq(aw_address)]
                        m.next = "write"
                    with m.Else():
                        m.d.sync += [self.s_axil_bvalid.eq(1), self.s_axil_bresp.eq(Response.SLVERR)]
                        m.d.sync += [aw.eq(0), w.eq(0)]
                        m.next = "write response"
                with m.Elif(ar):
                    m.d.sync += read_was_last.eq(1)
                    m.d.comb += [bus.en.eq(1), bus.address.eq(ar_address)]
                    m.next = "read"
            with m.State("write"), m.If(bus.done):
                m.d.sync += [
                    self.s_axil_bvalid.eq(1),
                    self.s_axil_bresp.eq(Mux(bus.error, Response.SLVERR, Response.OKAY)),
                    aw.eq(0),
                    w.eq(0),
                ]
                m.next = "write response"
            with m.State("write response"), m.If(self.s_axil_bready):
                m.d.sync += self.s_axil_bvalid.eq(0)
                m.next = "idle"
            with m.State("read"), m.If(bus.done):
                m.d.sync += [
                    self.s_axil_rvalid.eq(1),
                    self.s_axil_rresp.eq(Mux(bus.error, Response.SLVERR, Response.OKAY)),
                    self.s_axil_rdata.eq(bus.read_data),
                    ar.eq(0),
                ]
                m.next = "read response"
            with m.State("read response"), m.If(self.s_axil_rready):
                m.d.sync += self.s_axil_rvalid.eq(0)
                m.next = "idle"
        return m


def axi_members(prefix: str, data_bits: int, address_bits: int, id_bits: int, *, manager: bool) -> dict:
    """An AXI4 port, named ``<prefix>_<signal>``; directions as the manager or the subordinate sees them."""
    forward, backward = (Out, In) if manager else (In, Out)
    members = {}
    for channel in ("aw", "ar"):
        members |= {
            f"{channel}id": forward(id_bits),
            f"{channel}addr": forward(address_bits),
            f"{channel}len": forward(8),
            f"{channel}size": forward(3),
            f"{channel}burst": forward(2),
            f"{channel}valid": forward(1),
            f"{channel}ready": backward(1),
        }
    members |= {
        "wdata": forward(data_bits),
        "wstrb": forward(data_bits // 8),
        "wlast": forward(1),
        "wvalid": forward(1),
        "wready": backward(1),
        "bid": backward(id_bits),
        "bresp": backward(2),
        "bvalid": backward(1),
        "bready": forward(1),
        "rid": backward(id_bits),
        "rdata": backward(data_bits),
        "rresp": backward(2),
        "rlast": backward(1),
        "rvalid": backward(1),
        "rready": forward(1),
    }
    return {f"{prefix}_{name}": member for name, member in members.items()}


def most_beats(params: HbParams) -> int:
    """Beats of the longest legal burst of whole columns."""
    return min(256, BOUNDARY_BYTES // params.column_bytes)


class AxiMemorySubordinate(wiring.Component):
    """AXI4 bursts to transfers of one HB requester, a beat a column.

    A burst is buffered whole: a write reaches the bank only when its last beat has come, a read only when there is a
    place for every beat, so that a slow manager never holds the bank. Bursts are served one at a time and answered in
    order, reads and writes in turn where both wait; identifiers are returned.

    SLVERR, with the bank untouched, answers a burst that is not INCR, not of whole aligned columns, that crosses a 4 KB
    boundary or leaves the bank, and a write with strobes missing or its last beat misplaced; and a beat that ECC could
    not correct.

    Parameters
    ----------
    params : HbParams
        Without in-line ECC, whose rows have no power of two of columns.
    id_bits : int

    Members
    -------
    s_axi_* : AXI4 subordinate, data as wide as a column
    port : Out, HbRequesterSignature
    """

    def __init__(self, params: HbParams, id_bits: int = 4):
        if params.ecc == "inline":
            raise ValueError("an AXI window on a bank needs rows of a power of two of columns")
        self._params, self._id_bits = params, id_bits
        self._address_bits = (params.capacity_bytes - 1).bit_length() + 1  # one more, so that "beyond" has addresses
        super().__init__(
            axi_members("s_axi", params.data_bits, self._address_bits, id_bits, manager=False)
            | {"port": Out(HbRequesterSignature(params))}
        )

    def elaborate(self, platform):
        m = Module()
        params, port = self._params, self.port
        lane_bits = (params.column_bytes - 1).bit_length()
        column_bits = (params.data_columns - 1).bit_length()
        m.submodules.beats = beats = SyncFIFOBuffered(width=params.data_bits + 1, depth=most_beats(params))

        # The burst in progress -----------------------------------------------------------------------------------
        identifier = Signal(self._id_bits)
        place = Signal(self._address_bits - lane_bits)
        left = Signal(9)
        length = Signal(9)
        wrong, failed = Signal(), Signal()
        writing = Signal()
        m.d.comb += [
            port.request.payload.column.eq(place[:column_bits]),
            port.request.payload.row.eq(place[column_bits:]),
            port.request.payload.columns.eq(length),
            self.s_axi_bid.eq(identifier),
            self.s_axi_rid.eq(identifier),
            port.request.payload.write.eq(writing),
            port.write.payload.eq(beats.r_data),
            self.s_axi_rdata.eq(beats.r_data),
        ]

        def accept(channel: str) -> None:
            """Take an address; judge it."""
            address, beats_1, size, burst, ident = (
                getattr(self, f"s_axi_{channel}{name}") for name in ("addr", "len", "size", "burst", "id")
            )
            first = address[lane_bits:]
            per_boundary = BOUNDARY_BYTES // params.column_bytes
            crosses = (first % per_boundary) + beats_1 >= per_boundary
            beyond = first + beats_1 >= params.rows * params.data_columns
            m.d.comb += getattr(self, f"s_axi_{channel}ready").eq(1)
            m.d.sync += [
                identifier.eq(ident),
                place.eq(first),
                left.eq(beats_1 + 1),
                length.eq(beats_1 + 1),
                failed.eq(0),
                wrong.eq((burst != Burst.INCR) | (size != lane_bits) | (address[:lane_bits] != 0) | crosses | beyond),
            ]

        read_was_last = Signal()
        with m.FSM():
            with m.State("idle"):
                with m.If(self.s_axi_awvalid & (read_was_last | ~self.s_axi_arvalid)):
                    accept("aw")
                    m.d.sync += read_was_last.eq(0)
                    m.next = "collect"
                with m.Elif(self.s_axi_arvalid):
                    accept("ar")
                    m.d.sync += read_was_last.eq(1)
                    m.next = "read request"

            with m.State("collect"):  # a wrong burst's beats are taken and dropped
                m.d.comb += [
                    self.s_axi_wready.eq(1),
                    beats.w_data.eq(self.s_axi_wdata),
                    beats.w_en.eq(self.s_axi_wvalid & ~wrong),
                ]
                with m.If(self.s_axi_wvalid):
                    misplaced = self.s_axi_wlast != (left == 1)
                    m.d.sync += [left.eq(left - 1), failed.eq(failed | misplaced | ~self.s_axi_wstrb.all())]
                    with m.If(left == 1):
                        m.next = "collected"
            with m.State("collected"):
                with m.If(wrong):
                    m.next = "write response"
                with m.Elif(failed):
                    m.next = "drop"
                with m.Else():
                    m.d.comb += [port.request.valid.eq(1), writing.eq(1)]
                    with m.If(port.request.ready):
                        m.next = "write"
            with m.State("drop"):
                m.d.comb += beats.r_en.eq(1)
                with m.If(beats.level == 0):
                    m.next = "write response"
            with m.State("write"):
                m.d.comb += [port.write.valid.eq(beats.r_rdy), beats.r_en.eq(port.write.ready)]
                with m.If(port.done):
                    m.d.sync += failed.eq(port.done_error != HbError.NONE)
                    m.next = "write response"
            with m.State("write response"):
                m.d.comb += [
                    self.s_axi_bvalid.eq(1),
                    self.s_axi_bresp.eq(Mux(wrong | failed, Response.SLVERR, Response.OKAY)),
                ]
                with m.If(self.s_axi_bready):
                    m.next = "idle"

            with m.State("read request"):
                with m.If(wrong):
                    m.next = "read refused"
                with m.Else():
                    m.d.comb += port.request.valid.eq(1)
                    with m.If(port.request.ready):
                        m.next = "read"
            with m.State("read"):
                m.d.comb += [
                    beats.w_data.eq(Cat(port.read.payload.data, port.read.payload.uncorrectable)),
                    beats.w_en.eq(port.read.valid),
                    port.read.ready.eq(1),
                    self.s_axi_rvalid.eq(beats.r_rdy),
                    beats.r_en.eq(self.s_axi_rready),
                    self.s_axi_rresp.eq(Mux(beats.r_data[-1], Response.SLVERR, Response.OKAY)),
                    self.s_axi_rlast.eq(left == 1),
                ]
                with m.If(beats.r_rdy & self.s_axi_rready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "read done"
                with m.Elif(port.done & (port.done_error != HbError.NONE)):
                    m.next = "read refused"
                with m.If(port.done):
                    m.d.sync += failed.eq(1)  # here: the bank is idle again
            with m.State("read done"), m.If(failed | port.done):
                m.next = "idle"
            with m.State("read refused"):
                m.d.comb += [
                    self.s_axi_rvalid.eq(1),
                    self.s_axi_rresp.eq(Response.SLVERR),
                    self.s_axi_rlast.eq(left == 1),
                ]
                with m.If(self.s_axi_rready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "idle"
        return m
