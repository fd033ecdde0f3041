"""What a vendor's tools get: the machine behind AXI ports as one file and as one file a module, and templates."""

import re
from pathlib import Path

from hw.die.axi_machine import AxiMachine
from hw.files import write_atomic
from hw.memory_map import BankWindows, BufferSizes, die_map
from hw.params import ChipParams
from rtl_gen.registers import c_header, markdown
from rtl_gen.sidecar import GENERATOR
from rtl_gen.verilog import convert

OUTPUT = Path("build/handover")
TOP = "elmoe3d"

_PACKAGE = """# {generator}. Vivado: vivado -mode batch -source package.tcl
# Not run by this project, which has no Vivado. Port names ({ports}, clk, rst) are those that its packager infers.
create_project -in_memory -part xcu280-fsvh2892-2L-e
add_files [glob ./modules/*.v]
set_property top {top} [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir ./ip -vendor elmoe3d -library ip -taxonomy /UserIP -import_files
set core [ipx::current_core]
set_property name {top} $core
ipx::infer_bus_interface clk xilinx.com:signal:clock_rtl:1.0 $core
ipx::infer_bus_interface rst xilinx.com:signal:reset_rtl:1.0 $core
set reset [ipx::get_bus_interfaces rst -of_objects $core]
ipx::add_bus_parameter POLARITY $reset
set_property value ACTIVE_HIGH [ipx::get_bus_parameters POLARITY -of_objects $reset]
{associations}
ipx::save_core $core
"""
_CONSTRAINTS = """# {generator}. One clock; nothing crosses clock domains, no path is false or takes several cycles.
create_clock -name clk -period {period:.3f} [get_ports clk]
"""


def write_handover(chip: ChipParams, clock_mhz: float, folder: Path | None = None) -> list[Path]:
    """Write single file, modules, file list, packaging script, constraints, C header and register tables; their paths.

    The ports of the machine depend on ``chip.memory`` (`hw.die.axi_machine.AxiMachine`). Raises UserError where the
    chip's memories do not fit the register map.
    """
    folder = OUTPUT / (chip.name + ("-axi" if chip.memory == "axi" else "")) if folder is None else folder
    banks = BankWindows(chip.hb, chip.pes) if chip.memory == "hb" else None
    buses = ["s_axil", "s_axi"] if banks else ["s_axil", *(f"m{pe:02}_axi" for pe in range(chip.pes))]
    memory_map = die_map(chip, BufferSizes())
    text = convert(AxiMachine(chip), TOP, f"{GENERATOR}: machine of chip {chip.name}, memory {chip.memory}")
    modules = re.findall(r"^module (\w+).*?^endmodule$", text, re.MULTILINE | re.DOTALL)
    bodies = re.findall(r"^module .*?^endmodule$", text, re.MULTILINE | re.DOTALL)
    names = {
        "generator": GENERATOR,
        "top": TOP,
        "period": 1000 / clock_mhz,
        "ports": ", ".join(f"{bus}_*" for bus in buses[:2]),
        "associations": "\n".join(f"ipx::associate_bus_interfaces -busif {bus} -clock clk $core" for bus in buses),
    }
    written = [
        write_atomic(folder / f"{TOP}.v", text),
        *(
            write_atomic(folder / "modules" / f"{name}.v", f"{body}\n")
            for name, body in zip(modules, bodies, strict=True)
        ),
        write_atomic(folder / "files.f", "".join(f"modules/{name}.v\n" for name in modules)),
        write_atomic(folder / "package.tcl", _PACKAGE.format(**names)),
        write_atomic(folder / "constraints.xdc", _CONSTRAINTS.format(**names)),
        write_atomic(folder / "elmoe3d_registers.h", c_header(memory_map, banks)),
        write_atomic(folder / "registers.md", markdown(memory_map, banks)),
    ]
    return written
