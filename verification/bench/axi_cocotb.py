"""What the cocotb tests of AXI ports share: stalls, reset, and managers written by others (cocotbext-axi)."""

import random
from collections.abc import Iterable, Iterator

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster

STALLS = {"none": 0.0, "light": 0.2, "heavy": 0.8}
"""Name -> probability that a channel pauses in a cycle."""


def pauses(seed: int, probability: float) -> Iterator[bool]:
    """Whether a channel pauses, cycle by cycle."""
    rng = random.Random(seed)
    while True:
        yield rng.random() < probability


def stall(port, probability: float) -> None:
    """Let all five channels of ``port`` (a manager, a memory) pause with ``probability`` in every cycle."""
    writes, reads = port.write_if, port.read_if
    channels = (writes.aw_channel, writes.w_channel, writes.b_channel, reads.ar_channel, reads.r_channel)
    if probability:
        for seed, channel in enumerate(channels):
            channel.set_pause_generator(pauses(seed, probability))


def start_clock(dut: SimHandleBase, low: Iterable[str] = ()) -> None:
    """Run the clock, 2 ns a cycle, and drive the inputs called ``low`` to 0."""
    cocotb.start_soon(Clock(dut.clk, 2, unit="ns").start())
    for name in low:
        getattr(dut, name).value = 0


async def reset(dut: SimHandleBase) -> None:
    """Two cycles of reset, and one behind it."""
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


def lite_manager(dut: SimHandleBase, probability: float = 0.0) -> AxiLiteMaster:
    """A manager at ``s_axil_*``."""
    manager = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    stall(manager, probability)
    return manager


def memory_manager(dut: SimHandleBase, probability: float = 0.0) -> AxiMaster:
    """A manager at ``s_axi_*``."""
    manager = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    stall(manager, probability)
    return manager
