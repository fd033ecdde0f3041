"""LPDDR5 exact as a whole: mappings, closed loop, statistics, and bounds known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from cycle_model.lpddr.addressing import mapping, mappings
from cycle_model.lpddr.memory import Lpddr5Exact
from hw.errors import UserError
from hw.lpddr5_config import Lpddr5Config, Lpddr5Controller, config_from_tables
from hw.lpddr5_timing import Lpddr5Organization, Lpddr5Timing, clocks

NAMES = list(mappings(Lpddr5Organization()))


@pytest.mark.parametrize("name", NAMES)
def test_mapping_is_a_bijection(name: str) -> None:
    """encode inverts decode on random addresses, and a small memory's addresses all go to different places."""
    org = Lpddr5Organization()
    made = mapping(name, org)
    addresses = np.random.default_rng(1).integers(0, org.capacity_bytes // 32, 500) * 32
    for address, c, b, r, k in zip(addresses, *made.decode(addresses), strict=True):
        rank, place = divmod(int(b), 16)
        assert made.encode(int(c), rank, place // 4, place % 4, int(r), int(k)) == address
    small = Lpddr5Organization(channels=2, ranks=2, rows=128, row_bytes=128)
    everything = np.arange(small.capacity_bytes // 32) * 32
    places = set(zip(*(a.tolist() for a in mapping(name, small).decode(everything)), strict=True))
    assert len(places) == everything.size


def test_weight_stream_rotates_as_documented() -> None:
    """By hand: bursts go over channels, groups 0 and 2, columns; 32 KiB on, the next group; 1 MiB on, the next row."""
    made = mapping("weight-stream", Lpddr5Organization())
    #             channel, flat bank, row, column
    expected = {
        0: (0, 0, 0, 0),
        32: (1, 0, 0, 0),
        256: (0, 8, 0, 0),
        512: (0, 0, 0, 1),
        32 * 1024: (0, 4, 0, 0),
        64 * 1024: (0, 1, 0, 0),
        256 * 1024: (0, 16, 0, 0),
        1024 * 1024: (0, 0, 1, 0),
    }
    for address, place in expected.items():
        assert tuple(int(a[0]) for a in made.decode(np.array([address]))) == place, hex(address)


def test_closed_loop_equals_batch() -> None:
    """Pushed on credits and stepped in odd strides, a request ends when it ends in a batch with the same arrivals."""
    rng = np.random.default_rng(5)
    batch, loop = Lpddr5Exact(), Lpddr5Exact()
    arrivals, pushed, done = [], [], {}
    cycle = 0
    for tag in range(3000):
        address, write = int(rng.integers(0, 1 << 22)) * 32, bool(rng.random() < 0.3)
        channel = loop.channel_of(address)
        while loop.credits(channel, write) == 0:
            cycle += int(rng.integers(1, 40))
            loop.advance_to(cycle)
            done.update((t, c) for c, t in loop.completions())
        loop.push(address, cycle, tag, write)
        arrivals.append(cycle)
        pushed.append((address, write))
    while len(done) < 3000:
        cycle += 97
        loop.advance_to(cycle)
        done.update((t, c) for c, t in loop.completions())
    run = batch.run(np.array([a for a, _ in pushed]), np.array([w for _, w in pushed]), np.array(arrivals))
    assert [done[tag] for tag in range(3000)] == run.done.tolist()
    with pytest.raises(ValueError, match="before"):
        loop.push(0, cycle - 1, "late")


def test_queue_full_is_no_credit() -> None:
    """A channel takes as many requests as its queue holds, then refuses."""
    loop = Lpddr5Exact()
    for k in range(32):
        loop.push(k * 256, 0, k)
    assert loop.credits(0) == 0
    with pytest.raises(ValueError, match="no credit"):
        loop.push(0, 0, "one more")


def test_reads_see_queued_writes() -> None:
    """A read of bytes in the write queue is answered from it; a write waits for an older read of its bytes."""
    memory = Lpddr5Exact()
    same = np.array([0, 4096 * 256, 0, 0]) * 1
    run = memory.run(same, np.array([1, 0, 0, 1]), np.zeros(4, np.int64))
    assert run.total.lpddr_forwarded_reads == 1
    assert run.done[2] == 1
    memory = Lpddr5Exact(Lpddr5Config(controller=Lpddr5Controller(write_high=1, write_low=0)))
    run = memory.run(np.zeros(2, np.int64), np.array([0, 1]), np.zeros(2, np.int64))
    assert run.done[0] == 34 and run.done[1] == 27 + 11  # RD 15, WR 15 + 12


def test_old_conflict_is_not_passed_forever() -> None:
    """With an age limit of 100 clocks a conflict waits that long and one precharge cycle, not for all younger hits."""
    place = mapping("weight-stream", Lpddr5Organization())
    hits = [place.encode(0, 0, 0, 0, 0, k % 64) for k in range(600)]
    addresses = np.array([hits[0], place.encode(0, 0, 0, 0, 1, 0), *hits[1:]])
    ends = []
    for age_limit in (100, 1_000_000):
        controller = Lpddr5Controller(refresh="none", age_limit=age_limit)
        run = Lpddr5Exact(Lpddr5Config(controller=controller)).run(addresses)
        ends.append(int(run.done[1]))
    assert ends[0] < 100 + 4 + 8 + 15 + 15 + 19 + 40
    assert ends[1] > 600 * 4


def test_all_bank_refresh_costs_its_share() -> None:
    """One rank, nothing hidden: the loss is tRFCab / tREFI = 7.17 % and at most closing and reopening rows besides."""
    org = Lpddr5Organization(ranks=1, channels=1)
    addresses = np.arange(400_000) * 32
    cycles = {}
    for refresh in ("none", "all-bank"):
        config = Lpddr5Config(organization=org, controller=Lpddr5Controller(refresh=refresh, postponed=1))
        cycles[refresh] = Lpddr5Exact(config).run(addresses).cycles
    loss = 1 - cycles["none"] / cycles["all-bank"]
    # per refresh: last RD to PREab 8 or tRAS, PREab to REFab 17, ACT to RD 15, a second ACT 4 later, CAS; less PREs
    assert 224 / 3125 - 0.001 <= loss <= (224 + 34 + 17 + 15 + 6) / 3125


def test_random_reads_are_bound_by_the_command_bus() -> None:
    """Open page: PRE, ACT-1, ACT-2, CAS, RD are five clocks per read, 40 % of peak; closed page four, 50 %."""
    addresses = np.random.default_rng(3).integers(0, 2**31, 60_000) * 32
    for page, slots in (("open", 5), ("closed", 4)):
        controller = Lpddr5Controller(refresh="none", page=page)
        fraction = Lpddr5Exact(Lpddr5Config(controller=controller)).run(addresses).fraction_of_peak()
        assert 0.95 * 2 / slots < fraction <= 1.01 * 2 / slots


def test_single_bank_is_bound_by_trc() -> None:
    """Every read another row of one bank: one read per max(tRC, nRCD + nRTP + nRP) = 49 clocks."""
    place = mapping("weight-stream", Lpddr5Organization())
    addresses = np.array([place.encode(0, 0, 0, 0, row, 0) for row in range(1000)])
    run = Lpddr5Exact(Lpddr5Config(controller=Lpddr5Controller(refresh="none"))).run(addresses)
    assert run.cycles == 999 * 49 + 34


def test_counts_add_up() -> None:
    """Hits, misses and conflicts are the columns; activates of reads are misses or conflicts; 32 bytes each."""
    rng = np.random.default_rng(8)
    run = Lpddr5Exact(Lpddr5Config(controller=Lpddr5Controller(refresh="none"))).run(
        rng.integers(0, 1 << 20, 20_000) * 32, rng.random(20_000) < 0.3
    )
    t = run.total
    columns = t.lpddr_reads + t.lpddr_writes
    assert columns + t.lpddr_forwarded_reads == 20_000
    assert t.lpddr_row_hits + t.lpddr_row_misses + t.lpddr_row_conflicts == columns
    assert t.lpddr_read_bytes + t.lpddr_write_bytes == 32 * columns
    assert t.lpddr_activates > t.lpddr_row_misses + t.lpddr_row_conflicts  # drains close rows opened for reads
    reads = Lpddr5Exact(Lpddr5Config(controller=Lpddr5Controller(refresh="none"))).run(
        rng.integers(0, 1 << 20, 9000) * 32
    )
    assert reads.total.lpddr_activates == reads.total.lpddr_row_misses + reads.total.lpddr_row_conflicts
    assert reads.total.lpddr_precharges == reads.total.lpddr_row_conflicts


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"timing": {"tRC_ns": 50.0}}, "tRC_ns must be at least tRAS_ns"),
        ({"timing": {"ckr": 3}}, "ckr"),
        ({"timing": {"ckr": 2}}, "data_rate_mtps must be 2 x ckr / tCK"),
        ({"timing": {"data_rate_mtps": 6000}}, "data_rate_mtps must be"),
        ({"timing": {"tRFCab_ns": 5000.0}}, "tREFI_ns must be at least"),
        ({"timing": {"tREFIpb_ns": 900.0}}, "tREFI_ns / 8"),
        ({"timing": {"tRCD_ns": -1}}, "positive"),
        ({"timing": {"nCL": 17.5}}, "whole number"),
        ({"timing": {"tRCD": 18.0}}, "did you mean tRCD_ns"),
        ({"timings": {}}, "unknown table"),
        ({"organization": {"ranks": 3}}, "power of two"),
        ({"controller": {"refresh": "perbank"}}, "did you mean per-bank"),
        ({"controller": {"postponed": 9}}, "postponed"),
    ],
)
def test_contradicting_tables_are_one_clear_line(tables: dict, message: str) -> None:
    """A table that contradicts itself is a UserError that names the file and the rule."""
    with pytest.raises(UserError, match=f"memory.toml: .*{message}"):
        config_from_tables(tables, "memory.toml")


def test_clocks_round_up() -> None:
    """The published clock counts follow from the ns by rounding up: 390.4 is 391, 15.0 is 15."""
    assert [clocks(t, 1.25) for t in (488, 18.75, 3906, 61.25, 7.5)] == [391, 15, 3125, 49, 6]
    c = Lpddr5Timing().clocks
    assert (c.read_to_write, c.write_to_read_s, c.write_to_read_l, c.write_to_precharge) == (12, 16, 23, 39)
    assert (c.nRRD, c.nFAW, c.nRFCab, c.nRFCpb, c.npbR2pbR) == (4, 16, 224, 112, 72)
