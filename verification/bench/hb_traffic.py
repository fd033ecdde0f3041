"""Seeded traffic for the HB port: random mixes with stalls, and regular transfers."""

from dataclasses import replace

import numpy as np

from cycle_model.hb import REQUEST, Stalls, Traffic
from hw.params import ECC_MODES, HbParams
from hw.timing import HbClocks

STALL_RATES = {"none": 0.0, "light": 0.2, "heavy": 0.7}


def random_traffic(
    params: HbParams,
    seed: int,
    *,
    transfers: int = 30,
    stall: str = "none",
    gap: int = 60,
    longest: int = 40,
    illegal: float = 0.1,
    clocks: HbClocks | None = None,
) -> Traffic:
    """Reads and writes of all requesters at random times; a share of them illegal, in every way there is."""
    rng = np.random.default_rng(seed)
    requests = np.zeros(transfers, dtype=REQUEST)
    requests["requester"] = rng.integers(params.requesters, size=transfers)
    requests["cycle"] = np.cumsum(rng.integers(gap + 1, size=transfers))
    requests["write"] = rng.integers(2, size=transfers)
    requests["tag"] = rng.integers(1 << params.tag_bits, size=transfers)
    requests["row"] = rng.integers(params.rows, size=transfers)
    requests["column"] = rng.integers(params.data_columns, size=transfers)
    requests["columns"] = rng.integers(1, longest + 1, size=transfers)
    if params.ecc == "inline":
        writes = requests["write"] == 1
        requests["column"][writes] &= ~7
        requests["columns"][writes] = -(-requests["columns"][writes] // 8) * 8
    broken = np.flatnonzero(rng.random(transfers) < illegal)
    for i in broken:
        kind = rng.integers(4)
        if kind == 0:
            requests["columns"][i] = 0
        elif kind == 1:
            requests["column"][i] = params.columns_per_row - 1
        elif kind == 2:
            requests["row"][i] = params.rows - 1
            requests["columns"][i] = 2 * params.columns_per_row
        else:
            requests["column"][i] |= 1
    cycles = max(20_000, 300 * transfers)
    return Traffic(params, requests, random_stalls(params, rng, stall, cycles), clocks)


def random_stalls(params: HbParams, rng: np.random.Generator, stall: str, cycles: int) -> Stalls | None:
    """Consumers that pause and writers that are late, in bursts of about ten cycles; None for no stall."""
    rate = STALL_RATES[stall]
    if rate == 0:
        return None
    size = (params.requesters, cycles // 10)
    patterns = [np.repeat(rng.random(size) >= rate, 10, axis=1) & (rng.random(size).repeat(10, 1) < 0.9) for _ in "io"]
    return Stalls(*patterns)


def one_transfer(params: HbParams, columns: int, *, write: bool = False, row: int = 0, column: int = 0, cycle: int = 0):
    """A single transfer of requester 0 with tag 1."""
    requests = np.zeros(1, dtype=REQUEST)
    requests[0] = (0, cycle, write, 1, row, column, columns)
    return Traffic(params, requests)


def shaken(base: HbParams, seed: int) -> tuple[HbParams, HbClocks]:
    """Parameters and timings away from the published ones, so that each maximum is taken by each of its terms."""
    rng = np.random.default_rng([seed, 77])
    params = replace(
        base,
        ecc=ECC_MODES[seed % 3],
        refresh_postpone=int(rng.integers(8)),
        read_buffer=int(rng.integers(1, 9)),
        write_buffer=int(rng.integers(1, 9)),
    )
    clocks = params.clocks._replace(
        nREFI=int(rng.choice([80, 150, 400])),
        nBL=int(rng.choice([1, 1, 2, 3])),
        nCL=int(rng.integers(1, 4)),
        nCWL=int(rng.integers(1, 3)),
        nWTR=int(rng.choice([3, 30])),
        nRTW=int(rng.choice([3, 30])),
        nRC=int(rng.choice([19, 35])),
        tick_num=int(rng.integers(4, 12)),
        tick_den=int(rng.integers(1, 5)),
    )
    return params, clocks
