"""Random work of the sequencer: waits, credits, loops, branches, descriptors, registers, events, new kernels."""

from hw.isa.encoding import DESCRIPTOR_VALID, Opcode, Operand, Unit
from verification.programs.draft import Commands, Draft
from verification.programs.random_transfers import Transfers
from verification.programs.random_vector import VectorCommands

_SCRATCH = 15
"""Register that counts in loops; operands never use it."""


class Control(Commands):
    """Control around nothing, or around commands of ``transfers`` and ``vector``."""

    def __init__(self, draft: Draft, transfers: Transfers, vector: VectorCommands):
        super().__init__(draft)
        self._transfers, self._vector = transfers, vector

    def random_control(self) -> None:
        """One of all kinds of control, equally often."""
        kind = self._rng.integers(9)
        if kind == 0:
            self._schedule.wait()
        elif kind == 1:
            self._schedule.give_credit(self._draft.pick(*[unit for unit in Unit if unit is not Unit.SEQUENCER]))
        elif kind == 2:
            self._nested_loops(int(self._rng.integers(1, 5)))
        elif kind == 3:
            self._loop_of_commands()
        elif kind == 4:
            self._branch()
        elif kind == 5:
            self._describe()
        elif kind == 6:
            register = int(self._rng.integers(1, 10))
            a, b = (int(x) for x in self._rng.integers(0, 300, 2))
            operands = self._draft.operands({"a": a, "b": b})
            self._schedule.control(Opcode.ADD_REGISTER, operands, register=register)
            self._draft.registers[register] = a + b
        elif kind == 7:
            self._draft.end_kernel()
            self._draft.begin_kernel()
        else:
            self._events()

    def _events(self) -> None:
        """MARK or COUNT, which only the trace sees."""
        a, b = (int(x) for x in self._rng.integers(0, 100, 2))
        if self._rng.random() < 0.5:
            self._schedule.control(Opcode.MARK, {"a": self._draft.operand(a)})
        else:
            self._schedule.control(Opcode.COUNT, {"a": self._draft.operand(a), "b": self._draft.operand(b)})

    def _nested_loops(self, depth: int) -> None:
        """Loops of the sequencer's own commands, the innermost maybe skipped."""
        entries = self._schedule.entries
        loops = []
        self._draft.set_register(_SCRATCH, 0)
        for level in range(depth):
            count = int(self._rng.integers(0 if level == depth - 1 else 1, 4))
            loops.append(self._schedule.control(Opcode.LOOP, {"n": Operand(0, count)}))
            increment = {"a": Operand(_SCRATCH, 0), "b": Operand(0, level + 1)}
            self._schedule.control(Opcode.ADD_REGISTER, increment, register=_SCRATCH)
        self._schedule.control(Opcode.MARK, {"a": Operand(_SCRATCH, 0)})
        for loop in reversed(loops):
            self._schedule.control(Opcode.NEXT)
            loop.operands["b"] = Operand(0, len(entries))
        self._draft.registers.pop(_SCRATCH, None)

    def _loop_of_commands(self) -> None:
        """Some commands between two WAITs, several times; the links bring their words as often."""
        self._schedule.wait()
        if self._schedule.pending_credit:
            return
        # The body may be repeated since it leaves at least what it found, and changes no register.
        times = int(self._rng.integers(1, 4))
        registers, self._draft.registers = self._draft.registers, {}
        loop = self._schedule.control(Opcode.LOOP, {"n": Operand(0, times)})
        streamed, gathered = len(self._draft.stream), len(self._draft.gather)
        for _ in range(int(self._rng.integers(1, 5))):
            self._draft.pick(
                self._transfers.random_hb_load,
                self._transfers.random_stream_load,
                self._transfers.random_refill,
                self._transfers.random_gather,
            )()
            self._draft.pick(
                self._vector.random_copy,
                self._transfers.random_store,
                self._transfers.random_host,
                self._transfers.random_hb_load,
            )()
        self._schedule.wait()
        self._schedule.control(Opcode.NEXT)
        loop.operands["b"] = Operand(0, len(self._schedule.entries))
        self._draft.stream += self._draft.stream[streamed:] * (times - 1)
        self._draft.gather += self._draft.gather[gathered:] * (times - 1)
        self._draft.registers = registers

    def _branch(self) -> None:
        """Over an instruction that would mark what must not be seen, or not."""
        taken = self._rng.random() < 0.5
        branch = self._schedule.control(Opcode.BRANCH, {"a": self._draft.operand(0 if taken else 7)})
        self._schedule.control(Opcode.MARK, {"a": Operand(0, 999)})
        branch.operands["b"] = Operand(0, len(self._schedule.entries))

    def _describe(self) -> None:
        """DESCRIBE of a new descriptor, while the memory has room."""
        if len(self._draft.descriptors) == self._chip.pe.descriptors:
            return
        register, value = int(self._rng.integers(1, 10)), int(self._rng.integers(0, 400))
        self._schedule.control(
            Opcode.DESCRIBE, {"a": self._draft.operand(len(self._draft.descriptors))}, register=register
        )
        self._draft.descriptors.append(value | DESCRIPTOR_VALID)
        self._draft.registers[register] = value
