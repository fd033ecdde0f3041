"""HB streaming: refresh costs exactly tRFC at every phase, closed forms agree, the fast model stays fast."""

from dataclasses import replace

import numpy as np
import pytest

from cycle_model.hb import (
    REQUEST,
    Traffic,
    exact,
    fast,
    figures,
    of_addresses,
    random_reads,
    stream_bandwidth,
    stream_bytes_cycles,
)
from hw.errors import UserError
from hw.params import ECC_MODES, HbParams, chip
from hw.timing import tick_at_or_after, tick_cycle

PUBLISHED = HbParams()


def _read(params: HbParams, cycle: int, columns: int) -> Traffic:
    """One read from column 0, asked for at a cycle."""
    requests = np.zeros(1, dtype=REQUEST)
    requests["cycle"], requests["columns"] = cycle, columns
    return Traffic(params, requests)


def _closed_form_done(params: HbParams, cycle: int, rows: int) -> tuple[int, int]:
    """Done cycle and refreshes of a read of whole rows that finds the bank idle, from the data sheet's clocks.

    An idle bank refreshes at every multiple of tREFI. A transfer meets one boundary a row; at each it pays tRFC for
    a refresh that has come due since. By hand for 64 KB rows at 2 Gib: row 7 + 511 + 2 + 5 = 525 clocks, tRFC 26,
    tREFI 3120.
    """
    row_clocks, trfc, trefi = 525, 26, 3120
    start = tick_at_or_after(cycle + 1, params.clocks)
    # Refreshes issued while idle: those that fell due at an edge before the request, or at its own cycle.
    idle = int((tick_at_or_after(cycle + 1, params.clocks) - 1) // trefi)
    start = max(start, idle * trefi + trfc) if idle else start
    refreshes = 0
    boundary = start
    for row in range(rows):
        if boundary // trefi - idle > refreshes:
            refreshes += 1
            boundary += trfc
        boundary += row_clocks if row < rows - 1 else 0
    return tick_cycle(boundary + 7 + 511 + 2, params.clocks) + 1, refreshes


def test_refresh_costs_trfc_at_every_phase(record_property):
    """For a request at every edge of a refresh interval: time = base + n_ref x tRFC, from the data sheet alone.

    Exact and fast, the full-size bank, eight rows of 64 KB.
    """
    rows, phases = 8, range(8000, 8000 + 7800, 5)
    seen = set()
    for cycle in phases:
        trace = fast(_read(PUBLISHED, cycle, rows * 512), events=False)
        done, refreshes = _closed_form_done(PUBLISHED, cycle, rows)
        assert trace.dones[0, 0] == done, f"request at {cycle}"
        seen.add(refreshes)
    for cycle in phases[::31]:
        trace = exact(_read(PUBLISHED, cycle, rows * 512))
        assert trace.dones[0, 0] == _closed_form_done(PUBLISHED, cycle, rows)[0]
    assert seen == {1, 2}
    record_property("compared", len(phases) + len(phases[::31]))
    print(f"{len(phases)} phases, refreshes within a transfer: {sorted(seen)}")


@pytest.mark.parametrize("temperature", [85, 95, 105, 115])
@pytest.mark.parametrize("row_bytes", [2048, 8192, 65536])
def test_stream_bandwidth_beside_the_closed_form(row_bytes, temperature):
    """The whole bank streamed: within 0.02 % of peak x columns / row x (1 - tRFC / tREFI), worked out here again."""
    figure = stream_bandwidth(PUBLISHED, row_bytes=row_bytes, temperature_c=temperature)
    columns = row_bytes // 128
    trefi = {85: 7800, 95: 3900, 105: 1950, 115: 975}[temperature]
    row_ns = 2.5 * (7 + columns - 1 + 2 + 5)  # tRCD, columns, read to precharge, tRP; tRAS covered from 8 columns on
    expected = row_bytes / row_ns * (1 - 65 / trefi)
    assert figure.bytes == 256 << 20
    assert figure.gb_per_s == pytest.approx(expected, rel=2e-4)
    assert figure.closed_form_gb_per_s == pytest.approx(expected, rel=1e-12)
    assert figure.refresh_loss == pytest.approx(65 / trefi, rel=2e-3)
    assert figure.percent_of_peak == pytest.approx(100 * (1 - figure.row_loss - figure.refresh_loss), rel=1e-9)


@pytest.mark.parametrize("ecc", ECC_MODES)
def test_ecc_is_paid_for(ecc):
    """In-line check columns take an eighth more commands and bytes; side-band bits only bytes of their own."""
    figure = stream_bandwidth(replace(PUBLISHED, ecc=ecc), 448 * 128 * 100)
    counts, columns = figure.counts, 448 * 100
    assert counts.hb_reads == columns + (columns // 8 if ecc == "inline" else 0)
    assert counts.hb_read_bytes == counts.hb_reads * 128
    assert counts.hb_check_bytes == {"none": 0, "sideband": columns * 16, "inline": columns // 8 * 128}[ecc]
    assert figure.bytes == columns * 128
    assert figure.gb_per_s == pytest.approx(figure.closed_form_gb_per_s, rel=5e-3)


@pytest.mark.parametrize("name", ["4gb", "8gb", "tiny", "fpga-small"])
def test_stream_of_every_chip_equals_exact(name):
    """Streams of each preset, exact beside fast: same end."""
    params = chip(name).hb
    size = min(params.capacity_bytes, 20 * params.row_bytes)
    figure = stream_bandwidth(params, size)
    requests = np.zeros(1, dtype=REQUEST)
    requests["columns"] = size // params.column_bytes
    assert exact(Traffic(params, requests)).end_cycle == figure.cycles == stream_bytes_cycles(params, size)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"row_bytes": 3000}, "row size must divide"),
        ({"row_bytes": 0}, "row size must divide"),
        ({"temperature_c": 130}, "temperature must be"),
        ({"total_bytes": 1 << 40}, "stream must be 1 to 268435456 bytes"),
        ({"total_bytes": -1}, "stream must be 1 to"),
    ],
)
def test_bad_arguments(arguments, words):
    """Sizes that do not fit the bank are refused in one line."""
    with pytest.raises(UserError, match=words):
        stream_bandwidth(PUBLISHED, **arguments)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("requester", 3, "requester must be 0 to 2"), ("row", -1, "row must be 0 to"), ("columns", 1 << 16, "columns")],
)
def test_bad_traffic(field, value, words):
    """So are requests that no port could carry; those that it could carry are refused by the controller instead."""
    requests = np.zeros(1, dtype=REQUEST)
    requests[field] = value
    with pytest.raises(UserError, match=words):
        Traffic(PUBLISHED, requests)


