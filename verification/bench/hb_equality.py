"""Two traces of an HB port, event by event; counting what was compared, since nothing compared proves nothing."""

from dataclasses import asdict

import numpy as np

from cycle_model.hb import Trace

FIELDS = ("accepts", "commands", "dones", "reads", "writes")


def assert_equal(one: Trace, other: Trace, names: str) -> int:
    """Fail at the first event or counter that differs; return the number of events and counters compared."""
    compared = 0
    for field in FIELDS:
        left, right = getattr(one, field), getattr(other, field)
        common = min(len(left), len(right))
        differ = np.flatnonzero((left[:common] != right[:common]).any(axis=1))
        assert not len(differ), f"{names}: {field}[{differ[0]}] {left[differ[0]]} against {right[differ[0]]}"
        assert len(left) == len(right), f"{names}: {len(left)} {field} against {len(right)}"
        compared += len(left)
    assert one.end_cycle == other.end_cycle, f"{names}: end {one.end_cycle} against {other.end_cycle}"
    left_counts = {name: value for name, value in asdict(one.counts).items() if name.startswith("hb_")}
    for name, value in left_counts.items():
        other_value = getattr(other.counts, name)
        assert value == other_value, f"{names}: {name} {value} against {other_value}"
    assert compared > 0, f"{names}: nothing compared"
    return compared + len(left_counts) + 1
