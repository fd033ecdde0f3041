"""HB controller: RTL = exact = fast to the cycle, the bank's protocol kept, data right, nobody waits for ever."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from cycle_model.hb import REQUEST, Stalls, Traffic, exact, fast
from hw.isa import HbCommand, HbError
from hw.memory.hb_controller import HbController
from hw.memory.round_robin import RoundRobin
from hw.params import ECC_MODES, chip
from hw.timing import HB_PARTS, HbClocks, tick_at_or_after
from verification.bench.dram_checker import ProtocolError
from verification.bench.hb_equality import assert_equal
from verification.bench.hb_harness import checker_for, run_amaranth
from verification.bench.hb_traffic import STALL_RATES, one_transfer, random_traffic, shaken

TINY = replace(chip("tiny").hb, data_bits=64)
# Refresh every 150 clocks, so that a short run meets boundaries, idle refreshes and closed rows.
HURRIED = TINY.clocks._replace(nREFI=150)


@pytest.mark.parametrize("stall", STALL_RATES)
@pytest.mark.parametrize("ecc", ECC_MODES)
def test_rtl_equals_models_on_random_mixes(ecc, stall, record_property):
    """Every command, acceptance, beat and done pulse of RTL, exact and fast, at the published timing but refresh."""
    traffic = random_traffic(replace(TINY, ecc=ecc), 9, transfers=14, stall=stall, clocks=HURRIED, illegal=0.3)
    harness = run_amaranth(traffic)
    stepped = exact(traffic)
    compared = assert_equal(harness.trace(), stepped, "RTL against exact")
    compared += assert_equal(stepped, fast(traffic), "exact against fast")
    record_property("compared", compared)
    counts = stepped.counts
    assert min(counts.hb_reads, counts.hb_writes, counts.hb_refreshes, counts.hb_row_conflicts, counts.hb_refused) > 0
    assert harness.error_seen == 1
    print(f"{ecc}, {stall} stalls: {compared} items compared")


@pytest.mark.parametrize("seed", range(3))
def test_rtl_equals_models_off_the_published_timing(seed, record_property):
    """The same with shaken timings, buffers, postponement and tick ratios."""
    params, clocks = shaken(TINY, seed)
    traffic = random_traffic(params, seed, transfers=12, stall="light", clocks=clocks)
    stepped = exact(traffic)
    compared = assert_equal(run_amaranth(traffic).trace(), stepped, "RTL against exact")
    record_property("compared", compared + assert_equal(stepped, fast(traffic), "exact against fast"))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3, 63))
def test_rtl_equals_models_many(seed):
    """Sixty more of them with every kind of stall."""
    params, clocks = shaken(TINY, seed)
    for stall in STALL_RATES:
        traffic = random_traffic(params, seed, transfers=20, stall=stall, clocks=clocks, gap=[5, 60, 400][seed % 3])
        assert_equal(run_amaranth(traffic).trace(), exact(traffic), f"RTL against exact, seed {seed}, {stall}")


@pytest.mark.parametrize("part", HB_PARTS)
@pytest.mark.parametrize("temperature", [85, 110])
def test_parts_keep_their_data_sheets(part, temperature):
    """Both speed grades, cool and hot, against the checker's own table of each: no violation, equal to the models."""
    params = replace(TINY, part=part, temperature_c=temperature)
    traffic = random_traffic(params, 3, transfers=12, stall="light", gap=100)
    traffic.requests["cycle"] += 800  # across the first refresh of the hot part
    trace = run_amaranth(traffic).trace()
    assert (trace.counts.hb_refreshes > 0) == (temperature > 85)
    assert_equal(trace, exact(traffic), "RTL against exact")
    assert_equal(trace, fast(traffic), "RTL against fast")


def test_full_size_controller():
    """The published controller, 1024 bits and rows of 512 columns: a write and a read over a row's end."""
    params = chip("4gb").hb
    requests = np.zeros(2, dtype=REQUEST)
    requests["write"] = [1, 0]
    requests["row"], requests["column"], requests["columns"] = 4094, 500, 40
    traffic = Traffic(params, requests)
    trace = run_amaranth(traffic).trace()
    assert_equal(trace, exact(traffic), "RTL against exact")
    assert_equal(trace, fast(traffic), "RTL against fast")
    assert trace.counts.hb_read_bytes == 40 * 128


