"""Mistakes in the LPDDR5 models: timing data, exact, stream mode, mapping, layout and the trace front end."""

from verification.faults.fault import Fault, Target

_BLOCKS = "verification/blocks"
_TIMELINES = f"{_BLOCKS}/test_lpddr5_timelines.py"
_CHECKER = f"{_BLOCKS}/test_lpddr5_checker.py"
_STREAM = f"{_BLOCKS}/test_lpddr5_stream.py"
_MEMORY = f"{_BLOCKS}/test_lpddr5_memory.py"
_COMMAND = "verification/stack/test_dram_command.py"

_TIMING = "hw/lpddr5_timing.py"
_MODEL = "cycle_model/lpddr"
_EXACT, _EXACT_QUEUES = f"{_MODEL}/exact.py", f"{_MODEL}/exact_queues.py"
_EXACT_COMMANDS, _EXACT_REFRESH = f"{_MODEL}/exact_commands.py", f"{_MODEL}/exact_refresh.py"
_STREAMED, _STREAM_STATE = f"{_MODEL}/stream.py", f"{_MODEL}/stream_state.py"
_STREAM_COMMANDS, _STREAM_REFRESH = f"{_MODEL}/stream_commands.py", f"{_MODEL}/stream_refresh.py"
_RULES = "verification/bench/lpddr5_checker.py"

TARGETS = (
    Target("lpddr_timing", _TIMING, tests=(_TIMELINES, _MEMORY), on_demand=True),
    *(
        Target(f"lpddr_{name}", f"{_MODEL}/{name}.py", tests=(_TIMELINES, _MEMORY, _CHECKER), on_demand=True)
        for name in ("exact", "exact_queues", "exact_commands", "exact_refresh")
    ),
    Target("lpddr_channel", "cycle_model/lpddr/channel.py", tests=(_TIMELINES, _MEMORY), on_demand=True),
    *(
        Target(f"lpddr_{name}", f"{_MODEL}/{name}.py", tests=(_STREAM,), on_demand=True)
        for name in ("stream", "stream_state", "stream_commands", "stream_refresh")
    ),
    Target("lpddr_checker", _RULES, tests=(_CHECKER,), on_demand=True),
    Target("lpddr_addressing", "cycle_model/lpddr/addressing.py", tests=(_MEMORY,), on_demand=True),
    Target("dram_layout", "sw_stack/compiler/layout.py", tests=(_COMMAND,), on_demand=True),
)


def _fault(name: str, file: str, before: str, after: str, reason: str, *tests: str) -> Fault:
    return Fault(name=f"lpddr-{name}", file=file, before=before, after=after, reason=reason, tests=tests)


# A wrong number in the table: the timelines were worked from the standard, not from the table.
_NUMBERS = tuple(
    _fault(f"table-{key}", _TIMING, f"    {key}: {kind} = {right}\n", f"    {key}: {kind} = {wrong}\n", reason)
    for key, kind, right, wrong, reason in (
        ("tRCD_ns", "float", "18.75", "17.5", "Columns come a clock before the row is open."),
        ("tWR_ns", "float", "35.0", "33.75", "A row closes before the last write is restored."),
        ("tRFCpb_ns", "float", "140.0", "138.75", "A bank opens while it still refreshes."),
        ("tpbR2act_ns", "float", "7.5", "6.25", "Another bank opens too soon after REFpb."),
        ("tWTR_L_ns", "float", "12.5", "11.25", "A read of the same group follows a write too soon."),
        ("tCCD_L_ns", "float", "5.0", "3.75", "Columns of one bank group come too fast."),
        ("nPPD", "int", "2", "1", "Precharges follow each other too fast."),
        ("nCS", "int", "2", "1", "Bursts of two ranks have too small a gap."),
        ("nCL", "int", "17", "16", "Read data a clock early."),
    )
)

