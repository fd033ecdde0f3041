"""AXI4 bursts of the host to transfers of banks: several outstanding, reads and writes independent of each other."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Out

from hw.isa import HbError
from hw.memory.axi import BOUNDARY_BYTES, Burst, Response, axi_members, most_beats
from hw.memory.hb_types import HbRequesterSignature
from hw.memory_map import BankWindows
from hw.params import HbParams

OUTSTANDING = 4
"""Addresses that each direction keeps beside the burst in progress."""


class AxiMemorySubordinate(wiring.Component):
    """AXI4 bursts to transfers of one HB requester, a beat a column.

    A burst is buffered whole: a write reaches the bank only when its last beat has come, a read only when there is a
    place for every beat, so that a slow manager never holds the bank. Bursts of one direction are served and answered
    in order; a read passes a write whose data have not come, and the reverse. Identifiers are returned. A write's
    response comes when the bank holds it.

    SLVERR, with the bank untouched, answers a burst that is not INCR, not of whole aligned columns, that crosses a 4 KB
    boundary or leaves the bank, and a write with strobes missing or its last beat misplaced; also a beat that is
    marked uncorrectable, and a write that is done with an error.

    Parameters
    ----------
    params : HbParams
        Without in-line ECC, whose rows have no power of two of columns.
    id_bits : int
    windows : BankWindows, optional
        Where the banks are; one bank at 0 unless given.

    Members
    -------
    s_axi_* : AXI4 subordinate, data as wide as a column
    port : Out, HbRequesterSignature
    bank : Out
        Bank of the request and of the transfer in progress.
    """

    def __init__(self, params: HbParams, id_bits: int = 4, windows: BankWindows | None = None):
        if params.ecc == "inline":
            raise ValueError("an AXI window on a bank needs rows of a power of two of columns")
        self._params, self._id_bits = params, id_bits
        self._windows = windows or BankWindows(params, 1)
        self._lane_bits = (params.column_bytes - 1).bit_length()
        self._stride_bits = (self._windows.stride // params.column_bytes - 1).bit_length()
        self._address_bits = self._windows.address_bits
        super().__init__(
            self.subordinate_members
            | {"port": Out(HbRequesterSignature(params)), "bank": Out(range(max(self._windows.count, 2)))}
        )

    @property
    def subordinate_members(self) -> dict:
        """The ``s_axi_*`` ports."""
        return axi_members("s_axi", self._params.data_bits, self._address_bits, self._id_bits, manager=False)

    def elaborate(self, platform):
        m = Module()
        write, write_asks = self._writes(m)
        read, read_asks = self._reads(m)
        port = self.port

        # One transfer at a time; the two directions in turn where both wait.
        reading, place, length = Signal(), Signal.like(read.place), Signal(9)
        columns = (self._params.data_columns - 1).bit_length()
        within = place[: self._stride_bits]
        m.d.comb += [
            place.eq(Mux(reading, read.place, write.place)),
            length.eq(Mux(reading, read.last, write.last) + 1),
            port.request.payload.column.eq(within[:columns]),
            port.request.payload.row.eq(within[columns:]),
            port.request.payload.columns.eq(length),
            port.request.payload.write.eq(~reading),
            self.bank.eq(place[self._stride_bits :]),
        ]
        with m.FSM(name="transfer"):
            with m.State("free"), m.If(read_asks | write_asks):
                m.d.sync += reading.eq(read_asks & ~(write_asks & reading))
                m.next = "ask"
            with m.State("ask"):
                m.d.comb += port.request.valid.eq(1)
                with m.If(port.request.ready):
                    m.next = "move"
            with m.State("move"):
                m.d.comb += [self._write_moves.eq(~reading), self._read_moves.eq(reading)]
                with m.If(port.done):
                    m.next = "free"
        return m

    def _addresses(self, m, channel: str):
        """The channel's bursts in order, each with its verdict: first of the queue, whether there is one, take it."""
        lane_bits, per_boundary = self._lane_bits, BOUNDARY_BYTES // self._params.column_bytes
        entry = data.StructLayout({"id": self._id_bits, "place": self._address_bits - lane_bits, "last": 8, "wrong": 1})
        m.submodules[f"{channel}_queue"] = queue = SyncFIFOBuffered(width=entry.size, depth=OUTSTANDING)
        address, beats_1, size, burst, ident, valid, ready = (
            getattr(self, f"s_axi_{channel}{name}") for name in ("addr", "len", "size", "burst", "id", "valid", "ready")
        )
        coming = Signal(entry, name=f"{channel}_coming")
        first = address[lane_bits:]
        crosses = (first % per_boundary) + beats_1 >= per_boundary
        beyond = first[: self._stride_bits] + beats_1 >= self._windows.bank_bytes // self._params.column_bytes
        beyond |= first[self._stride_bits :] >= self._windows.count
        m.d.comb += [
            coming.id.eq(ident),
            coming.place.eq(first),
            coming.last.eq(beats_1),
            coming.wrong.eq(
                (burst != Burst.INCR) | (size != lane_bits) | (address[:lane_bits] != 0) | crosses | beyond
            ),
            queue.w_data.eq(coming),
            queue.w_en.eq(valid),
            ready.eq(queue.w_rdy),
        ]
        return data.View(entry, queue.r_data), queue.r_rdy, queue.r_en

    def _writes(self, m):
        """Collect a burst, have it written, answer: the burst, and whether it asks for the port."""
        burst, there, take = self._addresses(m, "aw")
        m.submodules.to_write = beats = SyncFIFOBuffered(width=self._params.data_bits, depth=most_beats(self._params))
        count, failed, asks = Signal(8), Signal(), Signal()
        self._write_moves = moves = Signal()
        m.d.comb += [self.s_axi_bid.eq(burst.id), self.port.write.payload.eq(beats.r_data)]
        with m.FSM(name="write"):
            with m.State("idle"), m.If(there):
                m.d.sync += [count.eq(0), failed.eq(0)]
                m.next = "collect"
            with m.State("collect"):  # a wrong burst's beats are taken and dropped
                m.d.comb += [
                    self.s_axi_wready.eq(1),
                    beats.w_data.eq(self.s_axi_wdata),
                    beats.w_en.eq(self.s_axi_wvalid & ~burst.wrong),
                ]
                with m.If(self.s_axi_wvalid):
                    misplaced = self.s_axi_wlast != (count == burst.last)
                    m.d.sync += [count.eq(count + 1), failed.eq(failed | misplaced | ~self.s_axi_wstrb.all())]
                    with m.If(count == burst.last):
                        m.next = "collected"
            with m.State("collected"):
                with m.If(burst.wrong):
                    m.d.sync += failed.eq(1)
                    m.next = "response"
                with m.Elif(failed):
                    m.next = "drop"
                with m.Else():
                    m.d.comb += asks.eq(1)
                    with m.If(moves):
                        m.next = "write"
            with m.State("drop"):
                m.d.comb += beats.r_en.eq(1)
                with m.If(beats.level == 0):
                    m.next = "response"
            with m.State("write"):
                m.d.comb += [self.port.write.valid.eq(beats.r_rdy), beats.r_en.eq(self.port.write.ready)]
                with m.If(self.port.done):
                    m.d.sync += failed.eq(self.port.done_error != HbError.NONE)
                    m.next = "response"
            with m.State("response"):
                m.d.comb += [
                    self.s_axi_bvalid.eq(1),
                    self.s_axi_bresp.eq(Mux(failed, Response.SLVERR, Response.OKAY)),
                    take.eq(self.s_axi_bready),
                ]
                with m.If(self.s_axi_bready):
                    m.next = "idle"
        return burst, asks

    def _reads(self, m):
        """Have a burst read into the buffer and hand it out: the burst, and whether it asks for the port."""
        burst, there, take = self._addresses(m, "ar")
        m.submodules.read = beats = SyncFIFOBuffered(width=self._params.data_bits + 1, depth=most_beats(self._params))
        count, asks = Signal(8), Signal()
        done, moved = Signal(), Signal()  # the transfer is over; the last beat is taken
        self._read_moves = moves = Signal()
        last = count == burst.last
        m.d.comb += [
            beats.w_data.eq(Cat(self.port.read.payload.data, self.port.read.payload.uncorrectable)),
            beats.w_en.eq(self.port.read.valid),
            self.port.read.ready.eq(1),  # there is a place for every beat
            self.s_axi_rid.eq(burst.id),
            self.s_axi_rlast.eq(last),
            self.s_axi_rdata.eq(beats.r_data),
        ]
        with m.If(self.s_axi_rvalid & self.s_axi_rready):
            m.d.sync += count.eq(count + 1)
        with m.FSM(name="read"):
            with m.State("idle"):
                m.d.sync += [count.eq(0), done.eq(0), moved.eq(0)]
                with m.If(there & burst.wrong):
                    m.next = "refused"
                with m.Elif(there):
                    m.next = "ask"
            with m.State("ask"):
                m.d.comb += asks.eq(1)
                with m.If(moves):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += [
                    self.s_axi_rvalid.eq(beats.r_rdy),
                    beats.r_en.eq(self.s_axi_rready),
                    self.s_axi_rresp.eq(Mux(beats.r_data[-1], Response.SLVERR, Response.OKAY)),
                ]
                with m.If(self.port.done & moves):
                    m.d.sync += done.eq(1)
                    with m.If(self.port.done_error != HbError.NONE):
                        m.next = "refused"
                with m.If(beats.r_rdy & self.s_axi_rready & last):
                    m.d.sync += moved.eq(1)
                with m.If(done & moved):
                    m.d.comb += take.eq(1)
                    m.next = "idle"
            with m.State("refused"):
                m.d.comb += [self.s_axi_rvalid.eq(1), self.s_axi_rresp.eq(Response.SLVERR)]
                with m.If(self.s_axi_rready & last):
                    m.d.comb += take.eq(1)
                    m.next = "idle"
        return burst, asks
