"""cocotb tests of the exported machine whose PEs are AXI4 managers: memories by others, runs stopped in the middle."""

import dataclasses
import os

import cocotb
from cocotb.task import bridge
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiResp, AxiSlave, MemoryRegion

from cycle_model.pe.exact import exact
from cycle_model.pe.functional import functional
from hw.isa.counters import COUNTER_PLACES
from hw.isa.encoding import PeError
from hw.memory_map import PAGE_BYTES, WORD_BYTES, BufferSizes, die_map
from hw.params import chip
from sw_stack.host.board import RemoteBoard, visible
from verification.bench.axi_cocotb import (
    STALLS,
    RegisterLink,
    lite_manager,
    read_register,
    reset,
    stall,
    start_clock,
    write_register,
)
from verification.programs.expert_cases import random_case
from verification.programs.generator import random_program

_PRESET = chip(os.environ["CHIP"])
CHIP = dataclasses.replace(_PRESET, pes=min(_PRESET.pes, 2), memory="axi")
MAP = die_map(CHIP, BufferSizes())
WIDTH = CHIP.hb.column_bytes
MISSING = 5
"""Words of a refill that do not come: it stands in the middle of a burst."""
SIZE = CHIP.hb.capacity_bytes + 4 * PAGE_BYTES


class _Memory:
    """A PE's memory: the subordinate at its port, and its bytes (`sw_stack.host.board.BankMemory`)."""

    def __init__(self, dut, pe: int, probability: float):
        self.base = (2 + pe) * PAGE_BYTES
        self._bytes = MemoryRegion(SIZE)
        self.port = AxiSlave(AxiBus.from_prefix(dut, f"m{pe:02}_axi"), dut.clk, dut.rst, target=self._bytes)
        for side in (self.port.write_if, self.port.read_if):
            side.log.setLevel("WARNING")
        stall(self.port, probability)

    def read(self, address: int, size: int) -> bytes:
        """Bytes from ``address`` on."""
        return bytes(self._bytes.mem[address : address + size])

    def write(self, address: int, content: bytes) -> None:
        """Bytes from ``address`` on."""
        self._bytes.mem[address : address + len(content)] = content

    def fill(self, columns: dict[int, int]) -> None:
        """Write data columns of the bank."""
        for column, word in columns.items():
            self.write(self.base + column * WIDTH, word.to_bytes(WIDTH, "little"))


