"""What an event of the fast model changes: commands that end, start and are pushed, and the PE's errors.

Inlined into the loop of `cycle_model.pe.fast`, so that a function costs a name and no time.
"""

from cycle_model.kernel_cache import njit
from cycle_model.pe.link_timing import NEVER
from cycle_model.pe.outcome import COUNTER
from cycle_model.pe.steps import Kind, Step
from hw.isa.encoding import PeError, Unit
from hw.params import SEMAPHORE_MAX, SEMAPHORES

_HB, _STREAM, _GATHER, _ARRAY = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.ARRAY)
_VECTOR, _STORE, _UNITS = int(Unit.VECTOR), int(Unit.STORE), len(Unit)
_SEMAPHORE, _REFUSED = int(PeError.SEMAPHORE), int(PeError.HB_REFUSED)


@njit(inline="always")
def give_tokens(r, command):
    """The signals of a command count from the next cycle on."""
    for k in (Step.SIGNAL0, Step.SIGNAL1):
        if command[k] >= 0:
            r.change[command[k]] += 1


@njit(inline="always")
def end_commands(r, steps, now):
    """Commands whose done is now; those that the HB controller refuses; the array takes no more slots."""
    if r.drains > 0 and r.drain_done[0] == now:
        r.happened = 1
        give_tokens(r, steps[r.drain_step[0]])
        r.drains -= 1
        for k in range(r.drains):
            r.drain_step[k], r.drain_done[k] = r.drain_step[k + 1], r.drain_done[k + 1]
    for u in range(1, _UNITS):
        if r.current[u] < 0 or u == _ARRAY:
            continue
        if r.ends[u] == now:
            r.happened = r.ending[u] = 1
            give_tokens(r, steps[r.current[u]])
        if r.refused[u] == now and r.refused[u] > 0:
            r.error[u], r.culprit[u] = _REFUSED, r.current[u]
    if r.current[_ARRAY] >= 0 and r.free[_ARRAY] < now:
        r.current[_ARRAY] = -1


@njit(inline="always")
def start(r, u, i, command, since, depth, lead, now):
    """The unit takes its queue's head, the command of step ``i``, which could have started from ``since`` on.

    Sets the cycle of its done where that depends on nothing but the command. False where its operands are wrong.
    """
    for k in (Step.WAIT0, Step.WAIT1):
        if command[k] >= 0:
            r.change[command[k]] -= 1
    r.happened = 1
    r.heads[u] = (r.heads[u] + 1) % depth
    r.levels[u] -= 1
    r.counter[COUNTER.commands + u] += 1
    r.counter[COUNTER.semaphore_stalls + u] += now - since
    if command[Step.ERROR] != 0:
        r.error[u], r.culprit[u] = command[Step.ERROR], i
        r.free[u] = now
        return False
    r.current[u], r.ends[u], r.free[u], r.refused[u] = i, NEVER, NEVER, 0
    if u == _ARRAY:
        last = now + lead + (command[Step.SLOTS] - 1) * command[Step.INTERVAL]
        r.free[u] = last + command[Step.INTERVAL] - 1
        r.drain_step[r.drains], r.drain_done[r.drains] = i, last + command[Step.LATENCY]
        r.drains += 1
        r.counter[COUNTER.array_groups] += command[Step.SLOTS]
        r.counter[COUNTER.busy + u] += r.free[u] - now + 1
    elif u == _VECTOR:
        r.ends[u] = now + command[Step.SLOTS] * command[Step.INTERVAL] + command[Step.LATENCY] - 1
        r.counter[COUNTER.vector_rows] += command[Step.WORDS]
    elif u == _STORE:
        r.ends[u] = now + 1 + command[Step.WORDS]
        r.counter[COUNTER.store_words] += command[Step.WORDS]
    return True


@njit(inline="always")
def ask_controller(r, who, request, command, data_columns, now):
    """HB LOAD (``who`` 0) or refill (1) puts its ``request`` on the controller's port from the next cycle on."""
    r.asked[who] = now + 1
    request.write, request.columns = who, command[Step.WORDS]
    request.row, request.column = divmod(command[Step.COLUMN], data_columns)
    r.refill_last = -1 if who == 1 else r.refill_last


@njit(inline="always")
def advance(r, steps, at, cycle):
    """Find the next step from ``at`` on that meets the units or fails, and the first cycle in which it does.

    ``cycle`` is the first of step ``at``. Behind the last step: the first cycle after it.
    """
    while at < len(steps):
        kind = steps[at, Step.KIND]
        if kind == Kind.RECORD:
            cycle += steps[at, Step.WORDS]
            r.record_ends = cycle - 1
        elif kind == Kind.PLAIN:
            cycle += 2
            r.counter[COUNTER.sequencer_instructions] += 1
        elif kind == Kind.DESCRIBE:
            cycle += 3
            r.counter[COUNTER.sequencer_instructions] += 1
        else:
            cycle += 0 if kind == Kind.BAD_FETCH else 2 if kind == Kind.BAD_DESCRIBE else 1
            break
        at += 1
    r.at_step, r.executes = at, cycle


@njit(inline="always")
def unit_error(r):
    """The lowest unit that found an error, 0 for none."""
    for u in range(1, _UNITS):
        if r.error[u] != 0:
            return u
    return 0


@njit(inline="always")
def semaphores_fail(r):
    """Semaphores after what was given and taken; whether one left its range."""
    for s in range(SEMAPHORES):
        r.counts[s] += r.change[s]
        r.change[s] = 0
        if r.counts[s] < 0 or r.counts[s] > SEMAPHORE_MAX:
            return True
    return False
