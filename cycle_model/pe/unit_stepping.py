"""One logic cycle of each unit of the PE, with the words and beats that it moves.

`cycle_model.pe.exact` calls these in the order of the RTL's data flow. Nothing here knows the future. Everything is
inlined into the loop there, so that a function costs a name and no time.
"""

from cycle_model.hb.stepping import ACT, NOP, RD, REF, WR
from cycle_model.kernel_cache import njit
from cycle_model.pe.outcome import COUNTER
from hw.isa.encoding import PeError, Unit

_HB, _STREAM, _GATHER, _ARRAY = int(Unit.HB), int(Unit.STREAM), int(Unit.GATHER), int(Unit.ARRAY)
_VECTOR, _STORE, _HOST = int(Unit.VECTOR), int(Unit.STORE), int(Unit.HOST)
_REFUSED = int(PeError.HB_REFUSED)


@njit(inline="always")
def count_controller(r, now):
    """What the HB controller did in this cycle, and what it let wait."""
    r.counter[COUNTER.hb_stream_stalls] += now.stalled
    if now.command != NOP:
        r.counter[COUNTER.hb_activates] += now.command == ACT
        r.counter[COUNTER.hb_reads] += now.command == RD
        r.counter[COUNTER.hb_writes] += now.command == WR
        r.counter[COUNTER.hb_refreshes] += now.command == REF
        if now.command == ACT:
            r.counter[COUNTER.hb_row_conflicts] += not r.first_of_transfer
            r.first_of_transfer = 0
    if now.accepted >= 0:
        r.first_of_transfer = 1
    if r.hb_asks and now.accepted != 0:
        r.counter[COUNTER.hb_request_stalls] += 1
        r.at_controller[_HB] += 1
    if r.refill_asks and now.accepted != 1:
        r.counter[COUNTER.stream_request_stalls] += 1
        r.at_controller[_STREAM] += 1


@njit(inline="always")
def step_hb(r, now):
    """HB LOAD: request, beats, answer."""
    if r.current[_HB] >= 0:
        if now.accepted == 0:
            r.hb_asks = 0
        if now.left_to == 0:
            r.hb_left -= 1
            r.moved = 1
        if now.done == 0:
            r.hb_answered = 1
            if now.done_error != 0:
                r.error[_HB], r.culprit[_HB] = _REFUSED, r.current[_HB]
        if r.hb_answered and r.hb_left == 0:
            r.done[_HB] = r.current[_HB]


@njit(inline="always")
def step_stream(r, now, would_take):
    """STREAM LOAD takes a word of the link; REFILL hands it to the controller."""
    if r.current[_STREAM] >= 0:
        if now.accepted == 1:
            r.refill_asks = 0
        if r.refilling:
            if now.taken_from == 1:
                r.stream_ready -= 1
                r.moved = 1
                r.counter[COUNTER.stream_words] += 1
            elif would_take:
                r.counter[COUNTER.stream_link_stalls] += 1
                r.at_link[_STREAM] += 1
            if now.done == 1:
                if now.done_error != 0:
                    r.error[_STREAM], r.culprit[_STREAM] = _REFUSED, r.current[_STREAM]
                r.done[_STREAM] = r.current[_STREAM]
        elif r.stream_valid:
            r.stream_ready -= 1
            r.moved = 1
            r.counter[COUNTER.stream_words] += 1
            r.stream_left -= 1
            if r.stream_left == 0:
                r.done[_STREAM] = r.current[_STREAM]
        else:
            r.counter[COUNTER.stream_link_stalls] += 1
            r.at_link[_STREAM] += 1


@njit(inline="always")
def step_gather(r):
    """GATHER LOAD takes a word of the link."""
    if r.current[_GATHER] >= 0:
        if r.gather_valid:
            r.gather_ready -= 1
            r.moved = 1
            r.counter[COUNTER.gather_words] += 1
            r.gather_left -= 1
            if r.gather_left == 0:
                r.done[_GATHER] = r.current[_GATHER]
        else:
            r.counter[COUNTER.gather_link_stalls] += 1
            r.at_link[_GATHER] += 1


@njit(inline="always")
def step_array(r):
    """MATMUL: slots on a fixed cadence, then the pipeline."""
    kept = 0
    for i in range(r.drains):
        r.drain_left[i] -= 1
        if r.drain_left[i] == 0:
            r.done[_ARRAY] = r.drain_step[i]
        else:
            r.drain_left[kept], r.drain_step[kept] = r.drain_left[i], r.drain_step[i]
            kept += 1
    r.drains = kept
    if r.current[_ARRAY] >= 0:
        if r.array_slots > 0:
            r.array_lead -= 1
            if r.array_lead == 0:
                r.array_slots -= 1
                r.counter[COUNTER.array_groups] += 1
                r.array_lead = r.array_interval
                if r.array_slots == 0:
                    r.drain_left[r.drains], r.drain_step[r.drains] = r.array_latency, r.current[_ARRAY]
                    r.drains += 1
                    r.array_tail = r.array_interval
        if r.array_slots == 0:
            r.array_tail -= 1
            r.array_frees = r.array_tail == 0


@njit(inline="always")
def step_vector(r):
    """Rows, then the pipeline."""
    if r.current[_VECTOR] >= 0:
        r.vector_left -= 1
        if r.vector_left == 0:
            r.done[_VECTOR] = r.current[_VECTOR]


@njit(inline="always")
def step_store(r):
    """STORE: the link takes every word that is offered."""
    if r.current[_STORE] >= 0:
        if r.store_offered:
            r.moved = 1
            r.counter[COUNTER.store_words] += 1
        if r.store_left > 0:
            r.store_left -= 1
            r.store_offered = 1
        elif r.store_offered:
            r.store_offered = 0
            r.done[_STORE] = r.current[_STORE]


@njit(inline="always")
def step_host(r):
    """HOST: the answer comes when the host gives it."""
    if r.current[_HOST] >= 0:
        if r.host_left == 0:
            r.done[_HOST] = r.current[_HOST]
        r.host_left -= 1