@pytest.mark.parametrize("write", [False, True])
def test_regular_transfer_streams_at_full_rate(write):
    """Without stalls a column goes out at every edge: 16 columns of a row take 15 edges from first to last."""
    traffic = one_transfer(TINY, 48, write=write)
    trace = run_amaranth(traffic).trace()
    assert_equal(trace, exact(traffic), "RTL against exact")
    assert_equal(trace, fast(traffic), "RTL against fast")
    columns = trace.commands[np.isin(trace.commands[:, 1], (2, 3)), 0].reshape(3, 16)
    # 37 or 38 logic cycles for 15 edges of 2.5, by phase.
    assert set(columns[:, -1] - columns[:, 0]) <= {37, 38}


# Tables in which every gate is the one that binds (closed rows hide tRC, tWTR and tRTW in the published one).
PUBLISHED = TINY.clocks
TABLES = {
    "nRCD": PUBLISHED,
    "nRP": PUBLISHED,
    "nRAS": PUBLISHED,
    "nRC": PUBLISHED._replace(nRC=24),
    "nWR": PUBLISHED,
    "nRTP": PUBLISHED,
    "nWTR": PUBLISHED._replace(nWTR=24),
    "nRTW": PUBLISHED._replace(nRTW=20),
    "nBL": PUBLISHED._replace(nBL=2),
    "nRFC": PUBLISHED._replace(nREFI=100),
}
RULES = {"nBL": "tBL", "nWR": "tWR"}


def _stress(clocks: HbClocks) -> Traffic:
    """Long and short rows, writes before reads and reads before writes, refreshes in between."""
    requests = np.zeros(6, dtype=REQUEST)
    requests["write"] = [0, 0, 1, 0, 1, 0]
    requests["columns"] = [20, 16, 16, 16, 1, 1]
    requests["row"] = [0, 2, 3, 4, 5, 6]
    requests["cycle"] = [0, 0, 0, 0, 0, 900]
    return Traffic(TINY, requests, clocks=clocks)


@pytest.mark.parametrize("name", TABLES)
def test_each_timing_parameter_one_short_is_caught(name):
    """A controller built one clock short in one parameter breaks exactly that rule; built right, none."""
    true = TABLES[name]
    traffic = _stress(true)
    checker = checker_for(traffic)
    run_amaranth(traffic, checker=checker)
    assert min(checker.commands[command] for command in ("ACTIVATE", "READ", "WRITE", "PRECHARGE")) > 0
    short = true._replace(**{name: getattr(true, name) - 1})
    if name == "nBL":  # keep the moment of capture: only the distance of columns is short
        short = short._replace(nCL=true.nCL + 1)
    with pytest.raises(ProtocolError) as caught:
        run_amaranth(traffic, controller=HbController(TINY, short), checker=checker_for(traffic))
    assert caught.value.rule == RULES.get(name, f"t{name[1:]}")


@pytest.mark.parametrize(("name", "wrong"), [("nCL", 2), ("nCWL", 2)])
def test_wrong_data_latency_is_caught(name, wrong):
    """A controller that captures or drives data one edge late moves wrong data."""
    requests = np.zeros(2, dtype=REQUEST)
    requests["write"] = [1, 0]
    requests["columns"] = 4
    traffic = Traffic(TINY, requests)
    with pytest.raises(AssertionError, match="read 0x"):
        run_amaranth(traffic, controller=HbController(TINY, TINY.clocks._replace(**{name: wrong})))


def test_late_refresh_is_caught():
    """A controller that refreshes at half the rate owes a ninth refresh after 18 intervals."""
    true = TINY.clocks._replace(nREFI=40)
    traffic = one_transfer(TINY, 1, cycle=3000)
    traffic = replace(traffic, clocks=true)
    run_amaranth(traffic)
    with pytest.raises(ProtocolError, match="violates tREFI"):
        run_amaranth(traffic, controller=HbController(TINY, true._replace(nREFI=80)), checker=checker_for(traffic))


def test_wrong_tick_ratio_is_caught():
    """A controller on another tick ratio misses the DRAM's edges."""
    with pytest.raises(ProtocolError, match="violates tCK"):
        run_amaranth(one_transfer(TINY, 1), controller=HbController(TINY, TINY.clocks._replace(tick_num=7, tick_den=3)))


ILLEGAL = [
    ("none", (0, 0, 0, 1, 0, 0, 0), HbError.ZERO_LENGTH),
    ("none", (0, 0, 1, 1, 63, 15, 2), HbError.BEYOND_BANK),
    ("none", (0, 0, 0, 1, 0, 0, 1023), None),
    ("none", (0, 0, 0, 1, 1, 0, 1023), HbError.BEYOND_BANK),
    ("inline", (0, 0, 0, 1, 0, 8, 1), HbError.BAD_COLUMN),
    ("inline", (0, 0, 1, 1, 0, 1, 8), HbError.UNALIGNED),
    ("inline", (0, 0, 1, 1, 0, 0, 9), HbError.UNALIGNED),
    ("inline", (0, 0, 0, 1, 63, 7, 1), None),
    ("inline", (0, 0, 0, 1, 63, 7, 2), HbError.BEYOND_BANK),
]


