"""AXI4 and AXI4-Lite under the exported Verilog, with managers and memories of cocotbext-axi."""

import dataclasses

import pytest
from amaranth.sim import Simulator

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from hw.die.axi_memory_subordinate import AxiMemorySubordinate
from hw.die.board import Board
from hw.die.die import Die
from hw.errors import UserError
from hw.memory.axi import Burst, Response
from hw.memory.axi_bank import AxiBank
from hw.memory_map import BankWindows, BufferSizes, die_map
from hw.params import AxiMasterParams, chip
from rtl_gen.compiled_pe import run_compiled
from rtl_gen.simulate import simulate_pe
from sw_stack.host.board import RemoteBoard
from verification.bench.cocotb_runner import simulate
from verification.programs.expert_cases import random_case

NO_EXPERT = "^(?!.*expert)"
"""Every cocotb test but those that run whole experts, which take longest."""


@pytest.mark.parametrize("block", ["axi_registers", "axi_memory", "axi_bank"])
def test_axi(block):
    """Values, error responses, back-pressure on every channel, the 4 KB boundary, both orders of address and data."""
    simulate(block, "tiny", "icarus")


@pytest.mark.timeout(300)
def test_banks_of_the_whole_machine():
    """The host's bursts to the banks: over both ports, outside the map, many outstanding, while a PE runs or starts."""
    simulate("axi_machine", "fpga-small", tests=NO_EXPERT)


@pytest.mark.timeout(300)
def test_an_expert_on_a_pe_with_an_axi_memory():
    """The runtime's bits from a memory that stalls; the counters are what passed the pins, and none is a guess."""
    simulate("pe_axi", "fpga-small", tests="expert_ffn/stalls=light")


@pytest.mark.timeout(300)
def test_a_run_stopped_in_a_transfer():
    """The machine with AXI4 memories: a run that ends in the middle of a burst disturbs neither memory nor next run."""
    simulate("hbm_machine", "fpga-small", tests="stopped_in_a|nobody_knows")


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sizes", ["fpga-small", "tiny"])
@pytest.mark.parametrize("block", ["pe_axi", "axi_machine", "hbm_machine"])
def test_all_of_it(block, sizes, monkeypatch):
    """Every cocotb test of the machines and of the PE, two banks on `tiny`; experts loaded through the host library."""
    monkeypatch.setenv("PE_PROGRAMS", "6")
    simulate(block, sizes)


def test_where_banks_are():
    """Banks of 8 KiB and of 1 KiB (a page apart), by hand; what is no bank or column is refused."""
    small = chip("fpga-small").hb
    windows = BankWindows(small, 3)
    assert (windows.bank_bytes, windows.stride, windows.address_bits) == (0x2000, 0x2000, 16)
    assert (windows.address(0, 0), windows.address(2, 1023)) == (0, 0x5FF8)
    tight = BankWindows(dataclasses.replace(small, rows=8), 2)
    assert (tight.bank_bytes, tight.stride, tight.address(1, 2)) == (0x400, 0x1000, 0x1010)
    with pytest.raises(UserError, match="column must be 0 to 127, not 128"):
        tight.address(0, 128)
    with pytest.raises(UserError, match="bank must be 0 to 1, not 2"):
        tight.address(2, 0)


