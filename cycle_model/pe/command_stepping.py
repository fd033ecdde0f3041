"""One logic cycle of what commands go through: sequencer, queues, semaphores, start, end, and the PE's errors.

`cycle_model.pe.exact` calls these around `cycle_model.pe.unit_stepping`; inlined like that.
"""

import numpy as np

from cycle_model.kernel_cache import njit
from cycle_model.pe.outcome import AT_CONTROLLER, AT_LINK, COUNTER
from cycle_model.pe.steps import Kind, Step
from hw.isa.encoding import PeError, Unit
from hw.params import SEMAPHORE_MAX, SEMAPHORES

_HB, _STREAM, _GATHER, _ARRAY = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.ARRAY)
_VECTOR, _STORE, _UNITS = int(Unit.VECTOR), int(Unit.STORE), len(Unit)
_SEMAPHORE, _WATCHDOG = int(PeError.SEMAPHORE), int(PeError.WATCHDOG)


@njit(inline="always")
def may_start(r, unit):
    """Whether the unit is free and has a command in its queue at the beginning of the cycle."""
    if r.current[unit] >= 0:
        r.counter[COUNTER.busy + unit] += 1
        return False
    return r.levels[unit] > 0


@njit(inline="always")
def has_tokens(r, unit, command):
    """Whether every semaphore that the command waits for is at least 1 at the beginning of the cycle."""
    ready = True
    for k in (Step.WAIT0, Step.WAIT1):
        ready = ready and (command[k] < 0 or r.counts[command[k]] > 0)
    if not ready:
        r.counter[COUNTER.semaphore_stalls + unit] += 1
        r.at_semaphore[unit] += 1
    return ready


@njit(inline="always")
def start(r, unit, i, command, requests, host_cycles, shape, lead, depth):
    """The unit takes its queue's head, the command of step ``i``: its registers in the next cycle."""
    for k in (Step.WAIT0, Step.WAIT1):
        if command[k] >= 0:
            r.taken[command[k]] += 1
    r.heads[unit] = (r.heads[unit] + 1) % depth
    r.pops[unit] = 1
    r.moved = 1
    r.counter[COUNTER.commands + unit] += 1
    r.counter[COUNTER.busy + unit] += 1
    r.at_controller[unit] = r.at_link[unit] = r.at_semaphore[unit] = 0
    words = command[Step.WORDS]
    if unit == _VECTOR:
        r.counter[COUNTER.vector_rows] += words
    if command[Step.ERROR] != 0:
        r.error[unit], r.culprit[unit] = command[Step.ERROR], i
        return
    r.current[unit] = i
    if unit == _HB:
        r.hb_asks, r.hb_answered, r.hb_left = 1, 0, words
        _set_request(requests[0], command, shape, 0)
    elif unit == _STREAM:
        if command[Step.IS_REFILL]:
            r.refill_asks = r.refilling = 1
            _set_request(requests[1], command, shape, 1)
        else:
            r.stream_left = words
    elif unit == _GATHER:
        r.gather_left = words
    elif unit == _ARRAY:
        r.array_lead, r.array_slots = lead, command[Step.SLOTS]
        r.array_interval, r.array_latency = command[Step.INTERVAL], command[Step.LATENCY]
    elif unit == _VECTOR:
        r.vector_left = command[Step.SLOTS] * command[Step.INTERVAL] + command[Step.LATENCY] - 1
    elif unit == _STORE:
        r.store_left, r.store_offered = words, 0
    else:
        r.host_left = host_cycles[min(r.host_answers, len(host_cycles) - 1)]
        r.host_answers += 1


@njit(inline="always")
def _set_request(request, command, shape, write):
    """A transfer of the command's words from its linear column on."""
    request.write, request.columns = write, command[Step.WORDS]
    request.row, request.column = divmod(command[Step.COLUMN], shape.data_columns)


@njit(inline="always")
def step_sequencer(r, this, depth, idle):
    """Fetch, execute or wait; returns the unit to whose queue the step ``this`` is pushed, 0 for none."""
    kind = this[Step.KIND]
    to = np.int64(0)
    r.spent += 1
    ends = False
    if kind == Kind.RECORD:
        ends = r.spent == this[Step.WORDS]
        r.moved = 1
    elif r.spent == 1:
        if kind == Kind.BAD_FETCH:
            r.sequencer_error = this[Step.ERROR]
    elif kind == Kind.PLAIN:
        ends = True
    elif kind == Kind.PUSH:
        ends = r.levels[this[Step.UNIT]] < depth
        if ends:
            to = this[Step.UNIT]
        else:
            r.counter[COUNTER.sequencer_queue_stalls] += 1
            r.at_queue += 1
    elif kind == Kind.WAIT:
        ends = idle
        if ends:
            for k in (Step.SIGNAL0, Step.SIGNAL1):
                if this[k] >= 0:
                    r.change[this[k]] += 1
        else:
            r.counter[COUNTER.sequencer_wait_stalls] += 1
    elif kind == Kind.BAD_EXECUTE:
        r.sequencer_error = this[Step.ERROR]
    elif r.spent == 3:
        ends = True
        if kind == Kind.BAD_DESCRIBE:
            r.sequencer_error = this[Step.ERROR]
    if ends:
        r.counter[COUNTER.sequencer_instructions] += kind != Kind.RECORD
        r.step += 1
        r.spent = 0
    return to


@njit(inline="always")
def ends_any(r):
    """Whether a command ends in this cycle; what was taken from the queues is gone from them."""
    ends = False
    for u in range(1, _UNITS):
        r.levels[u] -= r.pops[u]
        r.pops[u] = 0
        ends = ends or r.done[u] >= 0
    if r.array_frees:
        r.current[_ARRAY] = -1
    return ends


@njit(inline="always")
def end_commands(r, steps, numbers, run, cycle):
    """Commands that end give their signals and, but for the array's, free their unit."""
    for u in range(1, _UNITS):
        if r.done[u] >= 0:
            r.moved = 1
            run.done[numbers[r.done[u]]] = cycle
            for k in (Step.SIGNAL0, Step.SIGNAL1):
                if steps[r.done[u], k] >= 0:
                    r.change[steps[r.done[u], k]] += 1
            if u != _ARRAY:
                note_waits(r, numbers, run, u)
                r.current[u] = -1
            if u == _STREAM:
                r.refilling = 0
            r.done[u] = -1


@njit(inline="always")
def note_waits(r, numbers, run, unit):
    """Cycles that the unit's command waited for once it had started, if there is one."""
    if r.current[unit] >= 0:
        run.waits[numbers[r.current[unit]], AT_CONTROLLER] = r.at_controller[unit]
        run.waits[numbers[r.current[unit]], AT_LINK] = r.at_link[unit]


@njit(inline="always")
def error_of(r, watchdog):
    """Code of what stops the PE, or 0: the sequencer's error, the lowest unit's, the semaphores', the watchdog's."""
    r.stop_unit, r.stop_step = 0, -1
    if r.sequencer_error != 0:
        r.stop_step = r.step - (r.spent == 0)
        return r.sequencer_error
    for u in range(1, _UNITS):
        if r.error[u] != 0:
            r.stop_unit, r.stop_step = u, r.culprit[u]
            return r.error[u]
    for s in range(SEMAPHORES):
        r.counts[s] += r.change[s] - r.taken[s]
        r.change[s] = r.taken[s] = 0
        if r.counts[s] > SEMAPHORE_MAX or r.counts[s] < 0:
            return np.int64(_SEMAPHORE)
    r.quiet = 0 if r.moved else r.quiet + 1
    return np.int64(_WATCHDOG if r.quiet == watchdog else 0)
