"""Lint exported Verilog with Verilator, Icarus and Yosys; each function returns what the tool complained about."""

import re
import subprocess
from pathlib import Path

from rtl_gen.verilator import verilator_environment
from rtl_gen.yosys import run_yosys

WAIVERS = Path(__file__).parent / "verilator_waivers.vlt"


def _run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    output = done.stdout + done.stderr
    return output if done.returncode == 0 else f"exit status {done.returncode}\n{output}"


def verilator(source: Path, top: str) -> str:
    """Complaints of ``verilator --lint-only -Wall`` beyond the waivers; empty where there are none."""
    command = ["verilator", "--lint-only", "-Wall", "--quiet", "--top-module", top, str(WAIVERS), str(source)]
    return _run(command, env=verilator_environment()).strip()


def icarus(source: Path, top: str) -> str:
    """Complaints of ``iverilog -Wall`` reading Verilog-2005.

    Its note that ``@*`` is sensitive to a whole memory or vector is Verilog's rule, and what is wanted here.
    """
    output = _run(["iverilog", "-g2012", "-Wall", "-g2005", "-s", top, "-o", "/dev/null", str(source)])
    return "\n".join(line for line in output.splitlines() if "@* is sensitive to all" not in line).strip()


def yosys(source: Path, top: str) -> str:
    """Complaints of Yosys about structure: unknown modules or ports, undriven or doubly driven nets, loops."""
    script = f"read_verilog {source.name}; hierarchy -check -top {top}; proc; check -assert"
    done = run_yosys(script, source.parent)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"Warning|ERROR", line)]
    return "\n".join(complaints if done.returncode == 0 else [f"exit status {done.returncode}", *complaints])
