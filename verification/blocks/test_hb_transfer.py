"""The engine's HB recurrence is the fast model's: same done cycles on random transfers, refresh included."""

from __future__ import annotations

import numpy as np
import pytest

from cycle_model.hb import REQUEST, Traffic, fast
from cycle_model.hb.stream import with_row_bytes
from cycle_model.hb.transfer import IDLE, REFRESHES, ROWS, bank_shape, new_banks, transfer
from hw.errors import UserError
from hw.params import HbParams


@pytest.mark.parametrize("row_bytes", [None, 2048])
@pytest.mark.parametrize("postpone", [0, 5])
@pytest.mark.parametrize("seed", range(4))
def test_done_cycles_and_counts_equal_the_fast_model(seed, postpone, row_bytes):
    """Reads and writes of 1 to 1,500 columns at random cycles on the published bank, and on one with short rows.

    Pauses go from none to some fifty refreshes; every idle cycle is equal.
    """
    rng = np.random.default_rng(seed)
    params = HbParams(refresh_postpone=postpone)
    if row_bytes:
        params = with_row_bytes(params, row_bytes)
    n = 300
    requests = np.zeros(n, REQUEST)
    requests["cycle"] = np.cumsum(rng.integers(0, 6000, n) * rng.choice([1, 1, 1, 1, 30], n))
    requests["row"] = rng.integers(0, params.rows - 1500 // params.data_columns - 2, n)
    requests["column"] = rng.integers(0, params.data_columns, n)
    requests["columns"] = rng.integers(1, 1500, n)
    requests["write"] = rng.random(n) < 0.3
    trace = fast(Traffic(params, requests), events=False)
    bank, shape = new_banks(1)[0], bank_shape(params)
    done = []
    for q in requests:
        transfer(params.clocks, shape, bank, q["cycle"], q["column"], q["columns"], bool(q["write"]))
        done.append(int(bank[IDLE]))
    assert trace.dones[:, 0].tolist() == done
    assert trace.counts.hb_activates == bank[ROWS]
    assert 0 <= trace.counts.hb_refreshes - bank[REFRESHES] <= 1  # the fast model also refreshes behind the last one


def test_a_bank_with_ecc_is_refused():
    """Its check columns are not in the recurrence."""
    with pytest.raises(UserError, match="ecc"):
        bank_shape(HbParams(ecc="inline"))
