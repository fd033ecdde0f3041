"""What the cocotb tests of AXI ports share: stalls, reset, and managers written by others (cocotbext-axi)."""

import random
from collections.abc import Iterable, Iterator, Sequence

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.task import resume
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiResp

from hw.memory_map import WORD_BYTES

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


class RegisterLink:
    """The host library's link over AXI4-Lite, for code that runs under `cocotb.task.bridge`."""

    def __init__(self, manager: AxiLiteMaster):
        self._manager = manager

    @resume
    async def read(self, address: int, count: int) -> list[int]:
        """``count`` registers from ``address`` on."""
        return [await read_register(self._manager, address + WORD_BYTES * i) for i in range(count)]

    @resume
    async def write(self, address: int, words: Sequence[int]) -> None:
        """Registers from ``address`` on."""
        for i, word in enumerate(words):
            await write_register(self._manager, address + WORD_BYTES * i, word)


class MemoryLink:
    """`sw_stack.host.board.BankMemory` over AXI4, for code that runs under `cocotb.task.bridge`."""

    def __init__(self, manager: AxiMaster):
        self._manager = manager

    @resume
    async def read(self, address: int, size: int) -> bytes:
        """Bytes from ``address`` on."""
        answer = await self._manager.read(address, size)
        assert answer.resp == AxiResp.OKAY, f"read of {size} bytes at {address:#x}: {answer.resp}"
        return bytes(answer.data)

    @resume
    async def write(self, address: int, content: bytes) -> None:
        """Bytes from ``address`` on."""
        answer = await self._manager.write(address, content)
        assert answer.resp == AxiResp.OKAY, f"write of {len(content)} bytes at {address:#x}: {answer.resp}"


async def read_register(manager: AxiLiteMaster, address: int) -> int:
    """A register's value; AssertionError where the answer is an error."""
    answer = await manager.read(address, WORD_BYTES)
    assert answer.resp == AxiResp.OKAY, f"read of {address:#x}: {answer.resp}"
    return int.from_bytes(answer.data, "little")


async def write_register(manager: AxiLiteMaster, address: int, value: int) -> None:
    """Write a register; AssertionError where the answer is an error."""
    answer = await manager.write(address, value.to_bytes(WORD_BYTES, "little"))
    assert answer.resp == AxiResp.OKAY, f"write of {address:#x}: {answer.resp}"
