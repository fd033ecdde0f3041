"""One bank's transfers as the whole-model engine needs them: when the bank is free again, nothing recorded.

The same recurrence as `cycle_model.hb.fast` for transfers whose streams never stall and a bank without ECC, O(1) per
row, O(1) for the full rows between two refreshes and for all refreshes of an idle bank; equal to it to the cycle
(`verification/blocks/test_hb_transfer.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cycle_model.kernel_cache import njit
from hw.errors import UserError
from hw.params import HbParams
from hw.timing import HbClocks

ACT, PRE, REF, READ, WRITE, REFRESHES, ROWS, IDLE, BANK_FIELDS = range(9)
"""Fields of a bank's state: ticks of the last command of each kind, how many refreshes and activations there were, and
the first cycle in which the controller is idle."""
_NEVER = -(1 << 40)


class BankShape(NamedTuple):
    """What a transfer depends on beside the clocks."""

    data_columns: int
    postpone: int
    capture_stages: int


def bank_shape(params: HbParams) -> BankShape:
    """Of a bank without ECC; UserError for one with."""
    if params.ecc != "none":
        raise UserError(f"HB ecc must be 'none' for the engine, not {params.ecc!r}")
    return BankShape(params.data_columns, params.refresh_postpone, params.capture_stages)


def new_banks(number: int) -> np.ndarray:
    """State of banks that were just reset, int64 [number, BANK_FIELDS]."""
    banks = np.full((number, BANK_FIELDS), _NEVER, np.int64)
    banks[:, REFRESHES:] = 0
    return banks


@njit(inline="always")
def _quotient(a, b):
    """a // b of non-negative integers below 2^50: floating division is several times faster and as exact."""
    return np.int64(a / b)


@njit(inline="always")
def _cycle(tick, c):
    return _quotient(tick * c.tick_num + c.tick_den - 1, c.tick_den)


@njit(inline="always")
def _edge(cycle, c):
    return _quotient(cycle * c.tick_den + c.tick_num - c.tick_den, c.tick_num) if cycle > 0 else 0


@njit(inline="always")
def _owed(bank, shape, c):
    """The tick from which on a refresh may not be postponed any more."""
    return (bank[REFRESHES] + shape.postpone + 1) * c.nREFI


@njit(cache=True, inline="always")
def transfer(c: HbClocks, shape: BankShape, bank, request, column, columns, write):
    """Serve ``columns`` data columns from ``column`` of a fresh row on, offered in cycle ``request``.

    Returns the cycle in which the last beat has moved and the bank's done pulse has come; updates ``bank``. Rows that
    follow each other are activated one after another; which rows they are does not matter to the time.
    """
    accept = max(request, bank[IDLE])
    # Refreshes of the idle bank before the acceptance, and any owed beyond what may be postponed: none where the next
    # one is due behind it.
    if (bank[REFRESHES] + 1) * c.nREFI * c.tick_num <= accept * c.tick_den:
        idle, now = _edge(bank[IDLE], c), _edge(accept, c)
        while True:
            due = (bank[REFRESHES] + 1) * c.nREFI
            free = max(max(bank[PRE] + c.nRP, bank[ACT] + c.nRC), max(bank[REF] + c.nRFC, idle))
            k, times = max(free, due), 1
            if k * c.tick_num > (accept - 1) * c.tick_den:  # the first cycle that sees tick k is not before accept
                k = max(free, now)
                if k * c.tick_num > accept * c.tick_den or k < _owed(bank, shape, c):
                    break
            elif k == due and c.nRFC <= c.nREFI:  # on time, and so are all further ones before the acceptance
                times = 1 + _quotient(_quotient((accept - 1) * c.tick_den, c.tick_num) - due, c.nREFI)
                k += (times - 1) * c.nREFI
            bank[REF] = k
            bank[REFRESHES] += times
    k = _edge(accept + 1, c)
    left = columns
    to_precharge = c.nCWL + c.nBL + c.nWR
    # Full rows behind a row of this transfer follow each other in one period, as long as no refresh is due and a row's
    # first beat waits for its activation alone.
    last_beat = c.nRCD + (shape.data_columns - 1) * c.nBL
    row_ticks = max(c.nRAS, last_beat + (to_precharge if write else c.nRTP))
    period = max(row_ticks + c.nRP, c.nRC)
    turn = c.nRP + c.nRCD
    periodic = c.nBL <= c.nRTP + turn and c.nRTW <= c.nRTP + turn and c.nWTR <= c.nWR + turn
    final = k
    while left > 0:
        k = max(k, max(max(bank[PRE] + c.nRP, bank[ACT] + c.nRC), bank[REF] + c.nRFC))
        if periodic and left < columns and left >= shape.data_columns:
            until = _owed(bank, shape, c) - k
            if until > 0:
                rows = min(_quotient(left, shape.data_columns), _quotient(until + period - 1, period))
                bank[ACT] = k + (rows - 1) * period
                bank[ROWS] += rows
                final = bank[ACT] + last_beat
                bank[WRITE if write else READ] = final
                bank[PRE] = bank[ACT] + row_ticks
                k = bank[PRE] + 1
                left -= rows * shape.data_columns
                continue
        while k >= _owed(bank, shape, c):
            bank[REF] = k
            bank[REFRESHES] += 1
            k += c.nRFC
        bank[ACT] = k
        bank[ROWS] += 1
        data = min(left, shape.data_columns - column)
        first = max(k + c.nRCD, max(bank[READ], bank[WRITE]) + c.nBL)
        if write:
            first = max(first, bank[READ] + c.nRTW)
        else:
            first = max(first, bank[WRITE] + c.nCWL + c.nBL + c.nWTR)
        final = first + (data - 1) * c.nBL
        if write:
            bank[WRITE] = final
        else:
            bank[READ] = final
        bank[PRE] = max(k + c.nRAS, max(bank[READ] + c.nRTP, bank[WRITE] + to_precharge))
        k = bank[PRE] + 1
        left -= data
        column = 0
    bank[IDLE] = _cycle(bank[PRE], c) + 1
    if write:
        return bank[IDLE]
    return max(bank[IDLE], _cycle(final + c.nCL + c.nBL, c) + shape.capture_stages)
