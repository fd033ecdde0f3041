"""FPGA boards that the machine is built for, one module each; `board` finds one by name."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from amaranth.build import Platform
from amaranth.lib import wiring

from hw.die.board import Board
from hw.errors import UserError, nearest
from hw.params import ArrayParams, ChipParams


@dataclass(frozen=True, kw_only=True)
class BoardParams:
    """What `rtl_gen.fpga` needs to know of a board.

    name, note   as users see it
    platform     makes the Amaranth platform
    tools        environment variable of Amaranth's build scripts -> program of the wheel
    clock_mhz    of the oscillator, the clock of the whole design
    baud         of the serial line
    chip         sizes built unless others are asked for
    array        of a chip's PE, as far as the board has it
    machine      what is built: chip and cycles of a bit -> component with receive, transmit, running, slice_macs
    totals       LUT, FF, BRAM, DSP in the device
    cells        nextpnr's cell type -> the resource of ``totals`` that it uses
    synth_settings            Yosys commands before synthesis
    synth_opts, nextpnr_opts  for the tools
    """

    name: str
    note: str
    platform: Callable[[], Platform]
    tools: dict[str, str]
    clock_mhz: float
    baud: int
    chip: str
    totals: dict[str, int]
    cells: dict[str, str]
    array: Callable[[ChipParams], ArrayParams] = attrgetter("array")
    machine: Callable[[ChipParams, int], wiring.Component] = Board
    synth_settings: str = ""
    synth_opts: str = ""
    nextpnr_opts: str = ""

    @property
    def cycles_per_bit(self) -> int:
        """Clock cycles of a bit on the serial line."""
        return round(self.clock_mhz * 1e6 / self.baud)


def boards() -> list[str]:
    """Names of all boards."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def board(name: str) -> BoardParams:
    """The board called ``name``; UserError with the nearest known name, or where amaranth-boards is missing."""
    if name not in boards():
        raise UserError(f"unknown board {name!r}; {nearest(name, boards())}")
    try:
        return importlib.import_module(f"rtl_gen.boards.{name}").BOARD
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install -e .[fpga]") from error
