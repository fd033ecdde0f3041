"""Mistakes in the PE that an engineer could make: sequencer, queues, semaphores, units, and the models of time."""

from verification.faults.fault import Fault, Target

_PROGRAMS = "verification/programs"
_TIMELINES, _GOLDEN = f"{_PROGRAMS}/test_timelines.py::test_timeline", f"{_PROGRAMS}/test_golden.py::test_golden"
_ERRORS, _MODELS = f"{_PROGRAMS}/test_errors.py::test_error", f"{_PROGRAMS}/test_models.py"
_WAITS = f"{_MODELS}::test_fast_equals_exact_in_what_commands_wait_for"
_DURATIONS_TEST = "verification/blocks/test_pe_durations.py"
_PE = "hw/pe"
_SEQUENCER, _QUEUE, _SEMAPHORES = f"{_PE}/sequencer.py", f"{_PE}/command_queue.py", f"{_PE}/semaphores.py"
_TOP, _STATUS, _ARRAY = f"{_PE}/pe.py", f"{_PE}/status.py", f"{_PE}/array_unit.py"
_HB, _STREAM, _GATHER = f"{_PE}/hb_unit.py", f"{_PE}/stream_unit.py", f"{_PE}/gather_unit.py"
_STORE, _HOST, _FETCH = f"{_PE}/store_unit.py", f"{_PE}/host_unit.py", f"{_PE}/weight_fetch.py"
_MODEL = "cycle_model/pe"
_DECODER, _DURATIONS = f"{_MODEL}/decoder.py", f"{_MODEL}/durations.py"
_STEPPING, _FAST = f"{_MODEL}/command_stepping.py", f"{_MODEL}/fast.py"


def _rtl(*names: str) -> tuple[str, ...]:
    """Timelines (or, with a prefix, golden programs and errors) at RTL."""
    return tuple(
        f"{_GOLDEN}[rtl-{name[7:]}]"
        if name.startswith("golden:")
        else f"{_ERRORS}[{name[6:]}]"
        if name.startswith("error:")
        else f"{_TIMELINES}[{name}-rtl]"
        for name in names
    )


_EVERY = _rtl("golden:vector", "golden:array", "golden:hb", "full queue", "two requests at once")

# Seconds to a minute a mutant: mutated at random only by name.
TARGETS = (
    Target("pe_sequencer", _SEQUENCER, (*_EVERY, *_rtl("control", "wait gives")), on_demand=True),
    Target("pe_queue", _QUEUE, _EVERY, on_demand=True),
    Target("pe_semaphores", _SEMAPHORES, (*_EVERY, *_rtl("error:semaphore")), on_demand=True),
    Target("pe_status", _STATUS, (*_EVERY, *_rtl("error:link that never comes")), on_demand=True),
    Target("pe_top", _TOP, _EVERY, on_demand=True),
    Target("pe_array_unit", _ARRAY, (*_EVERY, *_rtl("blocks and long operations")), on_demand=True),
    Target("pe_weight_fetch", _FETCH, (*_EVERY, *_rtl("blocks and long operations")), on_demand=True),
    Target("pe_hb_unit", _HB, _EVERY, on_demand=True),
    Target("pe_stream_unit", _STREAM, (*_EVERY, *_rtl("refill waits for words")), on_demand=True),
    Target("pe_gather_unit", _GATHER, (*_EVERY, *_rtl("late words")), on_demand=True),
    Target("pe_store_unit", _STORE, _EVERY, on_demand=True),
    Target("pe_host_unit", _HOST, (*_EVERY, *_rtl("answer at once")), on_demand=True),
    Target("pe_decoder", _DECODER, (_WAITS, _GOLDEN, _ERRORS), on_demand=True),
    Target("pe_durations", _DURATIONS, (_DURATIONS_TEST,), on_demand=True),
    Target("pe_operands", f"{_MODEL}/operands.py", (_WAITS, _GOLDEN, _ERRORS), on_demand=True),
    Target("pe_exact_units", f"{_MODEL}/unit_stepping.py", (_WAITS, _GOLDEN), on_demand=True),
    Target("pe_exact_commands", _STEPPING, (_WAITS, _GOLDEN), on_demand=True),
    Target("pe_fast", _FAST, (_WAITS, _GOLDEN), on_demand=True),
    Target("pe_fast_events", f"{_MODEL}/event_state.py", (_WAITS, _GOLDEN), on_demand=True),
    Target("pe_fast_commands", f"{_MODEL}/command_events.py", (_WAITS, _GOLDEN), on_demand=True),
    Target("pe_fast_links", f"{_MODEL}/link_timing.py", (_WAITS, _GOLDEN), on_demand=True),
)