@pytest.mark.parametrize(("ecc", "request_fields", "error"), ILLEGAL)
def test_illegal_requests_are_refused_and_do_not_hang(ecc, request_fields, error):
    """An error code in the next cycle, the flag up, no command; the last legal place is served."""
    requests = np.array([request_fields], dtype=REQUEST)
    traffic = Traffic(replace(TINY, ecc=ecc), requests)
    harness = run_amaranth(traffic)
    trace = harness.trace()
    assert trace.dones[0, 3] == (error or 0)
    assert harness.error_seen == (error is not None)
    for model in (exact, fast):
        assert_equal(trace, model(traffic), "RTL against model")
    if error is not None:
        assert trace.dones[0, 0] == 1
        assert len(trace.commands) == len(trace.reads) == len(trace.writes) == 0


def test_error_flag_stays_until_cleared():
    """`error` rises with the first refusal and falls with `error_clear` only."""
    dut = HbController(TINY)
    seen = []

    async def bench(ctx):
        ctx.set(dut.requesters[0].request.valid, 1)  # all fields zero: no columns
        await ctx.tick()
        ctx.set(dut.requesters[0].request.valid, 0)
        for cycle in range(6):
            ctx.set(dut.error_clear, cycle == 3)
            seen.append(ctx.get(dut.error))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [1, 1, 1, 1, 0, 0]


def test_refused_requests_do_not_hold_up_refreshes():
    """A requester that sends nothing but illegal requests, one a cycle, cannot keep the bank from refreshing."""
    requests = np.zeros(3000, dtype=REQUEST)
    traffic = Traffic(TINY, requests, clocks=TINY.clocks._replace(nREFI=60))
    harness = run_amaranth(traffic)
    assert harness.trace().counts.hb_refreshes == 3000 * 2 // 5 // 60
    assert_equal(harness.trace(), fast(traffic), "RTL against fast")


@pytest.mark.parametrize("trfc", [6, 13])
def test_stalled_for_ever_keeps_refreshing(trfc):
    """A consumer that takes nothing for 40 refresh intervals: the row is closed and opened, no refresh is missed.

    With tRFC of 13 clocks a refresh is issued at the last edge of an interval: one falls due as another is served.
    """
    clocks = TINY.clocks._replace(nREFI=60, nRFC=trfc)
    takes = np.zeros((TINY.requesters, 6000), dtype=np.bool_)
    traffic = replace(one_transfer(TINY, 30), clocks=clocks, stalls=Stalls(takes, np.ones_like(takes)))
    trace = run_amaranth(traffic).trace()
    assert trace.counts.hb_row_reopens > 0
    refreshed = {tick_at_or_after(event[0], clocks) % 60 for event in trace.commands if event[1] == HbCommand.REFRESH}
    assert (59 in refreshed) == (trfc == 13)
    for model in (exact, fast):
        assert_equal(trace, model(traffic), "RTL against model")


def test_round_robin_brings_every_requester_nearer():
    """For every state and every set of requests: the grant asks, and whoever is passed over moves to the front.

    The distance from the last grant to a waiting requester shrinks with every grant to another: by induction it is
    passed over at most N - 1 times. All states and inputs are tried, so this is a proof for each N.
    """
    checked = 0
    for count in (1, 2, 3, 4):
        dut = RoundRobin(count)

        async def bench(ctx, dut=dut, count=count):
            nonlocal checked
            last = count - 1
            # Visit every state: grant each requester alone, then try every request set in that state.
            for start in range(count):
                for requests in range(1, 1 << count):
                    ctx.set(dut.requests, 1 << start)
                    ctx.set(dut.advance, 1)
                    await ctx.tick()
                    last = start
                    ctx.set(dut.advance, 0)
                    ctx.set(dut.requests, requests)
                    grant = ctx.get(dut.grant)
                    assert ctx.get(dut.valid)
                    assert requests >> grant & 1
                    for waiting in range(count):
                        if requests >> waiting & 1 and waiting != grant:
                            before = (waiting - last - 1) % count
                            after = (waiting - grant - 1) % count
                            assert after < before
                            checked += 1

        simulator = Simulator(dut)
        simulator.add_clock(1e-9)
        simulator.add_testbench(bench)
        simulator.run()
    assert checked == sum(n * sum(bin(s).count("1") - 1 for s in range(1, 1 << n)) for n in (1, 2, 3, 4))