FAULTS = (
    *_NUMBERS,
    _fault(
        "write-recovery-forgotten",
        _TIMING,
        "        return self.nCWL + self.nBL_min + self.nWR\n",
        "        return self.nCWL + self.nWR\n",
        "Write recovery counted from the first data beat instead of the last.",
    ),
    _fault(
        "exact-hit-check-skipped",
        _EXACT_QUEUES,
        "if hit >= 0 and (hit == e or now - ch.entry[e].arrival <= policy.age_limit):",
        "if hit >= 0 and hit == e:",
        "First come, first served: younger hits no longer pass a conflict.",
    ),
    _fault(
        "exact-starves",
        _EXACT_QUEUES,
        "if hit >= 0 and (hit == e or now - ch.entry[e].arrival <= policy.age_limit):",
        "if hit >= 0:",
        "Younger hits pass an old conflict for ever.",
        _MEMORY,
    ),
    _fault(
        "exact-decides-at-the-limit",
        _EXACT,
        "    while ch.bus < limit:",
        "    while True:",
        "In closed loop the model decides before it knows the requests of that cycle.",
        _MEMORY,
    ),
    _fault(
        "exact-refresh-forgets-upper-bank",
        _EXACT_COMMANDS,
        "        ch.bank[high].act_ok = cycle + rules.rfcpb\n",
        "",
        "REFpb keeps only the lower bank of the pair busy.",
        _CHECKER,
    ),
    _fault(
        "exact-precharge-all-skips-closed-banks",
        _EXACT_COMMANDS,
        "    ch.rank[rank].act_ok = max(ch.rank[rank].act_ok, cycle + rules.rpab)\n",
        "",
        "A bank that was closed before PREab opens without waiting for tRPab.",
        _TIMELINES,
    ),
    _fault(
        "exact-ninth-refresh-owed",
        _EXACT_REFRESH,
        "urgent = ch.rank[rank].owed >= policy.postponed",
        "urgent = ch.rank[rank].owed > policy.postponed",
        "One refresh more than allowed is postponed.",
        _TIMELINES,
    ),
    _fault(
        "exact-four-activates-window",
        _EXACT_COMMANDS,
        "ch.window[rank, oldest] + rules.faw)",
        "ch.window[rank, oldest] + rules.rrd)",
        "The four-activate window is never waited for.",
        _TIMELINES,
    ),
    _fault(
        "stream-run-too-long",
        _STREAMED,
        "(stop - start + 1) >> 1",
        "(stop - start + 3) >> 1",
        "A run of reads goes one past the row command that should have come in between.",
    ),
    _fault(
        "stream-forgets-rank-gap",
        _STREAM_COMMANDS,
        "gap = rules.ccd_s if r == bank // rules.banks else rules.rank_switch",
        "gap = rules.ccd_s",
        "Stream mode changes ranks without the gap.",
    ),
    _fault(
        "stream-queue-too-deep",
        _STREAM_STATE,
        "flight.first + flight.issued + depth)",
        "flight.first + flight.issued + depth + 1)",
        "Stream mode sees a request more than the queue holds.",
    ),
    _fault(
        "stream-refreshes-rank-in-use",
        _STREAM_REFRESH,
        "if not forced and (in_use >> r) & 1:",
        "if not forced and (in_use >> r) & 2:",
        "Stream mode refreshes a rank that the stream uses.",
    ),
    _fault(
        "mapping-hash-reads-wrong-row-bits",
        "cycle_model/lpddr/addressing.py",
        "(value[_ROW] >> hashes[k, 1]) & hashes[k, 2]",
        "(value[_ROW] >> (hashes[k, 1] + 1)) & hashes[k, 2]",
        "decode hashes other row bits than encode.",
    ),
    _fault(
        "layout-restarts-every-expert",
        "sw_stack/compiler/layout.py",
        'first = expert * per_expert if policy == "round-robin" else 0',
        "first = 0",
        "Tiles no longer go round-robin across experts, so the first PEs are overloaded.",
    ),
    _fault(
        "trace-line-off-by-one",
        "sw_stack/workloads/dram_trace.py",
        "enumerate(lines, start=1)",
        "enumerate(lines, start=0)",
        "The message names the line before the malformed one.",
        _COMMAND,
    ),
    _fault(
        "checker-rank-turnaround-short",
        _RULES,
        'Rule("rank turnaround", "other rank", _WRITE, _READ, 12)',
        'Rule("rank turnaround", "other rank", _WRITE, _READ, 11)',
        "The checker would let a wrong turnaround pass.",
    ),
)
