"""Fast twin of `hw.pe.pe.Pe`: the time stamps of `exact` from event to event, without stepping cycles.

A command starts at the maximum of what it waits for (its place at the head, its unit, its semaphores) and ends a
duration later: a closed form, or the links' chunks and the HB bank served transfer by transfer. Between two events
nothing happens that a later one could see. Equal to `exact` to the cycle, in every counter and in the error; after an
error counters are not comparable, since what is under way was counted as a whole.
"""

import numpy as np

from cycle_model.hb.records import ERROR, ROW_FIELDS, TRANSFER_FIELDS, Records, counts_of_records
from cycle_model.hb.serving import buffers_cover, refresh_idle, reset_bank, serve
from cycle_model.hb.traffic import REQUEST, shape_of
from cycle_model.kernel_cache import njit
from cycle_model.pe.decoder import decode
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
from cycle_model.pe.steps import Kind, Step
from hw.errors import UserError
from hw.isa.encoding import PeError, Unit
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import SEMAPHORE_MAX, SEMAPHORES, HbParams

_HB, _STREAM, _GATHER, _ARRAY = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.ARRAY)
_VECTOR, _STORE, _UNITS = int(Unit.VECTOR), int(Unit.STORE), len(Unit)
_SEMAPHORE, _WATCHDOG, _REFUSED = int(PeError.SEMAPHORE), int(PeError.WATCHDOG), int(PeError.HB_REFUSED)
_NEVER = 1 << 60
_DRAINS = 64
_NO_ROOM = -1


def fast(program: PeProgram) -> RunResult:
    """Run ``program`` to its end or first error.

    Raises UserError where the program is not for its chip, or the chip's watchdog could bark at a refreshing bank.
    """
    steps = decode(program)
    run, cycles = run_fast(program, steps)
    return result_of("fast", program, steps, run, cycles)


def run_fast(program: PeProgram, steps: np.ndarray) -> tuple[Run, int]:
    """The run of decoded ``steps`` with what every command waited for, and its cycles; UserError as `fast`."""
    program.check()
    chip = program.chip
    if chip.pe.watchdog_cycles <= _longest_bank_pause(chip.hb):
        raise UserError(f"PE watchdog_cycles must be above {_longest_bank_pause(chip.hb)}, the bank's longest pause")
    commands = np.flatnonzero(steps[:, Step.KIND] == Kind.PUSH)
    transfers = (steps[commands, Step.UNIT] == _HB) | (steps[commands, Step.IS_REFILL] == 1)
    moved = steps[commands[transfers], Step.WORDS]
    columns = int(moved[moved < 1 << chip.hb.length_bits].sum())
    shape = shape_of(chip.hb)
    room = 64 + 4 * len(moved) + 4 * columns // chip.hb.data_columns
    while True:
        run, bank = Run.empty(len(commands)), reset_bank(shape.requesters)
        records = Records(
            transfers=np.zeros((len(moved), TRANSFER_FIELDS), dtype=np.int64),
            rows=np.empty((room, ROW_FIELDS), dtype=np.int64),
            refreshes=np.empty(room, dtype=np.int64),
            ticks=np.empty(64 + 2 * columns, dtype=np.int64),
            takes=np.empty(columns, dtype=np.int64),
            offers=np.empty(columns, dtype=np.int64),
        )
        cycles = _run(
            chip.hb.clocks,
            shape,
            buffers_cover(chip.hb, chip.hb.clocks),
            bank[0],
            records,
            chip.pe.queue_depth,
            chip.pe.fetch,
            chip.pe.watchdog_cycles,
            steps,
            links_of(program),
            run,
        )
        if cycles != _NO_ROOM:
            break
        room *= 4
    used = bank[0]
    records = records._replace(
        transfers=records.transfers[: used["n_transfer"]],
        rows=records.rows[: used["n_row"]],
        refreshes=records.refreshes[: used["n_ref"]],
    )
    counts = counts_of_records(chip.hb, chip.hb.clocks, records, int(used["stall_clocks"]))
    for name in ("hb_activates", "hb_reads", "hb_writes", "hb_refreshes"):
        run.counters[getattr(COUNTER, name)] = getattr(counts, name)
    run.counters[COUNTER.hb_row_conflicts] = counts.hb_row_conflicts + counts.hb_row_reopens
    run.counters[COUNTER.hb_stream_stalls] = counts.hb_stall_clocks
    return run, cycles