@pytest.mark.parametrize(("channel", "answer"), [("ar", "r"), ("aw", "b")])
@pytest.mark.parametrize("bank", [0, 1, 2, 3])
def test_an_address_behind_the_last_bank_reaches_none(bank, channel, answer):
    """Of two banks: the last column of each is asked of that bank; of the places behind them SLVERR is all there is."""
    params = chip("fpga-small").hb
    windows = BankWindows(params, 2)
    dut = AxiMemorySubordinate(params, windows=windows)
    found = []

    async def bench(ctx):
        ctx.set(getattr(dut, f"s_axi_{channel}addr"), (bank + 1) * windows.stride - params.column_bytes)
        ctx.set(getattr(dut, f"s_axi_{channel}size"), (params.column_bytes - 1).bit_length())
        ctx.set(getattr(dut, f"s_axi_{channel}burst"), Burst.INCR)
        ctx.set(getattr(dut, f"s_axi_{channel}valid"), 1)
        await ctx.tick().until(getattr(dut, f"s_axi_{channel}ready"))
        ctx.set(getattr(dut, f"s_axi_{channel}valid"), 0)
        for signal, value in ((dut.s_axi_wvalid, 1), (dut.s_axi_wlast, 1), (dut.s_axi_wstrb, -1)):
            ctx.set(signal, value)
        *_, asked, which, _, response = await (
            ctx.tick()
            .sample(dut.port.request.valid, dut.bank, getattr(dut, f"s_axi_{answer}valid"))
            .sample(getattr(dut, f"s_axi_{answer}resp"))
            .until(dut.port.request.valid | getattr(dut, f"s_axi_{answer}valid"))
        )
        found.append(("bank", which) if asked else ("response", response))

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run_until(1e-7)
    assert found == [("bank", bank) if bank < 2 else ("response", Response.SLVERR)]


def test_what_an_axi_memory_is_not_for():
    """The models' times, a serial board, ECC and a host without a way to the memory are refused in one line."""
    axi = dataclasses.replace(chip("fpga-small"), memory="axi")
    program = random_case(8, outputs=32, hidden=32, experts=1, k=1, tokens=1).program(axi, "draft", "hb")
    for model in (exact, fast):
        with pytest.raises(UserError, match="chip memory must be hb where cycles are to be known, not 'axi'"):
            model(program)
    for simulation in (simulate_pe, run_compiled):
        with pytest.raises(UserError, match="chip memory must be hb where the bench is the bank, not 'axi'"):
            simulation(program)
    with pytest.raises(UserError, match="chip memory must be hb on a board with a serial line"):
        Board(axi, 4)
    with pytest.raises(UserError, match="chip memory must be hb on the die, whose pins are the banks', not 'axi'"):
        Die(axi)
    with pytest.raises(UserError, match="host must be given a way to the memory"):
        RemoteBoard(None, axi)
    with pytest.raises(UserError, match="HB ecc must be none behind AXI4, not 'sideband'"):
        dataclasses.replace(axi, hb=dataclasses.replace(axi.hb, ecc="sideband"))
    with pytest.raises(UserError, match="chip memory must be one of hb, axi, not 'ddr'"):
        dataclasses.replace(axi, memory="ddr")
    with pytest.raises(UserError, match="AXI burst_beats must be an integer from 1 to 256, not 0"):
        AxiMasterParams(burst_beats=0)
    with pytest.raises(ValueError, match="has no ECC of ours"):
        AxiBank(dataclasses.replace(chip("4gb").hb, ecc="sideband"), axi.axi)
    with pytest.raises(ValueError, match="rows of a power of two"):
        AxiMemorySubordinate(dataclasses.replace(chip("4gb").hb, ecc="inline"))


def test_maps_of_both_memories():
    """A counter has one place in every map; the words that say which memory it is are those of old maps for HB."""
    hb, axi = (
        die_map(dataclasses.replace(chip("fpga-small"), memory=memory), BufferSizes()) for memory in ("hb", "axi")
    )
    assert hb.find("pe.STREAM_WORDS")[0] == axi.find("pe.STREAM_WORDS")[0]
    with pytest.raises(UserError, match=r"has no 'pe\.HB_ACTIVATES'"):
        axi.find("pe.HB_ACTIVATES")
    with pytest.raises(UserError, match=r"has no 'pe\.AXI_READS'"):
        hb.find("pe.AXI_READS")
    places = {entry.offset: entry.name for entry in hb.blocks[1].registers if entry.offset >= 0x100}
    others = {entry.offset: entry.name for entry in axi.blocks[1].registers if entry.offset >= 0x100}
    assert all(others.get(offset, name) == name for offset, name in places.items())
    assert [each.find("id.VERSION")[1].constant for each in (hb, axi)] == [0x0001_0001, 0x1001_0001]
