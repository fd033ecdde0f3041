"""Cycles simulated per second by each level of the PE: functional, fast, exact, RTL in Amaranth's simulator.

    python bench/bench_levels.py [--seconds 1.0] [--verilog]

CPU time, compilation and elaboration excluded. Functional has no cycles of its own; it is credited with those of the
program. The programs are whole experts (the last one a PE's share of a real one), whose cycles the levels agree on.
``--verilog`` adds the exported Verilog under
Verilator and cocotb (builds for a minute or two; wall time of the simulation).
"""

import argparse
import os

from rich.console import Console
from rich.table import Table
from timing import cpu_seconds

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.params import chip
from rtl_gen.simulate import simulate_pe
from sw_stack.compiler.expert_program import Share
from verification.programs.expert_cases import random_case, with_hb_rows


def programs() -> dict[str, tuple[PeProgram, bool]]:
    """Name -> (program, whether it is short enough for RTL)."""
    small = random_case(5, outputs=32, hidden=32, experts=1, k=1, tokens=1)
    large = random_case(1, outputs=768, hidden=64)
    real = random_case(1, outputs=768, hidden=2048, experts=1, k=1, tokens=4)
    return {
        "tiny, expert 32 x 32": (small.program(chip("tiny"), "full", "hb"), True),
        "tiny, experts 768 x 64": (large.program(with_hb_rows(chip("tiny"), 2048), "full", "hb"), False),
        "4gb, expert 768 x 2048 / 16": (real.program(chip("4gb"), "full", "hb", share=Share(3, 16)), False),
    }


def verilog_rate() -> float:
    """Cycles per second of the exported PE of `tiny` under Verilator, cocotb and the Python bench included."""
    from verification.bench.cocotb_runner import simulate

    os.environ["PE_PROGRAMS"] = "12"
    outcome = simulate("pe", "tiny", "verilator", tests="random_programs")
    from verification.programs.generator import random_program

    made = (
        random_program(chip("tiny"), 1000 + n, commands=25, lateness=("none", "light", "heavy")[n % 3], show=True)
        for n in range(12)
    )
    return sum(exact(program).cycles for program in made) / outcome.run_seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the levels of the PE.")
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time of each figure")
    parser.add_argument("--verilog", action="store_true", help="also the exported Verilog under Verilator")
    options = parser.parse_args()
    table = Table("program", "commands", "cycles", "functional", "fast", "exact", "rtl", "fast / exact", "exact / rtl")
    for name, (program, short) in programs().items():
        cycles = exact(program).cycles
        spent = {
            level: cpu_seconds(lambda run=run, program=program: run(program), options.seconds, rounds=2)
            for level, run in (("functional", functional), ("fast", fast), ("exact", exact))
        }
        if short:
            spent["rtl"] = cpu_seconds(lambda program=program: simulate_pe(program), options.seconds, rounds=2)
        rates = [f"{cycles / spent[level]:,.0f}" if level in spent else "-" for level in (*spent, "rtl")][:4]
        ratio = f"{spent['rtl'] / spent['exact']:,.0f}" if short else "-"
        commands = f"{len(exact(program).start):,}"
        table.add_row(name, commands, f"{cycles:,}", *rates, f"{spent['exact'] / spent['fast']:.1f}", ratio)
    print("cycles per CPU second")
    Console(width=130).print(table)
    if options.verilog:
        print(f"exported Verilog of tiny under Verilator and cocotb: {verilog_rate():,.0f} cycles per second")


if __name__ == "__main__":
    main()
