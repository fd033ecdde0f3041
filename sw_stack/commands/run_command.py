"""``elmoe3d run``: a PE program at one level of the project, or at all of them, with digest, cycles and counters."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from hw.errors import UserError, nearest
from hw.files import write_atomic
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import chip as chip_named
from sw_stack.compiler.program import fingerprint, read_program
from sw_stack.reports import terminal

LEVELS = ("functional", "fast", "exact", "rtl")


def command(
    program: Annotated[Path, Argument(help="A .prog file.")],
    level: Annotated[str, Option(help="functional, fast, exact, rtl, or all: run everything and compare.")] = "exact",
    compiled: Annotated[bool, Option("--compiled", help="RTL as Verilog compiled by Verilator: built once.")] = False,
    chip: Annotated[str | None, Option(help="Refuse programs that were not made for this chip.")] = None,
    json_path: Annotated[Path | None, Option("--json", help="Write all numbers here, with provenance.")] = None,
    quiet: Annotated[bool, Option("--quiet", help="Write the files, print nothing.")] = False,
) -> None:
    """Run a program on the PE, at one level or at all.

    Values and time of the same file: functional has values only, fast has time only, exact steps the state
    machines, rtl simulates the Amaranth design, or with --compiled its Verilog, some hundred times faster once it
    is built. The digest covers everything written; for fast and exact it is that of the functional level. The exit
    status is 1 where the PE stopped with an error, where the digest is not the expected one, or where levels
    disagree.
    """
    levels = LEVELS if level == "all" else (level,)
    if any(name not in LEVELS for name in levels):
        raise UserError(f"unknown level {level!r}; {nearest(level, [*LEVELS, 'all'])}")
    loaded = read_program(program, chip_named(chip) if chip else None)
    results, seconds = {}, {}
    for name in levels:
        begin = time.perf_counter()
        results[name] = run_level(loaded, name, compiled=compiled)
        seconds[name] = time.perf_counter() - begin
    differences = compare(list(results.values()))
    wrong = [r.level for r in results.values() if loaded.expected and r.digest != loaded.expected]
    if not quiet:
        _show(loaded, results, seconds, differences, wrong)
    if json_path:
        write_atomic(json_path, json.dumps(_document(program, loaded, results, differences), indent=1) + "\n")
    if differences or wrong or any(result.error for result in results.values()):
        raise Exit(1)


def run_level(program: PeProgram, level: str, *, compiled: bool = False) -> RunResult:
    """Run ``program`` at one of `LEVELS`; fast and exact get the functional level's digest, rtl may be ``compiled``."""
    from cycle_model.pe.functional import functional

    if level == "rtl" and compiled:
        from rtl_gen.compiled_pe import run_compiled

        return run_compiled(program)
    if level == "rtl":
        from rtl_gen.simulate import simulate_pe

        return simulate_pe(program)
    if level == "functional":
        return functional(program)
    if level == "fast":
        from cycle_model.pe.fast import fast as run
    else:
        from cycle_model.pe.exact import exact as run
    result = run(program)
    return result if result.error else dataclasses.replace(result, digest=functional(program).digest)


def compare(results: list[RunResult]) -> list[str]:
    """What is not equal between levels, a line per list or memory: `cycle_model.pe.equality` says what must be."""
    from cycle_model.pe.equality import items

    unequal = (f"{item.of}: {item.one} and {item.other} differ" for item in items(results) if not item.equal)
    return list(dict.fromkeys(unequal))


def _show(
    program: PeProgram,
    results: dict[str, RunResult],
    seconds: dict[str, float],
    differences: list[str],
    wrong: list[str],
) -> None:
    out = terminal.console()
    rows = terminal.table("level", "digest", "cycles", "commands", "seconds", "error")
    for name, result in results.items():
        error = result.error
        rows.add_row(
            name,
            result.digest[:16] if result.digest else "-",
            "-" if result.cycles is None else f"{result.cycles:,}",
            f"{len(result.unit):,}",
            f"{seconds[name]:.2f}",
            f"{error.code.name} {error.unit.name} at instruction {error.instruction}" if error else "-",
        )
    out.print(rows)
    timed = next((result for result in results.values() if result.counters), None)
    if timed:
        counters = terminal.table("counter", timed.level)
        for name, value in timed.counters.items():
            if value:
                counters.add_row(name, f"{value:,}")
        out.print(counters)
    if program.expected:
        out.print(
            f"expected digest {program.expected[:16]}: " + (f"differs at {', '.join(wrong)}" if wrong else "equal")
        )
    if len(results) > 1:
        out.print("levels agree" if not differences else "levels disagree: " + "; ".join(differences))


def _document(path: Path, program: PeProgram, results: dict[str, RunResult], differences: list[str]) -> dict:
    from sw_stack.provenance import provenance

    return {
        "provenance": provenance(
            {"program": str(path), "chip": program.chip.name, "sizes": fingerprint(program.chip)}, 0
        ),
        "expected_digest": program.expected,
        "differences": differences,
        "levels": {
            name: {
                "digest": result.digest,
                "cycles": result.cycles,
                "counters": result.counters,
                "error": dataclasses.asdict(result.error) if result.error else None,
                "commands": [
                    {"unit": unit, "instruction": instruction, **dict(zip(("start", "done"), times, strict=False))}
                    for unit, instruction, times in zip(
                        result.unit,
                        result.instruction,
                        zip(result.start, result.done, strict=True) if result.start else [()] * len(result.unit),
                        strict=True,
                    )
                ],
            }
            for name, result in results.items()
        },
    }
