"""What software sees of a PE: the first error, whether it is busy, performance counters."""

from collections.abc import Iterable

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa.counters import COUNTERS
from hw.isa.encoding import PeError, Unit
from hw.params import PeParams


class PeStatus(data.StructLayout):
    """The status register.

    busy         a record is being read or a kernel runs, or a command is queued or in progress
    error        a `PeError`; the PE stopped with it
    unit         `Unit` that found it, SEQUENCER for semaphores and watchdog
    instruction  of the command at fault; 0 for semaphores and watchdog
    """

    def __init__(self):
        super().__init__({"busy": 1, "error": PeError, "unit": Unit, "instruction": 32})


class ErrorUnit(wiring.Component):
    """Keeps the first error and stops the PE from the next cycle on; watches for progress.

    Of errors in one cycle that of the lowest unit counts, then semaphores, then the watchdog, which strikes in the last
    of ``watchdog_cycles`` consecutive cycles that are busy without progress.

    Parameters
    ----------
    params : PeParams

    Members
    -------
    errors : In, 8 x PeError
        By `Unit`, in the cycle in which they are found.
    instructions : In, 8 x 32
        Instruction that each would be about.
    semaphore_error : In, 1
        A semaphore left its range.
    busy, progress : In, 1
    stopped : Out, 1
    status : Out, PeStatus
    """

    def __init__(self, params: PeParams):
        self._params = params
        super().__init__(
            {
                "errors": In(data.ArrayLayout(PeError, len(Unit))),
                "instructions": In(data.ArrayLayout(32, len(Unit))),
                "semaphore_error": In(1),
                "busy": In(1),
                "progress": In(1),
                "stopped": Out(1),
                "status": Out(PeStatus()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        status, limit = self.status, self._params.watchdog_cycles
        kept = Signal(data.StructLayout({"error": PeError, "unit": Unit, "instruction": 32}))
        found = Signal.like(kept)
        waited = Signal(range(limit))
        stuck = self.busy & ~self.progress
        m.d.sync += waited.eq(0)
        with m.If(stuck & ~self.stopped):
            m.d.sync += waited.eq(waited + 1)

        # Assignments are in rising order of priority.
        with m.If(stuck & (waited == limit - 1)):
            m.d.comb += found.error.eq(PeError.WATCHDOG)
        with m.If(self.semaphore_error):
            m.d.comb += found.error.eq(PeError.SEMAPHORE)
        for unit in reversed(Unit):
            with m.If(self.errors[unit] != PeError.NONE):
                m.d.comb += [
                    found.error.eq(self.errors[unit]),
                    found.unit.eq(unit),
                    found.instruction.eq(self.instructions[unit]),
                ]
        m.d.comb += [
            self.stopped.eq(kept.error != PeError.NONE),
            status.busy.eq(self.busy),
            status.error.eq(kept.error),
            status.unit.eq(kept.unit),
            status.instruction.eq(kept.instruction),
        ]
        with m.If(~self.stopped):
            m.d.sync += kept.eq(found)
        return m


class CounterEvents(data.StructLayout):
    """What each counter of ``names`` grows by in a cycle."""

    def __init__(self, names: Iterable[str] = COUNTERS):
        super().__init__({name: 32 if name == "vector_rows" else 1 for name in names})


class CounterValues(data.StructLayout):
    """The counters as software reads them."""

    def __init__(self, names: Iterable[str] = COUNTERS):
        super().__init__(dict.fromkeys(names, 32))


class PerformanceCounters(wiring.Component):
    """Counters that wrap; an event shows in the next cycle.

    Parameters
    ----------
    names : counters to keep (`hw.isa.counters`)

    Members
    -------
    events : In, CounterEvents
    values : Out, CounterValues
    """

    def __init__(self, names: Iterable[str] = COUNTERS):
        self._names = list(names)
        super().__init__({"events": In(CounterEvents(self._names)), "values": Out(CounterValues(self._names))})

    def elaborate(self, platform):
        m = Module()
        for name in self._names:
            m.d.sync += self.values[name].eq(self.values[name] + self.events[name])
        return m
