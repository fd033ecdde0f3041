"""What ``elmoe3d dram --device lpddr5`` measures: one run, mappings x refresh modes, and latency over throughput."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from cycle_model.lpddr.addressing import mappings
from cycle_model.lpddr.memory import Lpddr5Exact, Run
from hw.lpddr5_config import REFRESH_MODES, Lpddr5Config
from sw_stack.workloads.dram_trace import DramTrace

LOADS = (0.02, 0.1, 0.2, 0.3, 0.36, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 1.0)
PERCENTILES = (50, 90, 99, 99.9)


def addresses_of(pattern: str, count: int, config: Lpddr5Config, seed: int) -> np.ndarray:
    """Byte addresses of ``count`` bursts: consecutive from 0 (stream) or uniform over the capacity (random)."""
    org = config.organization
    if pattern == "stream":
        return np.arange(count, dtype=np.int64) % (org.capacity_bytes // org.burst_bytes) * org.burst_bytes
    bursts = org.capacity_bytes // org.burst_bytes
    return np.random.default_rng(seed).integers(0, bursts, count) * org.burst_bytes


def run_trace(config: Lpddr5Config, mapping_name: str, trace: DramTrace) -> Run:
    """Serve a trace from an empty memory."""
    return Lpddr5Exact(config, mapping_name).run(trace.addresses, trace.writes, trace.cycles)


def summary(run: Run) -> dict:
    """The figures of a run as plain values: GB = 1e9, latencies in ns."""
    tck = run.config.timing.tCK_ns
    latencies = run.latencies * tck
    total = run.total
    columns = total.lpddr_reads + total.lpddr_writes
    return {
        "requests": int(run.done.size),
        "time_us": run.cycles * tck / 1000,
        "gb_per_s": run.gb_per_s(),
        "peak_gb_per_s": run.config.peak_gb_per_s,
        "percent_of_peak": 100 * run.fraction_of_peak(),
        "latency_ns": {
            "mean": float(latencies.mean()),
            **{f"p{p:g}": float(np.percentile(latencies, p)) for p in PERCENTILES},
            "max": float(latencies.max()),
        },
        "row_hit_percent": 100 * total.lpddr_row_hits / columns if columns else 0.0,
        "row_miss_percent": 100 * total.lpddr_row_misses / columns if columns else 0.0,
        "row_conflict_percent": 100 * total.lpddr_row_conflicts / columns if columns else 0.0,
        "counts": {name: value for name, value in asdict(total).items() if name.startswith("lpddr_")},
        "channels": [
            {
                "channel": c,
                "requests": int((run.channel == c).sum()),
                "gb_per_s": run.gb_per_s(c),
                "percent_of_peak": 100 * run.fraction_of_peak(c),
                "row_hits": counts.lpddr_row_hits,
                "row_misses": counts.lpddr_row_misses,
                "row_conflicts": counts.lpddr_row_conflicts,
                "activates": counts.lpddr_activates,
                "refreshes": counts.lpddr_refreshes_all_bank + counts.lpddr_refreshes_per_bank,
            }
            for c, counts in enumerate(run.counts)
        ],
    }


def with_refresh(config: Lpddr5Config, refresh: str) -> Lpddr5Config:
    """The same memory under another refresh mode."""
    return replace(config, controller=replace(config.controller, refresh=refresh))


def refresh_table(config: Lpddr5Config, trace: DramTrace) -> dict[str, dict[str, float]]:
    """Percent of peak of the trace's requests for each mapping under each refresh mode."""
    return {
        name: {
            refresh: 100 * run_trace(with_refresh(config, refresh), name, trace).fraction_of_peak()
            for refresh in REFRESH_MODES
        }
        for name in mappings(config.organization)
    }


@dataclass(frozen=True)
class Point:
    """One offered load: delivered bandwidth and latency from arrival to the last data beat."""

    offered_gb_per_s: float
    gb_per_s: float
    mean_ns: float
    p99_ns: float


def latency_curve(config: Lpddr5Config, mapping_name: str, pattern: str, count: int, seed: int) -> list[Point]:
    """Latency over throughput: exponential gaps between arrivals at each share of peak, up to saturation.

    Stops after the first load of which less than 97 % is delivered: beyond it latency measures the run's length.
    """
    addresses = addresses_of(pattern, count, config, seed)
    gaps = np.random.default_rng(seed + 1).exponential(1.0, count)
    org, tck = config.organization, config.timing.tCK_ns
    points = []
    for load in LOADS:
        offered = load * config.peak_gb_per_s
        arrivals = np.floor(np.cumsum(gaps) * org.burst_bytes / offered / tck).astype(np.int64)
        run = Lpddr5Exact(config, mapping_name).run(addresses, None, arrivals)
        latency = run.latencies * tck
        points.append(Point(offered, run.gb_per_s(), float(latency.mean()), float(np.percentile(latency, 99))))
        if points[-1].gb_per_s < 0.97 * offered:
            break
    return points
