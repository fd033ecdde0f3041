"""Exact twin of `hw.memory.hb_controller.HbController`: steps its state machine one logic cycle at a time.

Equal to the RTL in every command, acceptance, beat and done pulse. The compiled kernel keeps the registers of the
RTL (gate counters, refresh counter, levels of the buffers) and nothing that knows the future.
"""

import numpy as np
from numba import njit

from cycle_model.hb.traffic import Trace, Traffic, counts_of, last_cycle, shape_of
from hw.errors import UserError
from hw.params import ECC_GROUP
from hw.timing import MAX_POSTPONED

_IDLE, _ACTIVATE, _COLUMNS, _PRECHARGE = 0, 1, 2, 3
_NOP, _ACT, _RD, _WR, _PRE, _REF = 0, 1, 2, 3, 4, 5


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
def _refusal(shape, request):
    """Code of the error in a request, 0 if it is legal."""
    if request.columns == 0:
        return 1
    if request.column >= shape.data_columns:
        return 2
    first = request.row * shape.data_columns + request.column
    if first + request.columns > shape.rows * shape.data_columns:
        return 3
    if shape.inline and request.write == 1 and (request.column % ECC_GROUP != 0 or request.columns % ECC_GROUP != 0):
        return 4
    return 0


@njit(cache=True)
def _run(c, shape, requests, starts, takes, offers, max_cycles, events, accepts, dones, reads, writes):
    """Fill the event arrays; returns events used (-1: too many cycles, -2: no room), beats, stall clocks."""
    number = len(requests)
    wr_to_pre = c.nCWL + c.nBL + c.nWR
    wr_to_rd = c.nCWL + c.nBL + c.nWTR
    burst_end = c.nCL + c.nBL
    close = 1 + max(max(c.nRAS, c.nRTP, wr_to_pre) + c.nRP, c.nRC)
    # Registers: tick phase, gates (ticks until open), refresh, controller, buffers.
    phase = 0
    g_rc = g_rp = g_rfc = g_rcd = g_bl = g_ras = g_rtp = g_wr = g_wtr = g_rtw = 0
    elapsed = owed = 0
    state = _IDLE
    last_granted = shape.requesters - 1
    owner = write = tag = row = column = remaining = 0
    check_due = False
    heads = starts[:-1].copy()
    offering = np.zeros(shape.requesters, dtype=np.bool_)
    missing = 0
    write_level = 0
    reserved = 0
    flight = 0  # bit b: a data burst whose command was b + 1 ticks ago
    decoding = False
    read_level = 0
    place = shape.read_buffer
    place_owner = np.zeros(place, dtype=np.int64)
    place_tag = np.zeros(place, dtype=np.int64)
    place_last = np.zeros(place, dtype=np.int64)
    issued_beats = 0
    # Events so far.
    used = accepted = finished = popped = taken = stall_clocks = 0
    done_pending = False
    horizon = takes.shape[1]
    cycle = -1
    while finished < number or reserved > 0 or done_pending:
        cycle += 1
        if cycle >= max_cycles:
            return -1, popped, taken, stall_clocks
        tick = phase < c.tick_den
        phase = (phase + c.tick_den) % c.tick_num
        done_pending = False

        # What the streams outside do.
        pop = False
        if read_level > 0:
            at = popped % place
            pop = cycle >= horizon or takes[place_owner[at], cycle]
            if pop:
                reads[popped] = (cycle, place_owner[at], place_tag[at], place_last[at])
        for r in range(shape.requesters):
            if not offering[r]:
                offering[r] = cycle >= horizon or offers[r, cycle]
        take = missing > 0 and write_level < shape.write_buffer and offering[owner]
        if take:
            writes[taken] = (cycle, owner)
            offering[owner] = False

        # The controller.
        command = _NOP
        physical = 0
        event_row = row
        issue_data = False
        free = state == _IDLE
        chosen = -1
        if free:
            for distance in range(1, shape.requesters + 1):
                r = (last_granted + distance) % shape.requesters
                if heads[r] < starts[r + 1] and requests[heads[r]].cycle <= cycle:
                    chosen = r
                    break
        next_state = state
        row_gates = g_rc == 0 and g_rp == 0 and g_rfc == 0
        urgent = owed >= MAX_POSTPONED and elapsed >= c.nREFI - close
        if state == _IDLE:
            if tick and row_gates and (owed > shape.postpone or (owed > 0 and chosen < 0)):
                command = _REF
        elif state == _ACTIVATE:
            if tick and row_gates:
                if owed > shape.postpone:
                    command = _REF
                else:
                    command = _ACT
                    next_state = _COLUMNS
        elif state == _COLUMNS:
            gates = g_rcd == 0 and g_bl == 0 and (g_rtw == 0 if write else g_wtr == 0)
            ready = check_due or (write_level > 0 if write else reserved < shape.read_buffer)
            if tick and urgent:
                next_state = _PRECHARGE
            elif tick and gates and not ready:
                stall_clocks += 1
            elif tick and gates:
                command = _WR if write else _RD
                issue_data = not check_due
                physical = column
                if shape.inline:
                    group = (column - 1) // ECC_GROUP if write else column // ECC_GROUP
                    physical = group * (ECC_GROUP + 1) + ECC_GROUP if check_due else column + column // ECC_GROUP
                if issue_data:
                    column += 1
                    remaining -= 1
                    check_due = shape.inline and column % ECC_GROUP == 0
                else:
                    check_due = False
                if (remaining == 0 or column == shape.data_columns) and not (write and check_due):
                    next_state = _PRECHARGE
        elif tick and g_ras == 0 and g_rtp == 0 and g_wr == 0:
            command = _PRE
            check_owed = write == 1 and check_due
            if remaining == 0 and not check_owed:
                dones[finished] = (cycle + 1, owner, tag, 0)
                finished += 1
                done_pending = True
                next_state = _IDLE
            else:
                if column == shape.data_columns and not check_owed:
                    row += 1
                    column = 0
                next_state = _ACTIVATE

        if command != _NOP:
            if used == len(events):
                return -2, popped, taken, stall_clocks
            if command == _REF:
                events[used] = (cycle, command, 0, 0, -1, -1)
            else:
                events[used] = (cycle, command, event_row, physical, owner, tag)
            used += 1

        # Data paths.
        if issue_data and not write:
            at = issued_beats % place
            place_owner[at] = owner
            place_tag[at] = tag
            place_last[at] = remaining == 0
            issued_beats += 1
        arrives = tick and (flight >> (burst_end - 1)) & 1 == 1
        enters = decoding if shape.capture_stages == 2 else arrives
        decoding = arrives
        read_level += int(enters) - int(pop)
        reserved += int(issue_data and not write) - int(pop)
        popped += int(pop)
        write_level += int(take) - int(issue_data and write == 1)
        taken += int(take)
        missing -= int(take)
        if tick:
            flight = (flight << 1 | int(issue_data and not write)) & ((1 << burst_end) - 1)

        # A request is taken.
        if chosen >= 0:
            request = requests[heads[chosen]]
            error = _refusal(shape, request)
            accepts[accepted] = (cycle, chosen, request.tag)
            accepted += 1
            heads[chosen] += 1
            last_granted = chosen
            if error != 0:
                dones[finished] = (cycle + 1, chosen, request.tag, error)
                finished += 1
                done_pending = True
            else:
                owner, write, tag = chosen, request.write, request.tag
                row, column, remaining = request.row, request.column, request.columns
                check_due = shape.inline and write == 0
                missing = remaining if write else 0
                next_state = _ACTIVATE
        state = next_state

        # Gates and refresh count in ticks.
        if tick:
            g_rc = c.nRC - 1 if command == _ACT else max(g_rc - 1, 0)
            g_rcd = c.nRCD - 1 if command == _ACT else max(g_rcd - 1, 0)
            g_ras = c.nRAS - 1 if command == _ACT else max(g_ras - 1, 0)
            g_rp = c.nRP - 1 if command == _PRE else max(g_rp - 1, 0)
            g_rfc = c.nRFC - 1 if command == _REF else max(g_rfc - 1, 0)
            g_bl = c.nBL - 1 if command in (_RD, _WR) else max(g_bl - 1, 0)
            g_rtp = c.nRTP - 1 if command == _RD else max(g_rtp - 1, 0)
            g_rtw = c.nRTW - 1 if command == _RD else max(g_rtw - 1, 0)
            g_wr = wr_to_pre - 1 if command == _WR else max(g_wr - 1, 0)
            g_wtr = wr_to_rd - 1 if command == _WR else max(g_wtr - 1, 0)
            elapsed += 1
            if elapsed == c.nREFI:
                elapsed = 0
                owed += 1
            owed -= int(command == _REF)
    return used, popped, taken, stall_clocks
