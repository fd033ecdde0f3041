"""Cycle model of the HB port, the twin of `hw.memory.hb_controller` and its bank: equal to the RTL to the cycle.

`exact` steps the controller's state cycle by cycle; `fast` computes the same time stamps by recurrence over
commands and, where no stream stalls, over rows. They share parameters, `Traffic` and `Trace`, no stepping code.
`stream_bandwidth` gives the streaming figure beside its closed form, `worst_wait_cycles` the bound on waiting;
`random_reads` and `of_addresses` make traffic of one requester, whose `figures` are bandwidth and latencies.
"""

from cycle_model.hb.exact import exact
from cycle_model.hb.fast import fast
from cycle_model.hb.patterns import HbFigures, figures, of_addresses, random_reads
from cycle_model.hb.stream import StreamFigure, stream_bandwidth, stream_bytes_cycles, worst_wait_cycles
from cycle_model.hb.traffic import REQUEST, Stalls, Trace, Traffic

__all__ = [
    "REQUEST",
    "HbFigures",
    "Stalls",
    "StreamFigure",
    "Trace",
    "Traffic",
    "exact",
    "fast",
    "figures",
    "of_addresses",
    "random_reads",
    "stream_bandwidth",
    "stream_bytes_cycles",
    "worst_wait_cycles",
]
