"""Mistakes in the HB port, each separately in the RTL, the exact model, the fast model, the bench, the numbers."""

from verification.faults.fault import Fault, Target

_BLOCKS = "verification/blocks"
_GOLDEN = f"{_BLOCKS}/test_hb_golden.py"
_CONTROLLER = f"{_BLOCKS}/test_hb_controller.py"
_CHECKER = f"{_BLOCKS}/test_hb_checker.py"
_STREAM = f"{_BLOCKS}/test_hb_stream.py"
_TIMING = f"{_BLOCKS}/test_hb_timing.py"
_ECC = f"{_BLOCKS}/test_ecc.py"
_GATES = f"{_CONTROLLER}::test_each_timing_parameter_one_short_is_caught"
_MODELS = f"{_BLOCKS}/test_hb_models.py"
_RTL_MIXES = f"{_CONTROLLER}::test_rtl_equals_models_on_random_mixes"

_RTL = "hw/memory/hb_controller.py"
_DATA = "hw/memory/hb_data.py"
_REFRESH = "hw/memory/refresh.py"
_EXACT = "cycle_model/hb/stepping.py"
_FAST = "cycle_model/hb/serving.py"
_RULES = "verification/bench/dram_checker.py"

TARGETS = (
    Target("hb_controller", _RTL, tests=(_GOLDEN, _CONTROLLER, _ECC), on_demand=True),
    Target("hb_data", _DATA, tests=(_GOLDEN, _CONTROLLER, _ECC), on_demand=True),
    Target("hb_refresh", _REFRESH, tests=(_GOLDEN, _CONTROLLER), on_demand=True),
    Target("hb_ecc", "hw/memory/ecc.py", tests=(_ECC,), on_demand=True),
    Target("hb_timing", "hw/timing.py", tests=(_TIMING, _GOLDEN, _STREAM), on_demand=True),
    Target("hb_exact", _EXACT, tests=(_GOLDEN, _MODELS), on_demand=True),
    Target("hb_fast", _FAST, tests=(_GOLDEN, _MODELS), on_demand=True),
    Target("hb_checker", _RULES, tests=(_CHECKER, _TIMING), on_demand=True),
)


def _short(name: str, before: str, after: str, reason: str, *tests: str) -> Fault:
    return Fault(name=name, file=_RTL, before=before, after=after, reason=reason, tests=tests)


# Every timing parameter wrong in the RTL.
_TIMES = (
    _short("hb-rtl-trcd-short", "c.nRCD,", "c.nRCD - 1,", "Columns one clock before tRCD.", f"{_GATES}[nRCD]"),
    _short("hb-rtl-trp-short", "c.nRP,", "c.nRP - 1,", "Activation one clock before tRP.", f"{_GATES}[nRP]"),
    _short("hb-rtl-tras-short", "c.nRAS,", "c.nRAS - 1,", "Precharge one clock before tRAS.", f"{_GATES}[nRAS]"),
    _short("hb-rtl-trc-short", "c.nRC,", "c.nRC - 1,", "Activations one clock closer than tRC.", f"{_GATES}[nRC]"),
    _short("hb-rtl-trtp-short", "c.nRTP,", "c.nRTP - 1,", "Precharge one clock before tRTP.", f"{_GATES}[nRTP]"),
    _short("hb-rtl-trtw-short", "c.nRTW,", "c.nRTW - 1,", "Write one clock too soon after a read.", f"{_GATES}[nRTW]"),
    _short("hb-rtl-tbl-short", "c.nBL,", "1,", "Bursts overlap on the data pins.", f"{_GATES}[nBL]"),
    _short("hb-rtl-trfc-short", "c.nRFC,", "c.nRFC - 1,", "Bank used before the refresh ends.", f"{_GATES}[nRFC]"),
    _short(
        "hb-rtl-twr-from-command",
        "c.nWRtoPRE,",
        "c.nWR,",
        "Write recovery counted from the command instead of from the end of the data.",
        f"{_GATES}[nWR]",
    ),
    _short(
        "hb-rtl-twtr-from-command",
        "c.nWRtoRD,",
        "c.nWTR,",
        "Turnaround counted from the command instead of from the end of the data.",
        f"{_GATES}[nWTR]",
    ),
    Fault(
        name="hb-rtl-read-data-early",
        file=_DATA,
        before="range(self._clocks.nCL + self._clocks.nBL)",
        after="range(self._clocks.nCL)",
        reason="Data captured at the start of the burst, not at its end.",
        tests=(f"{_GOLDEN}::test_rtl",),
    ),
    Fault(
        name="hb-rtl-write-data-late",
        file=_DATA,
        before="range(self._clocks.nCWL)",
        after="range(self._clocks.nCWL + 1)",
        reason="Write data driven one clock behind the write latency.",
        tests=(_RTL_MIXES,),
    ),
    Fault(
        name="hb-rtl-tick-whole-ratio",
        file="hw/memory/tick.py",
        before="self.tick.eq(remainder < self._den)",
        after="self.tick.eq(remainder == 0)",
        reason="Only every second DRAM edge is marked where the ratio is 5/2.",
        tests=(f"{_TIMING}::test_ticks_lie_at_the_ceiling",),
    ),
    Fault(
        name="hb-rtl-refresh-interval-long",
        file=_REFRESH,
        before="interval_ends.eq(elapsed == clocks.nREFI - 1)",
        after="interval_ends.eq(elapsed == clocks.nREFI)",
        reason="The refresh interval is one clock too long.",
        tests=(f"{_GOLDEN}::test_rtl",),
    ),
)

