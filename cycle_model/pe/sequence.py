"""Program order: the instructions that a program executes, one by one, with the values of their operands.

The functional level's own reading of docs/pe.md; time is decided elsewhere (`cycle_model.pe.decoder` has its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cycle_model.pe.memories import PeStop
from hw.errors import UserError
from hw.isa.encoding import DESCRIPTOR_VALID, RECORD_ENTRY_BITS, Command, Opcode, PeError, Unit, unpack
from hw.isa.program import PeProgram
from hw.params import LOOP_LEVELS, REGISTERS

_MASK = 0xFFFFFFFF


@dataclass
class Step:
    """One executed instruction: its command and the values of its operands by slot."""

    instruction: int
    command: Command
    values: dict[str, int]


@dataclass
class Sequencer:
    """Registers, loops and dispatch records of ``program``; iterate over `steps`.

    ``instruction`` is the one at which a PeStop happened.
    """

    program: PeProgram
    registers: list[int] = field(default_factory=lambda: [0] * REGISTERS)
    instruction: int = 0
    _decoded: dict[int, Command] = field(default_factory=dict)

    def steps(self) -> Iterator[Step]:
        """Every executed instruction in program order, before its effect on anything but the sequencer.

        Raises
        ------
        PeStop
            What the sequencer itself refuses; WATCHDOG for more instructions without a unit's command than the
            watchdog has cycles, since the PE would stop no later.
        """
        words = iter(self.program.dispatch)
        for head in words:
            for register in range(1, (head >> RECORD_ENTRY_BITS & (REGISTERS - 1)) + 1):
                self.registers[register] = next(words, 0)
            yield from self._kernel(head & ((1 << RECORD_ENTRY_BITS) - 1))

    def _kernel(self, pc: int) -> Iterator[Step]:
        loops: list[list[int]] = []  # [first instruction of the body, times left]
        idle = 0
        while True:
            self.instruction = pc
            command = self._fetch(pc)
            values = {
                slot: (self.registers[operand.register] + operand.offset) & _MASK
                for slot, operand in command.operands.items()
            }
            yield Step(pc, command, values)
            idle = 0 if command.spec.unit is not Unit.SEQUENCER else idle + 1
            if idle > self.program.chip.pe.watchdog_cycles:
                raise PeStop(PeError.WATCHDOG)
            if command.opcode is Opcode.RETURN:
                if loops:
                    raise PeStop(PeError.ILLEGAL_COMMAND)
                return
            pc = self._execute(pc, command, values, loops)

    def _fetch(self, pc: int) -> Command:
        if pc >= self.program.chip.pe.instructions:
            raise PeStop(PeError.ADDRESS)
        if pc not in self._decoded:
            try:
                self._decoded[pc] = unpack(self.program.instructions[pc])
            except (UserError, IndexError):
                raise PeStop(PeError.ILLEGAL_COMMAND) from None
        return self._decoded[pc]

    def _execute(self, pc: int, command: Command, values: dict[str, int], loops: list[list[int]]) -> int:
        """The next instruction."""
        opcode = command.opcode
        if opcode is Opcode.SET:
            self._set(command, command.value)
        elif opcode is Opcode.ADD_REGISTER:
            self._set(command, (values["a"] + values["b"]) & _MASK)
        elif opcode is Opcode.DESCRIBE:
            self._set(command, self._descriptor(values["a"]))
        elif opcode is Opcode.BRANCH and values["a"] == 0:
            return values["b"]
        elif opcode is Opcode.LOOP:
            if values["n"] == 0:
                return values["b"]
            if len(loops) == LOOP_LEVELS:
                raise PeStop(PeError.ILLEGAL_COMMAND)
            loops.append([pc + 1, values["n"]])
        elif opcode is Opcode.NEXT:
            if not loops:
                raise PeStop(PeError.ILLEGAL_COMMAND)
            loops[-1][1] -= 1
            if loops[-1][1]:
                return loops[-1][0]
            loops.pop()
        return pc + 1

    def _set(self, command: Command, value: int) -> None:
        if command.fields["register"]:
            self.registers[command.fields["register"]] = value

    def _descriptor(self, address: int) -> int:
        if address >= self.program.chip.pe.descriptors:
            raise PeStop(PeError.ADDRESS)
        table = self.program.descriptors
        descriptor = table[address] if address < len(table) else 0
        if not descriptor & DESCRIPTOR_VALID:
            raise PeStop(PeError.DESCRIPTOR)
        return descriptor & ~DESCRIPTOR_VALID
