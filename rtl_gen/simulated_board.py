"""A board simulated at its UART pins: the Verilog of what goes on the FPGA, behind a port like a serial one.

Or the netlist behind its synthesis, which says that Yosys made of that Verilog what the models promise.
"""

import hashlib
import os
import select
import subprocess
from pathlib import Path

from amaranth.back import verilog

from hw.die.board import Board
from hw.errors import UserError
from hw.files import write_atomic
from hw.params import ChipParams
from rtl_gen.verilator import verilator_environment

OUTPUT = Path("build/simulated_board")
CYCLES_PER_BIT = 4
"""Of the serial line: the least that the receiver can do, since a simulated board has no real one."""
HARNESS = Path(__file__).with_name("board_harness.cpp")


def board_verilog(chip: ChipParams, cycles_per_bit: int) -> str:
    """The board's machine as one Verilog text, module ``board``."""
    return verilog.convert(Board(chip, cycles_per_bit), name="board", emit_src=False)


def build(chip: ChipParams, *, netlist: bool = False) -> Path:
    """The simulator's program, compiled unless it was before; with ``netlist`` of the cells behind synthesis (slow).

    Raises UserError where Verilator, a compiler or Yosys is missing or fails.
    """
    if netlist:
        from rtl_gen.netlist import ecp5_netlist

        text = ecp5_netlist(Board(chip, CYCLES_PER_BIT), "board").text
        split = "200000"
    else:
        text = board_verilog(chip, CYCLES_PER_BIT)
        split = "0"  # one file, since reading Verilator's headers costs more than the code
    key = hashlib.sha256((text + HARNESS.read_text() + str(CYCLES_PER_BIT)).encode()).hexdigest()[:16]
    folder = (OUTPUT / f"{chip.name}{'-netlist' * netlist}-{key}").absolute()
    program = folder / "board"
    if program.exists():
        return program
    source = write_atomic(folder / "board.v", text)
    command = [
        "verilator",
        *("-cc", "--exe", "--build", "-O3", "-Wno-fatal", "--prefix", "Vboard", "--top-module", "board"),
        *("-CFLAGS", f"-DCYCLES_PER_BIT={CYCLES_PER_BIT}", "-Mdir", str(folder), "-o", "board"),
        *("--output-split", split),
        # Unoptimised: it compiles in 11 s of processor time, and the serial line decides how long a run takes.
        # The wheel names precompiled headers but does not include them.
        *("-MAKEFLAGS", "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0 CFG_CXXFLAGS_PCH_I=-include"),
        str(source),
        str(HARNESS),
    ]
    done = subprocess.run(command, env=verilator_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"Verilator did not build the board: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    return program


class SimulatedPort:
    """A running simulation as a `sw_stack.host.link.Port`; a context manager that ends it."""

    def __init__(self, program: Path):
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> "SimulatedPort":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none after 50 ms without any."""
        ready, _, _ = select.select([self._process.stdout], [], [], 0.05)
        content = os.read(self._process.stdout.fileno(), size) if ready else b""
        if ready and not content:
            raise OSError("the simulation ended")
        return content

    def write(self, content: bytes) -> int:
        """Send bytes to the board's receiver."""
        return self._process.stdin.write(content)

    def close(self) -> None:
        """End the simulation."""
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()
