"""Traffic for one HB bank from what users have: random reads, lists of byte addresses; and what they ask of it."""

from dataclasses import dataclass

import numpy as np

from cycle_model.hb.fast import fast
from cycle_model.hb.traffic import REQUEST, Trace, Traffic
from hw.errors import UserError
from hw.params import HbParams


@dataclass(frozen=True, kw_only=True)
class HbFigures:
    """What a run of traffic came to.

    bytes, cycles   data moved (check columns not counted), logic cycles to the last done pulse or beat
    gb_per_s, percent_of_peak  GB = 1e9
    latency_cycles  per transfer served, from the cycle given in its request to its last beat (reads) or done pulse
    """

    bytes: int
    cycles: int
    gb_per_s: float
    percent_of_peak: float
    latency_cycles: np.ndarray
    trace: Trace


def random_reads(params: HbParams, transfers: int, columns: int, seed: int, interval_cycles: float = 0) -> Traffic:
    """Reads of ``columns`` columns at random places, one every ``interval_cycles`` (0: as fast as they are taken)."""
    places = params.rows * params.data_columns - columns + 1
    if not 1 <= columns < 1 << params.length_bits or places < 1:
        raise UserError(
            f"HB read must be 1 to {(1 << params.length_bits) - 1} columns within the bank, not {columns!r}"
        )
    requests = np.zeros(transfers, dtype=REQUEST)
    first = np.random.default_rng(seed).integers(places, size=transfers)
    requests["row"], requests["column"] = np.divmod(first, params.data_columns)
    requests["columns"] = columns
    requests["cycle"] = (np.arange(transfers) * interval_cycles).astype(np.int64)
    requests["tag"] = np.arange(transfers) % (1 << params.tag_bits)
    return Traffic(params, requests)


def of_addresses(
    params: HbParams, addresses: np.ndarray, writes: np.ndarray, cycles: np.ndarray | None = None
) -> Traffic:
    """One transfer of one column per byte address of the bank's data.

    Raises UserError, naming the entry, for an address beyond the capacity and for writes with in-line ECC, which
    come in groups of eight columns.
    """
    beyond = np.flatnonzero((addresses < 0) | (addresses >= params.capacity_bytes))
    if len(beyond):
        bad = int(addresses[beyond[0]])
        raise UserError(f"HB address of entry {beyond[0] + 1} must be below {params.capacity_bytes:#x}, not {bad:#x}")
    if params.ecc == "inline" and writes.any():
        raise UserError(
            f"HB entry {int(np.argmax(writes)) + 1} must be a read: in-line ECC writes whole groups of columns"
        )
    requests = np.zeros(len(addresses), dtype=REQUEST)
    requests["row"], requests["column"] = np.divmod(addresses // params.column_bytes, params.data_columns)
    requests["columns"] = 1
    requests["write"] = writes
    requests["cycle"] = 0 if cycles is None else cycles
    requests["tag"] = np.arange(len(addresses)) % (1 << params.tag_bits)
    return Traffic(params, requests)


def figures(traffic: Traffic) -> HbFigures:
    """Run ``traffic`` of a single requester through the fast model and work out its figures."""
    params = traffic.params
    if len(np.unique(traffic.requests["requester"])) > 1:
        raise UserError("HB figures must be of one requester's traffic, not of several")
    trace = fast(traffic)
    served = trace.dones[:, 3] == 0
    finished = trace.dones[:, 0].copy()
    is_read = served & (traffic.requests["write"] == 0)
    finished[is_read] = np.maximum(finished[is_read], trace.reads[trace.reads[:, 3] == 1, 0])
    moved = int(traffic.requests["columns"][served].sum()) * params.column_bytes
    gb_per_s = moved * params.logic_ghz / trace.end_cycle if trace.end_cycle else 0.0
    return HbFigures(
        bytes=moved,
        cycles=trace.end_cycle,
        gb_per_s=gb_per_s,
        percent_of_peak=100 * gb_per_s / params.peak_gb_per_s,
        latency_cycles=(finished - traffic.requests["cycle"])[served],
        trace=trace,
    )