_CONTROL = (
    Fault(
        name="hb-rtl-refresh-never-forced",
        file=_REFRESH,
        before="(self.owed >= MAX_POSTPONED)",
        after="(self.owed > MAX_POSTPONED)",
        reason="A stalled row stays open until a ninth refresh is owed.",
        tests=(f"{_CONTROLLER}::test_stalled_for_ever_keeps_refreshing",),
    ),
    Fault(
        name="hb-rtl-refresh-debt-lost",
        file=_REFRESH,
        before="self.owed.eq(self.owed + interval_ends - self.issued)",
        after="self.owed.eq(self.owed + (interval_ends & ~self.issued) - self.issued)",
        reason="A refresh that falls due at the edge of another is forgotten.",
        tests=(f"{_CONTROLLER}::test_stalled_for_ever_keeps_refreshing",),
    ),
    Fault(
        name="hb-rtl-refresh-at-boundary-skipped",
        file=_RTL,
        before="                with m.If(refresh.due):\n                    m.d.comb += command.eq(HbCommand.REFRESH)",
        after="                with m.If(refresh.due & refresh.urgent):\n"
        "                    m.d.comb += command.eq(HbCommand.REFRESH)",
        reason="Row boundaries do not refresh.",
        tests=(f"{_GOLDEN}::test_rtl",),
    ),
    Fault(
        name="hb-rtl-arbiter-forgets",
        file="hw/memory/round_robin.py",
        before="m.d.sync += last.eq(self.grant)",
        after="m.d.sync += last.eq(self._count - 1)",
        reason="Requester 0 always wins; the others may starve.",
        tests=(f"{_CONTROLLER}::test_round_robin_brings_every_requester_nearer",),
    ),
    Fault(
        name="hb-rtl-last-row-refused",
        file=_RTL,
        before="end > params.rows * params.data_columns",
        after="end >= params.rows * params.data_columns",
        reason="The last column of the bank cannot be used.",
        tests=(f"{_GOLDEN}::test_rtl",),
    ),
    Fault(
        name="hb-rtl-zero-length-accepted",
        file=_RTL,
        before="with m.If(chosen.columns == 0):",
        after="with m.If(0):",
        reason="A transfer of no columns counts down from zero and holds the bank for thousands of columns.",
        tests=(f"{_GOLDEN}::test_rtl",),
    ),
    Fault(
        name="hb-rtl-reservation-leaks",
        file=_DATA,
        before="reserved + (self.issue & ~self.is_check) - leaves",
        after="reserved + self.issue - leaves",
        reason="Each in-line check column takes a place in the buffer for ever: the controller hangs.",
        tests=(f"{_RTL_MIXES}[inline-none]",),
    ),
    Fault(
        name="hb-rtl-read-overflows",
        file=_DATA,
        before="self.available.eq(reserved != params.read_buffer)",
        after="self.available.eq(1)",
        reason="Columns are read without a place for them; beats are lost when the consumer stalls.",
        tests=(f"{_RTL_MIXES}[none-heavy]",),
    ),
    Fault(
        name="hb-rtl-wrong-check-lane",
        file=_DATA,
        before="group_checks.word_select(captured.lane, params.check_bits)",
        after="group_checks.word_select(0, params.check_bits)",
        reason="In-line data is checked against another column's check bits.",
        tests=(f"{_ECC}::test_controller_without_errors",),
    ),
    Fault(
        name="hb-rtl-ecc-even-syndrome-corrected",
        file="hw/memory/ecc.py",
        before="self.uncorrectable[w].eq((syndrome != 0) & ~one_wrong)",
        after="self.uncorrectable[w].eq(0)",
        reason="Double errors pass silently.",
        tests=(f"{_ECC}::test_decoder_on_all_single_and_double_errors",),
    ),
    Fault(
        name="hb-rtl-ecc-columns-repeat",
        file="hw/memory/ecc.py",
        before="0b11111 << turn | 0b11111 >> (ECC_CHECK_BITS - turn)",
        after="0b11111 << (turn & 3) | 0b11111 >> (ECC_CHECK_BITS - (turn & 3))",
        reason="Pairs of data bits share a column: a single error may be corrected in the wrong place.",
        tests=(f"{_ECC}::test_code_is_hsiaos",),
    ),
)