class _Machine:
    """The simulated machine with a memory at every PE, and what its host does."""

    def __init__(self, dut, probability: float = 0.0):
        self._dut = dut
        start_clock(dut)
        self._registers = lite_manager(dut)
        self.memories = [_Memory(dut, pe, probability) for pe in range(CHIP.pes)]

    def board(self, pe: int) -> RemoteBoard:
        """The host library's board; under `bridge` only."""
        memory = self.memories[pe]
        return RemoteBoard(RegisterLink(self._registers), CHIP, pe, memory, memory.base)

    async def read(self, name: str, word: int = 0) -> int:
        """A register of PE 0."""
        return await read_register(self._registers, MAP.find(f"pe.{name}")[0] + WORD_BYTES * word)

    async def write(self, name: str, value: int) -> None:
        """Write a register of PE 0."""
        await write_register(self._registers, MAP.find(f"pe.{name}")[0], value)

    async def status(self) -> dict[str, int]:
        """STATUS of PE 0."""
        return MAP.find("pe.STATUS")[1].unpack(await self.read("STATUS"))

    async def finished(self) -> dict[str, int]:
        """STATUS of PE 0 once its program is over."""
        for _ in range(1000):
            if (status := await self.status())["finished"]:
                return status
        raise AssertionError("the program does not end")

    async def refused(self, address: int) -> bool:
        """Whether a register cannot be read."""
        return (await self._registers.read(address, WORD_BYTES)).resp == AxiResp.SLVERR

    async def sent(self) -> list[int]:
        """OUT of PE 0."""
        lanes = CHIP.array.columns
        words = [await self.read("OUT", i) for i in range(lanes * await self.read("OUT_COUNT"))]
        return [sum(words[lanes * i + k] << 32 * k for k in range(lanes)) for i in range(len(words) // lanes)]

    async def until(self, *names: str) -> None:
        """Until these signals of PE 0's port are high together."""
        for _ in range(2000):
            await RisingEdge(self._dut.clk)
            if all(int(getattr(self._dut, f"m00_axi_{name}").value) for name in names):
                return
        raise AssertionError(f"never {' and '.join(names)}")


async def _machine(dut, stalls: str = "none") -> _Machine:
    machine = _Machine(dut, STALLS[stalls])
    await reset(dut)
    return machine


def _program():
    """A few loads and refills, small since registers are slow; what its memories hold is sent. Nothing comes late."""
    program = random_program(CHIP, 1043, commands=3, show=True)
    stream, aggregation = (
        [dataclasses.replace(chunk, available=0) for chunk in chunks]
        for chunks in (program.stream, program.aggregation)
    )
    return dataclasses.replace(program, stream=stream, aggregation=aggregation, host_cycles=(20,))


@cocotb.test()
async def stopped_in_a_transfer(dut):
    """A run stopped in the middle of a read or a write leaves the memory as it is and the next run undisturbed."""
    machine = await _machine(dut)
    program, memory = _program(), machine.memories[0]
    values, times = functional(program).state, exact(dataclasses.replace(program, chip=_PRESET))
    await bridge(lambda: machine.board(0).load(program))()

    async def check() -> None:
        status = await machine.finished()
        assert (status["error"], status["bus_error"]) == (0, 0)
        assert await machine.sent() == values.out
        assert await machine.read("AXI_READS") == times.counters["hb_reads"]
        for column, word in values.memories["HB"].items():
            assert memory.read(memory.base + column * WIDTH, WIDTH) == word.to_bytes(WIDTH, "little")

    # A read whose beats come only when the next run has been asked for.
    beats = memory.port.read_if.r_channel
    beats.pause = True
    await machine.write("CONTROL", 1)
    await machine.until("arvalid", "arready")
    await machine.write("CONTROL", 0)
    await machine.write("CONTROL", 1)
    await ClockCycles(dut.clk, 50)
    assert await machine.read("CYCLES") == 0  # it has to wait
    beats.pause = False
    await check()

    # A refill that gets no more words: its burst goes out to the end, without strobes.
    await machine.write("CONTROL", 0)
    words = await machine.read("STREAM_COUNT")
    await machine.write("STREAM_COUNT", words - MISSING)
    memory.fill(program.hb)  # the program loads columns that it refills
    await machine.write("CONTROL", 1)
    await ClockCycles(dut.clk, 400)
    assert not (await machine.status())["finished"]
    written = memory.read(0, SIZE)
    await machine.write("CONTROL", 0)
    await ClockCycles(dut.clk, 100)
    assert memory.read(0, SIZE) == written
    assert await machine.read("AXI_WRITES") == 0  # the PE is in reset
    memory.fill(program.hb)
    await machine.write("STREAM_COUNT", words)
    await machine.write("CONTROL", 1)
    await check()


@cocotb.test()
async def a_memory_that_is_not_there(dut):
    """Behind the memory's end: the PE stops with its error, bus_error is up, errors are counted; then all is well."""
    machine = await _machine(dut)
    program = _program()
    await bridge(lambda: machine.board(0).load(program))()
    base = await machine.read("MEMORY_BASE")
    await machine.write("MEMORY_BASE", SIZE // PAGE_BYTES + 1)
    await machine.write("CONTROL", 1)
    status = await machine.finished()
    assert PeError(status["error"]) in (PeError.HB_UNCORRECTABLE, PeError.HB_REFUSED)
    assert status["bus_error"] == 1
    await machine.write("CONTROL", 0)
    await machine.write("MEMORY_BASE", base)
    await machine.write("CONTROL", 1)
    status = await machine.finished()
    assert (status["error"], status["bus_error"], await machine.read("AXI_ERRORS")) == (0, 0, 0)
    assert await machine.sent() == functional(program).state.out


@cocotb.test()
async def what_nobody_knows_is_no_register(dut):
    """Activations, refreshes, row conflicts and the BANK window are answered with errors, not with zeros."""
    machine = await _machine(dut)
    block = MAP.blocks[1].base
    for name in ("hb_activates", "hb_refreshes", "hb_row_conflicts", "hb_stream_stalls", "hb_reads"):
        assert await machine.refused(block + 0x100 + WORD_BYTES * COUNTER_PLACES[name])
    assert await machine.refused(block + 0x8_0000)
    assert not await machine.refused(block + 0x100 + WORD_BYTES * COUNTER_PLACES["axi_reads"])


@cocotb.test()
@cocotb.parametrize(pe=range(CHIP.pes))
async def an_expert_through_the_host(dut, pe):
    """The host library runs an expert on a PE whose memory stalls: the model's bits; cycles are the memory's."""
    machine = await _machine(dut, "light")
    program = random_case(8, outputs=32, hidden=32, experts=1, k=1, tokens=2).program(CHIP, "full", "hb")
    values, times = functional(program), exact(dataclasses.replace(program, chip=_PRESET))
    run = await with_timeout(
        cocotb.start_soon(bridge(lambda: machine.board(pe).run(program, values.state.memories["HB"]))()), 1, "ms"
    )
    assert run.error is None
    assert run.state.digest(CHIP) == visible(values.state).digest(CHIP)
    assert run.counters["axi_reads"] == times.counters["hb_reads"]
    assert run.counters["array_groups"] == times.counters["array_groups"]
    dut._log.info(f"{run.cycles} cycles, {times.cycles} with an HB bank")
