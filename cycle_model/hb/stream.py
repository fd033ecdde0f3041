"""Streaming figures of the HB port: measured by the fast model, and in closed form beside it; bounds on waiting."""

from dataclasses import dataclass, replace

import numpy as np

from cycle_model.counts import Counts
from cycle_model.hb.fast import fast
from cycle_model.hb.traffic import REQUEST, Traffic
from hw.errors import UserError
from hw.params import HbParams
from hw.timing import MAX_POSTPONED


@dataclass(frozen=True, kw_only=True)
class StreamFigure:
    """One bank streaming weights: whole rows, back to back, consumer never stalling.

    gb_per_s, closed_form_gb_per_s  GB = 1e9; simulated, and the steady state by formula
    percent_of_peak  of the simulated figure
    row_loss, refresh_loss  shares of the time spent opening and closing rows, and refreshing
    """

    row_bytes: int
    temperature_c: float
    bytes: int
    cycles: int
    gb_per_s: float
    closed_form_gb_per_s: float
    peak_gb_per_s: float
    row_loss: float
    refresh_loss: float
    counts: Counts

    @property
    def percent_of_peak(self) -> float:
        """Simulated bandwidth over peak, in percent."""
        return 100 * self.gb_per_s / self.peak_gb_per_s


def with_row_bytes(params: HbParams, row_bytes: int) -> HbParams:
    """The same bank cut into rows of another size. Raises UserError where the size does not divide it."""
    physical_bytes = params.rows * params.row_bytes
    if row_bytes < 1 or physical_bytes % row_bytes or row_bytes % params.column_bytes:
        raise UserError(f"HB row size must divide {physical_bytes} and be whole columns, not {row_bytes!r} bytes")
    return replace(
        params, columns_per_row=row_bytes // params.column_bytes, rows=physical_bytes // row_bytes, refresh_postpone=0
    )


def stream_requests(params: HbParams, total_bytes: int) -> np.ndarray:
    """Read requests of requester 0 from the first row on: transfers of as many whole rows as a length can say."""
    columns = -(-total_bytes // params.column_bytes)
    if not 0 < columns <= params.rows * params.data_columns:
        raise UserError(f"HB stream must be 1 to {params.capacity_bytes} bytes, not {total_bytes!r}")
    rows_at_once = max(1, ((1 << params.length_bits) - 1) // params.data_columns)
    longest = min(rows_at_once * params.data_columns, (1 << params.length_bits) - 1)
    firsts = np.arange(0, columns, longest)
    requests = np.zeros(len(firsts), dtype=REQUEST)
    requests["row"], requests["column"] = np.divmod(firsts, params.data_columns)
    requests["columns"] = np.minimum(longest, columns - firsts)
    return requests


def stream_bytes_cycles(params: HbParams, total_bytes: int) -> int:
    """Logic cycles to stream ``total_bytes`` from the first row on, from reset."""
    return fast(Traffic(params, stream_requests(params, total_bytes)), events=False).end_cycle


def stream_bandwidth(
    params: HbParams,
    total_bytes: int | None = None,
    *,
    row_bytes: int | None = None,
    temperature_c: float | None = None,
) -> StreamFigure:
    """Stream ``total_bytes`` (default: the whole bank) and compare with the closed form.

    Closed form, steady state: peak x (clocks of the columns / clocks of a row) x (1 - tRFC / tREFI). Raises
    UserError for a row size that does not fit the bank or a temperature out of range.
    """
    if temperature_c is not None:
        params = replace(params, temperature_c=temperature_c)
    if row_bytes is not None:
        params = with_row_bytes(params, row_bytes)
    c = params.clocks
    trace = fast(Traffic(params, stream_requests(params, total_bytes or params.capacity_bytes)), events=False)
    counts = trace.counts
    moved = (counts.hb_reads * params.column_bytes) - (counts.hb_check_bytes if params.ecc == "inline" else 0)
    clocks = trace.end_cycle * c.tick_den / c.tick_num
    row_share = params.data_columns * c.nBL / params.row_clocks(params.data_columns)
    refresh_loss = counts.hb_refreshes * c.nRFC / clocks
    return StreamFigure(
        row_bytes=params.row_bytes,
        temperature_c=params.temperature_c,
        bytes=moved,
        cycles=trace.end_cycle,
        gb_per_s=moved / (trace.end_cycle / params.logic_ghz),
        closed_form_gb_per_s=params.peak_gb_per_s * row_share * (1 - c.nRFC / c.nREFI),
        peak_gb_per_s=params.peak_gb_per_s,
        row_loss=1 - refresh_loss - moved / params.column_bytes * c.nBL / clocks,
        refresh_loss=refresh_loss,
        counts=counts,
    )


def longest_transfer_clocks(params: HbParams, columns: int) -> int:
    """Most DRAM clocks that a transfer of ``columns`` can hold the bank while its stream keeps up.

    It touches one row more than its length needs, writes (the slower direction), finds 8 refreshes owed, and pays
    for those that come due meanwhile: T = rows x row + (8 + 1 + T / nREFI) x nRFC, solved for T.
    """
    c = params.clocks
    rows = -(-columns // params.data_columns) + 1
    commands = sum(params.commands(0, min(params.data_columns, columns)) for _ in range(rows))
    overhead = max(max(c.nRAS, c.nRCD + c.nWRtoPRE) + c.nRP, c.nRC)
    base = commands * max(c.nBL, 1) + rows * overhead + max(c.nWRtoRD, c.nRTW)
    return -(-(base + (MAX_POSTPONED + 1) * c.nRFC) * c.nREFI // (c.nREFI - c.nRFC))


def worst_wait_cycles(params: HbParams, columns: int) -> int:
    """Bound on the logic cycles from a request to its acceptance if no transfer is longer than ``columns``.

    Round robin lets one transfer of every requester go first, counting the one in progress; each takes at most
    `longest_transfer_clocks`, one clock to meet an edge and two cycles to hand over. Streams are assumed to keep
    up; every cycle that one stalls may be added once.
    """
    c = params.clocks
    clocks = longest_transfer_clocks(params, columns) + 1
    return params.requesters * (-(-clocks * c.tick_num // c.tick_den) + 2)
