"""One program at several levels: everything that must be equal, counted, since nothing compared proves nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from cycle_model.pe.equality import COUNTER, TIME, VALUE, items
from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.isa.result import RunResult

MODELS = ("functional", "exact", "fast")


@dataclass
class Compared:
    """Items compared between levels: entries of memories, words, events; starts, dones, totals; counters.

    ``wrong_values`` and ``wrong_times`` (counters included) are those that differ; only `tally` lets them be.
    """

    values: int = 0
    times: int = 0
    counters: int = 0
    wrong_values: int = 0
    wrong_times: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def items(self) -> int:
        """All of them."""
        return self.values + self.times + self.counters


class Mismatch(AssertionError):
    """Levels differ; the message names level, item and both values."""


def run_level(program: PeProgram, level: str) -> RunResult:
    """The run of ``program`` at functional, exact, fast or rtl (Amaranth's simulator)."""
    if level == "rtl":
        from rtl_gen.simulate import simulate_pe

        return simulate_pe(program)
    levels: dict[str, Callable[[PeProgram], RunResult]] = {"functional": functional, "exact": exact, "fast": fast}
    return levels[level](program)


def assert_levels_equal(program: PeProgram, levels: Sequence[str] = MODELS) -> Compared:
    """Run ``program`` at every level and compare; raises Mismatch at the first difference."""
    return compare([run_level(program, level) for level in levels])


def compare(results: Sequence[RunResult]) -> Compared:
    """Compare runs of one program; raises Mismatch at the first difference, or where there is nothing to compare."""
    for item in items(results):
        if not item.equal:
            raise Mismatch(f"{item.what}: {item.one} {item.left}, {item.other} {item.right}")
    return tally(results)


def tally(results: Sequence[RunResult]) -> Compared:
    """Compare as `compare` does, but count what differs; Mismatch only where there is nothing to compare."""
    compared = Compared()
    for item in items(results):
        if item.kind == VALUE:
            compared.values += 1
            compared.wrong_values += not item.equal
        else:
            compared.times += item.kind == TIME
            compared.counters += item.kind == COUNTER
            compared.wrong_times += not item.equal
    if not compared.values or (sum(result.cycles is not None for result in results) > 1 and not compared.times):
        raise Mismatch("nothing compared")
    return compared
