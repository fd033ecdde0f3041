"""Exact twin of `hw.pe.pe.Pe`: steps sequencer, queues, semaphores, units and HB controller one cycle at a time.

Equal to the RTL in the start and done of every command, in every counter, and in the error. It knows nothing of the
future; `cycle_model.pe.fast` computes the same without stepping. Values are the functional model's.
"""

import numpy as np

from cycle_model.hb.stepping import ACT, NOP, RD, REF, WR, reset_state, step
from cycle_model.hb.traffic import REQUEST, shape_of
from cycle_model.kernel_cache import njit
from cycle_model.pe.decoder import Kind, Step, decode
from cycle_model.pe.outcome import (
    AT_CONTROLLER,
    AT_LINK,
    AT_QUEUE,
    AT_SEMAPHORE,
    COUNTER,
    Links,
    Run,
    links_of,
    result_of,
)
from hw.errors import UserError
from hw.isa.encoding import PeError, Unit
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import SEMAPHORE_MAX, SEMAPHORES

_HB, _STREAM, _GATHER, _ARRAY = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.ARRAY)
_VECTOR, _STORE, _HOST, _UNITS = int(Unit.VECTOR), int(Unit.STORE), int(Unit.HOST), len(Unit)
_SEMAPHORE, _WATCHDOG, _REFUSED = int(PeError.SEMAPHORE), int(PeError.WATCHDOG), int(PeError.HB_REFUSED)
_DRAINS = 64  # MATMULs in the array's pipeline at once, at most

REGISTERS = np.dtype(
    [
        (name, np.int64)
        for name in (
            # per unit: index of the command in progress (-1: free)
            *("hb", "stream", "gather", "array", "vector", "store", "host"),
            # HB and refill: request on the port, answered, beats to come
            *("hb_asks", "hb_answered", "hb_left", "refill_asks", "refilling"),
            # words to come, of each link; words of XM to read, word offered
            *("stream_left", "gather_left", "store_left", "store_offered"),
            # array: cycles to the next slot, slots to come, cycles to `free`
            *("array_lead", "array_slots", "array_tail"),
            *("vector_left", "host_left", "host_answers"),
            # sequencer: step, cycle of it
            *("step", "spent"),
        )
    ]
)
"""Registers around the HB controller."""


def exact(program: PeProgram, max_cycles: int = 1 << 40) -> RunResult:
    """Run ``program`` to its end or first error.

    Raises UserError where the program is not for its chip, or takes more than ``max_cycles``.
    """
    steps = decode(program)
    run, cycles = run_exact(program, steps, max_cycles)
    return result_of("exact", program, steps, run, cycles)


def run_exact(program: PeProgram, steps: np.ndarray, max_cycles: int = 1 << 40) -> tuple[Run, int]:
    """The run of decoded ``steps`` with what every command waited for, and its cycles; UserError as `exact`."""
    program.check()
    chip = program.chip
    run = Run.empty(int((steps[:, Step.KIND] == Kind.PUSH).sum()))
    registers = np.zeros(1, dtype=REGISTERS)
    for unit in Unit:
        if unit is not Unit.SEQUENCER:
            registers[unit.name.lower()] = -1
    cycles = _run(
        chip.hb.clocks,
        shape_of(chip.hb),
        reset_state(shape_of(chip.hb)),
        np.zeros(shape_of(chip.hb).requesters, dtype=REQUEST),
        chip.pe.queue_depth,
        chip.pe.fetch,
        chip.pe.watchdog_cycles,
        steps,
        links_of(program),
        registers,
        run,
        max_cycles,
    )
    if cycles < 0:
        raise UserError(f"program must end within {max_cycles} cycles")
    return run, cycles


