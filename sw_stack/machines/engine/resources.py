"""What activities run on, the marks that an activity leaves, and time attributed along the critical path.

An activity notes from when on nothing but itself decided its end (`BEGIN_NS`) and which activity decided that
(`CAUSE`); `critical_path` walks back from the last one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from cycle_model.kernel_cache import njit


class Resource(IntEnum):
    """What an activity runs on; also its place among the activities of a record."""

    LPDDR = 0
    STREAM_LINK = 1
    HB = 2
    ARRAY = 3
    VECTOR = 4
    AGGREGATION_LINK = 5
    HOST = 6
    NEAR_MEMORY = 7
    GATHER_IN = 8


RESOURCES = len(Resource)
NAMES = {
    Resource.LPDDR: "LPDDR",
    Resource.STREAM_LINK: "stream link",
    Resource.HB: "HB",
    Resource.ARRAY: "array",
    Resource.VECTOR: "vector unit",
    Resource.AGGREGATION_LINK: "aggregation link",
    Resource.HOST: "host",
    Resource.NEAR_MEMORY: "near memory",
    Resource.GATHER_IN: "aggregation link",
}
"""In reports; activations in and results out share the aggregation link."""

START_NS, BEGIN_NS, END_NS, CAUSE, FIELDS = range(5)
NOTHING = -1


@njit(inline="always")
def note(acts, record, resource, start, begin, end, cause):
    """Leave an activity's marks."""
    acts[record, resource, START_NS] = start
    acts[record, resource, BEGIN_NS] = begin
    acts[record, resource, END_NS] = end
    acts[record, resource, CAUSE] = cause


@njit(cache=True)
def critical_path(acts, start_ns, end_ns):
    """Nanoseconds on the critical path by resource, float64 [RESOURCES]; the rest is waiting that nothing explains.

    From the activity that ends last back to its cause, and so on: an activity counts from where it alone decided.
    """
    spent = np.zeros(RESOURCES)
    flat = acts.reshape(-1, FIELDS)
    at, best = NOTHING, -1.0
    for k in range(len(flat)):
        if flat[k, END_NS] > best:
            at, best = k, flat[k, END_NS]
    time = end_ns
    while at != NOTHING and time > start_ns:
        begin = min(flat[at, BEGIN_NS], time)
        spent[at % RESOURCES] += time - max(begin, start_ns)
        time = begin
        at = int(flat[at, CAUSE])
    return spent
