"""One bank's transfers as the whole-model engine needs them: when the bank is free again, nothing recorded.

The same recurrence as `cycle_model.hb.fast` for transfers whose streams never stall and a bank without ECC, O(1) per
row; equal to it to the cycle (`verification/blocks/test_hb_transfer.py`).
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


@njit(cache=True)
def transfer(c: HbClocks, shape: BankShape, bank, request, column, columns, write):
    """Serve ``columns`` data columns from ``column`` of a fresh row on, offered in cycle ``request``.

    Returns the cycle in which the last beat has moved and the bank's done pulse has come; updates ``bank``. Rows that
    follow each other are activated one after another; which rows they are does not matter to the time.
    """
    accept = max(request, bank[IDLE])
    # Refreshes of the idle bank before the acceptance, and any owed beyond what may be postponed.
    while True:
        free = max(max(bank[PRE] + c.nRP, bank[ACT] + c.nRC), bank[REF] + c.nRFC)
        free = max(free, _edge(bank[IDLE], c))
        k = max(free, (bank[REFRESHES] + 1) * c.nREFI)
        if _cycle(k, c) >= accept:
            k = max(free, _edge(accept, c))
            if _cycle(k, c) > accept or _quotient(k, c.nREFI) - bank[REFRESHES] <= shape.postpone:
                break
        bank[REF] = k
        bank[REFRESHES] += 1
    k = _edge(accept + 1, c)
    left = columns
    to_precharge = c.nCWL + c.nBL + c.nWR
    final = k
    while left > 0:
        k = max(k, max(max(bank[PRE] + c.nRP, bank[ACT] + c.nRC), bank[REF] + c.nRFC))
        while _quotient(k, c.nREFI) - bank[REFRESHES] > shape.postpone:
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