_MODEL = (
    Fault(
        name="hb-exact-buffer-one-deeper",
        file=_EXACT,
        before="s.write_level < shape.write_buffer",
        after="s.write_level <= shape.write_buffer",
        reason="The model's write buffer holds one beat more than the RTL's.",
        tests=(_MODELS,),
    ),
    Fault(
        name="hb-exact-tick-phase",
        file=_EXACT,
        before='    registers["done"] = -1\n',
        after='    registers["done"] = -1\n    registers["phase"] = 1\n',
        reason="The model's DRAM clock starts out of phase.",
        tests=(f"{_GOLDEN}::test_exact",),
    ),
    Fault(
        name="hb-exact-idle-refresh-waits-for-due",
        file=_EXACT,
        before="(s.owed > 0 and chosen < 0)",
        after="(s.owed > 8 and chosen < 0)",
        reason="The model's idle bank does not catch up on refreshes.",
        tests=(_MODELS,),
    ),
    Fault(
        name="hb-exact-write-recovery-short",
        file=_EXACT,
        before="s.wr = c.nCWL + c.nBL + c.nWR - 1",
        after="s.wr = c.nCWL + c.nWR - 1",
        reason="Exact counts write recovery from the start of the burst.",
        tests=(f"{_GOLDEN}::test_exact",),
    ),
    Fault(
        name="hb-fast-refresh-free",
        file=_FAST,
        before="            k += c.nRFC\n",
        after="            k += 1\n",
        reason="Fast charges one clock for a refresh at a row boundary.",
        tests=(f"{_GOLDEN}::test_fast",),
    ),
    Fault(
        name="hb-fast-place-freed-early",
        file=_FAST,
        before="_edge(takes[n_take - shape.read_buffer] + 1, c)",
        after="_edge(takes[n_take - shape.read_buffer], c)",
        reason="Fast reuses a place of the read buffer in the very cycle that empties it.",
        tests=(_MODELS,),
    ),
    Fault(
        name="hb-fast-urgent-late",
        file=_FAST,
        before="(n_ref + MAX_POSTPONED + 1) * c.nREFI - close",
        after="(n_ref + MAX_POSTPONED + 1) * c.nREFI - close + 1",
        reason="Fast gives a stalled row up one clock later than the RTL.",
        tests=(f"{_GOLDEN}::test_fast",),
    ),
    Fault(
        name="hb-fast-postpones-one-less",
        file=_FAST,
        before="        while k // c.nREFI - n_ref > shape.postpone:",
        after="        while k // c.nREFI - n_ref >= max(shape.postpone, 1):",
        reason="Fast refreshes at a boundary although the refresh may still be postponed.",
        tests=(f"{_GOLDEN}::test_fast",),
    ),
    Fault(
        name="hb-fast-edge-rounds-down",
        file=_FAST,
        before="return (tick * c.tick_num + c.tick_den - 1) // c.tick_den",
        after="return tick * c.tick_num // c.tick_den",
        reason="Fast puts DRAM edges at the floor instead of the ceiling.",
        tests=(f"{_GOLDEN}::test_fast",),
    ),
    Fault(
        name="hb-records-hit-per-activation",
        file="cycle_model/hb/records.py",
        before="np.maximum(data - 1, 0)",
        after="np.maximum(data, 0)",
        reason="The first column of a row is counted as a row hit.",
        tests=(_MODELS,),
    ),
    Fault(
        name="hb-stream-formula-without-refresh",
        file="cycle_model/hb/stream.py",
        before="row_share * (1 - c.nRFC / c.nREFI)",
        after="row_share",
        reason="The closed form forgets the refreshes.",
        tests=(_STREAM,),
    ),
    Fault(
        name="hb-timing-rounds-down",
        file="hw/timing.py",
        before="-(-ps(getattr(self, name)) // tck)",
        after="ps(getattr(self, name)) // tck",
        reason="Minimum times are rounded down to clocks.",
        tests=(_TIMING,),
    ),
    Fault(
        name="hb-timing-refresh-rounds-up",
        file="hw/timing.py",
        before="nREFI=ps(self.tREFI_ns) // tck",
        after="nREFI=-(-ps(self.tREFI_ns) // tck)",
        reason="The refresh interval, a maximum, is rounded up.",
        tests=(_TIMING,),
    ),
    Fault(
        name="hb-timing-hot-at-the-limit",
        file="hw/timing.py",
        before="temperature_c > limit for limit",
        after="temperature_c >= limit for limit",
        reason="The interval halves at 85 C instead of above it.",
        tests=(_TIMING,),
    ),
)

