"""What a set of programs has reached, bin by bin; every bin must be hit, or listed as out of reach with its reason."""

from collections import Counter
from itertools import product

import numpy as np

from cycle_model.pe.decoder import decode
from cycle_model.pe.exact import run_exact
from cycle_model.pe.outcome import AT_CONTROLLER, AT_LINK, AT_QUEUE, AT_SEMAPHORE
from cycle_model.pe.steps import Kind, Step
from hw.isa import WeightMode
from hw.isa.encoding import (
    COMMANDS,
    ActivationSpace,
    Command,
    GatherSpace,
    Opcode,
    Unit,
    VectorSource,
    VectorTarget,
    WeightSpace,
    unpack,
)
from hw.isa.program import PeProgram
from hw.params import LOOP_LEVELS

Bin = tuple[str, ...]

_BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)
_TILES = ("RT", "VT", "LT")
_STALLED = {False: "at once", True: "stalled"}
OUT_OF_REACH: dict[Bin, str] = {
    (
        "STORE",
        "link",
        "stalled",
    ): "the aggregation link takes every word: it grants whole chunks before it asks for one",
    ("HOST", "port", "stalled"): "the host takes every request; what waits is the answer",
}
"""Bins that no program can hit, and why."""


def all_bins() -> set[Bin]:
    """Every bin: command x form x stalled or not."""
    bins: set[Bin] = set(OUT_OF_REACH)
    for spec in COMMANDS.values():
        if spec.unit is not Unit.SEQUENCER:
            bins |= {(name, "semaphore", stall) for name in _forms_of(spec.opcode) for stall in _STALLED.values()}
    bins |= {(unit.name, "queue", s) for unit in Unit if unit is not Unit.SEQUENCER for s in _STALLED.values()}
    bins |= {(name, "controller", s) for name in ("HB_LOAD", "STREAM_REFILL") for s in _STALLED.values()}
    links = ("STREAM_LOAD", "STREAM_REFILL", "GATHER_LOAD AL", "GATHER_LOAD LT")
    bins |= {(name, "link", stall) for name in links for stall in _STALLED.values()}
    chains = product(WeightMode, ("begins", "continues"), ("ends", "stays"))
    bins |= {("MATMUL", mode.name, first, last) for mode, first, last in chains}
    seconds = [*_TILES, *(f"{tile} broadcast" for tile in _TILES), "ROW", "IMMEDIATE"]
    bins |= {(op.name, "b", b) for op, b in product(_BINARY, seconds)}
    bins |= {(op.name, "indexed", a, d) for op, a, d in product(_BINARY, _TILES, ("VT", "XM"))}
    bins |= {("MATMUL", "blocks", "one"), ("MATMUL", "blocks", "several")}
    control = ("SET", "ADD_REGISTER", "DESCRIBE", "MARK", "COUNT", "RETURN")
    bins |= {("sequencer", name) for name in control}
    bins |= {("LOOP", how) for how in ("skipped", *(f"level {i}" for i in range(1, LOOP_LEVELS + 1)))}
    bins |= {("NEXT", how) for how in ("again", "on")} | {("BRANCH", how) for how in ("taken", "not taken")}
    bins |= {("WAIT", how) for how in ("at once", "stalled", "gives a signal")}
    return bins


def _forms_of(opcode: Opcode) -> list[str]:
    """Names of a unit's command in each of its memories and modes."""
    name = opcode.name
    if opcode is Opcode.GATHER_LOAD:
        return [f"{name} {space.name}" for space in GatherSpace]
    if opcode is Opcode.MATMUL:
        spaces = product(WeightMode, ActivationSpace, WeightSpace, WeightSpace)
        return [f"{name} {' '.join(each.name for each in form)}" for form in spaces]
    if opcode is Opcode.QUANTIZE:
        return [f"{name} {a} {d}" for a, d in product(_TILES, ("AV", "XM"))]
    if opcode is Opcode.ROW_ABSMAX:
        return [f"{name} {a} {how}" for a, how in product(_TILES, ("first", "more"))]
    if opcode in (*_BINARY, Opcode.MOVE, Opcode.SIGMOID):
        return [f"{name} {a} {d}" for a, d in product(_TILES, ("VT", "XM"))]
    return [name]


