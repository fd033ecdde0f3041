"""Layouts measured: balance over PEs and percent of peak, the chosen ones and the naive ones beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.hb import stream_bytes_cycles
from cycle_model.lpddr.addressing import mappings
from cycle_model.lpddr.memory import Lpddr5Exact
from cycle_model.lpddr.stream_memory import Lpddr5Stream
from hw.lpddr5_config import Lpddr5Config
from hw.params import HbParams
from sw_stack.compiler.layout import (
    HB_POLICIES,
    QWEN3_30B_A3B,
    QWEN3_EXPERTS,
    ExpertShape,
    hb_bytes_per_pe,
    lpddr_extent,
)


@dataclass(frozen=True)
class Measured:
    """One layout: most loaded PE or channel over the mean, and bytes moved over peak x time."""

    layout: str
    max_over_mean: float
    percent_of_peak: float
    note: str = ""


def hb_layouts(
    pes: int, active: int, draws: int = 40, seed: int = 0, shape: ExpertShape = QWEN3_30B_A3B
) -> list[Measured]:
    """``active`` random resident experts of a layer read by all PEs at once, each policy; means over ``draws``.

    The time is that of the most loaded bank, streaming its bytes (64 KB rows, refresh on, simulated).
    """
    params = HbParams()
    rng = np.random.default_rng(seed)
    sets = [rng.choice(QWEN3_EXPERTS, active, replace=False) for _ in range(draws)]
    cycles: dict[int, int] = {}
    made = []
    for policy in HB_POLICIES:
        loads = [sum(hb_bytes_per_pe(shape, int(e), pes, policy) for e in each) for each in sets]
        ratios, shares = [], []
        for load in loads:
            most = int(load.max())
            if most not in cycles:
                cycles[most] = stream_bytes_cycles(params, most)
            seconds = cycles[most] / params.logic_ghz  # ns
            ratios.append(most / load.mean())
            shares.append(100 * load.sum() / (pes * params.peak_gb_per_s * seconds))
        made.append(Measured(policy, float(np.mean(ratios)), float(np.mean(shares))))
    return made


def lpddr_layouts(active: int, seed: int = 0, shape: ExpertShape = QWEN3_30B_A3B) -> list[Measured]:
    """``active`` random experts, both slices, one after another from LPDDR5 under each placement.

    The chosen layout is also read by stream mode, which must take the same time.
    """
    config = Lpddr5Config()
    org = config.organization
    experts = np.sort(np.random.default_rng(seed).choice(QWEN3_EXPERTS, active, replace=False))
    extents = [lpddr_extent(shape, int(e)) for e in experts]
    contiguous = np.concatenate([np.arange(a, a + size, org.burst_bytes) for a, size in extents])
    made = []
    for name in mappings(org):
        if name == "channel-contiguous":
            continue
        run = Lpddr5Exact(config, name).run(contiguous)
        made.append(_measured(f"contiguous, {name}", run))
    block = org.capacity_bytes // org.channels
    run = Lpddr5Exact(config, "channel-contiguous").run(contiguous)
    made.insert(0, _measured("row-major contiguous in one channel", run))
    own = np.concatenate(
        [
            np.arange(a, a + size, org.burst_bytes) + int(e) % org.channels * block
            for e, (a, size) in zip(experts, extents, strict=True)
        ]
    )
    run = Lpddr5Exact(config, "channel-contiguous").run(own)
    made.insert(1, _measured("expert per channel", run))
    stream = Lpddr5Stream(config)
    for address, size in extents:
        stream.read(address, size)
    done = max(int(ch.last_data) for ch in stream.channels)
    moved = sum(size for _, size in extents)
    share = 100 * moved / (done * config.timing.tCK_ns) / config.peak_gb_per_s
    made.append(Measured("chosen, by stream mode", 1.0, share, "each expert starts after the last one's reads"))
    return made


def _measured(layout: str, run) -> Measured:
    reads = np.array([counts.lpddr_reads for counts in run.counts])
    activates = sum(counts.lpddr_activates for counts in run.counts)
    note = f"{activates:,} activates"
    return Measured(layout, float(reads.max() / reads.mean()), 100 * run.fraction_of_peak(), note)
