"""One program at several levels: everything that must be equal, counted, since nothing compared proves nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.isa.result import RunResult

MODELS = ("functional", "exact", "fast")


VALUE, TIME, COUNTER = "value", "time", "counter"


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
    """Compare runs of one program; raises Mismatch at the first difference, or where there is nothing to compare.

    After an error its code, unit, instruction and cycle must be equal, and what had started and ended by then. Values
    and counters then depend on how far other units had come, which only RTL and exact follow.
    """
    for _, what, one, other, left, right in _items(results):
        if left != right:
            raise Mismatch(f"{what}: {one} {left}, {other} {right}")
    return tally(results)


def tally(results: Sequence[RunResult]) -> Compared:
    """Compare as `compare` does, but count what differs; Mismatch only where there is nothing to compare."""
    compared = Compared()
    for kind, _, _, _, left, right in _items(results):
        if kind == VALUE:
            compared.values += 1
            compared.wrong_values += left != right
        else:
            compared.times += kind == TIME
            compared.counters += kind == COUNTER
            compared.wrong_times += left != right
    if not compared.values or (sum(result.cycles is not None for result in results) > 1 and not compared.times):
        raise Mismatch("nothing compared")
    return compared


Item = tuple[str, str, str, str, object, object]


def _items(results: Sequence[RunResult]) -> Iterator[Item]:
    """(kind, what, level, level, left, right) of everything that must be equal."""
    stopped = any(result.error for result in results)
    with_values = [result for result in results if result.state is not None and not stopped]
    for other in with_values[1:]:
        yield from _values(with_values[0], other)
    for other in results[1:]:
        yield VALUE, "error", results[0].level, other.level, results[0].error, other.error
    timed = [result for result in results if result.cycles is not None]
    for other in timed[1:]:
        one = timed[0]
        for name in ("unit", "instruction", "start", "done"):
            yield from _lists(TIME, one, other, name, getattr(one, name), getattr(other, name))
        yield TIME, "cycles", one.level, other.level, one.cycles, other.cycles
        if not (stopped and "fast" in (one.level, other.level)):
            yield from _maps(COUNTER, one, other, "counter", one.counters, other.counters)


def _lists(kind: str, one: RunResult, other: RunResult, name: str, left: list, right: list) -> Iterator[Item]:
    for i, (a, b) in enumerate(zip_longest(left, right)):
        yield kind, f"{name}[{i}]", one.level, other.level, a, b


def _maps(kind: str, one: RunResult, other: RunResult, name: str, left: dict, right: dict) -> Iterator[Item]:
    for key in sorted(set(left) | set(right)):
        yield kind, f"{name} {key}", one.level, other.level, left.get(key), right.get(key)


def _values(one: RunResult, other: RunResult) -> Iterator[Item]:
    left, right = one.state, other.state
    for memory in sorted(set(left.memories) | set(right.memories)):
        yield from _maps(VALUE, one, other, memory, left.memories.get(memory, {}), right.memories.get(memory, {}))
    for name in ("out", "events", "host"):
        yield from _lists(VALUE, one, other, name, getattr(left, name), getattr(right, name))
    yield VALUE, "digest", one.level, other.level, one.digest, other.digest
