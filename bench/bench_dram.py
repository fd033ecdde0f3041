"""Speed of the LPDDR5 model: 32-byte reads simulated per CPU-second, beside the targets.

    python bench/bench_dram.py [--reads 2000000]

One core, CPU time, compilation excluded, best of three. Reads of all eight channels are counted once each; address
decoding, sorting by channel and results per read are included. Per-bank refresh, 4 ranks, read queue 32.
"""

import argparse
import resource

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import cpu_seconds

from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.lpddr.stream_memory import Lpddr5Stream
from hw.lpddr5_config import Lpddr5Config, Lpddr5Controller
from hw.lpddr5_timing import Lpddr5Organization

TARGET_STREAM, TARGET_RANDOM = 5e6, 1.5e6  # reads per CPU-second
PUBLISHED = (0.15e6, 0.27e6)  # what a current C++ simulator does (second-hand)


def stream_seconds(row_bytes: int, rows: int, refresh: str) -> float:
    """CPU seconds of stream mode for ``rows`` rows of ``row_bytes`` in each channel, all channels computed."""
    org = Lpddr5Organization(row_bytes=row_bytes, rows=65536 * 2048 // row_bytes)
    config = Lpddr5Config(organization=org, controller=Lpddr5Controller(refresh=refresh))

    def once() -> None:
        memory = Lpddr5Stream(config)
        for c, channel in enumerate(memory.channels):
            channel.bank["used"][-1] = c  # no two channels alike: an unused place, so that none is copied
        memory.read(0, rows * row_bytes * org.channels)

    return cpu_seconds(once)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the LPDDR5 model.")
    parser.add_argument("--reads", type=int, default=2_000_000, help="reads per run")
    reads = parser.parse_args().reads
    addresses = {
        "stream": np.arange(reads, dtype=np.int64) * 32,
        "random": np.random.default_rng(0).integers(0, 2**31, reads) * 32,
    }
    Lpddr5Exact().run(addresses["random"][:1000])  # compiles
    Lpddr5Stream().read(0, 1 << 20)
    console = Console()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table = Table("exact", "million reads / CPU s", "target", "ratio to target", "ratio to 0.15-0.27", "% of peak")
    for (name, at), target in zip(addresses.items(), (TARGET_STREAM, TARGET_RANDOM), strict=True):
        runs = []
        rate = reads / cpu_seconds(lambda at=at, runs=runs: runs.append(Lpddr5Exact().run(at)))
        published = f"{rate / PUBLISHED[1]:.0f} to {rate / PUBLISHED[0]:.0f}"
        table.add_row(
            name,
            f"{rate / 1e6:.2f}",
            f"{target / 1e6:g}",
            f"{rate / target:.2f}",
            published,
            f"{100 * runs[0].fraction_of_peak():.1f}",
        )
    console.print(table)
    table = Table("stream mode", "refresh", "rows", "bytes", "CPU ms", "ns per row", "million reads / CPU s")
    cases = [(2048, 8192), (2048, 16384), (4096, 8192), (8192, 8192)]
    for (row_bytes, rows), refresh in [(case, refresh) for refresh in ("none", "per-bank") for case in cases]:
        total = 8 * rows
        seconds = stream_seconds(row_bytes, rows, refresh)
        table.add_row(
            f"{row_bytes} B rows",
            refresh,
            f"{total:,}",
            f"{total * row_bytes:,}",
            f"{1e3 * seconds:.1f}",
            f"{1e9 * seconds / total:.0f}",
            f"{total * row_bytes / 32 / seconds / 1e6:.0f}",
        )
    console.print(table)
    console.print(
        "stream mode: a step per row command, read run and refresh; refreshes come with time, all else with rows"
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    state = Lpddr5Exact().channels[0].nbytes
    console.print(
        f"memory: {after:.0f} MiB at most, of it {before:.0f} before the runs "
        f"({(after - before) * 2**20 / reads:.0f} bytes per read); state of one channel {state / 1024:.0f} KiB"
    )


if __name__ == "__main__":
    main()
