"""The processing element: sequencer, seven units on queues, semaphores, memories, HB controller. See docs/pe.md."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.hierarchy import add_repeated
from hw.isa import HbCommand
from hw.isa.counters import counters_of
from hw.isa.encoding import Unit
from hw.memory.axi import pass_through
from hw.memory.axi_bank import AxiBank
from hw.memory.hb_controller import HbController
from hw.memory.hb_types import HbPinsSignature
from hw.memory.sram import SharedSram, Sram, WritePort
from hw.params import ChipParams
from hw.pe.array_unit import ArrayUnit, in_flight
from hw.pe.command_queue import CommandQueue
from hw.pe.gather_unit import GatherUnit
from hw.pe.hb_unit import HbUnit
from hw.pe.host_unit import HostRequest, HostUnit
from hw.pe.instruction import QUEUED_UNITS
from hw.pe.operand_bits import operand_bits
from hw.pe.result_memory import ResultMemory
from hw.pe.semaphores import Semaphores
from hw.pe.sequencer import EventPort, LoadPort, Sequencer
from hw.pe.status import CounterValues, ErrorUnit, PerformanceCounters, PeStatus
from hw.pe.store_unit import StoreUnit
from hw.pe.stream_unit import StreamUnit
from hw.pe.vector.vector_unit import VectorUnit

HB_LOADS, HB_REFILLS = 0, 1
"""Requesters of the HB controller; any more are idle."""


class TracePort(wiring.Signature):
    """Which commands were queued, started and ended in this cycle, a bit for each `Unit`.

    A unit's commands start and end in the order in which they were queued; ``instruction`` is that of ``pushed``.
    """

    def __init__(self):
        super().__init__(
            {
                "pushed": Out(len(Unit)),
                "instruction": Out(32),
                "start": Out(len(Unit)),
                "done": Out(len(Unit)),
                "slip": Out(1),
            }
        )


class Pe(wiring.Component):
    """Runs the kernels that dispatch records name. All times are those of docs/pe.md, "Time".

    Parameters
    ----------
    chip : ChipParams
    macro : bool
        Memories as macros of the technology (`hw.memory.sram.Sram`).

    Members
    -------
    pins : Out, HbPinsSignature
        The HB bank; only where ``chip.memory`` is "hb".
    m_axi_*, memory_base, abandon, quiet
        As of `hw.memory.axi_bank.AxiBank`; only where it is "axi". A PE is reset between programs while ``quiet``.
    stream_in : In, stream of words
        Stream link: weights, slices to refill.
    aggregate_in, aggregate_out : In, Out, stream of words
        Aggregation link.
    dispatch : In, stream of 32 bits
        Dispatch records.
    load : In, LoadPort
        Instructions and descriptors.
    host : Out, stream of HostRequest
    host_answer : In, 1
        The oldest request taken, or the one taken now, has been carried out.
    event : Out, EventPort
        Marks, and experts used.
    status : Out, PeStatus
    counters : Out, CounterValues
    trace : Out, TracePort

    Once elaborated, ``writes`` holds the write ports of WH, WL, AL, AV, LT and XM for simulations that look at them.
    """

    def __init__(self, chip: ChipParams, *, macro: bool = False):
        self._chip, self._macro = chip, macro
        self.writes: dict[str, WritePort] = {}
        word = unsigned(32 * chip.array.columns)
        super().__init__(
            self._bank_members()
            | {
                "stream_in": In(stream.Signature(word)),
                "aggregate_in": In(stream.Signature(word)),
                "aggregate_out": Out(stream.Signature(word)),
                "dispatch": In(stream.Signature(unsigned(32))),
                "load": In(LoadPort(chip.pe)),
                "host": Out(stream.Signature(HostRequest())),
                "host_answer": In(1),
                "event": Out(EventPort()),
                "status": Out(PeStatus()),
                "counters": Out(CounterValues(counters_of(chip.memory))),
                "trace": Out(TracePort()),
            }
        )

    def _bank_members(self) -> dict:
        """Ports of the side of the bank."""
        chip = self._chip
        if chip.memory == "hb":
            return {"pins": Out(HbPinsSignature(chip.hb))}
        base = {"memory_base": In(chip.axi.address_bits), "abandon": In(1), "quiet": Out(1)}
        return AxiBank.manager_members(chip.hb, chip.axi) | base

    def elaborate(self, platform):
        m = Module()
        chip = self._chip
        m.submodules.sequencer = sequencer = Sequencer(chip.pe, macro=self._macro)
        m.submodules.controller = controller = self._bank(m)
        m.submodules.hb = hb = HbUnit(chip)
        m.submodules.stream = stream_unit = StreamUnit(chip)
        m.submodules.gather = gather = GatherUnit(chip)
        m.submodules.array = array = ArrayUnit(chip)
        m.submodules.vector = vector = VectorUnit(chip, macro=self._macro)
        m.submodules.store = store = StoreUnit(chip)
        m.submodules.host_unit = host = HostUnit(chip.pe)
        units = dict(zip(QUEUED_UNITS, (hb, stream_unit, gather, array, vector, store, host), strict=True))

        # Ports of the units to the outside.
        connect(m, hb.hb, controller.requesters[HB_LOADS])
        connect(m, stream_unit.hb, controller.requesters[HB_REFILLS])
        connect(m, flipped(self.stream_in), stream_unit.link)
        connect(m, flipped(self.aggregate_in), gather.link)
        connect(m, store.link, flipped(self.aggregate_out))
        connect(m, host.request, flipped(self.host))
        connect(m, flipped(self.dispatch), sequencer.dispatch)
        connect(m, flipped(self.load), sequencer.load)
        connect(m, sequencer.event, flipped(self.event))
        m.d.comb += host.answer.eq(self.host_answer)

        queues = self._queues(m, platform, sequencer, units)
        self._memories(m, platform, units)
        self._status(m, sequencer, queues, units, controller)
        self._count(m, sequencer, queues, units, controller)
        return m

    def _bank(self, m) -> HbController | AxiBank:
        """What serves the requesters, its outer side connected."""
        chip = self._chip
        if chip.memory == "hb":
            bank = HbController(chip.hb)
            connect(m, bank.pins, flipped(self.pins))
            return bank
        bank = AxiBank(chip.hb, chip.axi)
        pass_through(m, self, bank, AxiBank.manager_members(chip.hb, chip.axi))
        m.d.comb += [bank.base.eq(self.memory_base), bank.abandon.eq(self.abandon), self.quiet.eq(bank.quiet)]
        return bank

    def _queues(self, m, platform, sequencer, units) -> dict[Unit, CommandQueue]:
        """Queues and semaphores between sequencer and units."""
        m.submodules.semaphores = semaphores = Semaphores(len(units) + 1, len(units))
        queues = {}
        for i, (unit, component) in enumerate(units.items()):
            overlapping = in_flight(self._chip) if unit is Unit.ARRAY else 1
            queue = CommandQueue(self._chip.pe, overlapping, operand_bits(self._chip, unit))
            add_repeated(m, f"{unit.name.lower()}_queue", queue, platform)
            m.d.comb += [
                queue.push.payload.eq(sequencer.command),
                queue.push.valid.eq(sequencer.push[i]),
                sequencer.ready[i].eq(queue.push.ready),
                queue.available.eq(semaphores.available),
                component.go.eq(queue.start),
                component.command.eq(queue.command),
                queue.done.eq(component.done),
                queue.free.eq(component.free if unit is Unit.ARRAY else component.done),
                semaphores.takes[i].eq(queue.takes),
                semaphores.gives[i].eq(queue.gives),
            ]
            queues[unit] = queue
        m.d.comb += [
            semaphores.gives[len(units)].eq(sequencer.gives),
            sequencer.units_idle.eq(Cat(queue.empty & ~queue.busy for queue in queues.values()).all()),
        ]
        self._semaphore_error = semaphores.error
        return queues

    def _memories(self, m, platform, units) -> None:
        """WH, WL, AL, AV, RT, LT and XM between the units; VT and row registers are the vector unit's."""
        chip, pe = self._chip, self._chip.pe
        array, vector = units[Unit.ARRAY], units[Unit.VECTOR]
        word, group = 32 * chip.array.columns, 256 * chip.array.rows
        piece = 8 * chip.array.columns
        wh, wl = (Sram(words, word, macro=self._macro) for words in (pe.wh_words, pe.wl_words))
        al = Sram(pe.al_groups, group, word, macro=self._macro)
        av = Sram(pe.av_groups, group, piece, macro=self._macro)
        xm = Sram(pe.xm_words, word, piece, macro=self._macro)
        m.submodules.rt = rt = ResultMemory(chip, macro=self._macro)
        m.submodules.lt = lt = SharedSram(2, pe.lt_rows, word, macro=self._macro)
        for name, memory, writer, reader in (
            ("wh", wh, units[Unit.HB].write, array.wh),
            ("wl", wl, units[Unit.STREAM].write, array.wl),
            ("al", al, units[Unit.GATHER].write_al, array.al),
            ("xm", xm, vector.xm, units[Unit.STORE].read),
        ):
            add_repeated(m, name, memory, platform)
            self.writes[name.upper()] = memory.write
            connect(m, writer, memory.write)
            connect(m, reader, memory.read)
        add_repeated(m, "av", av, platform)
        self.writes |= {"AV": av.write, "LT": lt.write}
        connect(m, array.av, av.read)
        pieces = 32 // chip.array.columns  # of a row in a group word
        lane = vector.av.row * pieces + vector.av.piece % pieces
        m.d.comb += [
            av.write.en.eq(vector.av.en << lane),
            av.write.addr.eq(vector.av.piece // pieces),
            av.write.data.eq(vector.av.data.replicate(len(av.write.en))),
            rt.write.eq(array.write),
            rt.result.eq(array.result),
        ]
        connect(m, units[Unit.GATHER].write_lt, lt.write)
        for i in range(2):
            connect(m, vector.rt[i], rt.reads[i])
            connect(m, vector.lt[i], lt.reads[i])

    def _status(self, m, sequencer, queues, units, controller) -> None:
        """The first error, what it stops, and the trace."""
        m.submodules.error_unit = errors = ErrorUnit(self._chip.pe)
        queue_list, trace = list(queues.values()), self.trace
        start, done = Cat(queue.start for queue in queue_list), Cat(unit.done for unit in units.values())
        moved = [
            port.valid & port.ready
            for port in (
                self.stream_in,
                self.aggregate_in,
                self.aggregate_out,
                self.dispatch,
                controller.requesters[HB_LOADS].read,
            )
        ]
        m.d.comb += [
            errors.errors[Unit.SEQUENCER].eq(sequencer.error),
            errors.instructions[Unit.SEQUENCER].eq(sequencer.instruction),
            errors.semaphore_error.eq(self._semaphore_error),
            errors.busy.eq(~(sequencer.idle & sequencer.units_idle)),
            errors.progress.eq(start.any() | done.any() | Cat(moved).any()),
            self.status.eq(errors.status),
            sequencer.stopped.eq(errors.stopped),
            trace.pushed.eq(Cat(0, *(queue.push.valid & queue.push.ready for queue in queue_list))),
            trace.instruction.eq(sequencer.instruction),
            trace.start.eq(Cat(0, start)),
            trace.done.eq(Cat(0, done)),
            trace.slip.eq(units[Unit.ARRAY].slip),
        ]
        for unit, queue in queues.items():
            m.d.comb += [
                queue.stopped.eq(errors.stopped),
                errors.errors[unit].eq(units[unit].error),
                errors.instructions[unit].eq(queue.oldest),
            ]

    def _count(self, m, sequencer, queues, units, controller) -> None:
        """Performance counters."""
        m.submodules.performance = performance = PerformanceCounters(counters_of(self._chip.memory))
        events = performance.events
        refill = units[Unit.STREAM].hb
        out = self.aggregate_out
        counted = {
            "sequencer_instructions": sequencer.executed,
            "sequencer_queue_stalls": sequencer.queue_full,
            "sequencer_wait_stalls": sequencer.waiting,
            "hb_request_stalls": units[Unit.HB].hb.request.valid & ~units[Unit.HB].hb.request.ready,
            "stream_request_stalls": refill.request.valid & ~refill.request.ready,
            "stream_words": self.stream_in.valid & self.stream_in.ready,
            "stream_link_stalls": self.stream_in.ready & ~self.stream_in.valid,
            "gather_words": self.aggregate_in.valid & self.aggregate_in.ready,
            "gather_link_stalls": self.aggregate_in.ready & ~self.aggregate_in.valid,
            "store_words": out.valid & out.ready,
            "store_link_stalls": out.valid & ~out.ready,
            "array_groups": units[Unit.ARRAY].slot_begins,
            "vector_rows": Mux(queues[Unit.VECTOR].start, queues[Unit.VECTOR].command.n, 0),
        }
        counted |= self._bank_events(m, controller)
        for unit, queue in queues.items():
            name = unit.name.lower()
            counted |= {
                f"{name}_commands": queue.start,
                f"{name}_busy_cycles": queue.start | queue.occupied,
                f"{name}_semaphore_stalls": queue.stalled,
            }
        m.d.comb += [events[name].eq(event) for name, event in counted.items()]
        m.d.comb += self.counters.eq(performance.values)

    def _bank_events(self, m, bank) -> dict:
        """What can be counted at the bank's side."""
        if self._chip.memory == "axi":
            return {f"axi_{name}": bank.events[name] for name, _ in bank.events.shape()}
        command = bank.pins.command
        first = Signal()  # no row of this transfer has been activated
        m.d.sync += first.eq(~bank.busy | (first & (command != HbCommand.ACTIVATE)))
        return {
            "hb_activates": command == HbCommand.ACTIVATE,
            "hb_reads": command == HbCommand.READ,
            "hb_writes": command == HbCommand.WRITE,
            "hb_refreshes": command == HbCommand.REFRESH,
            "hb_row_conflicts": (command == HbCommand.ACTIVATE) & ~first,
            "hb_stream_stalls": bank.stalled,
        }
