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
from cycle_model.pe.command_events import (
    advance,
    ask_controller,
    end_commands,
    give_tokens,
    semaphores_fail,
    start,
    unit_error,
)
from cycle_model.pe.decoder import decode
from cycle_model.pe.event_state import has_tokens, next_event, reset_events, watchdog_barks
from cycle_model.pe.link_timing import NEVER, load, words_from
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
from cycle_model.pe.steps import Kind, Step, command_numbers
from hw.errors import UserError
from hw.isa.encoding import PeError, Unit
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.timing import HbClocks

_HB, _STREAM, _GATHER, _HOST = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.HOST)
_ARRAY, _UNITS = int(Unit.ARRAY), len(Unit)
_SEMAPHORE, _WATCHDOG = int(PeError.SEMAPHORE), int(PeError.WATCHDOG)
_NO_ROOM = -1


def fast(program: PeProgram) -> RunResult:
    """Run ``program`` to its end or first error.

    Raises UserError where the program is not for its chip, or the chip's watchdog could bark at a refreshing bank.
    """
    steps = decode(program)
    run, cycles = run_fast(program, steps)
    return result_of("fast", steps, run, cycles)


def run_fast(program: PeProgram, steps: np.ndarray) -> tuple[Run, int]:
    """The run of decoded ``steps`` with what every command waited for, and its cycles; UserError as `fast`."""
    program.check()
    chip, clocks = program.chip, program.chip.hb.clocks
    pause = _longest_bank_pause(clocks)
    if chip.pe.watchdog_cycles <= pause:
        raise UserError(
            f"PE watchdog_cycles must be above {pause}, the bank's longest pause, not {chip.pe.watchdog_cycles}"
        )
    commands = np.flatnonzero(steps[:, Step.KIND] == Kind.PUSH)
    transfers = (steps[commands, Step.UNIT] == _HB) | (steps[commands, Step.IS_REFILL] == 1)
    moved = steps[commands[transfers], Step.WORDS]
    columns = int(moved[moved < 1 << chip.hb.length_bits].sum())
    shape, numbers = shape_of(chip.hb), command_numbers(steps)
    room = 64 + 4 * len(moved) + 4 * columns // chip.hb.data_columns
    while True:
        run, bank, events = Run.empty(len(commands)), reset_bank(shape.requesters), reset_events()
        records = Records(
            transfers=np.zeros((len(moved), TRANSFER_FIELDS), dtype=np.int64),
            rows=np.empty((room, ROW_FIELDS), dtype=np.int64),
            refreshes=np.empty(room, dtype=np.int64),
            ticks=np.empty(64 + 2 * columns, dtype=np.int64),
            takes=np.empty(columns, dtype=np.int64),
            offers=np.empty(columns, dtype=np.int64),
        )
        cycles = _run(
            clocks,
            shape,
            buffers_cover(chip.hb, clocks),
            bank[0],
            records,
            np.zeros((2, len(Unit), chip.pe.queue_depth), dtype=np.int64),
            chip.pe.fetch,
            chip.pe.watchdog_cycles,
            steps,
            numbers,
            links_of(program),
            events,
            run,
        )
        if cycles != _NO_ROOM:
            break
        room *= 4
    run.counters[:] = events["counter"][0]
    used = bank[0]
    records = records._replace(
        transfers=records.transfers[: used["n_transfer"]],
        rows=records.rows[: used["n_row"]],
        refreshes=records.refreshes[: used["n_ref"]],
    )
    counts = counts_of_records(chip.hb, records, int(used["stall_clocks"]))
    for name in ("hb_activates", "hb_reads", "hb_writes", "hb_refreshes"):
        run.counters[getattr(COUNTER, name)] = getattr(counts, name)
    run.counters[COUNTER.hb_row_conflicts] = counts.hb_row_conflicts + counts.hb_row_reopens
    run.counters[COUNTER.hb_stream_stalls] = counts.hb_stall_clocks
    return run, cycles


