"""From a block to Verilog text: same bytes every time, every repeated module once, names kept."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.errors import UserError, nearest
from hw.files import write_atomic
from hw.hierarchy import DefineOnce
from hw.params import ChipParams, chip
from rtl_gen.blocks import BLOCKS
from rtl_gen.rtlil import tidy
from rtl_gen.sidecar import GENERATOR, sidecar

OUTPUT = Path("build/verilog")

# Yosys' -nomux keeps if and case as written; registers and memories become `always @(posedge clk)`.
_SCRIPT = """
hierarchy -check -top {top}
proc -nomux -norom
memory_collect
write_verilog -norename -noattr
"""
_SIMULATION_START = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")


@dataclass(frozen=True)
class Exported:
    """One block as Verilog.

    block, chip, top  names of block, preset and top module
    verilog           the text; modules appear top first, then by name
    modules           number of modules defined
    seconds           time the export took
    component         the top, for its layouts and latency
    """

    block: str
    chip: ChipParams
    top: str
    verilog: str
    modules: int
    seconds: float
    component: wiring.Component

    @property
    def sidecar(self) -> dict:
        """What a user of the file needs to know about it, as JSON-ready data."""
        return sidecar(self.block, self.chip, self.top, self.component, self.verilog)


def build(block: str, chip_name: str) -> tuple[wiring.Component, ChipParams]:
    """The component called ``block`` at the sizes of ``chip_name``; UserError for unknown names."""
    if block not in BLOCKS:
        raise UserError(f"unknown block {block!r}; {nearest(block, list(BLOCKS))}")
    sizes = chip(chip_name)
    return BLOCKS[block].build(sizes), sizes


def export(block: str, chip_name: str) -> Exported:
    """Convert ``block`` at the sizes of chip ``chip_name``.

    Every repeated component is converted once and instantiated by name. Deterministic: the same sources and tool
    versions give the same bytes.
    """
    start = time.monotonic()
    component, sizes = build(block, chip_name)
    text = convert(component, block, f"{GENERATOR}: block {block}, chip {chip_name}")
    modules = len(re.findall(r"^module ", text, re.MULTILINE))
    return Exported(block, sizes, block, text, modules, time.monotonic() - start, component)


def convert(component: wiring.Component, top: str, title: str) -> str:
    """Verilog of ``component`` as module ``top``, children included; ``title`` heads the text as a comment."""
    platform = DefineOnce()
    texts = [_tidy_rtlil(component, top, platform)]
    defined: set[str] = {top}
    while pending := [name for name in platform.definitions if name not in defined]:
        for name in pending:
            texts.append(_tidy_rtlil(platform.definitions[name], name, platform))
            defined.add(name)

    yosys = find_yosys(lambda version: version >= (0, 40))
    designs = (f"read_rtlil <<rtlil\n{text}\nrtlil" for text in texts)
    # Yosys warns that some processes cannot be written as Verilog; Amaranth emits only those that can.
    written = yosys.run(["-q", "-"], "\n".join([*designs, _SCRIPT.format(top=top)]), ignore_warnings=True)
    return _ordered(written, top, title)


def _tidy_rtlil(component: wiring.Component, name: str, platform: DefineOnce) -> str:
    ports = ["__".join(map(str, path)) for path, _, _ in component.signature.flatten(component)]
    return tidy(rtlil.convert(component, name=name, platform=platform, emit_src=False), ports)


def _ordered(text: str, top: str, title: str) -> str:
    """Modules top first, then by name, under one comment line."""
    text = _SIMULATION_START.sub("simulation_start", text)
    modules = re.findall(r"^module .*?^endmodule$", text, re.MULTILINE | re.DOTALL)
    modules = [_without_unread_constants(module) for module in modules]
    modules.sort(key=lambda module: (not module.startswith(f"module {top}("), module))
    return "\n\n".join([f"// {title}", *modules]) + "\n"


def _without_unread_constants(module: str) -> str:
    """Drop wires that only hold a constant which Yosys has already put where it is used (comparisons of no width)."""
    names = Counter(re.findall(r"\w+", module))
    for line, name in re.findall(r"^(  assign (\w+) = \d+'h[0-9a-f]+;\n)", module, re.MULTILINE):
        if names[name] == 2:
            module = re.sub(rf"^  wire (\[\d+:0\] )?{name};\n", "", module.replace(line, ""), flags=re.MULTILINE)
    return module


def write(exported: Exported, folder: Path | str | None = None) -> tuple[Path, Path]:
    """Write the Verilog and its sidecar into ``folder``, ``build/verilog/<chip>`` unless given; their paths."""
    folder = Path(folder) if folder is not None else OUTPUT / exported.chip.name
    data = json.dumps(exported.sidecar, indent=1) + "\n"
    verilog = write_atomic(folder / f"{exported.block}.v", exported.verilog)
    return verilog, write_atomic(folder / f"{exported.block}.json", data)
