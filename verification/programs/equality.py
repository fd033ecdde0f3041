"""One program at several levels: everything that must be equal, counted, since nothing compared proves nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.isa.result import RunResult

MODELS = ("functional", "exact", "fast")


@dataclass
class Compared:
    """Items compared between levels: entries of memories, words, events; starts, dones, totals; counters."""

    values: int = 0
    times: int = 0
    counters: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(self.values + other.values, self.times + other.times, self.counters + other.counters)


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
    stopped = any(result.error for result in results)
    compared = Compared()
    with_values = [result for result in results if result.state is not None and not stopped]
    for other in with_values[1:]:
        compared.values += _compare_values(with_values[0], other)
    for other in results[1:]:
        _equal(results[0], other, "error", results[0].error, other.error)
        compared.values += 1
    timed = [result for result in results if result.cycles is not None]
    for other in timed[1:]:
        for name in ("unit", "instruction", "start", "done"):
            compared.times += _compare_lists(timed[0], other, name, getattr(timed[0], name), getattr(other, name))
        _equal(timed[0], other, "cycles", timed[0].cycles, other.cycles)
        compared.times += 1
        if not (stopped and "fast" in (timed[0].level, other.level)):
            compared.counters += _compare_maps(timed[0], other, "counters", timed[0].counters, other.counters)
    if not compared.values or (len(timed) > 1 and not compared.times):
        raise Mismatch("nothing compared")
    return compared


def _equal(one: RunResult, other: RunResult, what: str, left: object, right: object) -> None:
    if left != right:
        raise Mismatch(f"{what}: {one.level} {left}, {other.level} {right}")


def _compare_lists(one: RunResult, other: RunResult, name: str, left: list, right: list) -> int:
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        _equal(one, other, f"{name}[{i}]", a, b)
    _equal(one, other, f"length of {name}", len(left), len(right))
    return len(left)


def _compare_maps(one: RunResult, other: RunResult, name: str, left: dict, right: dict) -> int:
    for key in sorted(set(left) | set(right)):
        _equal(one, other, f"{name} {key}", left.get(key), right.get(key))
    return len(left)


def _compare_values(one: RunResult, other: RunResult) -> int:
    left, right = one.state, other.state
    compared = 0
    for memory in sorted(set(left.memories) | set(right.memories)):
        compared += _compare_maps(one, other, memory, left.memories.get(memory, {}), right.memories.get(memory, {}))
    for name in ("out", "events", "host"):
        compared += _compare_lists(one, other, name, getattr(left, name), getattr(right, name))
    _equal(one, other, "digest", one.digest, other.digest)
    return compared + 1