def test_fast_does_not_step():
    """A stream of the whole bank costs fast one record per row: 4096 activations, no columns, no cycles."""
    requests = np.zeros(1, dtype=REQUEST)
    requests["columns"] = 65535
    traffic = Traffic(PUBLISHED, requests)
    stepped, jumped = exact(traffic), fast(traffic, events=False)
    assert len(jumped.commands) == len(jumped.reads) == 0
    assert jumped.counts == stepped.counts
    assert jumped.end_cycle == stepped.end_cycle


def test_latency_of_lone_reads_by_hand():
    """Far apart, one column: request to activation 1 edge, 7 to the read, 2 to the end of its burst, then 1 cycle.

    Edges of 2.5 cycles: asked for at cycle 0 (an edge) the beat leaves at 26; the bank closes at 38, done at 39. With
    a request every 1000 cycles 39 is the latency of each, unless a refresh is under way.
    """
    result = figures(random_reads(PUBLISHED, 7, 1, seed=1, interval_cycles=1000))
    assert result.latency_cycles.tolist() == [39] * 7
    assert result.bytes == 7 * 128
    assert result.cycles == 6039
    assert result.gb_per_s == pytest.approx(7 * 128 / 6039)


def test_random_columns_are_bound_by_the_row_cycle():
    """Single columns as fast as they are taken: one per tRAS + tRP = 19 clocks.

    The request is taken in the cycle after the precharge, long before tRP is over: 128 B per 47.5 ns, 5.3 % of peak.
    """
    result = figures(random_reads(PUBLISHED, 2000, 1, seed=2))
    assert result.gb_per_s == pytest.approx(128 / 47.5 * (1 - 65 / 7800), rel=2e-3)
    assert result.trace.counts.hb_row_misses == 2000


def test_addresses_become_columns():
    """Byte 0 and 127 are column 0 of row 0, 65536 the first of row 1; order and direction are kept."""
    addresses = np.array([0, 127, 65536, 65536 + 640])
    traffic = of_addresses(PUBLISHED, addresses, np.array([0, 1, 0, 0]))
    assert traffic.requests[["write", "row", "column"]].tolist() == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 5)]
    assert len(figures(traffic).latency_cycles) == 4


def test_bad_addresses_are_named():
    """An address beyond the bank is refused with its entry; so are single writes where ECC needs groups."""
    with pytest.raises(UserError, match="address of entry 2 must be below 0x10000000, not 0x10000000"):
        of_addresses(PUBLISHED, np.array([0, 256 << 20]), np.zeros(2, dtype=int))
    with pytest.raises(UserError, match="entry 2 must be a read"):
        of_addresses(replace(PUBLISHED, ecc="inline"), np.array([0, 0]), np.array([0, 1]))
    with pytest.raises(UserError, match="read must be 1 to 65535 columns"):
        random_reads(PUBLISHED, 1, 0, seed=0)
