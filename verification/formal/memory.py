"""Proofs about the HB controller's parts: the ECC for every word, timing gates, refresh debt, bounded waiting."""

from dataclasses import replace

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import wiring

from hw.isa import HbCommand
from hw.memory.ecc import EccDecoder, EccEncoder
from hw.memory.hb_controller import HbController
from hw.memory.refresh import RefreshScheduler
from hw.memory.round_robin import RoundRobin
from hw.memory.timing_gate import TimingGate
from hw.params import chip
from hw.timing import MAX_POSTPONED, hb_timing
from verification.formal.property import Answer, Harness, Property, bounded, induction


def ecc(flips: int, detected: bool, corrected: bool) -> Harness:
    """Any word, encoded, with ``flips`` different bits of the 72 inverted: what the decoder must say.

    A word that counts as corrected must be the one that was stored.
    """
    h = Harness()
    word = h.free(64, "word")
    h.m.submodules.encoder = encoder = EccEncoder(1)
    h.m.submodules.decoder = decoder = EccDecoder(1)
    error = Const(0, 72)
    previous = None
    for i in range(flips):
        place = h.free(range(72), f"place_{i}")
        h.assume(f"place_{i}_exists", place < 72)
        if previous is not None:
            h.assume(f"place_{i}_behind", place > previous)
        previous = place
        error = error | (Const(1, 72) << place)[:72]
    h.m.d.comb += [
        encoder.data.eq(word),
        decoder.data.eq(word ^ error[:64]),
        decoder.check.eq(encoder.check ^ error[64:]),
    ]
    h.claim("uncorrectable", decoder.uncorrectable == detected)
    h.claim("corrected", decoder.corrected == corrected)
    if not detected:
        h.claim("word_restored", decoder.corrected_data == word)
    return h


def timing_gate(clocks: int, claimed: int) -> Harness:
    """The gate is closed for ``claimed`` - 1 ticks after a start and open from then on, whatever comes between."""
    h = Harness()
    h.m.submodules.dut = dut = TimingGate(clocks)
    tick, start = h.free(1, "tick"), h.free(1, "start")
    h.m.d.comb += [dut.tick.eq(tick), dut.start.eq(start)]
    since = Signal(range(claimed + 1), init=claimed)  # ticks since the last start, saturating
    with h.m.If(tick):
        h.m.d.sync += since.eq(Mux(start, 1, Mux(since == claimed, claimed, since + 1)))
    remaining = h.probe(range(max(clocks, 2)), "dut.remaining")
    h.claim("open_exactly_then", dut.open == (since == claimed))
    h.claim("counter_follows", remaining == claimed - since)
    h.cover("reopens", dut.open & (since == claimed) & tick)
    return h


def round_robin(count: int, passed_over: int) -> Harness:
    """Every requester that keeps asking is passed over at most ``passed_over`` times."""
    h = Harness()
    h.m.submodules.dut = dut = RoundRobin(count)
    requests, advance = h.free(count, "requests"), h.free(1, "advance")
    h.m.d.comb += [dut.requests.eq(requests), dut.advance.eq(advance)]
    last = h.probe(range(max(count, 2)), "dut.last")
    taken = advance & dut.valid
    h.claim("state_exists", last < count)
    h.claim("granted_one_asks", ~dut.valid | requests.bit_select(dut.grant, 1))
    for i in range(count):
        passed = Signal(range(count + 1), name=f"passed_{i}")
        with h.m.If(~requests[i] | (taken & (dut.grant == i))):
            h.m.d.sync += passed.eq(0)
        with h.m.Elif(taken & (passed < count)):
            h.m.d.sync += passed.eq(passed + 1)
        between = Mux(i > last, i - last - 1, i + count - last - 1)  # requesters between it and the front
        h.claim(f"nearer_with_each_grant_{i}", passed + between <= count - 1)
        h.claim(f"bounded_{i}", passed <= passed_over)
        h.cover(f"passed_over_as_often_{i}", passed == count - 1)
    return h