@njit(cache=True)
def _run(c, shape, hb, requests, depth, lead, watchdog, steps, links: Links, registers, run: Run, max_cycles):
    """Fill ``run``; returns the cycle in which the PE is idle or the error happened, -1 after ``max_cycles``."""
    r = registers[0]
    counters = run.counters
    hb_registers, now = hb.registers[0], hb.cycle[0]
    queues = np.zeros((_UNITS, depth), dtype=np.int64)  # step of each command
    heads = np.zeros(_UNITS, dtype=np.int64)
    levels = np.zeros(_UNITS, dtype=np.int64)
    current = np.full(_UNITS, -1, dtype=np.int64)  # step of each unit's command
    counts = np.zeros(SEMAPHORES, dtype=np.int64)
    change = np.zeros(SEMAPHORES, dtype=np.int64)
    taken = np.zeros(SEMAPHORES, dtype=np.int64)
    done = np.full(_UNITS, -1, dtype=np.int64)
    error = np.zeros(_UNITS, dtype=np.int64)
    culprit = np.zeros(_UNITS, dtype=np.int64)
    drain_left = np.zeros(_DRAINS, dtype=np.int64)
    drain_step = np.zeros(_DRAINS, dtype=np.int64)
    drains = 0
    number = np.zeros(len(steps), dtype=np.int64)  # of the command that a step pushes
    pushed = 0
    for i in range(len(steps)):
        number[i] = pushed
        pushed += steps[i, Step.KIND] == Kind.PUSH
    asking = np.zeros(shape.requesters, dtype=np.bool_)
    takes = np.ones(shape.requesters, dtype=np.bool_)
    offers = np.zeros(shape.requesters, dtype=np.bool_)
    at = np.arange(shape.requesters)
    stream_chunk = stream_word = gather_chunk = gather_word = 0
    first_of_transfer = True
    quiet = 0
    cycle = -1
    while True:
        cycle += 1
        if cycle >= max_cycles:
            return -1
        idle = drains == 0
        for u in range(1, _UNITS):
            idle = idle and levels[u] == 0 and current[u] < 0
        if idle and r.step == len(steps):
            return cycle
        moved = False
        change[:] = 0
        taken[:] = 0
        done[:] = -1
        error[:] = 0
        sequencer_error = 0

        # Links: the word that is offered in this cycle.
        while stream_chunk < len(links.stream_words) and stream_word == links.stream_words[stream_chunk]:
            stream_chunk, stream_word = stream_chunk + 1, 0
        while gather_chunk < len(links.gather_words) and gather_word == links.gather_words[gather_chunk]:
            gather_chunk, gather_word = gather_chunk + 1, 0
        stream_valid = stream_chunk < len(links.stream_words) and cycle >= links.stream_from[stream_chunk]
        gather_valid = gather_chunk < len(links.gather_words) and cycle >= links.gather_from[gather_chunk]

        # HB controller.
        asking[0], asking[1] = r.hb_asks, r.refill_asks
        offers[1] = r.refilling and stream_valid
        would_take = hb_registers.missing > 0 and hb_registers.write_level < shape.write_buffer
        step(c, shape, hb, asking, requests, at, takes, offers)
        counters[COUNTER.hb_stream_stalls] += now.stalled
        if now.command != NOP:
            counters[COUNTER.hb_activates] += now.command == ACT
            counters[COUNTER.hb_reads] += now.command == RD
            counters[COUNTER.hb_writes] += now.command == WR
            counters[COUNTER.hb_refreshes] += now.command == REF
            if now.command == ACT:
                counters[COUNTER.hb_row_conflicts] += not first_of_transfer
                first_of_transfer = False
        if now.accepted >= 0:
            first_of_transfer = True
        if r.hb_asks and now.accepted != 0:
            counters[COUNTER.hb_request_stalls] += 1
            run.waits[number[current[_HB]], AT_CONTROLLER] += 1
        if r.refill_asks and now.accepted != 1:
            counters[COUNTER.stream_request_stalls] += 1
            run.waits[number[current[_STREAM]], AT_CONTROLLER] += 1

        # HB unit.
        if current[_HB] >= 0:
            if now.accepted == 0:
                r.hb_asks = 0
            if now.left_to == 0:
                r.hb_left -= 1
                moved = True
            if now.done == 0:
                r.hb_answered = 1
                if now.done_error != 0:
                    error[_HB], culprit[_HB] = _REFUSED, current[_HB]
            if r.hb_answered and r.hb_left == 0:
                done[_HB] = current[_HB]

        # STREAM unit.
        if current[_STREAM] >= 0:
            if now.accepted == 1:
                r.refill_asks = 0
            if r.refilling:
                if now.taken_from == 1:
                    stream_word += 1
                    moved = True
                    counters[COUNTER.stream_words] += 1
                elif would_take:
                    counters[COUNTER.stream_link_stalls] += 1
                    run.waits[number[current[_STREAM]], AT_LINK] += 1
                if now.done == 1:
                    if now.done_error != 0:
                        error[_STREAM], culprit[_STREAM] = _REFUSED, current[_STREAM]
                    done[_STREAM] = current[_STREAM]
            elif stream_valid:
                stream_word += 1
                moved = True
                counters[COUNTER.stream_words] += 1
                r.stream_left -= 1
                if r.stream_left == 0:
                    done[_STREAM] = current[_STREAM]
            else:
                counters[COUNTER.stream_link_stalls] += 1
                run.waits[number[current[_STREAM]], AT_LINK] += 1

        # GATHER unit.
        if current[_GATHER] >= 0:
            if gather_valid:
                gather_word += 1
                moved = True
                counters[COUNTER.gather_words] += 1
                r.gather_left -= 1
                if r.gather_left == 0:
                    done[_GATHER] = current[_GATHER]
            else:
                counters[COUNTER.gather_link_stalls] += 1
                run.waits[number[current[_GATHER]], AT_LINK] += 1

        # ARRAY: slots on a fixed cadence, then the pipeline.
        array_frees = False
        kept = 0
        for i in range(drains):
            drain_left[i] -= 1
            if drain_left[i] == 0:
                done[_ARRAY] = drain_step[i]
            else:
                drain_left[kept], drain_step[kept] = drain_left[i], drain_step[i]
                kept += 1
        drains = kept
        if current[_ARRAY] >= 0:
            command = steps[current[_ARRAY]]
            if r.array_slots > 0:
                r.array_lead -= 1
                if r.array_lead == 0:
                    r.array_slots -= 1
                    counters[COUNTER.array_groups] += 1
                    r.array_lead = command[Step.INTERVAL]
                    if r.array_slots == 0:
                        drain_left[drains], drain_step[drains] = command[Step.LATENCY], current[_ARRAY]
                        drains += 1
                        r.array_tail = command[Step.INTERVAL]
            if r.array_slots == 0:
                r.array_tail -= 1
                array_frees = r.array_tail == 0

        # VECTOR: rows, then the pipeline.
        if current[_VECTOR] >= 0:
            r.vector_left -= 1
            if r.vector_left == 0:
                done[_VECTOR] = current[_VECTOR]

        # STORE: the link takes every word that is offered.
        if current[_STORE] >= 0:
            if r.store_offered:
                moved = True
                counters[COUNTER.store_words] += 1
            if r.store_left > 0:
                r.store_left -= 1
                r.store_offered = 1
            elif r.store_offered:
                r.store_offered = 0
                done[_STORE] = current[_STORE]

        # HOST.
        if current[_HOST] >= 0:
            if r.host_left == 0:
                done[_HOST] = current[_HOST]
            r.host_left -= 1

        # Starts: head there, unit free and semaphores available at the beginning of the cycle.
        started = False
        for u in range(1, _UNITS):
            if current[u] >= 0:
                counters[COUNTER.busy + u] += 1
            elif levels[u] > 0:
                i = queues[u, heads[u]]
                ready = True
                for k in (Step.WAIT0, Step.WAIT1):
                    ready = ready and (steps[i, k] < 0 or counts[steps[i, k]] > 0)
                if not ready:
                    counters[COUNTER.semaphore_stalls + u] += 1
                    run.waits[number[i], AT_SEMAPHORE] += 1
                    continue
                for k in (Step.WAIT0, Step.WAIT1):
                    if steps[i, k] >= 0:
                        taken[steps[i, k]] += 1
                heads[u] = (heads[u] + 1) % depth
                started = True
                counters[COUNTER.commands + u] += 1
                counters[COUNTER.busy + u] += 1
                run.start[number[i]] = cycle
                run.pops[u] += 1
                if u == _VECTOR:
                    counters[COUNTER.vector_rows] += steps[i, Step.WORDS]
                if steps[i, Step.ERROR] != 0:
                    error[u], culprit[u] = steps[i, Step.ERROR], i
                    continue
                current[u] = i
                _begin(r, u, steps[i], lead, links, shape, requests)

        # Sequencer.
        if r.step < len(steps):
            this = steps[r.step]
            kind = this[Step.KIND]
            r.spent += 1
            ends = False
            if kind == Kind.RECORD:
                ends = r.spent == this[Step.WORDS]
                moved = True
            elif r.spent == 1:
                if kind == Kind.BAD_FETCH:
                    sequencer_error = this[Step.ERROR]
            elif kind == Kind.PLAIN:
                ends = True
            elif kind == Kind.PUSH:
                u = this[Step.UNIT]
                ends = levels[u] < depth
                if ends:
                    queues[u, (heads[u] + levels[u] - run.pops[u]) % depth] = r.step
                    levels[u] += 1
                else:
                    counters[COUNTER.sequencer_queue_stalls] += 1
                    run.waits[number[r.step], AT_QUEUE] += 1
            elif kind == Kind.WAIT:
                ends = idle
                if ends:
                    for k in (Step.SIGNAL0, Step.SIGNAL1):
                        if this[k] >= 0:
                            change[this[k]] += 1
                else:
                    counters[COUNTER.sequencer_wait_stalls] += 1
            elif kind == Kind.BAD_EXECUTE:
                sequencer_error = this[Step.ERROR]
            elif r.spent == 3:
                ends = True
                if kind == Kind.BAD_DESCRIBE:
                    sequencer_error = this[Step.ERROR]
            if ends:
                counters[COUNTER.sequencer_instructions] += kind != Kind.RECORD
                r.step += 1
                r.spent = 0
        for u in range(1, _UNITS):
            levels[u] -= run.pops[u]
            run.pops[u] = 0

        # Commands that end give their signals.
        ended = False
        for u in range(1, _UNITS):
            if done[u] >= 0:
                ended = True
                run.done[number[done[u]]] = cycle
                for k in (Step.SIGNAL0, Step.SIGNAL1):
                    if steps[done[u], k] >= 0:
                        change[steps[done[u], k]] += 1
                if u != _ARRAY:
                    current[u] = -1
        if array_frees:
            current[_ARRAY] = -1
        if done[_STREAM] >= 0:
            r.refilling = 0

        # Errors: the lowest unit's, then the semaphores', then the watchdog's.
        before = number[r.step] if r.step < len(steps) else pushed
        if sequencer_error != 0:
            run.error[:] = (sequencer_error, 0, steps[r.step - (r.spent == 0), Step.INSTRUCTION], before)
            return cycle
        for u in range(1, _UNITS):
            if error[u] != 0:
                run.error[:] = (error[u], u, steps[culprit[u], Step.INSTRUCTION], before)
                return cycle
        for s in range(SEMAPHORES):
            counts[s] += change[s] - taken[s]
            if counts[s] > SEMAPHORE_MAX or counts[s] < 0:
                run.error[:] = (_SEMAPHORE, 0, 0, before)
                return cycle
        quiet = 0 if started or ended or moved else quiet + 1
        if quiet == watchdog:
            run.error[:] = (_WATCHDOG, 0, 0, before)
            return cycle


@njit(cache=True)
def _begin(r, unit, command, lead, links, shape, requests):
    """A unit takes a command: its registers in the next cycle."""
    words = command[Step.WORDS]
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
    elif unit == _VECTOR:
        r.vector_left = command[Step.SLOTS] * command[Step.INTERVAL] + command[Step.LATENCY] - 1
    elif unit == _STORE:
        r.store_left, r.store_offered = words, 0
    else:
        r.host_left = links.host_cycles[min(r.host_answers, len(links.host_cycles) - 1)]
        r.host_answers += 1


@njit(cache=True)
def _set_request(request, command, shape, write):
    """A transfer of the command's words from its linear column on."""
    request.write, request.columns = write, command[Step.WORDS]
    request.row, request.column = divmod(command[Step.COLUMN], shape.data_columns)
