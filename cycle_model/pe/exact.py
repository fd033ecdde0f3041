"""Exact twin of `hw.pe.pe.Pe`: steps sequencer, queues, semaphores, units and HB controller one cycle at a time.

Equal to the RTL in the start and done of every command, in every counter, and in the error. It knows nothing of the
future; `cycle_model.pe.fast` computes the same without stepping. Values are the functional model's.
"""

import numpy as np

from cycle_model.hb.stepping import reset_state, step
from cycle_model.hb.traffic import REQUEST, shape_of
from cycle_model.kernel_cache import njit
from cycle_model.pe.command_stepping import (
    end_commands,
    ends_any,
    error_of,
    has_tokens,
    may_start,
    note_waits,
    start,
    step_sequencer,
)
from cycle_model.pe.decoder import decode
from cycle_model.pe.outcome import AT_QUEUE, AT_SEMAPHORE, Links, Run, links_of, result_of
from cycle_model.pe.registers import begin_cycle, is_idle, reset_registers
from cycle_model.pe.steps import Step, command_numbers
from cycle_model.pe.unit_stepping import (
    count_controller,
    step_array,
    step_gather,
    step_hb,
    step_host,
    step_store,
    step_stream,
    step_vector,
)
from hw.errors import UserError
from hw.isa.encoding import Unit
from hw.isa.program import PeProgram
from hw.isa.result import RunResult


def exact(program: PeProgram, max_cycles: int = 1 << 40) -> RunResult:
    """Run ``program`` to its end or first error.

    Raises UserError where the program is not for its chip, or takes more than ``max_cycles``.
    """
    steps = decode(program)
    run, cycles = run_exact(program, steps, max_cycles)
    return result_of("exact", steps, run, cycles)


def run_exact(program: PeProgram, steps: np.ndarray, max_cycles: int = 1 << 40) -> tuple[Run, int]:
    """The run of decoded ``steps`` with what every command waited for, and its cycles; UserError as `exact`."""
    program.check()
    chip, shape, numbers = program.chip, shape_of(program.chip.hb), command_numbers(steps)
    run, registers = Run.empty(int(numbers[-1])), reset_registers()
    cycles = _run(
        chip.hb.clocks,
        shape,
        reset_state(shape),
        np.zeros(shape.requesters, dtype=REQUEST),
        np.zeros((len(Unit), chip.pe.queue_depth), dtype=np.int64),
        chip.pe.fetch,
        chip.pe.watchdog_cycles,
        steps,
        numbers,
        links_of(program),
        registers,
        run,
        max_cycles,
    )
    run.counters[:] = registers["counter"][0]
    if cycles < 0:
        raise UserError(f"program must end within {max_cycles} cycles")
    return run, cycles


@njit(cache=True)
def _run(c, shape, hb, requests, queues, lead, watchdog, steps, numbers, links: Links, registers, run: Run, max_cycles):
    """Fill ``run``; returns the cycle in which the PE is idle or the error happened, -1 after ``max_cycles``.

    ``queues`` [units, depth] holds the steps of waiting commands.
    """
    r, now, controller, depth = registers[0], hb.cycle[0], hb.registers[0], queues.shape[1]
    asking = np.zeros(shape.requesters, dtype=np.bool_)
    takes = np.ones(shape.requesters, dtype=np.bool_)
    offers = np.zeros(shape.requesters, dtype=np.bool_)
    at = np.arange(shape.requesters)
    for cycle in range(max_cycles):
        idle = is_idle(r)
        if idle and r.step == len(steps):
            return cycle
        if r.stream_ready == 0 and r.stream_chunk < len(links.stream_words):
            r.stream_ready, r.stream_from = links.stream_words[r.stream_chunk], links.stream_from[r.stream_chunk]
            r.stream_chunk += 1
        if r.gather_ready == 0 and r.gather_chunk < len(links.gather_words):
            r.gather_ready, r.gather_from = links.gather_words[r.gather_chunk], links.gather_from[r.gather_chunk]
            r.gather_chunk += 1
        begin_cycle(r, cycle)

        asking[0], asking[1] = r.hb_asks, r.refill_asks
        offers[1] = r.refilling and r.stream_valid
        would_take = controller.missing > 0 and controller.write_level < shape.write_buffer
        step(c, shape, hb, asking, requests, at, takes, offers)
        count_controller(r, now)
        step_hb(r, now)
        step_stream(r, now, would_take)
        step_gather(r)
        step_array(r)
        step_vector(r)
        step_store(r)
        step_host(r)

        for unit in range(1, len(r.current)):
            if may_start(r, unit):
                i = queues[unit, r.heads[unit]]
                if has_tokens(r, unit, steps[i]):
                    run.start[numbers[i]] = cycle
                    run.waits[numbers[i], AT_SEMAPHORE] = r.at_semaphore[unit]
                    start(r, unit, i, steps[i], requests, links.host_cycles, shape, lead, depth)
        if r.step < len(steps):
            unit = step_sequencer(r, steps[r.step], depth, idle)
            if unit:
                queues[unit, (r.heads[unit] + r.levels[unit] - r.pops[unit]) % depth] = r.step - 1
                r.levels[unit] += 1
                run.waits[numbers[r.step - 1], AT_QUEUE] = r.at_queue
                r.at_queue = 0
        if ends_any(r):
            end_commands(r, steps, numbers, run, cycle)
        code = error_of(r, watchdog)
        if code != 0:
            instruction = steps[r.stop_step, Step.INSTRUCTION] if r.stop_step >= 0 else 0
            run.error[:] = (code, r.stop_unit, instruction, numbers[r.step])
            for unit in range(1, len(r.current)):
                note_waits(r, numbers, run, unit)
            return cycle
    return -1
