"""Run programs on the exported PE with an AXI4 manager: its memory is one that others wrote (cocotbext-axi)."""

import random
from collections import Counter

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam

from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import ChipParams
from verification.bench.axi_cocotb import stall
from verification.bench.cocotb_streams import sample
from verification.bench.pe_cocotb import VerilogPe

BASE = 3 * 4096
"""Where the bank begins in the memory."""


class AxiVerilogPe(VerilogPe):
    """The simulated ``pe_axi`` of ``chip`` (with ``memory`` "axi"), and its memory.

    ``stalls`` is the probability that a channel of the memory pauses in a cycle: back-pressure, and a latency that
    changes from beat to beat. Of the last run, ``seen`` counts what passed the port's pins, and ``before`` is what the
    memory held at first.
    """

    def __init__(self, dut: SimHandleBase, chip: ChipParams, stalls: float = 0.0):
        super().__init__(dut, chip)
        self._chip = chip
        self._inputs = {name: port for name, port in self._inputs.items() if not name.startswith("m_axi_")}
        self._outputs = {name: port for name, port in self._outputs.items() if not name.startswith("m_axi_")}
        self._size = BASE + chip.hb.capacity_bytes + 4096
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=self._size)
        self.ram.write_if.log.setLevel("WARNING")
        self.ram.read_if.log.setLevel("WARNING")
        stall(self.ram, stalls)
        self.seen: Counter[str] = Counter()
        self.before = b""

    async def run(self, program: PeProgram, limit: int = 1_000_000) -> RunResult:
        """As `VerilogPe.run`; the memory holds the program's image in the midst of noise."""
        self.ram.write(0, random.Random(len(program.instructions)).randbytes(self._size))
        self.put(program.hb)
        self.before = self.contents()
        watching = cocotb.start_soon(self._watch())
        result = await super().run(program, limit)
        watching.cancel()
        result.state.memories["HB"] = {}  # who wrote it, only the memory knows: `columns`, `contents`
        return result

    def _reset_values(self) -> dict[str, int]:
        return super()._reset_values() | {"memory_base": BASE}

    def put(self, columns: dict[int, int]) -> None:
        """Write data columns."""
        width = self._chip.hb.column_bytes
        for column, word in columns.items():
            self.ram.write(BASE + column * width, word.to_bytes(width, "little"))

    def contents(self) -> bytes:
        """Every byte of the memory, those around the bank too."""
        return self.ram.read(0, self._size)

    async def _watch(self) -> None:
        """Count handshakes and stalls at the pins, outside reset."""
        self.seen.clear()
        names = [f"{channel}{signal}" for channel in ("aw", "w", "b", "ar", "r") for signal in ("valid", "ready")]
        ports = {name: getattr(self._dut, f"m_axi_{name}") for name in names}
        while True:
            await RisingEdge(self._dut.clk)
            if sample(self._dut.rst):
                continue
            now = {name: sample(port) for name, port in ports.items()}
            for channel in ("aw", "w", "b", "ar", "r"):
                if now[f"{channel}valid"]:
                    self.seen[f"{channel} {'taken' if now[f'{channel}ready'] else 'stalled'}"] += 1
