"""A PE with its bank on chip, between buffers that the host fills before a run and reads behind it.

While CONTROL.run is 0 the PE is in reset and the host has the memories. The first cycle of a run offers the first
dispatch word and the first word of each link, as the models' runs begin, so cycles and counters are theirs. They stand
still as they were in the cycle in which the program was over.
"""

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    DomainRenamer,
    Module,
    Mux,
    ResetInserter,
    ResetSignal,
    Signal,
    unsigned,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.die.host_bus import BlockPorts, WindowPort
from hw.errors import UserError
from hw.hierarchy import DefineOnce, Repeated
from hw.isa.counters import counters_of
from hw.isa.encoding import PeError
from hw.memory.axi import pass_through
from hw.memory.axi_bank import AxiBank
from hw.memory.on_chip_bank import ColumnPort, OnChipBank
from hw.memory_map import BANK_WINDOW_BYTES, PAGE_BYTES, Block, BufferSizes
from hw.params import ChipParams
from hw.pe.pe import Pe


class SourceBuffer(wiring.Component):
    """Words written by the host, offered in order from the first cycle of ``run`` on, one a cycle while taken.

    Parameters
    ----------
    depth : int
    width : int
        A multiple of 32.

    Members
    -------
    host : In, WindowPort
        Written while ``run`` is low.
    run : In, 1
    count : In, 16
        Words to offer.
    words : Out, stream of ``width`` bits
    """

    def __init__(self, depth: int, width: int):
        self._depth, self._lanes = depth, width // 32
        super().__init__(
            {
                "host": In(WindowPort(depth * self._lanes)),
                "run": In(1),
                "count": In(16),
                "words": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = data.ArrayLayout(unsigned(32), self._lanes)
        m.submodules.memory = memory = Memory(shape=shape, depth=self._depth, init=[])
        write, read = memory.write_port(granularity=1), memory.read_port()
        lane = self.host.address[: (self._lanes - 1).bit_length()]
        m.d.comb += [
            write.addr.eq(self.host.address[len(lane) :]),
            write.data.eq(self.host.data.replicate(self._lanes)),
            write.en.eq((self.host.en & self.host.write) << lane),
        ]
        # The memory is read one word ahead, so that the next one is there when a word is taken.
        place, following = Signal(17), Signal(17)
        m.d.comb += [
            following.eq(place + (self.words.valid & self.words.ready)),
            read.en.eq(1),
            read.addr.eq(Mux(self.run, following, 0)),
            self.words.valid.eq(self.run & (place != self.count)),
            self.words.payload.eq(read.data.as_value()),
        ]
        m.d.sync += place.eq(Mux(self.run, following, 0))
        return m


class SinkBuffer(wiring.Component):
    """Keeps what arrives, in order; what does not fit is dropped and raises ``overflow``.

    Parameters
    ----------
    depth : int
    width : int
        A multiple of 32.

    Members
    -------
    entry : In, width
    valid : In, 1
    run : In, 1
        Low empties the buffer.
    count : Out, 16
    overflow : Out, 1
    host : In, WindowPort
        Read only.
    """

    def __init__(self, depth: int, width: int):
        self._depth, self._lanes = depth, width // 32
        super().__init__(
            {
                "entry": In(width),
                "valid": In(1),
                "run": In(1),
                "count": Out(16),
                "overflow": Out(1),
                "host": In(WindowPort(depth * (1 << (self._lanes - 1).bit_length()))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=32 * self._lanes, depth=self._depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        lane = self.host.address[: (self._lanes - 1).bit_length()]
        held = Signal.like(lane)
        full = self.count == self._depth
        m.d.sync += held.eq(lane)
        m.d.comb += [
            write.addr.eq(self.count),
            write.data.eq(self.entry),
            write.en.eq(self.run & self.valid & ~full),
            read.en.eq(self.host.en),
            read.addr.eq(self.host.address[len(lane) :]),
        ]
        with m.Switch(held):
            for i in range(self._lanes):
                with m.Case(i):
                    m.d.comb += self.host.read_data.eq(read.data.word_select(i, 32))
        with m.If(~self.run):
            m.d.sync += [self.count.eq(0), self.overflow.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [self.count.eq(self.count + ~full), self.overflow.eq(self.overflow | full)]
        return m


class HostedPe(Repeated):
    """One "pe" block of the memory map; an export of several defines it once.

    HOST requests are answered HOST_LATENCY cycles after they appear. Everything that the PE sends is taken at once.

    Parameters
    ----------
    chip : ChipParams
    buffers : BufferSizes
    block : Block
        Of `hw.memory_map.die_map`.

    Members
    -------
    host : In, BlockPorts
    columns : In, ColumnPort
        Of the bank; only where ``chip.memory`` is "hb".
    m_axi_* : AXI4 manager
        To the PE's memory; only where it is "axi".

    A run with an AXI4 memory begins once what the last one left there in progress is over.
    """

    module_name = "hosted_pe"

    def __init__(self, chip: ChipParams, buffers: BufferSizes, block: Block):
        self._chip, self._buffers = chip, buffers
        if chip.memory == "axi":
            memory = AxiBank.manager_members(chip.hb, chip.axi)
        else:
            memory = {"columns": In(ColumnPort(chip.hb))}
            if chip.hb.rows * chip.hb.row_bytes > BANK_WINDOW_BYTES:
                most = f"at most {BANK_WINDOW_BYTES} bytes (chip {chip.name})"
                raise UserError(f"bank of a PE on a board must have {most}")
        super().__init__({"host": In(BlockPorts(block))} | memory)

    def elaborate(self, platform):
        m = Module()
        chip, sizes, host = self._chip, self._buffers, self.host
        word = 32 * chip.array.columns
        pe = Pe(chip)
        run = self._axi_memory(m, pe) if chip.memory == "axi" else self._bank_on_chip(m, pe)
        # In the middle of a transfer behind AXI4 the PE is kept as it is until the memory is quiet.
        m.submodules.pe = self._resettable(m, pe, platform, ~run & pe.quiet if chip.memory == "axi" else ~run)

        # What the host gives.
        m.submodules.dispatch = dispatch = SourceBuffer(sizes.dispatch, 32)
        m.submodules.stream = stream_words = SourceBuffer(sizes.stream, word)
        m.submodules.aggregate = aggregate = SourceBuffer(sizes.aggregate, word)
        for source, window, count, sink in (
            (dispatch, host.dispatch, host.dispatch_count, pe.dispatch),
            (stream_words, host.stream, host.stream_count, pe.stream_in),
            (aggregate, host.aggregate, host.aggregate_count, pe.aggregate_in),
        ):
            self._window(m, window, source.host)
            m.d.comb += [
                source.run.eq(run),
                source.count.eq(count.entries),
                sink.valid.eq(source.words.valid),
                sink.payload.eq(source.words.payload),
                source.words.ready.eq(sink.ready),
            ]
        loads = host.instructions.en | host.descriptors.en
        m.d.comb += [
            pe.load.en.eq(loads & ~run),
            pe.load.descriptor.eq(host.descriptors.en),
            pe.load.address.eq(Mux(host.descriptors.en, host.descriptors.address, host.instructions.address)),
            pe.load.data.eq(host.instructions.data),
        ]

        # The cycle in which the program is over, and all later ones.
        over, finished = Signal(), Signal()
        stopped = pe.status.error != PeError.NONE
        m.d.comb += over.eq(finished | (run & (stopped | ~(dispatch.words.valid | pe.status.busy))))
        m.d.sync += finished.eq(run & over)

        # What it gets.
        m.submodules.out = out = SinkBuffer(sizes.out, word)
        m.submodules.events = events = SinkBuffer(sizes.events, 96)
        m.submodules.requests = requests = SinkBuffer(sizes.host, 96)
        event = Cat(pe.event.kind, Const(0, 31), pe.event.a, pe.event.b)
        for sink, window, count, valid, entry in (
            (out, host.out, host.out_count, pe.aggregate_out.valid, pe.aggregate_out.payload),
            (events, host.events, host.events_count, pe.event.valid, event),
            (requests, host.host, host.host_count, pe.host.valid, pe.host.payload),
        ):
            self._window(m, window, sink.host)
            m.d.comb += [
                sink.run.eq(run),
                sink.valid.eq(valid & ~over),
                sink.entry.eq(entry),
                count.entries.eq(sink.count),
            ]
        m.d.comb += [pe.aggregate_out.ready.eq(1), pe.host.ready.eq(1)]
        self._answer(m, pe, run, host.host_latency.cycles)

        # State, as it was at the beginning of the cycle in which the program was over.
        m.d.sync += host.cycles.cycles.eq(Mux(run, host.cycles.cycles + ~over, 0))
        with m.If(~finished):
            m.d.sync += [getattr(host, name).count.eq(pe.counters[name]) for name in counters_of(chip.memory)]
            m.d.sync += [
                host.status.error.eq(pe.status.error),
                host.status.unit.eq(pe.status.unit),
                host.instruction.instruction.eq(pe.status.instruction),
            ]
        m.d.sync += [
            host.status.busy.eq(pe.status.busy),
            host.status.finished.eq(run & over),
            host.status.overflow.eq(out.overflow | events.overflow | requests.overflow),
        ]
        return m

    def _bank_on_chip(self, m, pe):
        """The PE's bank, the host's while it does not run; the run."""
        host, run = self.host, self.host.control.run
        m.submodules.bank = bank = OnChipBank(self._chip.hb)
        connect(m, pe.pins, bank.pins)
        connect(m, flipped(self.columns), bank.columns)
        self._window(m, host.bank, bank.host)
        m.d.comb += bank.host_owns.eq(~run)
        m.d.sync += host.status.violation.eq(bank.violation)
        return run

    def _axi_memory(self, m, pe):
        """The PE's memory behind AXI4; the run, which begins when transfers of the one before are over."""
        host, wanted = self.host, self.host.control.run
        settled = Signal(init=1)  # no transfer of an earlier run is left
        run = Signal()
        with m.If(pe.quiet):
            m.d.sync += settled.eq(1)
        with m.Elif(~wanted):
            m.d.sync += settled.eq(0)
        pass_through(m, self, pe, AxiBank.manager_members(self._chip.hb, self._chip.axi))
        m.d.comb += [
            run.eq(wanted & settled),
            pe.abandon.eq(~run),
            pe.memory_base.eq(host.memory_base.page * PAGE_BYTES),
        ]
        with m.If(~host.status.finished):
            m.d.sync += host.status.bus_error.eq(pe.counters.axi_errors != 0)
        return run

    def _resettable(self, m, pe, platform, reset):
        """``pe``, in reset as ``reset`` says beside the machine's own.

        An export has black-box instances, which an inserted reset does not reach: there the PE gets a reset net of its
        own on the same clock net, which Amaranth's simulator would take for another clock.
        """
        if not isinstance(platform, DefineOnce):
            return ResetInserter(reset)(pe)
        m.domains.run = ClockDomain("run", local=True)
        m.d.comb += [ClockSignal("run").eq(ClockSignal()), ResetSignal("run").eq(ResetSignal() | reset)]
        return DomainRenamer("run")(pe)

    def _window(self, m, decoder, memory) -> None:
        m.d.comb += [
            memory.en.eq(decoder.en),
            memory.write.eq(decoder.write),
            memory.address.eq(decoder.address),
            memory.data.eq(decoder.data),
            decoder.read_data.eq(memory.read_data),
        ]

    def _answer(self, m, pe, run, latency) -> None:
        """``latency`` cycles after a request, at once where that is 0."""
        left, waiting = Signal(16), Signal()
        with m.If(~run):
            m.d.sync += waiting.eq(0)
        with m.Elif(pe.host.valid):
            m.d.comb += pe.host_answer.eq(latency == 0)
            m.d.sync += [left.eq(latency - 1), waiting.eq(latency != 0)]
        with m.Elif(waiting):
            m.d.comb += pe.host_answer.eq(left == 0)
            m.d.sync += [left.eq(left - 1), waiting.eq(left != 0)]
