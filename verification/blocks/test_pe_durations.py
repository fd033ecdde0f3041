"""Closed forms of the PE's time table against timelines worked by hand and against the array's RTL."""

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.hb import REQUEST, Traffic, fast
from cycle_model.pe import durations
from hw.array.pe_array import pe_array_latency
from hw.params import CHIPS, ArrayParams, chip


@pytest.mark.parametrize("name", CHIPS)
def test_array_latency_is_the_rtls(name):
    """The models count the same registers between a group's last beat and its result as the array has."""
    assert durations.array_latency(chip(name).array) == pe_array_latency(chip(name).array)
    odd = ArrayParams(rows=4, columns=4, depth=16, tree_levels_per_stage=3, scale_stages=2, add_stages=2)
    assert durations.array_latency(odd) == pe_array_latency(odd)


def test_matmul_by_hand():
    """tiny: b = 4 beats, s = 2, fetch 8, latency 1 + (1 + 2) + 1 + 3 + 1 + 5 = 14.

    One block: I = max(4, 2, 8) = 8; two groups end at 8 + 8 + 3 + 14 + 1 = 34, the array is free at 8 + 16 - 1 = 23.
    Three blocks: I = max(4, 2, 3) = 4; six slots: free 8 + 24 - 1 = 31, done 8 + 20 + 3 + 14 + 1 = 46.
    4gb: b = 1, s = 8, latency 1 + (1 + 3) + 1 + 3 + 1 + 5 = 15, I = 8: one group of 8 blocks 8 + 56 + 0 + 15 + 7 = 86.
    """
    assert durations.matmul(chip("tiny"), 2, 1) == (8, 8, 23, 34)
    assert durations.matmul(chip("tiny"), 2, 3) == (8, 4, 31, 46)
    assert durations.matmul(chip("4gb"), 1, 8) == (8, 8, 71, 86)


def test_hb_load_by_hand():
    """tiny, start in cycle 3: taken in 4, edge 2 is cycle 5; ACT there, reads at edges 9 and 10, bursts end at 12.

    Edge 12 is cycle 30, the last beat leaves in 31. tRAS from edge 2: PRE at edge 16, cycle 40, done pulse 41.
    """
    assert durations.hb_load(chip("tiny").hb, 2, 0, start=3) == 41 - 3


def test_hb_load_is_the_banks():
    """For every phase, length and first column: the done pulse and last beat of the bank's own model."""
    hb = replace(chip("tiny").hb, temperature_c=85)
    compared = 0
    for start in range(5):
        for columns in (1, 2, 15, 16, 17, 40):
            for first in (0, 1, 15):
                request = np.zeros(1, dtype=REQUEST)
                request[0] = (0, start + 1, 0, 0, 0, first, columns)
                trace = fast(Traffic(hb, request))
                assert durations.hb_load(hb, columns, first, start) == trace.end_cycle - start
                compared += 1
    assert compared == 90
