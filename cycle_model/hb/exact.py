"""Exact twin of `hw.memory.hb_controller.HbController`: steps its state machine one logic cycle at a time.

Equal to the RTL in every command, acceptance, beat and done pulse. The compiled kernel keeps the registers of the
RTL (gate counters, refresh counter, levels of the buffers) and nothing that knows the future.
"""

import numpy as np

from cycle_model.hb.stepping import NOP, REF, reset_state, step
from cycle_model.hb.traffic import Trace, Traffic, counts_of, last_cycle, shape_of
from cycle_model.kernel_cache import njit
from hw.errors import UserError


def exact(traffic: Traffic, max_cycles: int = 1 << 40) -> Trace:
    """Run ``traffic`` to its end.

    Raises UserError where the traffic does not end within ``max_cycles`` (a consumer that never takes its beats).
    """
    requests, starts = traffic.queues()
    streams = traffic.streams
    columns = int(requests["columns"].sum())
    room = 64 + 4 * columns + 8 * len(requests)
    while True:
        events = np.empty((room, 6), dtype=np.int64)
        accepts = np.empty((len(requests), 3), dtype=np.int64)
        dones = np.empty((len(requests), 4), dtype=np.int64)
        reads = np.empty((columns, 4), dtype=np.int64)
        writes = np.empty((columns, 2), dtype=np.int64)
        used, number_of_reads, number_of_writes, stall_clocks = _run(
            traffic.timing,
            shape_of(traffic.params),
            reset_state(shape_of(traffic.params)),
            requests,
            starts,
            streams.takes,
            streams.offers,
            max_cycles,
            events,
            accepts,
            dones,
            reads,
            writes,
        )
        if used >= 0:
            break
        if used == -1:
            raise UserError(f"HB traffic must end within {max_cycles} cycles; a stream seems to stall for ever")
        room *= 2
    reads, writes, events = reads[:number_of_reads], writes[:number_of_writes], events[:used]
    end_cycle = last_cycle(dones, reads)
    trace = Trace(events[events[:, 0] <= end_cycle], accepts, dones, reads, writes, end_cycle)
    trace.counts = counts_of(trace, traffic.params, stall_clocks)
    return trace


@njit(cache=True)
def _run(c, shape, state, requests, starts, takes, offers, max_cycles, events, accepts, dones, reads, writes):
    """Fill the event arrays; returns events used (-1: too many cycles, -2: no room), beats, stall clocks."""
    heads = starts[:-1].copy()
    asking = np.zeros(shape.requesters, dtype=np.bool_)
    taking = np.zeros(shape.requesters, dtype=np.bool_)
    offering = np.zeros(shape.requesters, dtype=np.bool_)
    used = accepted = finished = popped = taken = stall_clocks = 0
    horizon = takes.shape[1]
    s, now = state.registers[0], state.cycle[0]
    cycle = -1
    while finished < len(requests) or s.reserved > 0 or s.done >= 0:
        cycle += 1
        if cycle >= max_cycles:
            return -1, popped, taken, stall_clocks
        for r in range(shape.requesters):
            asking[r] = heads[r] < starts[r + 1] and requests[heads[r]].cycle <= cycle
            taking[r] = cycle >= horizon or takes[r, cycle]
            offering[r] = offering[r] or cycle >= horizon or offers[r, cycle]
        owner, tag = s.owner, s.tag
        step(c, shape, state, asking, requests, heads, taking, offering)
        stall_clocks += now.stalled
        if now.left_to >= 0:
            reads[popped] = (cycle, now.left_to, now.left_tag, now.left_last)
            popped += 1
        if now.taken_from >= 0:
            writes[taken] = (cycle, now.taken_from)
            offering[now.taken_from] = False
            taken += 1
        if now.command != NOP:
            if used == len(events):
                return -2, popped, taken, stall_clocks
            if now.command == REF:
                events[used] = (cycle, now.command, 0, 0, -1, -1)
            else:
                events[used] = (cycle, now.command, now.row, now.column, owner, tag)
            used += 1
        if now.accepted >= 0:
            accepts[accepted] = (cycle, now.accepted, requests[heads[now.accepted]].tag)
            accepted += 1
            heads[now.accepted] += 1
        if s.done >= 0:
            dones[finished] = (cycle + 1, s.done, s.done_tag, s.done_error)
            finished += 1
    return used, popped, taken, stall_clocks
