"""State of the PE around its HB controller in the exact model: one record, which compiled code takes by reference.

Arrays that a compiled function is given cost it time in every call (their references are counted); a record does not.
"""

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe.outcome import COUNTER_ROOM
from hw.isa.encoding import Unit
from hw.params import SEMAPHORES

_UNITS = len(Unit)
_DRAINS = 64  # MATMULs in the array's pipeline at once, at most

REGISTERS = np.dtype(
    [
        (name, np.int64)
        for name in (
            # HB and refill: request on the port, answered, beats to come
            *("hb_asks", "hb_answered", "hb_left", "refill_asks", "refilling"),
            # links: next chunk, words left of the current one and the cycle it comes in, word offered in this cycle
            *("stream_chunk", "stream_ready", "stream_from", "stream_valid"),
            *("gather_chunk", "gather_ready", "gather_from", "gather_valid"),
            # words to come, of each link; words of XM to read, word offered
            *("stream_left", "gather_left", "store_left", "store_offered"),
            # array: cycles to the next slot, slots to come, cycles to `free`; of the command; frees in this cycle
            *("array_lead", "array_slots", "array_tail", "array_interval", "array_latency", "array_frees", "drains"),
            *("vector_left", "host_left", "host_answers"),
            # sequencer: step, cycle of it, cycles it waits for a full queue, error found in this cycle
            *("step", "spent", "at_queue", "sequencer_error"),
            # the error that stops the PE: its unit, the step it is about
            *("stop_unit", "stop_step"),
            # the next activation is its transfer's first; something moved in this cycle; cycles since something did
            *("first_of_transfer", "moved", "quiet"),
        )
    ]
    + [
        # per queue: its oldest place, commands in it, commands taken from it in this cycle; per unit: step in progress
        # (-1: free), step that ends in this cycle (-1: none), error in this cycle and the step it is about; cycles that
        # the command in progress waited for the HB controller and for its link, and the queue's head for semaphores
        (name, np.int64, (_UNITS,))
        for name in (
            "heads",
            "levels",
            "pops",
            "current",
            "done",
            "error",
            "culprit",
            "at_controller",
            "at_link",
            "at_semaphore",
        )
    ]
    # semaphores; what signals add and starts take in this cycle
    + [(name, np.int64, (SEMAPHORES,)) for name in ("counts", "change", "taken")]
    # MATMULs in the array's pipeline, the first ``drains`` of them: cycles to their done, steps
    + [(name, np.int64, (_DRAINS,)) for name in ("drain_left", "drain_step")]
    + [("counter", np.int64, (COUNTER_ROOM,))]
)
"""Registers around the HB controller, and what happens in the current cycle."""


def reset_registers() -> np.ndarray:
    """Nothing in progress, an array of one record."""
    registers = np.zeros(1, dtype=REGISTERS)
    registers["current"] = registers["done"] = -1
    registers["first_of_transfer"] = 1
    return registers


@njit(inline="always")
def begin_cycle(r, cycle):
    """Nothing has moved yet; the links offer the words of this cycle."""
    r.moved = r.array_frees = 0
    r.stream_valid = r.stream_ready > 0 and cycle >= r.stream_from
    r.gather_valid = r.gather_ready > 0 and cycle >= r.gather_from


@njit(inline="always")
def is_idle(r):
    """Whether no unit, queue or pipeline holds a command."""
    idle = r.drains == 0
    for u in range(1, _UNITS):
        idle = idle and r.levels[u] == 0 and r.current[u] < 0
    return idle
