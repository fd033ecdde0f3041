"""Programs encoded by hand in hex, with results and every cycle worked by hand, at every level."""

import pytest

from hw.isa.encoding import Unit
from hw.isa.result import RunResult
from verification.programs.equality import run_level
from verification.programs.golden import GOLDEN, Golden


def _assert_values(golden: Golden, result: RunResult) -> None:
    assert result.state is not None
    for name in ("out", "events", "host"):
        assert tuple(getattr(result.state, name)) == getattr(golden, name), name
    for memory, entries in golden.memories.items():
        found = result.state.memories[memory]
        assert {address: found.get(address) for address in entries} == entries, memory


def _assert_times(golden: Golden, result: RunResult) -> None:
    assert tuple(result.unit) == golden.unit
    assert list(zip(result.start, result.done, strict=True)) == list(zip(golden.start, golden.done, strict=True))
    assert result.cycles == golden.cycles


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("level", ["functional", "exact", "fast", "rtl"])
def test_golden(level, name):
    """Values (where the level has them) and cycles of every command are those worked by hand; no error."""
    golden = GOLDEN[name]
    result = run_level(golden.program, level)
    assert result.error is None
    if level in ("functional", "rtl"):
        _assert_values(golden, result)
    if level != "functional":
        _assert_times(golden, result)


@pytest.mark.parametrize("level", ["exact", "fast", "rtl"])
def test_counters_by_hand(level):
    """Counters of the vector program, from its timeline in golden.py.

    gather is in progress from 7 to 21 and lacks a word from 8 to 19; add waits for nothing, mul neither; store is at
    the head from 27 and starts at 41: 14 cycles of semaphore. Executed: set, gather, loop, 3 x (mark, next), add, mul,
    store, return. add and mul take 10 and 8 cycles.
    """
    counters = run_level(GOLDEN["vector"].program, level).counters
    expected = {
        "sequencer_instructions": 13,
        "gather_commands": 1,
        "gather_busy_cycles": 15,
        "gather_words": 2,
        "gather_link_stalls": 12,
        "vector_commands": 2,
        "vector_busy_cycles": 10 + 8,
        "vector_rows": 2,
        "store_commands": 1,
        "store_busy_cycles": 3,
        "store_semaphore_stalls": 14,
        "store_words": 1,
    }
    assert {name: value for name, value in counters.items() if value} == expected


@pytest.mark.parametrize("level", ["exact", "fast", "rtl"])
def test_counters_of_the_bank_by_hand(level):
    """HB program: one row read (two columns), one written; host and WAIT as in the timeline of golden.py.

    host is at the head from 9 and starts in 47: 38 cycles. WAIT executes from 10 and leaves in 53, from 57 and leaves
    in 100: 43 + 43. The word of the refill is there; the controller takes both requests at once.
    """
    counters = run_level(GOLDEN["hb"].program, level).counters
    expected = {
        "sequencer_instructions": 8,
        "sequencer_wait_stalls": 86,
        "hb_commands": 1,
        "hb_busy_cycles": 40,
        "stream_commands": 1,
        "stream_busy_cycles": 44,
        "stream_words": 1,
        "host_commands": 1,
        "host_busy_cycles": 6,
        "host_semaphore_stalls": 38,
        "hb_activates": 2,
        "hb_reads": 2,
        "hb_writes": 1,
    }
    assert {name: value for name, value in counters.items() if value} == expected


def test_units_of_the_golden_programs():
    """The hand-made programs use every unit."""
    assert {unit for golden in GOLDEN.values() for unit in golden.unit} == set(Unit) - {Unit.SEQUENCER}
