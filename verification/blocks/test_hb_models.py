"""The two HB models beside each other on many random mixes, and the bound on waiting."""

from dataclasses import replace

import numpy as np

from cycle_model.hb import exact, fast, worst_wait_cycles
from hw.params import chip
from verification.bench.hb_equality import assert_equal
from verification.bench.hb_traffic import STALL_RATES, one_transfer, random_traffic, shaken

TINY = replace(chip("tiny").hb, data_bits=64)


def test_fast_equals_exact_on_many_mixes(record_property):
    """Exact and fast agree on hundreds of thousands of events, and the mixes reach every mechanism."""
    compared = 0
    total = exact(one_transfer(TINY, 1)).counts
    for seed in range(60):
        params, clocks = shaken(TINY, seed)
        for stall in STALL_RATES:
            gap = [5, 60, 400][seed % 3]
            traffic = random_traffic(params, seed, stall=stall, clocks=clocks, gap=gap, longest=90)
            stepped = exact(traffic)
            compared += assert_equal(stepped, fast(traffic), f"exact against fast, seed {seed}, {stall}")
            total = total + stepped.counts
    record_property("compared", compared)
    print(f"{compared} items compared; {total}")
    assert compared > 200_000
    assert min(total.hb_row_reopens, total.hb_row_conflicts, total.hb_stall_clocks, total.hb_refused) > 20


def test_waiting_is_bounded_for_every_requester(record_property):
    """Three requesters that always ask, refreshes owed: each waits at most the stated bound, which is not idle."""
    worst = 0
    longest = 40
    for seed in range(40):
        params, clocks = replace(TINY, refresh_postpone=seed % 8), None
        traffic = random_traffic(params, seed, transfers=200, gap=0, longest=longest, illegal=0.02, clocks=clocks)
        traffic.requests["columns"] = np.where(traffic.requests["columns"] > longest, 1, traffic.requests["columns"])
        trace = exact(traffic)
        for r in range(params.requesters):
            accepted = trace.accepts[trace.accepts[:, 1] == r, 0]
            asked = np.concatenate([[0], accepted[:-1] + 1])
            worst = max(worst, int((accepted - asked).max()))
    bound = worst_wait_cycles(TINY, longest)
    record_property("worst_wait_cycles", worst)
    print(f"worst wait {worst} cycles, bound {bound}")
    assert 0.4 * bound < worst <= bound
