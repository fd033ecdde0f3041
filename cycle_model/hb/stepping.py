"""One logic cycle of `hw.memory.hb_controller.HbController`: its registers and how they step.

Compiled; `cycle_model.hb.exact` drives it with recorded traffic, `cycle_model.pe.exact` with the units of a PE.
Nothing here knows the future: what the streams and requesters do is an argument of every cycle.
"""

from typing import NamedTuple

import numpy as np

from cycle_model.hb.traffic import Shape
from cycle_model.kernel_cache import njit
from hw.params import ECC_GROUP
from hw.timing import MAX_POSTPONED

IDLE, ACTIVATE, COLUMNS, PRECHARGE = 0, 1, 2, 3
NOP, ACT, RD, WR, PRE, REF = 0, 1, 2, 3, 4, 5

_REGISTERS = (
    # tick phase; gates: ticks until open; refresh
    *("phase", "rc", "rp", "rfc", "rcd", "bl", "ras", "rtp", "wr", "wtr", "rtw", "elapsed", "owed"),
    # transfer in progress
    *("state", "last_granted", "owner", "write", "tag", "row", "column", "remaining", "check_due"),
    # write buffer; read buffer: places reserved, bursts in flight (bit b: command b + 1 ticks ago), level
    *("missing", "write_level", "reserved", "flight", "decoding", "read_level", "issued_beats", "left_beats"),
    # the done pulse: its owner (-1: none), tag, error
    *("done", "done_tag", "done_error"),
)
_CYCLE = (
    *("done", "done_tag", "done_error", "accepted", "command", "row", "column", "stalled"),
    *("taken_from", "left_to", "left_tag", "left_last"),
)
REGISTERS = np.dtype([(name, np.int64) for name in _REGISTERS])
"""Registers of the controller, one int64 each."""
CYCLE = np.dtype([(name, np.int64) for name in _CYCLE])
"""What happened in a cycle. Of whom, -1 where it did not happen: ``done`` (pulse), ``accepted``, ``taken_from``
(a beat from its writer), ``left_to`` (a beat to its reader); ``command`` with row and physical column."""


class HbState(NamedTuple):
    """``registers`` and ``cycle`` are arrays of one record; the others hold owner, tag and last of buffered beats."""

    registers: np.ndarray
    cycle: np.ndarray
    place_owner: np.ndarray
    place_tag: np.ndarray
    place_last: np.ndarray


def reset_state(shape: Shape) -> HbState:
    """The controller after reset."""
    registers, cycle = np.zeros(1, dtype=REGISTERS), np.zeros(1, dtype=CYCLE)
    registers["last_granted"] = shape.requesters - 1
    registers["done"] = -1
    return HbState(registers, cycle, *(np.zeros(shape.read_buffer, dtype=np.int64) for _ in range(3)))


