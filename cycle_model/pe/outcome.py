"""What exact and fast are given beside the decoded steps (links), and what they fill in (run): no time is made here."""

from typing import NamedTuple

import numpy as np

from cycle_model.pe.steps import Kind, Step
from hw.isa.counters import COUNTERS
from hw.isa.encoding import PeError, Unit
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import PeFault, RunResult

_NAMES = list(COUNTERS)


class _Places(NamedTuple):
    """Index of each counter; ``commands``, ``busy`` and ``semaphore_stalls`` + unit are places of a unit's own."""

    sequencer_instructions: int
    sequencer_queue_stalls: int
    sequencer_wait_stalls: int
    hb_request_stalls: int
    stream_request_stalls: int
    stream_words: int
    stream_link_stalls: int
    gather_words: int
    gather_link_stalls: int
    store_words: int
    store_link_stalls: int
    array_groups: int
    vector_rows: int
    hb_activates: int
    hb_reads: int
    hb_writes: int
    hb_refreshes: int
    hb_row_conflicts: int
    hb_stream_stalls: int
    commands: int
    busy: int
    semaphore_stalls: int


_UNIT_PLACES = {"commands": "commands", "busy": "busy_cycles", "semaphore_stalls": "semaphore_stalls"}
_PER_UNIT = len(_NAMES)
COUNTER = _Places(
    **{name: _NAMES.index(name) for name in _Places._fields if name in COUNTERS},
    **{name: _PER_UNIT + k * len(Unit) for k, name in enumerate(_UNIT_PLACES)},
)
COUNTER_ROOM = _PER_UNIT + len(_UNIT_PLACES) * len(Unit)


class Links(NamedTuple):
    """Chunks of the two links in order: words of each and the cycle from which they are offered; the host's answers."""

    stream_words: np.ndarray
    stream_from: np.ndarray
    gather_words: np.ndarray
    gather_from: np.ndarray
    host_cycles: np.ndarray


AT_QUEUE, AT_SEMAPHORE, AT_CONTROLLER, AT_LINK = range(4)
"""Columns of `Run.waits`."""


class Run(NamedTuple):
    """Start and done of every command in program order (-1: never), counters, (code, unit, instruction) of the error
    and the number of commands pushed before it.

    ``waits`` [commands, 4] are the cycles that each command lost to a full queue, to semaphores once it could start,
    to a busy HB controller, and to words not there.
    """

    start: np.ndarray
    done: np.ndarray
    waits: np.ndarray
    counters: np.ndarray
    error: np.ndarray

    @staticmethod
    def empty(commands: int) -> "Run":
        """Nothing has happened yet."""
        return Run(
            np.full(commands, -1, dtype=np.int64),
            np.full(commands, -1, dtype=np.int64),
            np.zeros((commands, 4), dtype=np.int64),
            np.zeros(COUNTER_ROOM, dtype=np.int64),
            np.zeros(4, dtype=np.int64),
        )


def _chunks(chunks: list[Chunk]) -> tuple[np.ndarray, np.ndarray]:
    """Words and first cycle of each chunk; a chunk comes after the ones before it."""
    used = [chunk for chunk in chunks if chunk.words]
    words = np.array([len(chunk.words) for chunk in used], dtype=np.int64)
    available = np.array([chunk.available for chunk in used], dtype=np.int64)
    return words, np.maximum.accumulate(available) if len(used) else available


def links_of(program: PeProgram) -> Links:
    """The program's links."""
    host = np.array(program.host_cycles, dtype=np.int64)
    return Links(*_chunks(program.stream), *_chunks(program.aggregation), host)


def result_of(level: str, steps: np.ndarray, run: Run, cycles: int) -> RunResult:
    """The run of decoded ``steps`` as `RunResult`; with an error, ``cycles`` is the first one that sees it stopped."""
    code, unit, instruction, pushed = run.error.tolist()
    commands = steps[steps[:, Step.KIND] == Kind.PUSH]
    if code:
        commands, cycles = commands[:pushed], cycles + 1
    counters = {name: int(run.counters[place]) for name, place in zip(_NAMES, range(len(_NAMES)), strict=True)}
    for kind, name in _UNIT_PLACES.items():
        for each in Unit:
            if each is not Unit.SEQUENCER:
                counters[f"{each.name.lower()}_{name}"] = int(run.counters[getattr(COUNTER, kind) + each])
    return RunResult(
        level,
        cycles=cycles,
        counters={name: value & 0xFFFFFFFF for name, value in counters.items()},
        unit=commands[:, Step.UNIT].tolist(),
        instruction=commands[:, Step.INSTRUCTION].tolist(),
        start=run.start[: len(commands)].tolist(),
        done=run.done[: len(commands)].tolist(),
        error=PeFault(PeError(code), Unit(unit), instruction) if code else None,
    )
