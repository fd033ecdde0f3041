"""cocotb tests of a bank behind AXI4: a manager written by others (cocotbext-axi) against a byte array."""

import os
import random

import cocotb
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBurstType, AxiMaster, AxiResp

from hw.die.axi_memory import on_chip
from hw.params import chip
from verification.bench.axi_cocotb import STALLS, memory_manager, reset, start_clock

PARAMS = on_chip(chip(os.environ["CHIP"]).hb)


async def _manager(dut, stall: str = "none") -> AxiMaster:
    start_clock(dut)
    manager = memory_manager(dut, STALLS[stall])
    await reset(dut)
    return manager


@cocotb.test()
@cocotb.parametrize(stall=list(STALLS))
async def writes_and_reads(dut, stall):
    """Whole columns anywhere, over rows and 4 KB boundaries, many requests at once: reads give what was written."""
    manager = await _manager(dut, stall)
    rng = random.Random(1)
    size, width = PARAMS.capacity_bytes, PARAMS.column_bytes
    memory = bytearray(size)

    async def both(address: int, data: bytes) -> None:
        answer = await manager.write(address, data)
        assert answer.resp == AxiResp.OKAY
        memory[address : address + len(data)] = data
        read = await manager.read(address, len(data))
        assert read.resp == AxiResp.OKAY
        assert bytes(read.data) == data, f"at {address:#x}"

    places = [(4096 - 3 * width, 7), (0, 1), (size - 2 * width, 2), (PARAMS.data_columns * width - width, 5)]
    places += [(rng.randrange(0, size // width - 16) * width, rng.randrange(1, 16)) for _ in range(6)]
    for address, columns in places:
        await with_timeout(both(address, rng.randbytes(columns * width)), 400, "us")
    # Overlapping requests: later writes of other places wait behind earlier ones, whatever the identifiers.
    tasks = [cocotb.start_soon(both(256 * i, rng.randbytes(4 * width))) for i in range(4)]
    for task in tasks:
        await with_timeout(task, 400, "us")
    assert int(dut.violation.value) == 0


@cocotb.test()
async def wrong_bursts_are_refused(dut):
    """FIXED bursts, narrow ones, parts of columns, and addresses beyond the bank: SLVERR, nothing written, no hang."""
    manager = await _manager(dut)
    width, size = PARAMS.column_bytes, PARAMS.capacity_bytes
    before = bytes(range(2 * width))
    await manager.write(0, before)
    wrong = [
        {"address": 0, "data": bytes(2 * width), "burst": AxiBurstType.FIXED},
        {"address": 0, "data": bytes(width), "size": 2},
        {"address": 1, "data": bytes(width - 1)},
        {"address": 0, "data": bytes(width - 1)},
        {"address": size, "data": bytes(width)},
    ]
    for request in wrong:
        answer = await with_timeout(manager.write(**request), 20, "us")
        assert answer.resp == AxiResp.SLVERR, request
    for request in ({"address": size, "length": 3 * width}, {"address": 0, "length": width, "size": 2}):
        answer = await with_timeout(manager.read(**request), 20, "us")
        assert answer.resp == AxiResp.SLVERR, request
    answer = await with_timeout(manager.read(0, 2 * width), 20, "us")
    assert (answer.resp, bytes(answer.data)) == (AxiResp.OKAY, before)


@cocotb.test()
async def a_burst_over_a_boundary_is_refused(dut):
    """A manager that breaks the 4 KB rule (this one is driven by hand) gets SLVERR on each beat."""
    start_clock(dut, ("s_axi_awvalid", "s_axi_wvalid", "s_axi_bready"))
    await reset(dut)
    width = PARAMS.column_bytes
    dut.s_axi_araddr.value = 4096 - width
    dut.s_axi_arlen.value = 1
    dut.s_axi_arsize.value = (width - 1).bit_length()
    dut.s_axi_arburst.value = 1
    dut.s_axi_arvalid.value = 1
    dut.s_axi_rready.value = 1
    seen = []
    for _ in range(30):
        await RisingEdge(dut.clk)
        if int(dut.s_axi_arready.value) and int(dut.s_axi_arvalid.value):
            dut.s_axi_arvalid.value = 0
        if int(dut.s_axi_rvalid.value):
            seen.append((int(dut.s_axi_rresp.value), int(dut.s_axi_rlast.value)))
    assert seen == [(2, 0), (2, 1)]
