"""``make verify``: per block and for whole programs, what was compared, what differed, what was covered.

Blocks are compared with references that share no code with them, programs between functional, exact, fast and RTL.
Exit status 1 where anything differs, nothing was compared, or coverage of the models is not complete.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from cycle_model.hb import exact as hb_exact
from cycle_model.hb import fast as hb_fast
from hw.params import chip
from verification.bench.amaranth_streams import run_streams
from verification.bench.array_program import activation_payloads, expected_results, random_program, tile_payloads
from verification.bench.hb_equality import FIELDS
from verification.bench.hb_harness import run_amaranth
from verification.bench.hb_traffic import random_traffic
from verification.bench.vector_bench import run_commands
from verification.bench.vector_commands import CommandGenerator
from verification.bench.vector_reference import VectorReference
from verification.programs import generator
from verification.programs.coverage import OUT_OF_REACH, all_bins, covered
from verification.programs.equality import MODELS, Compared, run_level, tally
from verification.programs.expert_cases import random_case
from verification.programs.golden import GOLDEN
from verification.programs.test_errors import CASES

LATENESS = ("none", "light", "heavy")


@dataclass
class Row:
    """A line of the table: items compared, bits and cycles that differ, and what was reached of what there is."""

    items: int
    wrong_values: int
    wrong_times: int
    coverage: str = ""
    complete: bool = True


def _pe_array() -> Row:
    """RTL against rational arithmetic: every FP32 bit of every chain that leaves."""
    from hw.array.pe_array import PeArray

    params = chip("tiny").array
    work = random_program(params, 24, np.random.default_rng(1), any_scale=True)
    expected = expected_results(params, work)
    inputs = {"tiles": tile_payloads(params, work), "activations": activation_payloads(params, work)}
    seen = run_streams(PeArray(params), inputs, {"results": len(expected)}, stalls="light", seed=1)["results"].payloads
    wrong = sum(a != b for a, b in zip(seen, expected, strict=True))
    return Row(len(expected) * params.columns * params.fp32_units_per_column, wrong, 0)


def _vector_unit() -> Row:
    """RTL against the reference of docs/pe.md: every row written, every duration."""
    from hw.isa.vector_timing import vector_interval, vector_latency

    sizes = chip("tiny")
    maker = CommandGenerator(sizes, 3)
    rt, lt = maker.memories()
    kinds = maker.every_kind()
    commands = [*maker.preparation(), *kinds[::4], *maker.contents()]
    reference = VectorReference(sizes, rt, lt)
    items = wrong_values = wrong_times = 0
    for command, ran in zip(commands, run_commands(sizes, rt, lt, commands), strict=True):
        want = reference.execute(command)
        expected = command.n * vector_interval(sizes, command.opcode) + vector_latency(sizes, command.opcode) - 1
        wrong_times += ran.cycles != expected
        for got, wanted in ((ran.writes.xm, want.xm), (ran.writes.av, want.av)):
            items += len(wanted)
            wrong_values += got.keys() != wanted.keys()
            wrong_values += sum(not np.array_equal(got[key], wanted[key]) for key in got.keys() & wanted.keys())
        items += 1
    reached = {(c.opcode, c.fields.get("a_space"), c.fields.get("d_space")) for c in commands}
    return Row(items, wrong_values, wrong_times, f"{len(reached)} forms")


def _hb_controller() -> Row:
    """Exact, fast and RTL: every command on the pins, acceptance, beat, done pulse and counter; protocol checked."""
    items = wrong = 0
    for seed in range(3):
        traffic = random_traffic(chip("tiny").hb, seed, stall=("none", "light", "heavy")[seed], transfers=12)
        traces = [run_amaranth(traffic).trace(), hb_exact(traffic), hb_fast(traffic)]
        for other in traces[1:]:
            for name in FIELDS:
                left, right = getattr(traces[0], name), getattr(other, name)
                items += len(left)
                same = left.shape == right.shape
                wrong += int((left != right).any(axis=1).sum()) if same else abs(len(left) - len(right)) or len(left)
    return Row(items, 0, wrong, "a tenth illegal, every stall")


def _row(compared: Compared, coverage: str = "", complete: bool = True) -> Row:
    return Row(compared.items, compared.wrong_values, compared.wrong_times, coverage, complete)


def _golden() -> Row:
    """Programs encoded by hand, cycles worked by hand, at every level."""
    total = Compared()
    for golden in GOLDEN.values():
        results = [run_level(golden.program, level) for level in (*MODELS, "rtl")]
        total += tally(results)
        for result in results[1:]:
            by_hand = zip(result.start, result.done, golden.start, golden.done, strict=True)
            total.wrong_times += sum((a, b) != (x, y) for a, b, x, y in by_hand) + (result.cycles != golden.cycles)
            total.times += 2 * len(golden.start) + 1
    return _row(total, "every unit")


def _random_models(programs: int) -> Row:
    """Random programs on functional, exact and fast; coverage of command x form x stalled or not."""
    total, hits = Compared(), set()
    for seed in range(programs):
        program = generator.random_program(chip("tiny"), seed, commands=60, lateness=LATENESS[seed % 3])
        total += tally([run_level(program, level) for level in MODELS])
        hits |= set(covered(program))
    for name in ("fpga-small", "4gb"):
        for seed in range(9):
            program = generator.random_program(chip(name), seed, lateness=LATENESS[seed % 3])
            total += tally([run_level(program, level) for level in MODELS])
    bins = all_bins() - set(OUT_OF_REACH)
    return _row(total, f"{len(hits & bins)} of {len(bins)} bins", bins <= hits)


def _random_rtl(programs: int) -> Row:
    """Random programs on RTL, functional and exact: every memory entry, every cycle."""
    total, hits = Compared(), set()
    for seed in range(programs):
        name = ("tiny", "fpga-small")[seed % 2]
        program = generator.random_program(chip(name), 500 + seed, commands=25, lateness=LATENESS[seed % 3])
        total += tally([run_level(program, level) for level in ("rtl", *MODELS)])
        hits |= set(covered(program))
    bins = all_bins() - set(OUT_OF_REACH)
    return _row(total, f"{len(hits & bins)} of {len(bins)} bins")


def _random_verilog(name: str, programs: int) -> Row:
    """Random programs on the exported Verilog, compiled by Verilator (which is built first: minutes)."""
    from rtl_gen.compiled_pe import run_compiled

    total, hits = Compared(), set()
    for seed in range(programs):
        program = generator.random_program(chip(name), seed, commands=60, lateness=LATENESS[seed % 3])
        total += tally([run_compiled(program), *(run_level(program, level) for level in MODELS)])
        hits |= set(covered(program))
    bins = all_bins() - set(OUT_OF_REACH)
    return _row(total, f"{len(hits & bins)} of {len(bins)} bins", bins <= hits)


def _errors() -> Row:
    """Every error code: who finds it, at which instruction, in which cycle; exact, fast and RTL."""
    total = Compared()
    for program, code, unit, instruction, cycles in CASES.values():
        results = [run_level(program, level) for level in ("exact", "fast", "rtl")]
        total += tally(results)
        for result in results:
            fault = result.error
            found = (fault.code, fault.unit, fault.instruction) if fault else None
            total.wrong_values += found != (code, unit, instruction)
            total.wrong_times += result.cycles != cycles
            total.values += 1
            total.times += 1
    return _row(total, f"{len({case[1] for case in CASES.values()})} codes")


def _experts() -> Row:
    """Whole experts in draft and full mode, resident and not: the runtime's bits; equal times at every level."""
    from sw_stack.compiler.expert_program import read_rows

    total = Compared()
    case = random_case(5, outputs=32, hidden=32, experts=1, k=1, tokens=1)
    for mode, tier in (("draft", "hb"), ("full", "hb"), ("full", "stream")):
        program = case.program(chip("tiny"), mode, tier)
        results = [run_level(program, level) for level in (*MODELS, "rtl")]
        total += tally(results)
        rows = read_rows(program.chip, results[-1].state.out, 1, 32).view(np.uint32)
        expected = case.expected(mode).view(np.uint32)
        total.values += expected.size
        total.wrong_values += int((rows != expected).sum())
    return _row(total, "draft, resident, not resident")