@njit(cache=True)
def refusal(shape, request):
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
def step(c, shape, state, asking, requests, at, takes, offers):
    """Advance one cycle; ``state.cycle`` says what happened in it.

    asking    per requester, whether a request is valid; it is ``requests[at[r]]``
    takes     per requester, whether its reader takes a beat in this cycle
    offers    per requester, whether its writer offers a beat in this cycle
    """
    s = state.registers[0]
    now = state.cycle[0]
    tick = s.phase < c.tick_den
    s.phase = (s.phase + c.tick_den) % c.tick_num
    now.done, now.done_tag, now.done_error = s.done, s.done_tag, s.done_error
    s.done = -1
    now.accepted = now.taken_from = now.left_to = -1
    now.stalled = 0

    # What the streams outside do.
    pop = False
    if s.read_level > 0:
        place = s.left_beats % shape.read_buffer
        if takes[state.place_owner[place]]:
            pop = True
            now.left_to = state.place_owner[place]
            now.left_tag = state.place_tag[place]
            now.left_last = state.place_last[place]
    take = s.missing > 0 and s.write_level < shape.write_buffer and offers[s.owner]
    if take:
        now.taken_from = s.owner

    # The controller.
    command = NOP
    physical = 0
    event_row = s.row
    issue_data = False
    chosen = -1
    if s.state == IDLE:
        for distance in range(1, shape.requesters + 1):
            r = (s.last_granted + distance) % shape.requesters
            if asking[r]:
                chosen = r
                break
    next_state = s.state
    row_gates = s.rc == 0 and s.rp == 0 and s.rfc == 0
    if s.state == IDLE:
        if tick and row_gates and (s.owed > shape.postpone or (s.owed > 0 and chosen < 0)):
            command = REF
    elif s.state == ACTIVATE:
        if tick and row_gates:
            if s.owed > shape.postpone:
                command = REF
            else:
                command = ACT
                next_state = COLUMNS
    elif s.state == COLUMNS:
        gates = s.rcd == 0 and s.bl == 0 and (s.rtw == 0 if s.write else s.wtr == 0)
        ready = s.check_due or (s.write_level > 0 if s.write else s.reserved < shape.read_buffer)
        close = 1 + max(max(c.nRAS, c.nRTP, c.nCWL + c.nBL + c.nWR) + c.nRP, c.nRC)
        if tick and s.owed >= MAX_POSTPONED and s.elapsed >= c.nREFI - close:
            next_state = PRECHARGE
        elif tick and gates and not ready:
            now.stalled = 1
        elif tick and gates:
            command = WR if s.write else RD
            issue_data = not s.check_due
            physical = s.column
            if shape.inline:
                group = (s.column - 1) // ECC_GROUP if s.write else s.column // ECC_GROUP
                in_row = s.column + s.column // ECC_GROUP
                physical = group * (ECC_GROUP + 1) + ECC_GROUP if s.check_due else in_row
            if issue_data:
                s.column += 1
                s.remaining -= 1
                s.check_due = shape.inline and s.column % ECC_GROUP == 0
            else:
                s.check_due = 0
            if (s.remaining == 0 or s.column == shape.data_columns) and not (s.write and s.check_due):
                next_state = PRECHARGE
    elif tick and s.ras == 0 and s.rtp == 0 and s.wr == 0:
        command = PRE
        check_owed = s.write == 1 and s.check_due
        if s.remaining == 0 and not check_owed:
            s.done, s.done_tag, s.done_error = s.owner, s.tag, 0
            next_state = IDLE
        else:
            if s.column == shape.data_columns and not check_owed:
                s.row += 1
                s.column = 0
            next_state = ACTIVATE
    now.command, now.row, now.column = command, event_row, physical

    # Data paths.
    if issue_data and not s.write:
        place = s.issued_beats % shape.read_buffer
        state.place_owner[place] = s.owner
        state.place_tag[place] = s.tag
        state.place_last[place] = s.remaining == 0
        s.issued_beats += 1
    burst_end = c.nCL + c.nBL
    arrives = tick and (s.flight >> (burst_end - 1)) & 1 == 1
    enters = s.decoding if shape.capture_stages == 2 else arrives
    s.decoding = arrives
    s.read_level += int(enters) - int(pop)
    s.reserved += int(issue_data and not s.write) - int(pop)
    s.left_beats += int(pop)
    s.write_level += int(take) - int(issue_data and s.write == 1)
    s.missing -= int(take)
    if tick:
        s.flight = (s.flight << 1 | int(issue_data and not s.write)) & ((1 << burst_end) - 1)

    # A request is taken.
    if chosen >= 0:
        request = requests[at[chosen]]
        error = refusal(shape, request)
        now.accepted = chosen
        s.last_granted = chosen
        if error != 0:
            s.done, s.done_tag, s.done_error = chosen, request.tag, error
        else:
            s.owner, s.write, s.tag = chosen, request.write, request.tag
            s.row, s.column, s.remaining = request.row, request.column, request.columns
            s.check_due = shape.inline and request.write == 0
            s.missing = request.columns if request.write else 0
            next_state = ACTIVATE
    s.state = next_state

    # Gates and refresh count in ticks.
    if tick:
        _count_gates(c, s, command)


@njit(cache=True)
def _count_gates(c, s, command):
    """Gates close with their command and count down to 0; the refresh interval counts up."""
    column = command in (RD, WR)
    s.rc = c.nRC - 1 if command == ACT else max(s.rc - 1, 0)
    s.rcd = c.nRCD - 1 if command == ACT else max(s.rcd - 1, 0)
    s.ras = c.nRAS - 1 if command == ACT else max(s.ras - 1, 0)
    s.rp = c.nRP - 1 if command == PRE else max(s.rp - 1, 0)
    s.rfc = c.nRFC - 1 if command == REF else max(s.rfc - 1, 0)
    s.bl = c.nBL - 1 if column else max(s.bl - 1, 0)
    s.rtp = c.nRTP - 1 if command == RD else max(s.rtp - 1, 0)
    s.rtw = c.nRTW - 1 if command == RD else max(s.rtw - 1, 0)
    s.wr = c.nCWL + c.nBL + c.nWR - 1 if command == WR else max(s.wr - 1, 0)
    s.wtr = c.nCWL + c.nBL + c.nWTR - 1 if command == WR else max(s.wtr - 1, 0)
    s.elapsed += 1
    if s.elapsed == c.nREFI:
        s.elapsed = 0
        s.owed += 1
    s.owed -= int(command == REF)
