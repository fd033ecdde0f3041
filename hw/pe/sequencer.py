"""The sequencer: reads dispatch records, runs kernels, hands commands to the units' queues."""

from amaranth.hdl import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.hierarchy import add_repeated
from hw.isa.encoding import (
    COMMAND_BITS,
    COMMAND_WORDS,
    DESCRIPTOR_VALID,
    OPERANDS,
    RECORD_ENTRY_BITS,
    REGISTER_BITS,
    Opcode,
    PeError,
    Unit,
)
from hw.memory.sram import Sram
from hw.params import LOOP_LEVELS, PeParams
from hw.pe.instruction import OPERAND_BITS, QUEUED_UNITS, Command, Instruction, Token, is_legal, unit_of
from hw.pe.register_file import RegisterFile


class LoadPort(wiring.Signature):
    """What fills IM and DM: one 32-bit word a cycle.

    en          Out
    descriptor  Out, into DM; else IM
    address     Out, word; in IM eight words an instruction, of which five are used
    data        Out, 32
    """

    def __init__(self, params: PeParams):
        words = max(8 * params.instructions, params.descriptors)
        super().__init__({"en": Out(1), "descriptor": Out(1), "address": Out(range(words)), "data": Out(32)})


class EventPort(wiring.Signature):
    """What MARK (kind 0) and COUNT (kind 1) report: ``valid`` for one cycle, every second cycle at most."""

    def __init__(self):
        super().__init__({"valid": Out(1), "kind": Out(1), "a": Out(OPERAND_BITS), "b": Out(OPERAND_BITS)})


