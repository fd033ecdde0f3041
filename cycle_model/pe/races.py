"""Races between units: accesses that no semaphore, queue or WAIT puts in an order. Vector clocks over program order.

Each semaphore has one giving and one taking unit, so its k-th token taken is its k-th given, whatever the time: what
had ended before a token was given is over when it is taken. A program without a finding here computes the same values
in every order of time that the PE can show.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

from hw.errors import UserError
from hw.isa.encoding import Command, Opcode, Unit
from hw.params import SEMAPHORES

_UNITS = len(Unit)


class RaceDetector:
    """Told every command (`begin`, `end`) and every access between them; raises UserError at the first race."""

    def __init__(self) -> None:
        self._count = np.zeros(_UNITS, np.int64)  # commands of each unit so far
        self._known = np.zeros((_UNITS, _UNITS), np.int64)  # [unit, other]: commands of other over when unit's began
        self._tokens = [deque() for _ in range(SEMAPHORES)]
        self._writes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._reads: dict[str, np.ndarray] = {}
        self._instructions = defaultdict(list)
        self._unit = Unit.SEQUENCER

    def begin(self, command: Command, instruction: int) -> None:
        """A unit's command in program order, or WAIT."""
        if command.opcode is Opcode.WAIT:
            self._known[:] = np.maximum(self._known, self._count)
            return
        unit = self._unit = command.spec.unit
        known = self._known[unit]
        for semaphore in command.waits:
            if self._tokens[semaphore]:
                np.maximum(known, self._tokens[semaphore].popleft(), out=known)
        known[unit] = self._count[unit]  # a unit's own commands are in order
        self._count[unit] += 1
        self._instructions[unit].append(instruction)

    def end(self, command: Command) -> None:
        """Gives the command's tokens."""
        if command.opcode is Opcode.WAIT:
            token = self._count.copy()
        else:
            token = self._known[command.spec.unit].copy()
            token[command.spec.unit] = self._count[command.spec.unit]
        for semaphore in command.signals:
            self._tokens[semaphore].append(token)

    def access(self, memory: str, size: int, first: int, count: int, *, write: bool) -> None:
        """``count`` places of ``memory`` from ``first`` on, by the command that began last."""
        if memory not in self._writes:
            self._writes[memory] = np.zeros(size, np.int64), np.zeros(size, np.int64)
            self._reads[memory] = np.zeros((_UNITS, size), np.int64)
        place = slice(first, first + count)
        writers, numbers = (array[place] for array in self._writes[memory])
        known = self._known[self._unit].copy()
        known[self._unit] = self._count[self._unit]
        wrong = numbers > known[writers]
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            self._refuse(memory, first + at, int(writers[at]), int(numbers[at]), "written")
        if write:
            reads = self._reads[memory][:, place]
            wrong = reads > known[:, None]
            if wrong.any():
                other, at = (int(index) for index in np.argwhere(wrong)[0])
                self._refuse(memory, first + at, other, int(reads[other, at]), "read")
            writers[:], numbers[:] = self._unit, self._count[self._unit]
        else:
            self._reads[memory][self._unit, place] = self._count[self._unit]

    def _refuse(self, memory: str, place: int, unit: int, number: int, how: str) -> None:
        instruction = self._instructions[unit][number - 1]
        raise UserError(
            f"uses {memory}[{place}], which {Unit(unit).name} has {how} at instruction {instruction} "
            "without an order between the two"
        )
