"""cocotb tests of the register map behind AXI4-Lite: a manager written by others (cocotbext-axi)."""

import os

import cocotb
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiLiteMaster, AxiResp

from hw.memory_map import IDENTITY, Access, BufferSizes, die_map
from hw.params import chip
from verification.bench.axi_cocotb import STALLS, lite_manager, reset, start_clock

CHIP = chip(os.environ["CHIP"])
MAP = die_map(CHIP, BufferSizes())


async def _manager(dut, stall: str = "none") -> AxiLiteMaster:
    start_clock(dut)
    manager = lite_manager(dut, STALLS[stall])
    await reset(dut)
    return manager


async def _read(manager, address: int) -> tuple[int, AxiResp]:
    answer = await with_timeout(manager.read(address, 4), 2, "us")
    return int.from_bytes(answer.data, "little"), answer.resp


async def _write(manager, address: int, value: int) -> AxiResp:
    return (await with_timeout(manager.write(address, value.to_bytes(4, "little")), 2, "us")).resp


@cocotb.test()
@cocotb.parametrize(stall=["none", "heavy"])
async def registers(dut, stall):
    """Constants read as described, written registers keep their fields and drive their ports, of every PE its own."""
    manager = await _manager(dut, stall)
    assert await _read(manager, 0) == (IDENTITY, AxiResp.OKAY)
    for register in MAP.blocks[0].registers:
        if register.access is Access.CONSTANT:
            assert await _read(manager, register.offset) == (register.constant, AxiResp.OKAY)
            assert await _write(manager, register.offset, 1) == AxiResp.SLVERR
    for pe in range(CHIP.pes):
        for name, value in (("STREAM_COUNT", 0x1234 + pe), ("HOST_LATENCY", 7 + pe)):
            address, _ = MAP.find(f"pe.{name}", pe)
            assert await _write(manager, address, value) == AxiResp.OKAY
    for pe in range(CHIP.pes):
        address, _ = MAP.find("pe.STREAM_COUNT", pe)
        assert await _read(manager, address) == (0x1234 + pe, AxiResp.OKAY)
        assert int(getattr(dut, f"pe__{pe}__host_latency").value) == 7 + pe
        getattr(dut, f"pe__{pe}__cycles").value = 0xABCD0000 + pe
        assert await _read(manager, MAP.find("pe.CYCLES", pe)[0]) == (0xABCD0000 + pe, AxiResp.OKAY)


@cocotb.test()
async def windows(dut):
    """A window's accesses reach its memory with word address and data, and no other's; its answer comes back."""
    manager = await _manager(dut)
    seen = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            for name in ("bank", "out", "stream"):
                if int(getattr(dut, f"pe__0__{name}__en").value):
                    port = {part: int(getattr(dut, f"pe__0__{name}__{part}").value) for part in ("write", "address")}
                    seen.append((name, port["write"], port["address"], int(getattr(dut, f"pe__0__{name}__data").value)))

    cocotb.start_soon(watch())
    bank, window = MAP.find("pe.BANK")
    dut.pe__0__bank__read_data.value = 0x600D
    last = window.words - 1
    assert await _write(manager, bank + 4 * last, 0xFEED) == AxiResp.OKAY
    assert await _read(manager, bank) == (0x600D, AxiResp.OKAY)
    assert [(name, write, address) for name, write, address, _ in seen] == [("bank", 1, last), ("bank", 0, 0)]
    assert seen[0][3] == 0xFEED
    seen.clear()
    assert await _write(manager, MAP.find("pe.OUT")[0], 1) == AxiResp.SLVERR  # the host only reads it
    assert (await _read(manager, MAP.find("pe.STREAM")[0]))[1] == AxiResp.SLVERR  # the host only writes it
    assert seen == []


@cocotb.test()
async def outside_the_map(dut):
    """Unmapped and unaligned addresses, parts of words, writes of what is read: SLVERR, in bounded time, no effect."""
    manager = await _manager(dut)
    scratch, _ = MAP.find("id.SCRATCH")
    assert await _write(manager, scratch, 0x12345678) == AxiResp.OKAY
    behind = MAP.blocks[1].base + CHIP.pes * MAP.blocks[1].stride
    for address in (0x14, 0xFFC, behind, 0xFFFFFFFC, MAP.find("pe.CYCLES")[0] & ~0xFFFFF | 0xFFC):
        assert (await _read(manager, address))[1] == AxiResp.SLVERR, hex(address)
        assert await _write(manager, address, 5) == AxiResp.SLVERR, hex(address)
    assert await _write(manager, MAP.find("pe.CYCLES")[0], 5) == AxiResp.SLVERR
    part = await with_timeout(manager.write(scratch, b"\xff"), 2, "us")
    assert part.resp == AxiResp.SLVERR
    assert await _read(manager, scratch) == (0x12345678, AxiResp.OKAY)


@cocotb.test()
async def data_before_address(dut):
    """A write whose data comes ten cycles before its address, and the reverse, are the same write."""
    start_clock(dut, ("s_axil_awvalid", "s_axil_wvalid", "s_axil_arvalid"))
    dut.s_axil_bready.value, dut.s_axil_rready.value, dut.s_axil_wstrb.value = 1, 1, 0xF
    await reset(dut)
    scratch, _ = MAP.find("id.SCRATCH")
    for value, order in ((0xA5A5, ("w", "aw", "ar")), (0x5A5A, ("aw", "w", "ar"))):
        dut.s_axil_awaddr.value = dut.s_axil_araddr.value = scratch
        dut.s_axil_wdata.value = value
        read = []
        for channel in order:
            getattr(dut, f"s_axil_{channel}valid").value = 1
            await RisingEdge(dut.clk)
            getattr(dut, f"s_axil_{channel}valid").value = 0
            for _ in range(10):
                await RisingEdge(dut.clk)
                if int(dut.s_axil_rvalid.value):
                    read.append(int(dut.s_axil_rdata.value))
        assert read == [value]
