"""AXI4-Lite for the host: accesses to the register map. Port names are flat, see `hw.memory.axi`."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.die.host_bus import ADDRESS_BITS, HostBus
from hw.memory.axi import Response


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
