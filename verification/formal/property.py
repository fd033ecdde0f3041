"""A property: a harness, a method, and what the solver must answer."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from amaranth.hdl import ClockDomain, Instance, Module, Signal, Value

from verification.formal.solver import System, Unrolling, translate
from verification.formal.stubs import without_arithmetic

TRACES = Path("build/formal")


class Answer(Enum):
    """What the solver says of a property."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNREACHED = "cover not reached"
    NOT_INDUCTIVE = "holds from reset, not inductive"


@dataclass(frozen=True)
class Outcome:
    """Answer, and a sentence of detail (covers reached, trace written)."""

    answer: Answer
    detail: str = ""


class Harness:
    """A module under construction around a block, and what is assumed and claimed about it.

    The clock has no reset: step 0 of a run from reset has every register at its initial value.

    Parameters
    ----------
    stubbed : bool
        Elaborate the block with the stand-ins of `verification.formal.stubs` in place of its arithmetic.

    Attributes
    ----------
    m : Module
    assumptions, claims, covers : list of str
        Names of one-bit outputs that are assumed in every step, claimed in every step, and to be reached.
    """

    def __init__(self, stubbed: bool = False):
        self.m = Module()
        self.m.domains.sync = sync = ClockDomain("sync", reset_less=True)
        self.assumptions: list[str] = []
        self.claims: list[str] = []
        self.covers: list[str] = []
        self._ports: list[Value] = [sync.clk]
        self._probes: dict[str, str] = {}
        self._stubbed = stubbed
        self._system: System | None = None

    def free(self, shape, name: str):
        """An input that takes any value in each step."""
        signal = Signal(shape, name=name)
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, shape, name: str):
        """Any value, the same in all steps."""
        signal = Signal(shape, name=name)
        value = Value.cast(signal)
        self.m.submodules[f"{name}_constant"] = Instance("$anyconst", p_WIDTH=len(value), o_Y=value)
        return signal

    def probe(self, shape, wire: str):
        """The wire ``wire`` inside the harness (``dut.full``), readable without the block exporting it."""
        signal = self.free(shape, "probe_" + wire.replace(".", "__"))
        self._probes[Value.cast(signal).name] = wire
        return signal

    def output(self, name: str, value) -> None:
        """A named wire for the solver."""
        signal = Signal(Value.cast(value).shape(), name=name)
        self.m.d.comb += signal.eq(value)
        self._ports.append(signal)

    def assume(self, name: str, condition) -> None:
        """Consider only runs in which ``condition`` holds in every step."""
        self.assumptions.append(name)
        self.output(name, Value.cast(condition).bool())

    def claim(self, name: str, condition) -> None:
        """``condition`` holds in every step."""
        self.claims.append(name)
        self.output(name, Value.cast(condition).bool())

    def cover(self, name: str, condition) -> None:
        """``condition`` holds in some step of some run: the claims are not empty."""
        self.covers.append(name)
        self.output(name, Value.cast(condition).bool())

    def unroll(self, from_reset: bool) -> Unrolling:
        """The harness in a fresh solver; translated once."""
        if self._system is None:
            with without_arithmetic() if self._stubbed else nullcontext():
                self._system = translate(self.m, self._ports, self._probes)
        return Unrolling(self._system, from_reset, self.assumptions)


def _all(run: Unrolling, names: list[str], step: int) -> str:
    return f"(and true {' '.join(run.wire(name, step) for name in names)})"


def _failing(run: Unrolling, harness: Harness, step: int) -> str:
    return ", ".join(name for name in harness.claims if not run.value(run.wire(name, step)))


def bounded(harness: Harness, depth: int, trace: Path) -> Outcome:
    """The claims in steps 0 .. depth-1 from reset, then the covers; a harness without registers needs depth 1."""
    run = _claims_hold(harness, depth, trace)
    return run if isinstance(run, Outcome) else _covered(run, harness, depth)


def _claims_hold(harness: Harness, depth: int, trace: Path) -> Unrolling | Outcome:
    """The solver after checking ``depth`` steps from reset, or REFUTED with the claims that fail."""
    run = harness.unroll(from_reset=True)
    for step in range(depth):
        run.reach(step)
        if run.possible(f"(not {_all(run, harness.claims, step)})"):
            failing = _failing(run, harness, step)
            run.write_trace(trace)
            return Outcome(Answer.REFUTED, f"{failing} fails in step {step}, see {trace}")
    return run


def _covered(run: Unrolling, harness: Harness, depth: int) -> Outcome:
    """PROVED with the step in which each cover is first reached, or UNREACHED."""
    run.reach(depth - 1)
    reached = []
    for name in harness.covers:
        first = next((step for step in range(depth) if run.possible(run.wire(name, step))), None)
        if first is None:
            return Outcome(Answer.UNREACHED, f"{name}, in {depth} steps")
        reached.append(f"{name} @{first}")
    return Outcome(Answer.PROVED, f"reached: {', '.join(reached)}" if reached else "")


def induction(harness: Harness, k: int, depth: int, trace: Path) -> Outcome:
    """All claims together, in every step of every run, by k-induction.

    Where the step fails, ``depth`` steps from reset decide between a real counterexample and claims that are only
    too weak. Covers are searched to ``depth``.
    """
    run = harness.unroll(from_reset=False)
    run.reach(k)
    for step in range(k):
        run.require(_all(run, harness.claims, step))
    if run.possible(f"(not {_all(run, harness.claims, k)})"):
        failing = _failing(run, harness, k)
        run.write_trace(trace)
        concrete = bounded(harness, depth, trace.with_stem(f"{trace.stem}-from-reset"))
        if concrete.answer is Answer.REFUTED:
            return concrete
        return Outcome(Answer.NOT_INDUCTIVE, f"{failing}, from a state that may be unreachable, see {trace}")
    base = _claims_hold(harness, k, trace)
    return base if isinstance(base, Outcome) else _covered(base, harness, depth)


def miter(harness: Harness, steps: int, definitions: str, wrong: str, trace: Path) -> Outcome:
    """No state sequence s0 .. s<steps> satisfies the SMT-LIB formula ``wrong`` (which may use ``definitions``)."""
    run = harness.unroll(from_reset=False)
    run.reach(steps)
    run.define(definitions)
    run.require(wrong)
    if run.possible():
        run.write_trace(trace)
        return Outcome(Answer.REFUTED, f"see {trace}")
    return Outcome(Answer.PROVED)


@dataclass(frozen=True, kw_only=True)
class Property:
    """One line of `make formal`.

    name       unique, kebab-case; the trace of a counterexample is build/formal/<name>.vcd
    statement  what is claimed, in a sentence, with its bound
    method     how it is decided, for the table ("induction k=1", "12 steps", "all inputs")
    decide     runs the solver; takes the path for a trace
    expect     what the solver must answer; REFUTED for the deliberately false ones
    quick      also run by `make test`
    """

    name: str
    statement: str
    method: str
    decide: Callable[[Path], Outcome]
    expect: Answer = Answer.PROVED
    quick: bool = False

    def run(self) -> tuple[Outcome, float]:
        """The outcome and the seconds that it took."""
        start = time.perf_counter()
        outcome = self.decide(TRACES / f"{self.name}.vcd")
        return outcome, time.perf_counter() - start