def main() -> None:
    """Run everything and print one line for each."""
    parser = argparse.ArgumentParser(prog="make verify", description=__doc__)
    parser.add_argument(
        "--programs", type=int, default=240, help="random programs on the models (default: %(default)s)"
    )
    parser.add_argument("--rtl-programs", type=int, default=6, help="random programs on RTL (default: %(default)s)")
    parser.add_argument("--verilog", nargs="*", default=[], help="chips whose Verilog runs the random programs, too")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Row]] = {
        "PE array: RTL, rational arithmetic": _pe_array,
        "vector unit: RTL, reference": _vector_unit,
        "HB controller: RTL, exact, fast": _hb_controller,
        "programs by hand: functional, exact, fast, RTL": _golden,
        "errors: exact, fast, RTL": _errors,
        "experts: runtime, functional, exact, fast, RTL": _experts,
        "random programs: functional, exact, fast": lambda: _random_models(options.programs),
        "random programs: functional, exact, fast, RTL": lambda: _random_rtl(options.rtl_programs),
    }
    for name in options.verilog:
        title = f"random programs: models, compiled Verilog of {name}"
        parts[title] = lambda name=name: _random_verilog(name, options.programs)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table("what", "items compared", "bit mismatches", "cycle mismatches", "covered", "CPU s")
    total = Row(0, 0, 0)
    failed = False
    for name, part in parts.items():
        begin = time.process_time()
        row = part()
        spent = time.process_time() - begin
        cells = (f"{row.items:,}", str(row.wrong_values), str(row.wrong_times), row.coverage, f"{spent:.1f}")
        table.add_row(name, *cells)
        total = Row(total.items + row.items, total.wrong_values + row.wrong_values, total.wrong_times + row.wrong_times)
        failed |= not row.items or not row.complete
    table.add_section()
    table.add_row("all", f"{total.items:,}", str(total.wrong_values), str(total.wrong_times), "", "")
    console.print(table)
    for bin_, reason in OUT_OF_REACH.items():
        console.print(f"out of reach: {' '.join(bin_)}: {reason}", highlight=False)
    sys.exit(1 if failed or total.wrong_values or total.wrong_times else 0)


if __name__ == "__main__":
    main()