def _fault(name: str, file: str, before: str, after: str, reason: str, tests: tuple[str, ...]) -> Fault:
    return Fault(name=f"pe-{name}", file=file, before=before, after=after, reason=reason, tests=tests)


FAULTS = (
    # Sequencer --------------------------------------------------------------------------------------------
    _fault(
        "loop-once-more",
        _SEQUENCER,
        "with m.Elif(left[innermost] == 1):",
        "with m.Elif(left[innermost] == 0):",
        "A loop's body runs once too often.",
        _rtl("golden:vector"),
    ),
    _fault(
        "branch-inverted",
        _SEQUENCER,
        "end(Mux(a == 0, b, pc + 1))",
        "end(Mux(a == 0, pc + 1, b))",
        "BRANCH goes where its register is not 0.",
        _rtl("control"),
    ),
    _fault(
        "wait-gives-nothing",
        _SEQUENCER,
        "self.gives[i].valid.eq(word.signals[i].valid)",
        "self.gives[i].valid.eq(0)",
        "WAIT forgets its signals; what waits for them hangs.",
        _rtl("wait gives"),
    ),
    _fault(
        "operand-offset-unsigned",
        _SEQUENCER,
        "value.eq(file.values[i] + word[slot].offset)",
        "value.eq(file.values[i] + word[slot].offset.as_unsigned())",
        "A negative offset adds 4096 too much.",
        _rtl("golden:hb"),
    ),
    _fault(
        "record-sets-r0-first",
        _SEQUENCER,
        "record_register.eq(1),",
        "record_register.eq(2),",
        "A record's values land one register too high.",
        _rtl("golden:vector"),
    ),
    _fault(
        "return-in-a-loop",
        _SEQUENCER,
        "with m.If(level != 0):",
        "with m.If(0):",
        "A kernel that returns from inside a loop is not noticed.",
        _rtl("error:return in loop"),
    ),
    # Queues, semaphores, errors ---------------------------------------------------------------------------
    _fault(
        "start-without-tokens",
        _QUEUE,
        "self.start.eq(could_start & operands_there)",
        "self.start.eq(could_start)",
        "A command starts before what it waits for.",
        _rtl("golden:vector"),
    ),
    _fault(
        "queue-one-deeper",
        _QUEUE,
        "depth=self._params.queue_depth",
        "depth=self._params.queue_depth + 1",
        "The queue takes a command more than its parameter says.",
        _rtl("full queue"),
    ),
    _fault(
        "error-of-the-wrong-command",
        _QUEUE,
        "Mux(self.start, head.instruction, records[0].instruction)",
        "Mux(self.busy, records[0].instruction, head.instruction)",
        "With a MATMUL still in the pipeline, the status names that one for the next one's error.",
        _rtl("error:second matmul"),
    ),
    _fault(
        "semaphore-of-sixteen",
        _SEMAPHORES,
        "(following > SEMAPHORE_MAX)",
        "(following > SEMAPHORE_MAX + 1)",
        "A sixteenth token is taken and the count wraps to 0.",
        _rtl("error:semaphore"),
    ),
    _fault(
        "semaphore-visible-late",
        _SEMAPHORES,
        "self.available[i].eq(count != 0)",
        "self.available[i].eq(count > 1)",
        "A single token is never seen.",
        _rtl("golden:vector"),
    ),
    _fault(
        "wait-for-queues-only",
        _TOP,
        "Cat(queue.empty & ~queue.busy for queue in queues.values()).all()",
        "Cat(queue.empty for queue in queues.values()).all()",
        "WAIT leaves while units still work.",
        _rtl("golden:hb"),
    ),
    _fault(
        "watchdog-late",
        _STATUS,
        "(waited == limit - 1)",
        "(waited == limit - 2)",
        "The watchdog barks a cycle early.",
        _rtl("error:link that never comes"),
    ),
    _fault(
        "highest-unit-reported",
        _STATUS,
        "for unit in reversed(Unit):",
        "for unit in Unit:",
        "Of two errors in a cycle the wrong one is kept.",
        _rtl("error:two errors in one cycle"),
    ),
    # Units ------------------------------------------------------------------------------------------------
    _fault(
        "hb-column-not-split",
        _HB,
        "transfer.column.eq(first % params.data_columns)",
        "transfer.column.eq(0)",
        "Every transfer begins at its row's first column.",
        _rtl("two rows", "golden:hb"),
    ),
    _fault(
        "refill-offers-always",
        _STREAM,
        "self.hb.write.valid.eq(refilling & self.link.valid)",
        "self.hb.write.valid.eq(refilling)",
        "A refill writes what is on an idle link.",
        _rtl("refill waits for words"),
    ),
    _fault(
        "gather-ends-early",
        _GATHER,
        "self.done.eq(taken & (left == 1))",
        "self.done.eq(taken & (left == 2))",
        "GATHER is done with the last word but one.",
        _rtl("late words"),
    ),
    _fault(
        "store-done-with-first",
        _STORE,
        "self.done.eq(taken & (left == 0))",
        "self.done.eq(taken)",
        "STORE is done with its first word.",
        _rtl("golden:array"),
    ),
    _fault(
        "host-answer-too-soon",
        _HOST,
        "self.done.eq((taken | asked) & self.answer)",
        "self.done.eq(asked & self.answer)",
        "An answer in the request's own cycle is lost.",
        _rtl("answer at once"),
    ),
    _fault(
        "array-lead-short",
        _ARRAY,
        "lead.eq(chip.pe.fetch - 1)",
        "lead.eq(chip.pe.fetch - 2)",
        "The first slot begins before its weights are there.",
        _rtl("golden:array"),
    ),
    _fault(
        "array-blocks-share-a-chain",
        _ARRAY,
        "beat.chain.eq(chain + block)",
        "beat.chain.eq(chain)",
        "Token blocks of one MATMUL add up in one chain.",
        (f"{_PROGRAMS}/test_rtl.py::test_random_program[tiny-none-409]",),
    ),
    # Models -----------------------------------------------------------------------------------------------
    _fault(
        "decoder-loop-not-skipped",
        _DECODER,
        "                if operands[_N] == 0:\n                    following = operands[_B]",
        "                if operands[_N] == 0:\n                    following = pc + 1",
        "A loop of no rounds runs once.",
        (f"{_TIMELINES}[control-exact]",),
    ),
    _fault(
        "decoder-offset-unsigned",
        _DECODER,
        "offset - (offset >> (OFFSET_BITS - 1) << OFFSET_BITS)",
        "offset",
        "A negative offset adds 4096 too much.",
        (f"{_TIMELINES}[two rows-exact]", _WAITS, f"{_MODELS}::test_coverage_is_complete"),
    ),
    _fault(
        "durations-without-slots",
        _DURATIONS,
        "max(chip.array.beats, chip.array.dots_per_fp32, -(-chip.pe.fetch // blocks))",
        "max(chip.array.beats, -(-chip.pe.fetch // blocks))",
        "Rows that share an FP32 unit are forgotten.",
        (f"{_DURATIONS_TEST}::test_matmul_by_hand",),
    ),
    _fault(
        "exact-queue-one-deeper",
        _STEPPING,
        "ends = r.levels[this[Step.UNIT]] < depth",
        "ends = r.levels[this[Step.UNIT]] <= depth",
        "The model's queue holds a command more than the RTL's.",
        (f"{_TIMELINES}[full queue-exact]",),
    ),
    _fault(
        "exact-array-free-when-done",
        _STEPPING,
        "if u != _ARRAY:\n                note_waits",
        "if u >= 0:\n                note_waits",
        "The array's next command is confused with the one in the pipeline.",
        (f"{_TIMELINES}[blocks and long operations-exact]", _WAITS),
    ),
    _fault(
        "exact-second-token-forgotten",
        _STEPPING,
        "for k in (Step.WAIT0, Step.WAIT1):\n        ready = ready",
        "for k in (Step.WAIT0,):\n        ready = ready",
        "Exact starts a command when the first of its two tokens is there.",
        (f"{_GOLDEN}[exact-array]",),
    ),
    _fault(
        "fast-chunk-early",
        f"{_MODEL}/link_timing.py",
        "at = max(at, offered[position[0]]) + here",
        "at = at + here",
        "Fast takes words before they come.",
        (f"{_TIMELINES}[late words-fast]",),
    ),
    _fault(
        "fast-fixed-priority",
        _FAST,
        "who = bank.last\n",
        "who = shape.requesters - 1\n",
        "Fast always serves the HB unit first.",
        (f"{_TIMELINES}[turns at the bank-fast]", _WAITS),
    ),
    _fault(
        "fast-refill-never-waits",
        _FAST,
        "(len(available) == 0 or available[-1] <= now)",
        "(len(available) == 0 or available[0] <= now)",
        "Fast believes that all words of a refill are there with the first.",
        (f"{_TIMELINES}[refill waits for words-fast]",),
    ),
    _fault(
        "fast-wait-ignores-the-pipeline",
        f"{_MODEL}/event_state.py",
        "in_progress, empty = r.drains > 0, True",
        "in_progress, empty = False, True",
        "Fast's WAIT leaves while results are still in the array.",
        (_WAITS,),
    ),
)
