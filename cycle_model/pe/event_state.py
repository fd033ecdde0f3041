"""State of the PE between two events in the fast model, as one record; when the next event is, and whether it comes."""

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe.link_timing import NEVER, next_run
from cycle_model.pe.outcome import COUNTER_ROOM
from cycle_model.pe.steps import Kind, Step
from hw.isa.encoding import Unit
from hw.params import SEMAPHORES

_HB, _STREAM, _GATHER, _ARRAY, _STORE = (int(u) for u in (Unit.HB, Unit.STREAM, Unit.GATHER, Unit.ARRAY, Unit.STORE))
_UNITS = len(Unit)
_DRAINS = 64  # MATMULs in the array's pipeline at once, at most

EVENTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            # MATMULs in the array's pipeline; a unit or the pipeline is at work; all queues are empty
            *("drains", "in_progress", "empty"),
            # HB LOAD: cycle of its last beat; the last refill: its words' places in the record of offers
            *("beats_until", "refill_first", "refill_last"),
            "host_answers",
            # sequencer: next step that meets the units, the first cycle in which it may execute, last dispatch word
            *("at_step", "executes", "record_ends"),
            # last cycle in which a command started or ended; something happened in this event
            *("progress", "happened"),
        )
    ]
    + [
        # queues: oldest place, commands in it; units: step in progress (-1: none), cycle of its done, last cycle
        # occupied, cycle in which the controller refuses it; it ends now; error now and the step it is about
        (name, np.int64, (_UNITS,))
        for name in ("heads", "levels", "current", "ends", "free", "refused", "ending", "error", "culprit")
    ]
    # semaphores, and what changes them now
    + [(name, np.int64, (SEMAPHORES,)) for name in ("counts", "change")]
    # the pipeline's MATMULs in order
    + [(name, np.int64, (_DRAINS,)) for name in ("drain_step", "drain_done")]
    # cycle from which HB LOAD and refill ask for the controller; of each link chunk and word, now and at the begin of
    # the load in progress
    + [(name, np.int64, (2,)) for name in ("asked", "stream_at", "stream_from", "gather_at", "gather_from")]
    + [("counter", np.int64, (COUNTER_ROOM,))]
)
"""Cycles and states that an event may change."""


def reset_events() -> np.ndarray:
    """Nothing in progress, an array of one record."""
    events = np.zeros(1, dtype=EVENTS)
    for name in ("current", "free", "beats_until", "refill_last", "record_ends", "progress"):
        events[name] = -1
    events["ends"] = events["asked"] = NEVER
    return events


@njit(inline="always")
def has_tokens(r, command):
    """Whether every semaphore that a command waits for is at least 1."""
    first, second = command[Step.WAIT0], command[Step.WAIT1]
    return (first < 0 or r.counts[first] > 0) and (second < 0 or r.counts[second] > 0)


@njit(inline="always")
def next_event(r, steps, queue_step, queue_pushed, idle_from, now):
    """The next cycle in which anything can happen; NEVER where nothing will.

    ``queue_step``, ``queue_pushed`` [units, depth]: steps of waiting commands and cycles of their pushes;
    ``idle_from``: first cycle in which the HB controller takes a request.
    """
    then = np.int64(NEVER)
    in_progress, empty = r.drains > 0, True
    for u in range(1, _UNITS):
        if r.current[u] >= 0:
            in_progress = True
            then = min(then, r.ends[u] if u != _ARRAY else r.free[u] + 1)
            if r.refused[u] > now:
                then = min(then, r.refused[u])
        if r.levels[u] > 0:
            empty = False
            if r.current[u] < 0 and has_tokens(r, steps[queue_step[u, r.heads[u]]]):
                then = min(then, max(max(queue_pushed[u, r.heads[u]], r.free[u]) + 1, now + 1))
    r.in_progress, r.empty = in_progress, empty
    if r.drains > 0:
        then = min(then, r.drain_done[0])
    first = min(r.asked[0], r.asked[1])
    if first < NEVER:
        then = min(then, max(max(first, idle_from), now + 1))
    if r.at_step < len(steps):
        kind = steps[r.at_step, Step.KIND]
        if kind == Kind.PUSH:
            possible = r.levels[steps[r.at_step, Step.UNIT]] < queue_step.shape[1]
        else:
            possible = kind != Kind.ENDLESS and (kind != Kind.WAIT or (empty and not in_progress))
        if possible:
            then = min(then, max(r.executes, now + 1))
    return then


@njit(inline="always")
def watchdog_barks(r, steps, links, offers, starts, numbers, then, watchdog):
    """Whether nothing starts, ends or moves for ``watchdog`` cycles before ``then``; moves ``r.progress`` on.

    ``offers``: cycles in which the words of refills came; ``starts`` [commands]: cycles of starts.
    """
    while then - r.progress > watchdog:
        begin = end = np.int64(NEVER)
        if r.current[_STREAM] >= 0:
            command = steps[r.current[_STREAM]]
            if command[Step.IS_REFILL]:
                for k in range(r.refill_first, r.refill_last):
                    if offers[k] > r.progress:
                        begin = end = offers[k]
                        break
            else:
                start = starts[numbers[r.current[_STREAM]]] + 1
                begin, end = next_run(
                    links.stream_words, links.stream_from, r.stream_from, start, command[Step.WORDS], r.progress
                )
        if r.current[_GATHER] >= 0:
            command = steps[r.current[_GATHER]]
            start = starts[numbers[r.current[_GATHER]]] + 1
            other, other_end = next_run(
                links.gather_words, links.gather_from, r.gather_from, start, command[Step.WORDS], r.progress
            )
            if other < begin:
                begin, end = other, other_end
        if r.record_ends - r.progress > 0 and r.record_ends < begin:
            begin = end = r.record_ends
        if r.current[_HB] >= 0 and r.progress < r.beats_until:
            begin, end = r.progress + 1, min(end, r.beats_until)
        if r.current[_STORE] >= 0 and r.progress < r.ends[_STORE] and r.ends[_STORE] < NEVER:
            begin, end = max(r.progress + 1, starts[numbers[r.current[_STORE]]] + 2), r.ends[_STORE]
        if begin - r.progress > watchdog and min(begin, then) - r.progress > watchdog:
            return True
        if begin >= then or then - end <= watchdog:
            return False
        r.progress = end
    return False
