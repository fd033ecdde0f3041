"""HB timing: nanoseconds to clocks as a data sheet reader would, ticks, and tables that contradict themselves."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from amaranth.sim import Simulator

from hw.errors import UserError
from hw.memory.tick import TickGenerator
from hw.params import HbParams, chip
from hw.timing import hb_timing, tick_at_or_after, tick_cycle, with_times
from verification.bench.dram_checker import data_sheet


def test_published_parts_in_clocks():
    """By hand: 17.5 / 2.5 = 7, 47.5 / 2.5 = 19, 7.8 us / 2.5 ns = 3120; the 500 Mb/s part divides by 2 ns."""
    c = hb_timing("hb400", 2).clocks
    assert (c.nRCD, c.nRP, c.nRAS, c.nRC, c.nWR, c.nRTP, c.nWTR, c.nRTW) == (7, 5, 14, 19, 7, 2, 3, 3)
    assert (c.nBL, c.nCL, c.nCWL, c.nRFC, c.nREFI) == (1, 1, 1, 26, 3120)
    assert (c.tick_num, c.tick_den) == (5, 2)
    c = hb_timing("hb500", 2).clocks
    assert (c.nRCD, c.nRP, c.nRAS, c.nRC, c.nWR, c.nRTP, c.nWTR) == (8, 6, 17, 23, 8, 2, 3)
    assert (c.nRFC, c.nREFI, c.tick_num, c.tick_den) == (33, 3900, 2, 1)  # 65 / 2 = 32.5 rounds up
    assert hb_timing("hb500", 2, 110).clocks.nREFI == 487  # 975 / 2 = 487.5 is a maximum: down


@pytest.mark.parametrize(
    ("density", "temperature", "trfc", "trefi"),
    [
        (0.5, 25, 15, 7800),
        (1, 85, 40, 7800),
        (1.5, 85, 65, 7800),
        (2, 85.5, 65, 3900),
        (4, 95, 90, 1950),
        (8, 100, 115, 975),
        (16, 106, 140, 243.75),
        (32, 85, 170, 1950),
    ],
)
def test_refresh_by_density_and_temperature(density, temperature, trfc, trefi):
    """tRFC and tREFI as tabulated; the interval halves above 85, 95 and 105 C, not at them."""
    timing = hb_timing("hb400", density, temperature)
    assert (timing.tRFC_ns, timing.tREFI_ns) == (trfc, trefi)


# The published numbers once more, as text: (tCK, tRCD, tRP, tRAS, tRC, tWR, tRTP, tWTR in ns; nBL, nCL, nCWL, nRTW).
AS_PUBLISHED = {
    "hb400": "2.5 17.5 12.5 35 47.5 17.5 5 7.5; 1 1 1 3",
    "hb500": "2.0 16 12 34 46 16 4 6; 1 1 1 3",
}
TRFC_AS_PUBLISHED = "0.5:15 1:40 2:65 4:90 8:115 16:140 32:170"
TREFI_AS_PUBLISHED = "0.5:7800 1:7800 2:7800 4:3900 8:3900 16:1950 32:1950"


@pytest.mark.parametrize("part", AS_PUBLISHED)
def test_tables_as_published(part):
    """Both copies of the numbers, the hardware's in ns and the protocol checker's in ps, are the published ones."""
    times, clocks = (list(map(float, half.split())) for half in AS_PUBLISHED[part].split(";"))
    names = ("tCK", "tRCD", "tRP", "tRAS", "tRC", "tWR", "tRTP", "tWTR")
    timing, table = hb_timing(part, 2), data_sheet(part, 2)
    assert [getattr(timing, f"{name}_ns") for name in names] == times
    assert [table[name] for name in names] == [1000 * time for time in times]
    assert [timing.nBL, timing.nCL, timing.nCWL, timing.nRTW] == clocks
    assert [table["tBL"], table["tCWL"], table["tRTW"]] == [table["tCK"] * n for n in (clocks[0], clocks[2], clocks[3])]
    for name, published in (("tRFC", TRFC_AS_PUBLISHED), ("tREFI", TREFI_AS_PUBLISHED)):
        for entry in published.split():
            density, time = map(float, entry.split(":"))
            assert getattr(hb_timing(part, density), f"{name}_ns") == time
            assert data_sheet(part, density)[name] == 1000 * time


def test_peak_bandwidth_is_the_published_one():
    """1024 bit x 400 Mb/s = 51.2 GB/s per PE; 16 and 32 of them 819.2 and 1638.4 GB/s; 256 MiB each."""
    for name, total in (("4gb", 819.2), ("8gb", 1638.4)):
        preset = chip(name)
        assert preset.hb.peak_gb_per_s == pytest.approx(51.2)
        assert preset.hb.peak_gb_per_s * preset.pes == pytest.approx(total)
        assert preset.hb.capacity_bytes == 256 << 20
        assert preset.hb.density_gib == 2


def test_inline_ecc_pays_with_capacity():
    """512 columns hold 56 groups of nine, so 448 columns of data: 87.5 %; side-band takes nothing from the bank."""
    assert replace(HbParams(), ecc="inline").capacity_bytes == 4096 * 448 * 128
    assert replace(HbParams(), ecc="sideband").capacity_bytes == 256 << 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tRC_ns": 45.0}, "tRC_ns must be at least tRAS_ns \\+ tRP_ns = 47.5, not 45"),
        ({"tRAS_ns": 15.0}, "tRAS_ns must be at least tRCD_ns"),
        ({"tRP_ns": -1.0}, "tRP_ns must be"),
        ({"tWR_ns": float("nan")}, "tWR_ns must be"),
        ({"nCL": 0}, "nCL must be 1 to 64 clocks"),
        ({"tREFI_ns": 100.0}, "tREFI_ns must leave time for a refresh and a row"),
        ({"logic_period_ns": 3.0}, "tCK_ns must be 1 to 64 logic periods of 3 ns"),
        ({"logic_period_ns": 0.999}, "tCK_ns must be 1 to 64 logic periods"),
        ({"logic_period_ns": 0.01}, "tCK_ns must be 1 to 64 logic periods"),
        ({"tXYZ_ns": 1.0}, "unknown HB time 'tXYZ_ns'"),
    ],
)
def test_impossible_tables_are_refused(changes, words):
    """A table that contradicts itself or a clock that cannot be marked raises one line that names the time."""
    with pytest.raises(UserError, match=words) as caught:
        with_times(hb_timing("hb400", 2), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"nRTW": 64}, {"nRTW": 65}),
        ({"nRTW": 1}, {"nRTW": 0}),
        ({"tRC_ns": 47.5}, {"tRC_ns": 47.499}),
        ({"tRAS_ns": 17.5}, {"tRAS_ns": 17.499}),
        ({"tCK_ns": 0.065, "logic_period_ns": 0.064}, {"tCK_ns": 0.066, "logic_period_ns": 0.065}),
        ({"tCK_ns": 64.0}, {"tCK_ns": 65.0}),
        ({"tCK_ns": 1.0}, {"tCK_ns": 0.999}),
        # 26 clocks of refresh, 20 to close a row, one to begin: 47 clocks of 2.5 ns.
        ({"tREFI_ns": 117.5}, {"tREFI_ns": 117.4}),
    ],
)
def test_limits_are_tight(inside, outside):
    """The last allowed value is accepted, the next one refused."""
    timing = hb_timing("hb400", 2)
    with_times(timing, **inside)
    with pytest.raises(UserError):
        with_times(timing, **outside)


def test_clocks_to_close_a_row():
    """By hand: one to decide, then tRAS + tRP = 19; a write may hold the row longer, a long tRC the bank."""
    clocks = hb_timing("hb400", 2).clocks
    assert clocks.close_clocks == 1 + 14 + 5
    assert clocks._replace(nWR=20).close_clocks == 1 + (1 + 1 + 20) + 5
    assert clocks._replace(nRTP=30).close_clocks == 1 + 30 + 5
    assert clocks._replace(nRC=40).close_clocks == 1 + 40


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"part": "hb401"}, "unknown HB part 'hb401'; did you mean hb400"),
        ({"rows": 1 << 18}, "density must be above 0 and at most 32"),
        ({"temperature_c": 126}, "temperature must be -40 to 125"),
        ({"data_bits": 96}, "data_bits must be a power of two"),
        ({"columns_per_row": 100}, "columns_per_row must be a power of two"),
        ({"columns_per_row": 8, "ecc": "inline"}, "at least 9 with in-line ECC"),
        ({"ecc": "chipkill"}, "ecc must be one of none, sideband, inline"),
        ({"refresh_postpone": 8}, "refresh_postpone must be an integer from 0 to 7"),
        ({"refresh_postpone": 7, "temperature_c": 110}, "refresh_postpone must be at most 6"),
        ({"logic_ghz": 0.3}, "tCK_ns must be 1 to 64 logic periods"),
        ({"requesters": 0}, "requesters must be an integer from 1 to 8"),
    ],
)
def test_impossible_parameters_are_refused(changes, words):
    """So do parameters of the bank and its controller."""
    with pytest.raises(UserError, match=words):
        replace(HbParams(), **changes)


@pytest.mark.parametrize("ratio", [(5, 2), (2, 1), (1, 1), (7, 3), (64, 1), (10, 9)])
def test_ticks_lie_at_the_ceiling(ratio):
    """RTL and formulas put edge k at logic cycle ceil(k x num / den), the first cycle after reset being edge 0."""
    clocks = hb_timing("hb400", 2).clocks._replace(tick_num=ratio[0], tick_den=ratio[1])
    edges = [ceil(Fraction(k * ratio[0], ratio[1])) for k in range(40)]
    dut, seen = TickGenerator(clocks), []

    async def bench(ctx):
        for cycle in range(edges[-1] + 1):
            if ctx.get(dut.tick):
                seen.append(cycle)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == edges
    assert [tick_cycle(k, clocks) for k in range(40)] == edges
    for cycle in range(edges[-1]):
        assert edges[tick_at_or_after(cycle, clocks)] == min(edge for edge in edges if edge >= cycle)