_BENCH = (
    Fault(
        name="hb-checker-off-by-one-clock",
        file=_RULES,
        before="now - self._last[earlier] < least:",
        after='now - self._last[earlier] < least - t["tCK"]:',
        reason="The checker lets every command pass one clock early.",
        tests=(_CHECKER,),
    ),
    Fault(
        name="hb-checker-no-turnaround",
        file=_RULES,
        before='write_to_read = t["tCWL"] + t["tBL"] + t["tWTR"]',
        after='write_to_read = t["tWTR"]',
        reason="The checker counts tWTR from the write command.",
        tests=(_CHECKER,),
    ),
    Fault(
        name="hb-checker-ten-refreshes",
        file=_RULES,
        before="REFRESH_INTERVALS_OWED = 8",
        after="REFRESH_INTERVALS_OWED = 9",
        reason="The checker allows a ninth refresh to be owed.",
        tests=(_CHECKER,),
    ),
    Fault(
        name="hb-checker-blind-to-open-rows",
        file=_RULES,
        before='self._fail(command, "bank state", f"row {self._open_row} is open")\n            if not 0 <= row',
        after="pass\n            if not 0 <= row",
        reason="The checker accepts an activation of an open bank.",
        tests=(_CHECKER,),
    ),
    Fault(
        name="hb-checker-clock-free",
        file=_RULES,
        before="if bool(tick) != expected:",
        after="if bool(tick) and not expected:",
        reason="The checker does not notice a missing DRAM edge.",
        tests=(_CHECKER,),
    ),
    Fault(
        name="hb-device-answers-early",
        file="rtl_gen/dram_device.py",
        before="self._reads[self._tick + self._read_clocks] = found",
        after="self._reads[self._tick + self._read_clocks - 1] = found",
        reason="The bank drives read data a clock before the part would.",
        tests=(f"{_RTL_MIXES}[none-none]",),
    ),
)

FAULTS = _TIMES + _CONTROL + _MODEL + _BENCH