def refresh_debt(allowed: int) -> Harness:
    """A controller that serves ``urgent`` within the clocks that closing a row may take never owes a ninth refresh.

    The environment serves when it likes, but at the latest `close_clocks` - 1 ticks behind the first urgent one.
    """
    h = Harness()
    clocks = hb_timing("hb400", 0.5).clocks._replace(nRAS=2, nRP=1, nRC=3, nWR=1, nRTP=1, nREFI=12, nRFC=1)
    h.m.submodules.dut = dut = RefreshScheduler(clocks, 0)
    serve = h.free(1, "serve")
    h.m.d.comb += [dut.tick.eq(1), dut.issued.eq(serve)]
    elapsed = h.probe(range(clocks.nREFI), "dut.elapsed")
    late = Signal(range(clocks.close_clocks + 1))  # ticks for which `urgent` has waited
    h.m.d.sync += late.eq(Mux(dut.urgent & ~serve & (late != clocks.close_clocks), late + 1, 0))
    h.assume("serves_only_debts", ~serve | (dut.owed != 0))
    h.assume("serves_in_time", ~(dut.urgent & (late == clocks.close_clocks - 1)) | serve)
    h.claim("phase", elapsed < clocks.nREFI)
    first_urgent = clocks.nREFI - clocks.close_clocks
    h.claim(
        "waited",
        Mux((dut.owed == MAX_POSTPONED) & (elapsed >= first_urgent), late == elapsed - first_urgent, late == 0),
    )
    h.claim("debt", dut.owed <= allowed)
    h.cover("most_is_reached", dut.owed == MAX_POSTPONED)
    return h


SMALL = replace(
    chip("tiny").hb,
    data_bits=64, columns_per_row=2, rows=2, requesters=2, tag_bits=1, length_bits=2, read_buffer=1, write_buffer=1,
)  # fmt: skip
"""The smallest controller; the timing is the published one."""

IDLE, ACTIVATE, COLUMNS, PRECHARGE = range(4)


def controller(short: str | None = None) -> Harness:
    """Any requests, any stalls, for ever: every timing rule of the bank is kept, and at most 8 refreshes are owed.

    The rules are written over monitors of the pins, which count ticks since each command. Invariants tie them to the
    controller's gates and states; the debt is bounded by following an urgent refresh through closing the row.
    ``short`` names a time that the controller is built one clock short in.
    """
    h = Harness()
    m, c = h.m, SMALL.clocks
    built = c if short is None else c._replace(**{short: getattr(c, short) - 1})
    m.submodules.dut = dut = HbController(SMALL, built)
    for path, member, value in dut.signature.flatten(dut):
        if member.flow is not wiring.Out:
            port = Value.cast(value)
            m.d.comb += port.eq(h.free(len(port), "__".join(map(str, path))))
    command, tick = dut.pins.command, dut.pins.tick
    h.claim("commands_on_ticks_only", tick | (command == HbCommand.NOP))

    # Monitors: ticks since each command, saturating, and whether a row is open.
    since = {}
    for each in (HbCommand.ACTIVATE, HbCommand.READ, HbCommand.WRITE, HbCommand.PRECHARGE, HbCommand.REFRESH):
        since[each] = Signal(range(64), init=63, name=f"since_{each.name.lower()}")
        with m.If(tick):
            count = since[each]
            m.d.sync += count.eq(Mux(command == each, 1, Mux(count == 63, 63, count + 1)))
        if each in (HbCommand.ACTIVATE, HbCommand.READ, HbCommand.WRITE):  # the others come later than a search goes
            h.cover(f"some_{each.name.lower()}", command == each)
    row_open = Signal()
    with m.If(command == HbCommand.ACTIVATE):
        m.d.sync += row_open.eq(1)
    with m.Elif(command == HbCommand.PRECHARGE):
        m.d.sync += row_open.eq(0)

    # The data sheet.
    rules = {
        "rc": (HbCommand.ACTIVATE, c.nRC, (HbCommand.ACTIVATE, HbCommand.REFRESH)),
        "rp": (HbCommand.PRECHARGE, c.nRP, (HbCommand.ACTIVATE, HbCommand.REFRESH)),
        "rfc": (HbCommand.REFRESH, c.nRFC, (HbCommand.ACTIVATE, HbCommand.REFRESH)),
        "rcd": (HbCommand.ACTIVATE, c.nRCD, (HbCommand.READ, HbCommand.WRITE)),
        "wtr": (HbCommand.WRITE, c.nWRtoRD, (HbCommand.READ,)),
        "rtw": (HbCommand.READ, c.nRTW, (HbCommand.WRITE,)),
        "ras": (HbCommand.ACTIVATE, c.nRAS, (HbCommand.PRECHARGE,)),
        "rtp": (HbCommand.READ, c.nRTP, (HbCommand.PRECHARGE,)),
        "wr": (HbCommand.WRITE, c.nWRtoPRE, (HbCommand.PRECHARGE,)),
    }
    gates = {}
    for name, (earlier, clocks, later) in rules.items():
        gates[name] = gate = h.probe(range(clocks), f"dut.gate_{name}.remaining")
        h.claim(f"gate_{name}", gate == Mux(since[earlier] >= clocks, 0, clocks - since[earlier]))
        h.claim(f"t{name}", ~Cat(command == each for each in later).any() | (since[earlier] >= clocks))
    needs_open = (command == HbCommand.READ) | (command == HbCommand.WRITE) | (command == HbCommand.PRECHARGE)
    h.claim("row_open", ~needs_open | row_open)
    h.claim("row_closed", ~((command == HbCommand.ACTIVATE) | (command == HbCommand.REFRESH)) | ~row_open)
    state = h.probe(2, "dut.fsm_state")
    h.claim("state_knows_the_row", row_open == (state >= COLUMNS))

    # The debt: ticks for which an urgent refresh has waited, and what is left of the wait in each state.
    owed, elapsed = h.probe(4, "dut.refresh.owed"), h.probe(range(c.nREFI), "dut.refresh.elapsed")
    first_urgent = c.nREFI - c.close_clocks
    urgent = (owed == MAX_POSTPONED) & (elapsed >= first_urgent)
    late = Mux(urgent, elapsed - first_urgent, 0)
    to_precharge = max(c.nRAS, c.nRTP, c.nWRtoPRE)
    h.claim("phase", elapsed < c.nREFI)
    h.claim("boundaries_serve", ~(state == COLUMNS) | ~urgent | (late == 0))
    for name in ("ras", "rtp", "wr"):
        h.claim(f"closes_{name}", ~(urgent & (state == PRECHARGE)) | (late + gates[name] <= to_precharge - 1))
    h.claim("closed_rp", ~(urgent & (state < COLUMNS)) | (late + gates["rp"] <= to_precharge + c.nRP - 1))
    h.claim("closed_rc", ~urgent | (gates["rc"] == 0) | (late + gates["rc"] <= c.nRC - 1))
    fresh = (owed == MAX_POSTPONED) & (gates["rfc"] != 0)  # served at the very edge at which another fell due
    h.claim("closed_rfc", ~fresh | (gates["rfc"] + elapsed <= c.nRFC - 1))
    h.claim("closed_in_time", ~urgent | (late <= max(to_precharge + c.nRP, c.nRC)))
    h.claim("debt", owed <= MAX_POSTPONED)
    return h


