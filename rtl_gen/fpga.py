"""From a board's name to a bitstream, through Amaranth's build system and open place-and-route, and what it takes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Elaboratable, Module

from hw.errors import UserError
from hw.params import ChipParams
from rtl_gen.boards import BoardParams

OUTPUT = Path("build/fpga")
TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Build:
    """What became of a design.

    used       LUT, FF, BRAM, DSP
    fmax_mhz   of the design's clock after routing
    bitstream  file
    slice_macs of all PEs
    seconds    synthesis to bitstream
    """

    board: BoardParams
    chip: ChipParams
    used: dict[str, int]
    fmax_mhz: float
    bitstream: Path
    slice_macs: int
    seconds: float

    @property
    def closes(self) -> bool:
        """Whether the clock is met."""
        return self.fmax_mhz >= self.board.clock_mhz

    @property
    def slice_macs_per_s(self) -> float:
        """Peak at the board's clock: all PEs' arrays busy."""
        return self.slice_macs * self.board.clock_mhz * 1e6


class _Top(Elaboratable):
    """The machine on the board's pins."""

    def __init__(self, params: BoardParams, chip: ChipParams):
        self._machine = params.machine(chip, params.cycles_per_bit)
        self.slice_macs = self._machine.slice_macs

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = self._machine
        uart, lamp = platform.request("uart", 0), platform.request("led", 0)
        m.d.comb += [
            machine.receive.eq(uart.rx.i),
            uart.tx.o.eq(machine.transmit),
            lamp.o.eq(machine.running.any()),
        ]
        return m


def build(params: BoardParams, chip: ChipParams) -> Build:
    """Build ``chip`` for the board, in build/fpga/<board>-<chip>.

    Raises
    ------
    UserError
        A tool is missing, the design does not fit, or a tool fails: one line with the tool's reason.
    """
    folder = OUTPUT / f"{params.name}-{chip.name}"
    environment = os.environ | _tools(params)
    start = time.monotonic()
    top = _Top(params, chip)
    plan = params.platform().prepare(top, "top", synth_opts=params.synth_opts, nextpnr_opts=params.nextpnr_opts)
    plan.extract(str(folder))
    try:
        done = subprocess.run(
            ["sh", f"{plan.script}.sh"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"build for {params.name} must end within {TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise UserError(f"chip {chip.name} cannot be built for {params.name}: {_reason(folder, done)}")
    report = json.loads((folder / "top.report.json").read_text())
    return Build(
        params,
        chip,
        _used(params, report),
        min(clock["achieved"] for clock in report["fmax"].values()),
        next(folder / name for name in ("top.bit", "top.bin") if (folder / name).exists()),
        top.slice_macs,
        time.monotonic() - start,
    )


def _tools(params: BoardParams) -> dict[str, str]:
    """Environment that names the wheels' programs; what programs the board is not needed for building."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = {variable: shutil.which(program, path=search) for variable, program in params.tools.items()}
    missing = [params.tools[variable] for variable, program in found.items() if program is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed: pip install -e .[fpga]")
    return found | {"OPENFPGALOADER": shutil.which("true"), "ICEPROG": shutil.which("true")}


def _used(params: BoardParams, report: dict) -> dict[str, int]:
    used = dict.fromkeys(params.totals, 0)
    for cell, count in report["utilization"].items():
        if cell in params.cells:
            used[params.cells[cell]] += count["used"]
    return used


def _reason(folder: Path, done: subprocess.CompletedProcess) -> str:
    """The first error that a tool wrote."""
    logs = [path.read_text(errors="replace") for path in (folder / "top.tim", folder / "top.rpt") if path.exists()]
    for text in (*logs, done.stdout, done.stderr):
        found = re.search(r"^ERROR: (.*)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
