"""Makes a list of commands race-free: whatever touches the same place in two units is ordered by a semaphore.

A *place* is (memory, address). Units work in order, so what matters is the last command of another unit that wrote or
read a place. Token k that unit u gives unit v on a semaphore is taken by v's k-th wait for it; a wait is added only
where v does not already know of a later command of u, so that givers and takers stay in the same order. Where two
waits, two signals, 15 tokens or the semaphores do not suffice, WAIT separates the commands instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hw.isa.encoding import Command, Opcode, Operand, Unit
from hw.params import SEMAPHORE_MAX, SEMAPHORES

Place = tuple[str, int]


@dataclass
class Entry:
    """A command, its unit, and the tokens that it takes and gives."""

    opcode: Opcode
    unit: Unit
    fields: dict[str, int]
    operands: dict[str, Operand]
    value: int = 0
    waits: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)

    def command(self) -> Command:
        """As `hw.isa.encoding.pack` takes it."""
        return Command(self.opcode, tuple(self.waits), tuple(self.signals), self.fields, self.operands, self.value)


class Schedule:
    """Entries in program order, and who touched which place since the last WAIT."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._credit: tuple[Unit, int] | None = None
        self._forget()

    def _forget(self) -> None:
        self._barrier = len(self.entries) - 1  # what lies behind needs no token
        self._writer: dict[Place, int] = {}
        self._readers: dict[Place, dict[Unit, int]] = {}
        self._known: dict[tuple[Unit, Unit], int] = {}  # v knows that u's commands up to this one have ended
        self._given: dict[int, int] = {}
        self._channels: dict[tuple[Unit, Unit], int] = {}
        if self._credit:  # still to be taken
            self._channels[Unit.SEQUENCER, self._credit[0]] = self._credit[1]

    def control(self, opcode: Opcode, operands=None, value: int = 0, **fields: int) -> Entry:
        """Append a command of the sequencer."""
        entry = Entry(opcode, Unit.SEQUENCER, fields, operands or {}, value)
        self.entries.append(entry)
        return entry

    def wait(self, signals: Iterable[int] = ()) -> None:
        """Append a WAIT; nothing before it matters any more."""
        self.control(Opcode.WAIT).signals.extend(signals)
        self._forget()

    @property
    def pending_credit(self) -> bool:
        """Whether a credit waits for a command of its unit."""
        return self._credit is not None

    def give_credit(self, unit: Unit) -> None:
        """Append a WAIT whose signal the next command of ``unit`` waits for; none where a credit is still out."""
        self.wait()
        if self._credit:
            return
        semaphore = self._semaphore((Unit.SEQUENCER, unit))
        self.entries[-1].signals.append(semaphore)
        self._credit = (unit, semaphore)

    def _semaphore(self, channel: tuple[Unit, Unit]) -> int | None:
        """The semaphore by which channel = (giver, taker) synchronise, one of their own; None where all are used."""
        if channel not in self._channels:
            if len(self._channels) == SEMAPHORES:
                return None
            free = (7 * int(channel[0]) + 3 * int(channel[1])) % SEMAPHORES
            while free in self._channels.values():
                free = (free + 1) % SEMAPHORES
            self._channels[channel] = free
        return self._channels[channel]

    def _needed(self, unit: Unit, reads: set[Place], writes: set[Place]) -> dict[Unit, int]:
        """The last command of each other unit that must have ended."""
        needed: dict[Unit, int] = {}  # the result is sorted: sets of places come in another order in every process

        def after(index: int) -> None:
            other = self.entries[index].unit
            if other is not unit and index > self._known.get((other, unit), -1):
                needed[other] = max(needed.get(other, -1), index)

        for place in reads | writes:
            if place in self._writer:
                after(self._writer[place])
        for place in writes:
            for index in self._readers.get(place, {}).values():
                after(index)
        return dict(sorted(needed.items()))

    def _synchronise(self, entry: Entry, needed: dict[Unit, int]) -> bool:
        """Tokens so that ``entry`` follows the ``needed`` commands; False where that is not possible."""
        if len(needed) + len(entry.waits) > 2:
            return False
        tokens = []
        for other, index in needed.items():
            semaphore = self._semaphore((other, entry.unit))
            giver = self.entries[index]
            if semaphore is None or self._given.get(semaphore, 0) == SEMAPHORE_MAX:
                return False
            if len(giver.signals) == 2 or semaphore in giver.signals + giver.waits:
                return False
            tokens.append((semaphore, giver, other, index))
        for semaphore, giver, other, index in tokens:
            giver.signals.append(semaphore)
            entry.waits.append(semaphore)
            self._given[semaphore] = self._given.get(semaphore, 0) + 1
            self._known[other, entry.unit] = index
        return True

    def add(
        self,
        unit: Unit,
        opcode: Opcode,
        operands: dict[str, Operand],
        reads: set[Place],
        writes: set[Place],
        fields: dict[str, int],
        after: int | None = None,
    ) -> Entry:
        """Append a unit's command that reads and writes these places, with the tokens it needs.

        ``after`` is an entry that it follows although nothing asks for it.
        """
        entry = Entry(opcode, unit, fields, operands)
        if self._credit and self._credit[0] is unit:
            entry.waits.append(self._credit[1])
            self._credit = None
        needed = self._needed(unit, reads, writes)
        if after is not None and not needed:
            other = self.entries[after].unit
            if other not in (unit, Unit.SEQUENCER) and after > self._known.get((other, unit), self._barrier):
                needed = {other: after}
        if not self._synchronise(entry, needed):
            self.wait()
            if entry.waits:  # the credit, not yet taken
                self._channels[Unit.SEQUENCER, unit] = entry.waits[0]
        index = len(self.entries)
        self.entries.append(entry)
        for place in writes:
            self._writer[place] = index
            self._readers[place] = {}
        for place in reads:
            self._readers.setdefault(place, {})[unit] = index
        return entry
