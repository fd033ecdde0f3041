"""Run PE programs on the exported Verilog, compiled by Verilator: the same result as `rtl_gen.simulate`, much faster.

The program that Verilator builds talks to nobody: it reads a program as text, plays HB bank, links and host by itself
(pe_bench.cpp) and writes what happened as text. One is built for each chip and kept in build/compiled_pe.
"""

import functools
import hashlib
import re
import subprocess
from pathlib import Path

from amaranth.hdl import Value

from hw.errors import UserError
from hw.files import write_atomic
from hw.isa.encoding import Unit
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import RunResult
from hw.params import REGISTERS, ChipParams
from hw.params.checks import require
from rtl_gen.observed_pe import ObservedPe
from rtl_gen.pe_bench import PeBench
from rtl_gen.pe_probes import result_of
from rtl_gen.verilator import verilator_environment
from rtl_gen.verilog import convert

OUTPUT = Path("build/compiled_pe")
BENCH = Path(__file__).with_name("pe_bench.cpp")
HIERARCHICAL_FROM = 4096
"""Slice MACs from which each kind of column is compiled on its own, once; smaller arrays run faster as a whole."""


def run_compiled(program: PeProgram, limit: int = 10_000_000) -> RunResult:
    """Run ``program`` on the compiled Verilog of its chip, building that first where it is not there.

    Raises
    ------
    UserError
        Where the program does not fit its chip, does not end within ``limit`` cycles, the chip has no HB pins, or
        Verilator is missing.
    """
    require(program.chip.memory == "hb", "chip memory", "hb where the bench is the bank", program.chip.memory)
    bench = PeBench(program)
    compiled = _compiled(program.chip)
    done = subprocess.run(
        [str(compiled.binary)], input=_as_text(program, bench, limit), capture_output=True, text=True, check=True
    )
    return compiled.result(program, bench, done.stdout)


@functools.lru_cache(maxsize=4)
def _compiled(chip: ChipParams) -> "_CompiledPe":
    return _CompiledPe(chip)


class _CompiledPe:
    """The binary of one chip, and what its output means."""

    def __init__(self, chip: ChipParams):
        observed = ObservedPe(chip)
        self._watched = observed.watched
        self._chip = chip
        header = _header(observed)
        verilog = convert(observed, "observed_pe", f"PE of chip {chip.name}, its memories watched")
        digest = hashlib.sha256("\n".join([verilog, header, BENCH.read_text()]).encode()).hexdigest()[:16]
        folder = OUTPUT / f"{chip.name}-{digest}"
        self.binary = (folder / "observed_pe").resolve()
        if not self.binary.exists():
            write_atomic(folder / "ports.h", header)
            _build(write_atomic(folder / "observed_pe.v", verilog), folder, chip.array.slice_macs >= HIERARCHICAL_FROM)

    def result(self, program: PeProgram, bench: PeBench, output: str) -> RunResult:
        """The run that the binary's ``output`` tells of."""
        names = list(self._watched)
        watched = {name: probe.fresh() for name, probe in self._watched.items()}
        register_values: dict[int, int] = {}
        for line in output.splitlines():
            kind, *words = line.split()
            values = [int(word, 16) for word in words]
            match kind:
                case "limit":
                    raise UserError("program must end within the cycles that RTL simulation is given")
                case "trace":
                    bench.see_commands(*values)
                case "out":
                    bench.out.append(values[0])
                case "event":
                    bench.events.append(tuple(values))
                case "host":
                    bench.see_request(values[0])
                case "slip":
                    bench.slipped = True
                case "refilled":
                    bench.refilled.add(tuple(values))
                case "entry":
                    memory, enable, address, word = values
                    watched[names[memory]].take(enable, address, word)
                case "cell":
                    bench.device.write_cell(*values)
                case "registers":
                    register_values = {i: values[0] >> 32 * (i - 1) & 0xFFFFFFFF for i in range(1, REGISTERS)}
                case "finish":
                    bench.finish(*values)
        return result_of(program, bench, watched, register_values)


def _header(observed: ObservedPe) -> str:
    """ports.h: the C++ names of the top's ports (Verilator spells a double underscore ___05F), and what is watched."""
    ports = [
        "__".join(map(str, path)) for path, _, value in observed.signature.flatten(observed) if len(Value.cast(value))
    ]
    lines = ["// Ports of the compiled PE, and the memories that are watched."]
    for port in ports:
        short = port.removeprefix("pe__").removeprefix("written__")
        lines.append(f"#define {short} {port.replace('__', '___05F')}")
    watch = " ".join(
        f"WATCH({name.lower()}, {probe.granules}, {len(probe.signals[2])})" for name, probe in observed.watched.items()
    )
    lines += [f"#define WATCHED {watch}", f"#define WATCHED_COUNT {len(observed.watched)}"]
    return "\n".join([*lines, f"#define HOST_UNIT {int(Unit.HOST)}", ""])


def _build(source: Path, folder: Path, hierarchical: bool) -> None:
    columns = re.findall(r"^module ((?:mac|accumulator|weight)_column_\w+)\(", source.read_text(), re.MULTILINE)
    hierarchy = "".join(f'hier_block -module "{module}"\n' for module in columns)
    command = [
        "verilator",
        *("--cc", "--exe", "--build", "-O3", "-Wno-fatal", "--prefix", "Vpe", "--top-module", "observed_pe"),
        *("-Mdir", str(folder), "-o", "observed_pe", "-CFLAGS", f"-O1 -std=c++17 -I{folder.resolve()}"),
        # The wheel was configured without a compiler at hand, so its precompiled headers are named but not included.
        *("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"),
        str(BENCH),
        str(source.resolve()),
    ]
    if hierarchical:
        command += ["--hierarchical", str(write_atomic(folder / "hierarchy.vlt", f"`verilator_config\n{hierarchy}"))]
    done = subprocess.run(command, env=verilator_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"Verilator did not build the PE: {(done.stdout + done.stderr).strip()[-2000:]}")


def _as_text(program: PeProgram, bench: PeBench, limit: int) -> str:
    """The program as pe_bench.cpp reads it: counts and decimal numbers, words in hexadecimal."""
    hb = program.chip.hb
    lines = [f"{limit} {hb.clocks.nCL + hb.clocks.nBL} {hb.clocks.nCWL} {bench.device.poison[0]:x}"]
    loads = bench.load_words()
    lines += [str(len(loads)), *(f"{descriptor} {address} {word:x}" for descriptor, address, word in loads)]
    lines += [str(len(program.dispatch)), *(f"{word:x}" for word in program.dispatch)]
    lines.append(str(len(program.hb)))
    for column, word in program.hb.items():
        row, place = divmod(column, hb.data_columns)
        lines.append(f"{row} {place} {word:x}")
    for chunks in (program.stream, program.aggregation):
        words = _offers(chunks)
        lines += [str(len(words)), *(f"{cycle} {word:x}" for cycle, word in words)]
    lines += [str(len(program.host_cycles)), *map(str, program.host_cycles)]
    return "\n".join(lines) + "\n"


def _offers(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.available, word) for chunk in chunks for word in chunk.words]