def _longest_bank_pause(c: HbClocks) -> int:
    """Cycles that may pass between two beats of a transfer whose stream keeps up: all refreshes owed, a new row."""
    clocks = 10 * c.nRFC + 2 * max(c.nRC, c.close_clocks) + c.nRCD + c.nCL + c.nBL
    return -(-clocks * c.tick_num // c.tick_den) + 4


@njit(cache=True)
def _run(c, shape, covered, bank, records, queues, lead, watchdog, steps, numbers, links: Links, events, run: Run):
    """Fill ``run`` and ``records``; returns the cycle in which the PE is idle or the error happened, or _NO_ROOM.

    ``queues`` [2, units, depth]: steps of waiting commands, and the cycles of their pushes.
    """
    r = events[0]
    queue_step, queue_pushed, depth = queues[0], queues[1], queues.shape[2]
    requests = np.zeros(shape.requesters, dtype=REQUEST)
    always = np.ones((shape.requesters, 0), dtype=np.bool_)
    offered = np.zeros(shape.requesters, dtype=np.int64)
    emptied = np.zeros(shape.write_buffer, dtype=np.int64)
    waits = np.zeros(1, dtype=np.int64)
    no_wait = np.zeros(0, dtype=np.int64)
    advance(r, steps, 0, 0)
    now = np.int64(-1)
    while True:
        then = next_event(r, steps, queue_step, queue_pushed, bank.idle, now)
        if r.at_step == len(steps) and r.empty and not r.in_progress:
            cycles = max(r.executes, now + 1)
            return cycles if refresh_idle(c, bank, records.refreshes, cycles - 1) else _NO_ROOM
        if then - r.progress > watchdog and watchdog_barks(
            r, steps, links, records.offers, run.start, numbers, then, watchdog
        ):
            return _stop(run, r.progress + watchdog, _WATCHDOG, 0, 0, numbers[r.at_step])
        now = then
        r.happened = 0
        end_commands(r, steps, now)

        # The controller takes a request.
        first = min(r.asked[0], r.asked[1])
        if first < NEVER and max(first, bank.idle) <= now:
            who = bank.last
            for _ in range(shape.requesters):
                who = (who + 1) % shape.requesters
                if who < len(r.asked) and r.asked[who] <= now:
                    break
            u = _HB if who == 0 else _STREAM
            command = steps[r.current[u]]
            waited = now - r.asked[who]
            r.counter[COUNTER.hb_request_stalls if who == 0 else COUNTER.stream_request_stalls] += waited
            run.waits[numbers[r.current[u]], AT_CONTROLLER] = waited
            r.asked[who] = NEVER
            request = requests[who]
            available = no_wait
            short = False
            closed = covered
            if who == 1 and _fits(shape, request):
                available = words_from(links.stream_words, links.stream_from, r.stream_at, command[Step.WORDS])
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
                r.beats_until = bank.last_read
                if records.transfers[bank.n_transfer - 1, ERROR] != 0:
                    r.refused[u], r.ends[u], r.beats_until = bank.idle, NEVER, -1
                else:
                    r.ends[u] = max(bank.idle, bank.last_read)
            elif short:
                r.refill_first, r.refill_last = refill, bank.n_offer
                bank.idle = NEVER
            else:
                r.ends[u] = bank.idle
                if records.transfers[bank.n_transfer - 1, ERROR] != 0:
                    r.refused[u] = bank.idle
                else:
                    r.refill_first, r.refill_last = refill, bank.n_offer
                    r.counter[COUNTER.stream_words] += command[Step.WORDS]
                    r.counter[COUNTER.stream_link_stalls] += waits[0]
                    run.waits[numbers[r.current[u]], AT_LINK] = waits[0]

        # Commands that start. What is pushed or given now counts from the next cycle on.
        level_before = r.levels[steps[r.at_step, Step.UNIT]] if r.at_step < len(steps) else 0
        for u in range(1, _UNITS):
            if r.current[u] < 0 and r.levels[u] > 0:
                i, since = queue_step[u, r.heads[u]], max(queue_pushed[u, r.heads[u]], r.free[u]) + 1
                if since <= now and has_tokens(r, steps[i]):
                    run.start[numbers[i]] = now
                    run.waits[numbers[i], AT_SEMAPHORE] = now - since
                    command = steps[i]
                    if not start(r, u, i, command, since, depth, lead, now):
                        continue
                    words = command[Step.WORDS]
                    if u == _HB:
                        ask_controller(r, 0, requests[0], command, shape.data_columns, now)
                    elif command[Step.IS_REFILL]:
                        ask_controller(r, 1, requests[1], command, shape.data_columns, now)
                    elif u == _STREAM:
                        r.stream_from[:] = r.stream_at
                        r.ends[u] = load(links.stream_words, links.stream_from, r.stream_at, now + 1, words)
                        run.waits[numbers[i], AT_LINK] = r.ends[u] - now - words
                        r.counter[COUNTER.stream_words] += words
                        r.counter[COUNTER.stream_link_stalls] += r.ends[u] - now - words
                    elif u == _GATHER:
                        r.gather_from[:] = r.gather_at
                        r.ends[u] = load(links.gather_words, links.gather_from, r.gather_at, now + 1, words)
                        run.waits[numbers[i], AT_LINK] = r.ends[u] - now - words
                        r.counter[COUNTER.gather_words] += words
                        r.counter[COUNTER.gather_link_stalls] += r.ends[u] - now - words
                    elif u == _ARRAY:
                        run.done[numbers[i]] = r.drain_done[r.drains - 1]
                    elif u == _HOST:
                        r.ends[u] = now + 1 + links.host_cycles[min(r.host_answers, len(links.host_cycles) - 1)]
                        r.host_answers += 1

        # The sequencer.
        sequencer_error = np.int64(0)
        stuck = r.at_step
        if r.at_step < len(steps) and r.executes <= now and steps[r.at_step, Step.KIND] != Kind.ENDLESS:
            step = steps[r.at_step]
            acts = False
            if step[Step.KIND] == Kind.PUSH:
                u = step[Step.UNIT]
                acts = level_before < depth
                if acts:
                    place = (r.heads[u] + r.levels[u]) % depth
                    queue_step[u, place], queue_pushed[u, place] = r.at_step, now
                    r.levels[u] += 1
                    r.counter[COUNTER.sequencer_queue_stalls] += now - r.executes
                    run.waits[numbers[r.at_step], AT_QUEUE] = now - r.executes
            elif step[Step.KIND] == Kind.WAIT:
                acts = r.empty and not r.in_progress
                if acts:
                    give_tokens(r, step)
                    r.counter[COUNTER.sequencer_wait_stalls] += now - r.executes
            else:
                sequencer_error = step[Step.ERROR]
            if acts:
                r.counter[COUNTER.sequencer_instructions] += 1
                advance(r, steps, r.at_step + 1, now + 1)

        # A unit whose command ended can start the next one from the following cycle on.
        for u in range(1, _UNITS):
            if r.ending[u]:
                command_number = numbers[r.current[u]]
                run.done[command_number] = now
                r.counter[COUNTER.busy + u] += now - run.start[command_number] + 1
                r.current[u], r.free[u], r.ends[u], r.ending[u] = -1, now, NEVER, 0
        before = numbers[r.at_step]
        if sequencer_error != 0:
            return _stop(run, now, sequencer_error, 0, steps[stuck, Step.INSTRUCTION], before)
        u = unit_error(r)
        if u != 0:
            return _stop(run, now, r.error[u], u, steps[r.culprit[u], Step.INSTRUCTION], before)
        if semaphores_fail(r):
            return _stop(run, now, _SEMAPHORE, 0, 0, before)
        if r.happened:
            r.progress = now


@njit(cache=True)
def _fits(shape, request):
    """Whether the controller will accept the request."""
    end = request.row * shape.data_columns + request.column + request.columns
    return end <= shape.rows * shape.data_columns


@njit(cache=True)
def _stop(run, cycle, code, unit, instruction, pushed):
    """An error in ``cycle``: what would have ended later never did."""
    run.error[:] = (code, unit, instruction, pushed)
    for i in range(len(run.done)):
        if run.done[i] > cycle:
            run.done[i] = -1
    return cycle