PROPERTIES = (
    Property(
        name="ecc-clean",
        statement="no error: word unchanged, nothing reported",
        method="all words",
        decide=lambda trace: bounded(ecc(0, detected=False, corrected=False), 1, trace),
        quick=True,
    ),
    Property(
        name="ecc-single",
        statement="one error of 72 bits: corrected",
        method="all words and places",
        decide=lambda trace: bounded(ecc(1, detected=False, corrected=True), 1, trace),
    ),
    Property(
        name="ecc-double",
        statement="two errors: detected, not corrected",
        method="all words and places",
        decide=lambda trace: bounded(ecc(2, detected=True, corrected=False), 1, trace),
    ),
    Property(
        name="false-ecc-triple",
        statement="three errors: detected",
        method="must be refuted",
        decide=lambda trace: bounded(ecc(3, detected=True, corrected=False), 1, trace),
        expect=Answer.REFUTED,
    ),
    Property(
        name="hb-timing-gate",
        statement="closed for 6 ticks, open at the 7th",
        method="induction k=1",
        decide=lambda trace: induction(timing_gate(7, claimed=7), 1, 20, trace),
        quick=True,
    ),
    Property(
        name="false-hb-timing-gate",
        statement="6 clocks keep 7",
        method="must be refuted",
        decide=lambda trace: induction(timing_gate(6, claimed=7), 1, 20, trace),
        expect=Answer.REFUTED,
        quick=True,
    ),
    Property(
        name="hb-round-robin",
        statement="of 3, passed over at most twice",
        method="induction k=1",
        decide=lambda trace: induction(round_robin(3, passed_over=2), 1, 20, trace),
        quick=True,
    ),
    Property(
        name="false-hb-round-robin",
        statement="of 3, passed over at most once",
        method="must be refuted",
        decide=lambda trace: induction(round_robin(3, passed_over=1), 1, 20, trace),
        expect=Answer.REFUTED,
        quick=True,
    ),
    Property(
        name="hb-refresh-debt",
        statement="urgent served in time: at most 8 owed",
        method="induction k=1",
        decide=lambda trace: induction(refresh_debt(8), 1, 120, trace),
        quick=True,
    ),
    Property(
        name="false-hb-refresh-debt",
        statement="at most 7 owed",
        method="must be refuted",
        decide=lambda trace: induction(refresh_debt(7), 1, 120, trace),
        expect=Answer.REFUTED,
    ),
    Property(
        name="hb-controller-protocol",
        statement="any requests, any stalls: all timings kept, at most 8 refreshes owed",
        method="induction k=1",
        decide=lambda trace: induction(controller(), 1, 22, trace),
    ),
    Property(
        name="false-hb-controller-protocol",
        statement="tRCD one clock short",
        method="must be refuted",
        decide=lambda trace: induction(controller(short="nRCD"), 1, 22, trace),
        expect=Answer.REFUTED,
    ),
)
