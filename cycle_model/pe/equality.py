"""What must be equal between the runs of one program at several levels, item by item.

After an error its code, unit, instruction and cycle must be equal, and what had started and ended by then. Values and
counters then depend on how far other units had come, which only RTL and exact follow.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from hw.isa.result import RunResult

VALUE, TIME, COUNTER = "value", "time", "counter"


class Item(NamedTuple):
    """Two levels' idea of one thing: entry of a memory, word, event, digest, error; start, done, total; counter.

    ``kind`` is VALUE, TIME or COUNTER; ``of`` the list or memory that ``what`` is an item of.
    """

    kind: str
    of: str
    what: str
    one: str
    other: str
    left: object
    right: object

    @property
    def equal(self) -> bool:
        """Whether the levels agree."""
        return self.left == self.right


def items(results: Sequence[RunResult]) -> Iterator[Item]:
    """Everything that must be equal between the first of ``results`` that has it and each other one."""
    stopped = any(result.error for result in results)
    with_values = [result for result in results if result.state is not None and not stopped]
    for other in with_values[1:]:
        yield from _values(with_values[0], other)
    for other in results[1:]:
        yield Item(VALUE, "error", "error", results[0].level, other.level, results[0].error, other.error)
    timed = [result for result in results if result.cycles is not None]
    for other in timed[1:]:
        one = timed[0]
        for name in ("unit", "instruction", "start", "done"):
            yield from _lists(TIME, one, other, name, getattr(one, name), getattr(other, name))
        yield Item(TIME, "cycles", "cycles", one.level, other.level, one.cycles, other.cycles)
        if not (stopped and "fast" in (one.level, other.level)):
            yield from _maps(COUNTER, one, other, "counter", one.counters, other.counters)


def _lists(kind: str, one: RunResult, other: RunResult, name: str, left: list, right: list) -> Iterator[Item]:
    for i, (a, b) in enumerate(zip_longest(left, right)):
        yield Item(kind, name, f"{name}[{i}]", one.level, other.level, a, b)


def _maps(kind: str, one: RunResult, other: RunResult, name: str, left: dict, right: dict) -> Iterator[Item]:
    for key in sorted(set(left) | set(right)):
        yield Item(kind, name, f"{name} {key}", one.level, other.level, left.get(key), right.get(key))


def _values(one: RunResult, other: RunResult) -> Iterator[Item]:
    left, right = one.state, other.state
    for memory in sorted(set(left.memories) | set(right.memories)):
        yield from _maps(VALUE, one, other, memory, left.memories.get(memory, {}), right.memories.get(memory, {}))
    for name in ("out", "events", "host"):
        yield from _lists(VALUE, one, other, name, getattr(left, name), getattr(right, name))
    yield Item(VALUE, "digest", "digest", one.level, other.level, one.digest, other.digest)
