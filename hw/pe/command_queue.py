"""A unit's command queue and the rule by which its commands start."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated
from hw.isa.encoding import OPERANDS
from hw.params import SEMAPHORES, PeParams
from hw.pe.instruction import OPERAND_BITS, Command, Token
from hw.pe.operand_bits import narrowed
from hw.pe.semaphores import all_available


class CommandQueue(Repeated):
    """Holds a unit's commands, starts them in order, and remembers what to signal when they are done.

    A command pushed in one cycle is at the head from the next. It starts in the first cycle in which the unit is
    free and every awaited semaphore is at least 1; ``free`` in one cycle allows a start in the next. Several commands
    may be in progress (the array frees itself before it is done); they end in order.

    Parameters
    ----------
    params : PeParams
    in_flight : int
        Commands in progress at once, at most.
    operands : mapping
        Bits to keep of each operand slot, as of `hw.pe.operand_bits`; all unless given.

    Members
    -------
    push : In, stream of Command
        ``ready`` is low where the queue was full at the beginning of the cycle.
    available : In, 16
        Semaphores that are at least 1.
    stopped : In, 1
        Start nothing.
    start : Out, 1
        The unit takes ``command`` now.
    command : Out, Command
        At the head, valid with ``start``.
    takes : Out, 2 x Token
        What starting takes.
    free : In, 1
        The unit can start a command in the next cycle.
    done : In, 1
        The oldest command in progress ends in this cycle.
    gives : Out, 2 x Token
        What its end signals.
    oldest : Out, range(instructions)
        Instruction of the command that starts; where none does, of the oldest in progress.
    occupied, busy : Out, 1
        The unit is not free; a command is in progress.
    stalled : Out, 1
        The unit is free and a command at the head waits for a semaphore.
    empty : Out, 1
        Nothing queued.
    """

    def __init__(self, params: PeParams, in_flight: int = 1, operands: Mapping[str, int] | None = None):
        self._params, self._in_flight = params, in_flight
        self._operands = operands or dict.fromkeys(OPERANDS, OPERAND_BITS)
        kept = "".join(f"_{slot}{bits}" for slot, bits in self._operands.items() if bits)
        self.module_name = "command_queue" + (f"_{in_flight}" if in_flight > 1 else "") + kept
        command, tokens = Command(params), data.ArrayLayout(Token(), 2)
        super().__init__(
            {
                "push": In(stream.Signature(command)),
                "available": In(SEMAPHORES),
                "stopped": In(1),
                "start": Out(1),
                "command": Out(command),
                "takes": Out(tokens),
                "free": In(1),
                "done": In(1),
                "gives": Out(tokens),
                "oldest": Out(range(params.instructions)),
                "occupied": Out(1),
                "busy": Out(1),
                "stalled": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # What an entry holds: all fields, of the operands what the unit can use.
        payload = self.push.payload
        fields = {name: payload[name] for name in Command(self._params).members if name not in OPERANDS}
        fields |= {slot: narrowed(payload[slot], bits) for slot, bits in self._operands.items()}
        entry = data.StructLayout({name: Value.cast(value).shape() for name, value in fields.items()})
        m.submodules.queue = queue = SyncFIFO(width=entry.size, depth=self._params.queue_depth)
        head = self.command
        m.d.comb += [
            queue.w_data.eq(Cat(fields.values())),
            queue.w_en.eq(self.push.valid),
            self.push.ready.eq(queue.w_rdy),
            queue.r_en.eq(self.start),
            self.empty.eq(~queue.r_rdy),
        ]
        for name in fields:
            m.d.comb += Value.cast(head[name]).eq(Value.cast(data.View(entry, queue.r_data)[name]))

        m.d.sync += self.occupied.eq(self.start | (self.occupied & ~self.free))
        could_start = queue.r_rdy & ~self.occupied & ~self.stopped
        operands_there = all_available(head.waits, self.available)
        m.d.comb += [self.start.eq(could_start & operands_there), self.stalled.eq(could_start & ~operands_there)]
        for i in range(2):
            m.d.comb += [
                self.takes[i].semaphore.eq(head.waits[i].semaphore),
                self.takes[i].valid.eq(head.waits[i].valid & self.start),
            ]

        # Commands in progress, oldest first: a shift register, filled behind the last.
        record = data.StructLayout(
            {"signals": Command(self._params)["signals"].shape, "instruction": range(self._params.instructions)}
        )
        starting = Signal(record)
        records = [Signal(record, name=f"record_{i}") for i in range(self._in_flight)]
        count = Signal(range(self._in_flight + 1))
        m.d.comb += [starting.signals.eq(head.signals), starting.instruction.eq(head.instruction)]
        m.d.sync += count.eq(count + self.start - self.done)
        for i, each in enumerate(records):
            with m.If(self.start & (count - self.done == i)):
                m.d.sync += each.eq(starting)
            with m.Elif(self.done & (i + 1 < self._in_flight)):
                m.d.sync += each.eq(records[min(i + 1, self._in_flight - 1)])
        m.d.comb += [
            self.busy.eq(count != 0),
            self.oldest.eq(Mux(self.start, head.instruction, records[0].instruction)),
        ]
        for i in range(2):
            m.d.comb += [
                self.gives[i].semaphore.eq(records[0].signals[i].semaphore),
                self.gives[i].valid.eq(records[0].signals[i].valid & self.done),
            ]
        return m