class Sequencer(wiring.Component):
    """Executes instructions in order, two cycles each (DESCRIBE three), and never speculates.

    A dispatch record is a header (entry, number of registers) and the values of r1, r2 ...; the first fetch follows its
    last word. Registers that a record does not set keep their values. Operands are resolved in execute, so that a
    queued command does not depend on registers that change later.

    Parameters
    ----------
    params : PeParams
    macro : bool
        IM and DM as macros.

    Members
    -------
    dispatch : In, stream of 32 bits
    load : In, LoadPort
    command : Out, Command
        For all queues.
    push : Out, 7
        One-hot, in the order of `QUEUED_UNITS`: ``command`` is for that queue.
    ready : In, 7
        Queues that are not full.
    units_idle : In, 1
        All queues empty, no command in progress.
    gives : Out, 2 x Token
        Signals of WAIT.
    event : Out, EventPort
    stopped : In, 1
        Do nothing.
    error, instruction : Out
        A `PeError` in the cycle in which it is found, and the instruction executed or fetched now.
    idle : Out, 1
        Between two records.
    executed, queue_full, waiting : Out, 1
        An instruction ends; one waits for a full queue; WAIT waits.

    ``registers`` are r1 ... r15, for simulations that look at them.
    """

    def __init__(self, params: PeParams, *, macro: bool = False):
        self._params, self._macro = params, macro
        self._file = RegisterFile(len(OPERANDS))
        self.registers = self._file.registers
        super().__init__(
            {
                "dispatch": In(stream.Signature(unsigned(32))),
                "load": In(LoadPort(params)),
                "command": Out(Command(params)),
                "push": Out(len(QUEUED_UNITS)),
                "ready": In(len(QUEUED_UNITS)),
                "units_idle": In(1),
                "gives": Out(data.ArrayLayout(Token(), 2)),
                "event": Out(EventPort()),
                "stopped": In(1),
                "error": Out(PeError),
                "instruction": Out(32),
                "idle": Out(1),
                "executed": Out(1),
                "queue_full": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        fetch, describe = self._memories(m, platform)
        pc = Signal(32)
        word = data.View(Instruction(), fetch.data)
        flags = word.flags.sequencer
        m.d.comb += [fetch.addr.eq(pc), self.instruction.eq(pc)]

        # Registers and operands.
        m.submodules.file = file = self._file
        operand = {slot: Signal(OPERAND_BITS, name=f"operand_{slot}") for slot in OPERANDS}
        for i, (slot, value) in enumerate(operand.items()):
            m.d.comb += [file.numbers[i].eq(word[slot].register), value.eq(file.values[i] + word[slot].offset)]

        def write_register(number, value) -> None:
            m.d.comb += [file.write.eq(number), file.data.eq(value)]

        # Commands for the queues.
        unit, legal = unit_of(m, word.opcode), is_legal(m, word.opcode, word.flags)
        chosen = Signal(len(QUEUED_UNITS))
        m.d.comb += [
            chosen.eq(Mux(unit == Unit.SEQUENCER, 0, 1 << (unit - 1)[:3])),
            self.command.opcode.eq(word.opcode),
            self.command.waits.eq(word.waits),
            self.command.signals.eq(word.signals),
            self.command.flags.eq(word.flags),
            self.command.instruction.eq(pc),
        ]
        m.d.comb += [self.command[slot].eq(value) for slot, value in operand.items()]

        # Loops: innermost at ``level - 1``.
        starts = Array(Signal(32, name=f"loop_start_{i}") for i in range(LOOP_LEVELS))
        left = Array(Signal(32, name=f"loop_left_{i}") for i in range(LOOP_LEVELS))
        level = Signal(range(LOOP_LEVELS + 1))
        innermost = (level - 1)[: (LOOP_LEVELS - 1).bit_length()]

        record_left = Signal(REGISTER_BITS)
        record_register = Signal(REGISTER_BITS)

        def fail(error: PeError) -> None:
            m.d.comb += self.error.eq(error)

        def end(target=None) -> None:
            """The instruction in execute ends; the next one is ``target``, or the one behind it."""
            m.d.comb += self.executed.eq(1)
            m.d.sync += pc.eq(pc + 1 if target is None else target)
            m.next = "fetch"

        def execute_control() -> None:
            a, b, n = operand["a"], operand["b"], operand["n"]
            with m.Case(Opcode.SET):
                write_register(flags.register, fetch.data[64:96])
                end()
            with m.Case(Opcode.ADD_REGISTER):
                write_register(flags.register, a + b)
                end()
            with m.Case(Opcode.LOOP):
                with m.If(n == 0):
                    end(b)
                with m.Elif(level == LOOP_LEVELS):
                    fail(PeError.ILLEGAL_COMMAND)
                with m.Else():
                    m.d.sync += [
                        starts[level[: len(innermost)]].eq(pc + 1),
                        left[level[: len(innermost)]].eq(n),
                        level.eq(level + 1),
                    ]
                    end()
            with m.Case(Opcode.NEXT):
                with m.If(level == 0):
                    fail(PeError.ILLEGAL_COMMAND)
                with m.Elif(left[innermost] == 1):
                    m.d.sync += level.eq(level - 1)
                    end()
                with m.Else():
                    m.d.sync += left[innermost].eq(left[innermost] - 1)
                    end(starts[innermost])
            with m.Case(Opcode.BRANCH):
                end(Mux(a == 0, b, pc + 1))
            with m.Case(Opcode.DESCRIBE):
                m.d.comb += [describe.en.eq(1), describe.addr.eq(a)]
                with m.If(a >= p.descriptors):
                    fail(PeError.ADDRESS)
                m.next = "describe"
            with m.Case(Opcode.WAIT):
                m.d.comb += self.waiting.eq(~self.units_idle)
                with m.If(self.units_idle):
                    for i in range(2):
                        m.d.comb += [
                            self.gives[i].semaphore.eq(word.signals[i].semaphore),
                            self.gives[i].valid.eq(word.signals[i].valid),
                        ]
                    end()
            with m.Case(Opcode.MARK, Opcode.COUNT):
                is_count = word.opcode == Opcode.COUNT
                m.d.comb += [
                    self.event.valid.eq(1),
                    self.event.kind.eq(is_count),
                    self.event.a.eq(a),
                    self.event.b.eq(Mux(is_count, b, 0)),
                ]
                end()
            with m.Case(Opcode.RETURN):
                with m.If(level != 0):
                    fail(PeError.ILLEGAL_COMMAND)
                with m.Else():
                    m.d.comb += self.executed.eq(1)
                    m.next = "record"

        with m.If(~self.stopped), m.FSM() as machine:
            with m.State("record"):  # between two kernels: take a record's header
                m.d.comb += self.dispatch.ready.eq(1)
                with m.If(self.dispatch.valid):
                    registers_set = self.dispatch.payload[RECORD_ENTRY_BITS : RECORD_ENTRY_BITS + REGISTER_BITS]
                    m.d.sync += [
                        pc.eq(self.dispatch.payload[:RECORD_ENTRY_BITS]),
                        record_left.eq(registers_set),
                        record_register.eq(1),
                        level.eq(0),
                    ]
                    with m.If(registers_set == 0):
                        m.next = "fetch"
                    with m.Else():
                        m.next = "registers"

            with m.State("registers"):  # the record's register values
                m.d.comb += self.dispatch.ready.eq(1)
                with m.If(self.dispatch.valid):
                    write_register(record_register, self.dispatch.payload)
                    m.d.sync += [record_left.eq(record_left - 1), record_register.eq(record_register + 1)]
                    with m.If(record_left == 1):
                        m.next = "fetch"

            with m.State("fetch"):
                m.d.comb += fetch.en.eq(1)
                with m.If(pc >= p.instructions):
                    fail(PeError.ADDRESS)
                m.next = "execute"

            with m.State("execute"):
                with m.If(~legal):
                    fail(PeError.ILLEGAL_COMMAND)
                with m.Elif(unit != Unit.SEQUENCER):
                    m.d.comb += self.push.eq(chosen)
                    with m.If((self.ready & chosen).any()):
                        end()
                    with m.Else():
                        m.d.comb += self.queue_full.eq(1)
                with m.Else(), m.Switch(word.opcode):
                    execute_control()

            with m.State("describe"):  # the descriptor has been read
                write_register(flags.register, describe.data & (DESCRIPTOR_VALID - 1))
                with m.If(~describe.data[-1]):
                    fail(PeError.DESCRIPTOR)
                end()
        m.d.comb += self.idle.eq(machine.ongoing("record"))
        return m

    def _memories(self, m, platform):
        """IM and DM, written by ``load``; their read ports."""
        p = self._params
        instructions = Sram(p.instructions, COMMAND_BITS, 32, macro=self._macro)
        descriptors = Sram(p.descriptors, 32, macro=self._macro)
        add_repeated(m, "instructions", instructions, platform)
        add_repeated(m, "descriptors", descriptors, platform)
        into_instructions = self.load.en & ~self.load.descriptor
        for i in range(COMMAND_WORDS):
            m.d.comb += instructions.write.en[i].eq(into_instructions & (self.load.address[:3] == i))
        m.d.comb += [
            instructions.write.addr.eq(self.load.address[3:]),
            instructions.write.data.eq(self.load.data.replicate(COMMAND_WORDS)),
            descriptors.write.en.eq(self.load.en & self.load.descriptor),
            descriptors.write.addr.eq(self.load.address),
            descriptors.write.data.eq(self.load.data),
        ]
        return instructions.read, descriptors.read
