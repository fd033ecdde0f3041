"""From a board's name to a bitstream, through Amaranth's build system and open place-and-route, and what it takes."""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from amaranth.hdl import Elaboratable, Module

from hw.errors import UserError
from hw.params import ChipParams
from rtl_gen.boards import BoardParams
from rtl_gen.phases import run_phases

OUTPUT = Path("build/fpga")
TIMEOUT_SECONDS = 3600
NEXTPNR_OPTIONS = "--timing-allow-fail --report top.report.json"
NO_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i r:TRANSPARENCY_MASK=1'0 %i"
"""Yosys: a word that is read while it is written has any value, as in the devices' block RAM.

To give the old value, as `hw.memory.sram.Sram` does elsewhere, every memory would need a copy of its write port in
registers and a choice at its output. No program without races reads and writes one place in one cycle (docs/fpga.md).
"""


@dataclasses.dataclass(frozen=True)
class Build:
    """What became of a design.

    used       LUT, FF, BRAM, DSP
    fmax_mhz   of the design's clock after routing
    bitstream  file
    slice_macs of all PEs
    seconds    synthesis to bitstream, phases kept from an earlier build as long as they took then
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


def build(params: BoardParams, chip: ChipParams, seed: int = 1, tell: Callable[[str], None] = print) -> Build:
    """Build ``chip`` for the board, in build/fpga/<board>-<chip>.

    Parameters
    ----------
    params : BoardParams
    chip : ChipParams
    seed : int
        Of the placement.
    tell : callable
        Gets lines about the progress.

    Raises
    ------
    UserError
        A tool is missing, the design does not fit, or a tool fails: one line with the tool's reason.
    """
    folder = OUTPUT / f"{params.name}-{chip.name}"
    tools = _tools(params)
    top = _Top(params, chip)
    plan = params.platform().prepare(
        top,
        "top",
        synth_opts=params.synth_opts,
        nextpnr_opts=f"{NEXTPNR_OPTIONS} {params.nextpnr_opts} --seed {seed}",
        script_after_read=f"{NO_COLLISIONS}\n{params.synth_settings}",
    )
    plan.extract(str(folder))
    files = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
    try:
        seconds = run_phases(folder, files[f"{plan.script}.sh"], files, tools, TIMEOUT_SECONDS, tell)
    except UserError as error:
        raise UserError(f"chip {chip.name} cannot be built for {params.name}: {error}") from error
    report = json.loads((folder / "top.report.json").read_text())
    return Build(
        params,
        chip,
        _used(params, report),
        min(clock["achieved"] for clock in report["fmax"].values()),
        next(folder / name for name in ("top.bit", "top.bin") if (folder / name).exists()),
        top.slice_macs,
        seconds,
    )


def explored(smallest: ChipParams, params: BoardParams) -> Iterator[ChipParams]:
    """``smallest``, then larger arrays with the bank and everything else in proportion, where the board's grows too."""
    yield smallest
    most = params.array(smallest).slice_macs
    for rows, columns in ((2, 4), (4, 4), (4, 8), (8, 8)):
        array = dataclasses.replace(smallest.array, rows=rows, columns=columns)
        hb = dataclasses.replace(smallest.hb, data_bits=32 * columns)
        chip = dataclasses.replace(smallest, name=f"{rows}x{columns}x{array.depth}", array=array, hb=hb)
        if params.array(chip).slice_macs > most:
            most = params.array(chip).slice_macs
            yield chip


def _tools(params: BoardParams) -> dict[str, str]:
    """The wheels' programs, by the variables of the build script. What programs a board is not needed for building."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = {variable: shutil.which(program, path=search) for variable, program in params.tools.items()}
    missing = [params.tools[variable] for variable, program in found.items() if program is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed: pip install -e .[fpga]")
    return found


def _used(params: BoardParams, report: dict) -> dict[str, int]:
    used = dict.fromkeys(params.totals, 0)
    for cell, count in report["utilization"].items():
        if cell in params.cells:
            used[params.cells[cell]] += count["used"]
    return used
