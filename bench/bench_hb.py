"""Speed of the HB models: transfers per second of exact and fast, and their ratio.

    python bench/bench_hb.py [--seconds 1.0]

CPU time, compilation excluded, best of three. The stream is one bank read from end to end; the mix is random reads
and writes of three requesters with light stalls, which makes fast go from beat to beat.
"""

import argparse
import resource

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import cpu_seconds

from cycle_model.hb import REQUEST, Stalls, Traffic, exact, fast
from hw.params import HbParams

PUBLISHED = HbParams()


def stream(columns_each: int) -> Traffic:
    """Back-to-back reads of ``columns_each`` columns over the bank."""
    total = PUBLISHED.rows * PUBLISHED.data_columns // 8
    requests = np.zeros(total // columns_each, dtype=REQUEST)
    requests["row"], requests["column"] = np.divmod(np.arange(len(requests)) * columns_each, PUBLISHED.data_columns)
    requests["columns"] = columns_each
    return Traffic(PUBLISHED, requests)


def mix(transfers: int, rate: float) -> Traffic:
    """Random reads and writes of up to 64 columns; streams that stall in ``rate`` of the cycles."""
    rng = np.random.default_rng(0)
    requests = np.zeros(transfers, dtype=REQUEST)
    for name, limit in (("requester", 3), ("write", 2), ("row", PUBLISHED.rows - 1), ("column", 512)):
        requests[name] = rng.integers(limit, size=transfers)
    requests["columns"] = rng.integers(1, 65, size=transfers)
    requests["cycle"] = np.cumsum(rng.integers(0, 200, size=transfers))
    patterns = rng.random((2, 3, 150 * transfers)) >= rate
    return Traffic(PUBLISHED, requests, Stalls(*patterns) if rate else None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the HB models.")
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time of each figure")
    options = parser.parse_args()
    table = Table("traffic", "transfers", "cycles", "exact, 1/s", "fast, 1/s", "fast / exact")
    cases = {
        "stream, 64 KB each": stream(512),
        "stream, 2 KB each": stream(16),
        "mix without stalls": mix(4000, 0),
        "mix with light stalls": mix(4000, 0.2),
    }
    for name, traffic in cases.items():
        number = len(traffic.requests)
        stepped = cpu_seconds(lambda traffic=traffic: exact(traffic), options.seconds)
        jumped = cpu_seconds(lambda traffic=traffic: fast(traffic, events=False), options.seconds)
        cycles = fast(traffic, events=False).end_cycle
        rates = (f"{number / stepped:,.0f}", f"{number / jumped:,.0f}", f"{stepped / jumped:,.1f}")
        table.add_row(name, f"{number:,}", f"{cycles:,}", *rates)
    print("transfers per CPU second")
    Console().print(table)
    print(f"memory used: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")


if __name__ == "__main__":
    main()