def _longest_bank_pause(hb: HbParams) -> int:
    """Cycles that may pass between two beats of a transfer whose stream keeps up: all refreshes owed, a new row."""
    c = hb.clocks
    clocks = 10 * c.nRFC + 2 * max(c.nRC, c.close_clocks) + c.nRCD + c.nCL + c.nBL
    return -(-clocks * c.tick_num // c.tick_den) + 4


@njit(cache=True)
def _load(chunks, offered, position, first, number):
    """A link load of ``number`` words from cycle ``first`` on: (cycle of the last word, -1 if it never comes).

    ``position`` is [chunk, word in it] and moves on.
    """
    at = first
    while number > 0:
        if position[0] == len(chunks):
            return _NEVER
        here = min(number, chunks[position[0]] - position[1])
        at = max(at, offered[position[0]]) + here
        number -= here
        position[1] += here
        if position[1] == chunks[position[0]]:
            position[0], position[1] = position[0] + 1, 0
    return at - 1


@njit(cache=True)
def _words_from(chunks, offered, position, number):
    """Cycles from which the next ``number`` words are offered, or as many as the link has; ``position`` moves on."""
    cycles = np.empty(number, dtype=np.int64)
    found = 0
    while found < number and position[0] < len(chunks):
        cycles[found] = offered[position[0]]
        found += 1
        position[1] += 1
        if position[1] == chunks[position[0]]:
            position[0], position[1] = position[0] + 1, 0
    return cycles[:found]


@njit(cache=True)
def _next_run(chunks, offered, position, first, number, after):
    """(begin, end) of the first run of words of a load that ends behind cycle ``after``; (_NEVER, _NEVER) if none."""
    chunk, word, at = position[0], position[1], first
    while number > 0 and chunk < len(chunks):
        here = min(number, chunks[chunk] - word)
        begin = max(at, offered[chunk])
        at = begin + here
        if at - 1 > after:
            return max(begin, after + 1), at - 1
        number -= here
        chunk, word = chunk + 1, 0
    return _NEVER, _NEVER


@njit(cache=True)
def _run(c, shape, covered, bank, records, depth, lead, watchdog, steps, links: Links, run: Run):
    """Fill ``run`` and ``records``; returns the cycle in which the PE is idle or the error happened, or _NO_ROOM."""
    counters = run.counters
    # Queues: steps and cycles of their pushes.
    queue_step = np.zeros((_UNITS, depth), dtype=np.int64)
    queue_pushed = np.zeros((_UNITS, depth), dtype=np.int64)
    heads = np.zeros(_UNITS, dtype=np.int64)
    levels = np.zeros(_UNITS, dtype=np.int64)
    # Units: step in progress (-1: none), its done and free cycle (_NEVER: not yet known), last cycle occupied.
    current = np.full(_UNITS, -1, dtype=np.int64)
    ends = np.full(_UNITS, _NEVER, dtype=np.int64)
    free = np.full(_UNITS, -1, dtype=np.int64)
    drain_step = np.zeros(_DRAINS, dtype=np.int64)
    drain_done = np.zeros(_DRAINS, dtype=np.int64)
    drains = 0
    counts = np.zeros(SEMAPHORES, dtype=np.int64)
    change = np.zeros(SEMAPHORES, dtype=np.int64)
    error = np.zeros(_UNITS, dtype=np.int64)
    culprit = np.zeros(_UNITS, dtype=np.int64)
    # HB: requests on the ports, from which cycle; errors they will be answered with.
    requests = np.zeros(shape.requesters, dtype=REQUEST)
    asked = np.full(shape.requesters, _NEVER, dtype=np.int64)
    refused = np.zeros(_UNITS, dtype=np.int64)
    always = np.ones((shape.requesters, 0), dtype=np.bool_)
    offered = np.zeros(shape.requesters, dtype=np.int64)
    emptied = np.zeros(shape.write_buffer, dtype=np.int64)
    waits = np.zeros(1, dtype=np.int64)
    no_wait = np.zeros(0, dtype=np.int64)
    beats_until = -1  # HB LOAD: cycle of its last beat
    refill_first, refill_last = 0, -1  # words of the last refill in records.offers
    # Links: chunk and word; where the load in progress began.
    stream_at = np.zeros(2, dtype=np.int64)
    gather_at = np.zeros(2, dtype=np.int64)
    stream_from = np.zeros(2, dtype=np.int64)
    gather_from = np.zeros(2, dtype=np.int64)
    host_answers = 0
    number = np.zeros(len(steps), dtype=np.int64)
    pushed = 0
    for i in range(len(steps)):
        number[i] = pushed
        pushed += steps[i, Step.KIND] == Kind.PUSH
    # Sequencer: next step that meets the units, the cycle in which it executes at the earliest.
    at_step, executes, record_ends = _advance(steps, 0, 0, -1, counters)
    progress = -1  # last cycle in which a command started or ended
    now = -1
    while True:
        # The next cycle in which anything can happen; nothing does between.
        then = _NEVER
        in_progress = drains > 0
        empty = True
        for u in range(1, _UNITS):
            if current[u] >= 0:
                in_progress = True
                then = min(then, ends[u] if u != _ARRAY else free[u] + 1)
                if refused[u] > now:
                    then = min(then, refused[u])
            if levels[u] > 0:
                empty = False
                if current[u] < 0:
                    i = queue_step[u, heads[u]]
                    if _available(steps[i], counts):
                        then = min(then, max(max(queue_pushed[u, heads[u]], free[u]) + 1, now + 1))
        if drains > 0:
            then = min(then, drain_done[0])
        first = min(asked[0], asked[1])
        if first < _NEVER:
            then = min(then, max(max(first, bank.idle), now + 1))
        if at_step < len(steps):
            kind = steps[at_step, Step.KIND]
            if kind == Kind.PUSH:
                possible = levels[steps[at_step, Step.UNIT]] < depth
            else:
                possible = kind != Kind.ENDLESS and (kind != Kind.WAIT or (empty and not in_progress))
            if possible:
                then = min(then, max(executes, now + 1))
        elif empty and not in_progress:
            cycles = max(executes, now + 1)
            return cycles if refresh_idle(c, bank, records.refreshes, cycles - 1) else _NO_ROOM

        # The watchdog barks where nothing starts, ends or moves for too long.
        if then - progress > watchdog:
            while True:
                begin = end = _NEVER
                if current[_STREAM] >= 0:
                    command = steps[current[_STREAM]]
                    if command[Step.IS_REFILL]:
                        for k in range(refill_first, refill_last):
                            if records.offers[k] > progress:
                                begin = end = records.offers[k]
                                break
                    else:
                        begin, end = _next_run(
                            links.stream_words,
                            links.stream_from,
                            stream_from,
                            run.start[number[current[_STREAM]]] + 1,
                            command[Step.WORDS],
                            progress,
                        )
                if current[_GATHER] >= 0:
                    command = steps[current[_GATHER]]
                    start = run.start[number[current[_GATHER]]] + 1
                    other, other_end = _next_run(
                        links.gather_words, links.gather_from, gather_from, start, command[Step.WORDS], progress
                    )
                    if other < begin:
                        begin, end = other, other_end
                if record_ends - progress > 0 and record_ends < begin:
                    begin = end = record_ends
                if current[_HB] >= 0 and progress < beats_until:
                    begin, end = progress + 1, min(end, beats_until)
                if current[_STORE] >= 0 and progress < ends[_STORE] and ends[_STORE] < _NEVER:
                    begin, end = max(progress + 1, run.start[number[current[_STORE]]] + 2), ends[_STORE]
                if begin - progress > watchdog and min(begin, then) - progress > watchdog:
                    run.error[:] = (_WATCHDOG, 0, 0, number[at_step] if at_step < len(steps) else pushed)
                    return _stop(run, progress + watchdog)
                if begin >= then or then - end <= watchdog:
                    break
                progress = end
        now = then
        change[:] = 0
        error[:] = 0
        happened = False

        # Commands that end.
        if drains > 0 and drain_done[0] == now:
            happened = True
            _give(steps[drain_step[0]], change)
            drains -= 1
            for k in range(drains):
                drain_step[k], drain_done[k] = drain_step[k + 1], drain_done[k + 1]
        ending = np.zeros(_UNITS, dtype=np.bool_)
        for u in range(1, _UNITS):
            if current[u] < 0 or u == _ARRAY:
                continue
            if ends[u] == now:
                happened = True
                ending[u] = True
                _give(steps[current[u]], change)
            if refused[u] == now and refused[u] > 0:
                error[u], culprit[u] = _REFUSED, current[u]
        if current[_ARRAY] >= 0 and free[_ARRAY] < now:
            current[_ARRAY] = -1

        # The controller takes a request.
        if first < _NEVER and max(first, bank.idle) <= now:
            who = bank.last
            for _ in range(shape.requesters):
                who = (who + 1) % shape.requesters
                if asked[who] <= now:
                    break
            u = _HB if who == 0 else _STREAM
            command = steps[current[u]]
            counters[COUNTER.hb_request_stalls if who == 0 else COUNTER.stream_request_stalls] += now - asked[who]
            run.waits[number[current[u]], AT_CONTROLLER] = now - asked[who]
            asked[who] = _NEVER
            request = requests[who]
            available = no_wait
            short = False
            closed = covered
            if who == 1 and _fits(shape, request):
                available = _words_from(links.stream_words, links.stream_from, stream_at, command[Step.WORDS])
                short = len(available) < command[Step.WORDS]
                closed = covered and not short and (len(available) == 0 or available[-1] <= now)
                if short:  # the words that come are taken as in the whole transfer, which then never ends
                    request.columns = len(available)
                waits[0] = 0
            refill = bank.n_offer
            streams = (always, always, offered, emptied, available, waits)
            served = not short or len(available) > 0
            if served and not serve(c, shape, closed, bank, request, who, now, streams, records):
                return _NO_ROOM
            if who == 0:
                pulse = bank.idle
                beats_until = bank.last_read
                if records.transfers[bank.n_transfer - 1, ERROR] != 0:
                    refused[u], ends[u], beats_until = pulse, _NEVER, -1
                else:
                    ends[u] = max(pulse, bank.last_read)
            elif short:
                refill_first, refill_last = refill, bank.n_offer
                bank.idle = _NEVER
            else:
                ends[u] = bank.idle
                if records.transfers[bank.n_transfer - 1, ERROR] != 0:
                    refused[u] = bank.idle
                else:
                    refill_first, refill_last = refill, bank.n_offer
                    counters[COUNTER.stream_words] += command[Step.WORDS]
                    counters[COUNTER.stream_link_stalls] += waits[0]
                    run.waits[number[current[u]], AT_LINK] = waits[0]

        # Commands that start. What is pushed or given now counts from the next cycle on.
        level_before = levels[steps[at_step, Step.UNIT]] if at_step < len(steps) else 0
        for u in range(1, _UNITS):
            if current[u] >= 0 or levels[u] == 0:
                continue
            i, since = queue_step[u, heads[u]], max(queue_pushed[u, heads[u]], free[u]) + 1
            if since > now or not _available(steps[i], counts):
                continue
            command = steps[i]
            for k in (Step.WAIT0, Step.WAIT1):
                if command[k] >= 0:
                    change[command[k]] -= 1
            happened = True
            heads[u] = (heads[u] + 1) % depth
            levels[u] -= 1
            run.start[number[i]] = now
            counters[COUNTER.commands + u] += 1
            counters[COUNTER.semaphore_stalls + u] += now - since
            run.waits[number[i], AT_SEMAPHORE] = now - since
            if command[Step.ERROR] != 0:
                error[u], culprit[u] = command[Step.ERROR], i
                free[u] = now
                continue
            current[u], ends[u], free[u], refused[u] = i, _NEVER, _NEVER, 0
            words = command[Step.WORDS]
            if u == _HB or command[Step.IS_REFILL]:
                who = 0 if u == _HB else 1
                asked[who] = now + 1
                requests[who].write, requests[who].columns = who, words
                requests[who].row, requests[who].column = divmod(command[Step.COLUMN], shape.data_columns)
                refill_last = -1 if who == 1 else refill_last
            elif u == _STREAM:
                stream_from[:] = stream_at
                ends[u] = _load(links.stream_words, links.stream_from, stream_at, now + 1, words)
                counters[COUNTER.stream_words] += words
                run.waits[number[i], AT_LINK] = ends[u] - now - words
                counters[COUNTER.stream_link_stalls] += run.waits[number[i], AT_LINK]
            elif u == _GATHER:
                gather_from[:] = gather_at
                ends[u] = _load(links.gather_words, links.gather_from, gather_at, now + 1, words)
                counters[COUNTER.gather_words] += words
                run.waits[number[i], AT_LINK] = ends[u] - now - words
                counters[COUNTER.gather_link_stalls] += run.waits[number[i], AT_LINK]
            elif u == _ARRAY:
                last = now + lead + (command[Step.SLOTS] - 1) * command[Step.INTERVAL]
                free[u] = last + command[Step.INTERVAL] - 1
                drain_step[drains], drain_done[drains] = i, last + command[Step.LATENCY]
                run.done[number[i]] = drain_done[drains]
                drains += 1
                counters[COUNTER.array_groups] += command[Step.SLOTS]
                counters[COUNTER.busy + u] += free[u] - now + 1
            elif u == _VECTOR:
                ends[u] = now + command[Step.SLOTS] * command[Step.INTERVAL] + command[Step.LATENCY] - 1
                counters[COUNTER.vector_rows] += words
            elif u == _STORE:
                ends[u] = now + 1 + words
                counters[COUNTER.store_words] += words
            else:
                ends[u] = now + 1 + links.host_cycles[min(host_answers, len(links.host_cycles) - 1)]
                host_answers += 1

        # The sequencer.
        sequencer_error = 0
        stuck = at_step
        if at_step < len(steps) and executes <= now and steps[at_step, Step.KIND] != Kind.ENDLESS:
            step = steps[at_step]
            kind = step[Step.KIND]
            acts = empty and not in_progress
            if kind == Kind.PUSH:
                u = step[Step.UNIT]
                acts = level_before < depth
                if acts:
                    place = (heads[u] + levels[u]) % depth
                    queue_step[u, place], queue_pushed[u, place] = at_step, now
                    levels[u] += 1
                    counters[COUNTER.sequencer_queue_stalls] += now - executes
                    run.waits[number[at_step], AT_QUEUE] = now - executes
            elif kind == Kind.WAIT:
                if acts:
                    _give(step, change)
                    counters[COUNTER.sequencer_wait_stalls] += now - executes
            else:
                sequencer_error = step[Step.ERROR]
                acts = False
            if acts:
                counters[COUNTER.sequencer_instructions] += 1
                at_step, executes, record_ends = _advance(steps, at_step + 1, now + 1, record_ends, counters)

        # A unit whose command ended can start the next one from the following cycle on.
        for u in range(1, _UNITS):
            if ending[u]:
                i = current[u]
                run.done[number[i]] = now
                counters[COUNTER.busy + u] += now - run.start[number[i]] + 1
                current[u], free[u], ends[u] = -1, now, _NEVER
        before = number[at_step] if at_step < len(steps) else pushed
        if sequencer_error != 0:
            run.error[:] = (sequencer_error, 0, steps[stuck, Step.INSTRUCTION], before)
            return _stop(run, now)
        for u in range(1, _UNITS):
            if error[u] != 0:
                run.error[:] = (error[u], u, steps[culprit[u], Step.INSTRUCTION], before)
                return _stop(run, now)
        for s in range(SEMAPHORES):
            counts[s] += change[s]
            if counts[s] < 0 or counts[s] > SEMAPHORE_MAX:
                run.error[:] = (_SEMAPHORE, 0, 0, before)
                return _stop(run, now)
        if happened:
            progress = now


@njit(cache=True)
def _fits(shape, request):
    """Whether the controller will accept the request."""
    end = request.row * shape.data_columns + request.column + request.columns
    return end <= shape.rows * shape.data_columns


@njit(cache=True)
def _available(step, counts):
    """Whether every semaphore that a command waits for is at least 1."""
    first, second = step[Step.WAIT0], step[Step.WAIT1]
    return (first < 0 or counts[first] > 0) and (second < 0 or counts[second] > 0)


@njit(cache=True)
def _give(step, change):
    """The signals of a command."""
    for k in (Step.SIGNAL0, Step.SIGNAL1):
        if step[k] >= 0:
            change[step[k]] += 1


@njit(cache=True)
def _advance(steps, at, cycle, record_ends, counters):
    """Next step from ``at`` on that meets the units or fails, and the cycle in which it does at the earliest.

    ``cycle`` is the first of step ``at``. Behind the last step: the first cycle after it. Third, the cycle of the last
    dispatch word up to there, ``record_ends`` if none came.
    """
    while at < len(steps):
        kind = steps[at, Step.KIND]
        if kind == Kind.RECORD:
            cycle += steps[at, Step.WORDS]
            record_ends = cycle - 1
        elif kind == Kind.PLAIN:
            cycle += 2
            counters[COUNTER.sequencer_instructions] += 1
        elif kind == Kind.DESCRIBE:
            cycle += 3
            counters[COUNTER.sequencer_instructions] += 1
        elif kind == Kind.BAD_FETCH:
            return at, cycle, record_ends
        elif kind == Kind.BAD_DESCRIBE:
            return at, cycle + 2, record_ends
        else:
            return at, cycle + 1, record_ends
        at += 1
    return at, cycle, record_ends


@njit(cache=True)
def _stop(run, cycle):
    """An error in ``cycle``: what would have ended later never did."""
    for i in range(len(run.done)):
        if run.done[i] > cycle:
            run.done[i] = -1
    return cycle