def _form(command: Command) -> str:
    """The name in `_forms_of` that ``command`` has."""
    opcode, f = command.opcode, command.fields
    name = opcode.name
    if opcode is Opcode.GATHER_LOAD:
        return f"{name} {GatherSpace(f['space']).name}"
    if opcode is Opcode.MATMUL:
        weights = " ".join(WeightSpace(f[space]).name for space in ("w_space", "s_space"))
        return f"{name} {WeightMode(f['mode']).name} {ActivationSpace(f['a_space']).name} {weights}"
    if opcode is Opcode.ROW_ABSMAX:
        return f"{name} {VectorSource(f['a_space']).name} {'first' if f['first'] else 'more'}"
    if "d_space" in f:
        return f"{name} {VectorSource(f['a_space']).name} {VectorTarget(f['d_space']).name}"
    return name


def _details(command: Command, step: np.ndarray) -> list[Bin]:
    """Bins of a command's own, whatever it waits for."""
    opcode, f = command.opcode, command.fields
    if opcode is Opcode.MATMUL:
        first, last = "begins" if f["first"] else "continues", "ends" if f["last"] else "stays"
        blocks = "one" if step[Step.WORDS] == 1 else "several"
        return [("MATMUL", WeightMode(f["mode"]).name, first, last), ("MATMUL", "blocks", blocks)]
    if opcode not in _BINARY:
        return []
    if f["indexed"]:
        return [(opcode.name, "indexed", VectorSource(f["a_space"]).name, VectorTarget(f["d_space"]).name)]
    b = VectorSource(f["b_space"])
    return [(opcode.name, "b", b.name + (" broadcast" if f["broadcast"] and b <= VectorSource.LT else ""))]


def covered(program: PeProgram) -> Counter[Bin]:
    """How often a program hits each bin, as the exact model runs it."""
    steps = decode(program)
    run, _ = run_exact(program, steps)
    commands = {}
    hits: Counter[Bin] = Counter()
    number = depth = 0
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step[Step.KIND] == Kind.RECORD:
            depth = 0
            continue
        pc = int(step[Step.INSTRUCTION])
        command = commands.setdefault(pc, unpack(program.instructions[pc]))
        if command.spec.unit is Unit.SEQUENCER:
            following = None if after is None or after[Step.KIND] == Kind.RECORD else int(after[Step.INSTRUCTION])
            depth = _control(hits, command, pc, following, depth)
            continue
        stalled = [_STALLED[bool(wait)] for wait in run.waits[number]]
        form = _form(command)
        hits[form, "semaphore", stalled[AT_SEMAPHORE]] += 1
        hits[command.spec.unit.name, "queue", stalled[AT_QUEUE]] += 1
        if command.opcode in (Opcode.HB_LOAD, Opcode.STREAM_REFILL):
            hits[form, "controller", stalled[AT_CONTROLLER]] += 1
        if command.opcode in (Opcode.STREAM_LOAD, Opcode.STREAM_REFILL, Opcode.GATHER_LOAD):
            hits[form, "link", stalled[AT_LINK]] += 1
        hits.update(_details(command, step))
        number += 1
    _waits(hits, steps)
    return hits


def _control(hits: Counter[Bin], command: Command, pc: int, following: int | None, depth: int) -> int:
    """Count a command of the sequencer; the loops open behind it."""
    opcode = command.opcode
    if opcode is Opcode.LOOP:
        entered = following == pc + 1 and not (
            command.operands["n"].register == 0 and command.operands["n"].offset == 0
        )
        hits["LOOP", f"level {depth + 1}" if entered else "skipped"] += 1
        return depth + entered
    if opcode is Opcode.NEXT:
        again = following != pc + 1
        hits["NEXT", "again" if again else "on"] += 1
        return depth - (not again)
    if opcode is Opcode.BRANCH:
        hits["BRANCH", "not taken" if following == pc + 1 else "taken"] += 1
    elif opcode is not Opcode.WAIT:
        hits["sequencer", opcode.name] += 1
    elif command.signals:
        hits["WAIT", "gives a signal"] += 1
    return depth


def _waits(hits: Counter[Bin], steps: np.ndarray) -> None:
    """WAITs that stall, and that do not.

    A WAIT right behind another finds every unit idle; one right behind a command finds it queued or in progress, since
    no command is done within two cycles of its push.
    """
    waits = steps[:, Step.KIND] == Kind.WAIT
    hits["WAIT", "at once"] += int((waits[1:] & waits[:-1]).sum())
    followed = waits[1:] & (steps[:-1, Step.KIND] == Kind.PUSH)
    hits["WAIT", "stalled"] += int(followed.sum())
