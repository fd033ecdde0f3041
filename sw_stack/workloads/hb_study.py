"""What ``elmoe3d dram --device hb`` measures: one bank, row size x temperature, latency curve."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from cycle_model.hb import HbFigures, StreamFigure, Traffic, figures, of_addresses, random_reads, stream_bandwidth
from cycle_model.hb.stream import stream_requests
from hw.params import HbParams
from sw_stack.workloads.dram_trace import DramTrace
from sw_stack.workloads.lpddr_study import LOADS, PERCENTILES, Point

ROW_BYTES = (2048, 4096, 8192, 16384, 32768, 65536)
TEMPERATURES_C = (85.0, 95.0, 105.0, 115.0)
"""One of each refresh class: the interval halves above 85, 95 and 105 C."""


def run_pattern(params: HbParams, pattern: str, count: int, seed: int, trace: DramTrace | None) -> HbFigures:
    """One bank under the pattern: ``count`` columns in transfers of whole rows, columns at random, or a trace.

    Without arrival cycles every request is there from the beginning; latency then counts from its acceptance.
    """
    run = _run_pattern(params, pattern, count, seed, trace)
    if trace is not None and trace.cycles is not None:
        return run
    served = run.trace.dones[:, 3] == 0
    return replace(run, latency_cycles=run.latency_cycles - run.trace.accepts[served, 0])


def _run_pattern(params: HbParams, pattern: str, count: int, seed: int, trace: DramTrace | None) -> HbFigures:
    if trace is not None:
        return figures(of_addresses(params, trace.addresses, trace.writes, trace.cycles))
    if pattern == "stream":
        return figures(Traffic(params, stream_requests(params, count * params.column_bytes)))
    return figures(random_reads(params, count, 1, seed))


def summary(run: HbFigures, params: HbParams, banks: int) -> dict:
    """One bank's figures as plain values, and ``banks`` of them side by side; latencies in ns."""
    latency = run.latency_cycles / params.logic_ghz
    counts = run.trace.counts
    return {
        "requests": int(latency.size),
        "time_us": run.cycles / params.logic_ghz / 1000,
        "gb_per_s": run.gb_per_s,
        "peak_gb_per_s": params.peak_gb_per_s,
        "percent_of_peak": run.percent_of_peak,
        "banks": banks,
        "all_banks_gb_per_s": banks * run.gb_per_s,
        "latency_ns": {
            "mean": float(latency.mean()),
            **{f"p{p:g}": float(np.percentile(latency, p)) for p in PERCENTILES},
            "max": float(latency.max()),
        },
        "counts": {name: value for name, value in asdict(counts).items() if name.startswith("hb_")},
    }


def stream_table(params: HbParams, total_bytes: int) -> list[StreamFigure]:
    """The streaming figure over row size and refresh class."""
    return [
        stream_bandwidth(params, total_bytes, row_bytes=row_bytes, temperature_c=temperature)
        for temperature in TEMPERATURES_C
        for row_bytes in ROW_BYTES
    ]


def latency_curve(params: HbParams, count: int, seed: int, columns: int) -> list[Point]:
    """Latency over throughput of random reads of ``columns`` columns in one bank, evenly spaced arrivals."""
    points = []
    for load in LOADS:
        offered = load * params.peak_gb_per_s
        interval = columns * params.column_bytes * params.logic_ghz / offered
        run = figures(random_reads(params, count, columns, seed, interval))
        latency = run.latency_cycles / params.logic_ghz
        points.append(Point(offered, run.gb_per_s, float(latency.mean()), float(np.percentile(latency, 99))))
        if run.gb_per_s < 0.97 * offered:
            break
    return points
