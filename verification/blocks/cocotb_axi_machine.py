"""cocotb tests of the exported machine with banks on chip: registers over AXI4-Lite, banks over AXI4."""

import dataclasses
import os
import random

import cocotb
from cocotb.task import bridge
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBurstType, AxiResp

from cycle_model.pe.exact import exact
from cycle_model.pe.functional import functional
from hw.die.axi_memory import on_chip
from hw.memory_map import WORD_BYTES, BankWindows, BufferSizes, die_map
from hw.params import chip
from sw_stack.host.board import RemoteBoard, visible
from verification.bench.axi_cocotb import (
    STALLS,
    MemoryLink,
    RegisterLink,
    lite_manager,
    memory_manager,
    read_register,
    reset,
    start_clock,
    write_register,
)
from verification.programs.expert_cases import random_case

_PRESET = chip(os.environ["CHIP"])
CHIP = dataclasses.replace(_PRESET, pes=min(_PRESET.pes, 2), hb=on_chip(_PRESET.hb))
MAP = die_map(CHIP, BufferSizes())
BANKS = BankWindows(CHIP.hb, CHIP.pes)
WIDTH = CHIP.hb.column_bytes
COLUMNS = BANKS.bank_bytes // WIDTH


async def _machine(dut, stall: str = "none"):
    start_clock(dut)
    registers, memory = lite_manager(dut), memory_manager(dut, STALLS[stall])
    await reset(dut)
    return registers, memory


async def _write(memory, address: int, content: bytes, **options) -> AxiResp:
    return (await with_timeout(memory.write(address, content, **options), 10, "us")).resp


async def _read(memory, address: int, length: int, **options):
    answer = await with_timeout(memory.read(address, length, **options), 10, "us")
    return answer.resp, bytes(answer.data)


_soon = cocotb.start_soon


@cocotb.test()
@cocotb.parametrize(stall=["none", "heavy"])
async def banks_behind_both_ports(dut, stall):
    """Every bank's first, last and 4 KB columns: what AXI4 writes, AXI4 and the BANK window read, and the reverse."""
    registers, memory = await _machine(dut, stall)
    rng = random.Random(3)
    per_page = 4096 // WIDTH
    for bank in range(CHIP.pes):
        window, _ = MAP.find("pe.BANK", bank)
        for first, columns in ((0, 1), (per_page - 2, 4), (COLUMNS - 3, 3)):
            content = rng.randbytes(columns * WIDTH)
            assert await _write(memory, BANKS.address(bank, first), content) == AxiResp.OKAY
            assert await _read(memory, BANKS.address(bank, first), len(content)) == (AxiResp.OKAY, content)
            for at in (0, len(content) - WORD_BYTES):
                word = int.from_bytes(content[at : at + WORD_BYTES], "little")
                assert await read_register(registers, window + first * WIDTH + at) == word
        await write_register(registers, window + WIDTH * COLUMNS - WORD_BYTES, 0xFACADE00 + bank)
    for bank in range(CHIP.pes):  # and no bank has another's
        resp, content = await _read(memory, BANKS.address(bank, COLUMNS - 1), WIDTH)
        assert (resp, content[-WORD_BYTES:]) == (AxiResp.OKAY, (0xFACADE00 + bank).to_bytes(WORD_BYTES, "little"))


@cocotb.test()
async def outside_the_banks(dut):
    """Bursts behind the last bank, or over a bank's end, of a wrong kind, of parts of columns: SLVERR, no hang."""
    _, memory = await _machine(dut)
    end = CHIP.pes * BANKS.stride
    before = bytes(range(WIDTH))
    assert await _write(memory, BANKS.address(0, COLUMNS - 1), before) == AxiResp.OKAY
    for address, size, options in (
        (end, WIDTH, {}),
        (2 * end - WIDTH, WIDTH, {}),
        (0, 2 * WIDTH, {"burst": AxiBurstType.FIXED}),
        (0, 2 * WIDTH, {"burst": AxiBurstType.WRAP}),
        (0, WIDTH, {"size": 2}),
        (4, WIDTH - 4, {}),
    ):
        assert await _write(memory, address, bytes(size), **options) == AxiResp.SLVERR, (address, options)
        assert (await _read(memory, address, size, **options))[0] == AxiResp.SLVERR, (address, options)
    assert await _read(memory, BANKS.address(0, COLUMNS - 1), WIDTH) == (AxiResp.OKAY, before)


@cocotb.test()
async def many_outstanding(dut):
    """Several bursts of each direction are under way, each answered with its own identifier and data, in its order."""
    _, memory = await _machine(dut)
    rng = random.Random(4)
    channels, most = {"ar": [], "r": [], "aw": [], "b": []}, 0

    async def watch():
        nonlocal most
        while True:
            await RisingEdge(dut.clk)
            for channel, log in channels.items():
                signals = ("valid", "ready", "last") if channel == "r" else ("valid", "ready")
                if all(int(getattr(dut, f"s_axi_{channel}{signal}").value) for signal in signals):
                    log.append(int(getattr(dut, f"s_axi_{channel}id").value))
            most = max(most, len(channels["ar"]) - len(channels["r"]))

    cocotb.start_soon(watch())
    contents = [rng.randbytes(4 * WIDTH) for _ in range(8)]
    identifiers = [3, 3, 1, 7, 0, 15, 7, 2]
    writes = [_soon(_write(memory, 256 * i, content, awid=identifiers[i])) for i, content in enumerate(contents)]
    for write in writes:
        assert await write == AxiResp.OKAY
    reads = [_soon(_read(memory, 256 * i, 4 * WIDTH, arid=identifiers[i])) for i in range(8)]
    for read, content in zip(reads, contents, strict=True):
        assert await read == (AxiResp.OKAY, content)
    assert channels == dict.fromkeys(channels, identifiers)
    assert most >= 4


@cocotb.test()
async def a_read_passes_a_write_without_data(dut):
    """A manager whose write data depend on what it reads gets its read: the directions do not wait for each other."""
    _, memory = await _machine(dut)
    before = bytes(range(2 * WIDTH))
    await _write(memory, 0, before)
    memory.write_if.w_channel.pause = True
    write = _soon(_write(memory, WIDTH, bytes(WIDTH)))
    await ClockCycles(dut.clk, 10)
    assert await _read(memory, 0, WIDTH) == (AxiResp.OKAY, before[:WIDTH])
    memory.read_if.r_channel.pause = True  # and a write passes a read whose beats are not taken
    read = _soon(_read(memory, 0, 2 * WIDTH))
    await ClockCycles(dut.clk, 30)
    memory.write_if.w_channel.pause = False
    assert await write == AxiResp.OKAY
    memory.read_if.r_channel.pause = False
    assert await read == (AxiResp.OKAY, before)
    assert await _read(memory, 0, 2 * WIDTH) == (AxiResp.OKAY, before[:WIDTH] + bytes(WIDTH))


@cocotb.test()
async def both_ports_at_once(dut):
    """Bursts and accesses to the BANK window of the same bank at the same time: neither takes the other's cycle."""
    registers, memory = await _machine(dut)
    rng = random.Random(5)
    window, _ = MAP.find("pe.BANK")
    content = rng.randbytes(64 * WIDTH)
    beside = 128 * WIDTH  # columns of the bursts, then those of the window
    words = [rng.getrandbits(32) for _ in range(16)]

    async def bursts() -> None:
        for _ in range(3):
            assert await _write(memory, 0, content) == AxiResp.OKAY
            assert await _read(memory, 0, len(content)) == (AxiResp.OKAY, content)

    task = _soon(bursts())
    for i, word in enumerate(words):
        await write_register(registers, window + beside + WORD_BYTES * i, word)
        assert await read_register(registers, window + beside + WORD_BYTES * i) == word
        assert await read_register(registers, window) >= 0
    await task
    assert [await read_register(registers, window + beside + WORD_BYTES * i) for i in range(16)] == words


@cocotb.test()
async def a_running_pe_has_its_bank(dut):
    """While CONTROL.run is 1 the port answers SLVERR, soon, and changes nothing; other PEs' banks are served."""
    registers, memory = await _machine(dut)
    control, _ = MAP.find("pe.CONTROL")
    before = bytes(range(1, WIDTH + 1))
    for bank in range(CHIP.pes):
        assert await _write(memory, BANKS.address(bank, 5), before) == AxiResp.OKAY
    await write_register(registers, control, 1)
    assert await _write(memory, BANKS.address(0, 5), bytes(WIDTH)) == AxiResp.SLVERR
    assert (await _read(memory, BANKS.address(0, 5), 2 * WIDTH))[0] == AxiResp.SLVERR
    for bank in range(1, CHIP.pes):
        assert await _read(memory, BANKS.address(bank, 5), WIDTH) == (AxiResp.OKAY, before)
    await write_register(registers, control, 0)
    for bank in range(CHIP.pes):
        assert await _read(memory, BANKS.address(bank, 5), WIDTH) == (AxiResp.OKAY, before)


@cocotb.test()
async def a_run_begins_in_a_burst(dut):
    """A burst during which CONTROL.run rises ends, right or with SLVERR; the port goes on working."""
    registers, memory = await _machine(dut)
    control, _ = MAP.find("pe.CONTROL")
    content = random.Random(6).randbytes(32 * WIDTH)
    assert await _write(memory, 0, content) == AxiResp.OKAY
    seen = set()
    for delay in range(0, 60, 10):
        read, write = _soon(_read(memory, 0, len(content))), _soon(_write(memory, 0, content))
        await ClockCycles(dut.clk, delay)
        await write_register(registers, control, 1)
        (read_resp, found), write_resp = await read, await write
        seen |= {read_resp, write_resp}
        assert read_resp == AxiResp.SLVERR or (read_resp, found) == (AxiResp.OKAY, content)
        await write_register(registers, control, 0)
        assert await _read(memory, 0, len(content)) == (AxiResp.OKAY, content)
    assert seen == {AxiResp.OKAY, AxiResp.SLVERR}


@cocotb.test()
@cocotb.parametrize(pe=range(CHIP.pes))
async def an_expert_loaded_over_axi(dut, pe):
    """The host library runs an expert, its image in bursts, registers over AXI4-Lite: bits, cycles, counters equal."""
    registers, memory = await _machine(dut, "light")
    program = random_case(8, outputs=32, hidden=32, experts=1, k=1, tokens=2).program(CHIP, "full", "hb")
    values, times = functional(program), exact(program)

    def host():
        board = RemoteBoard(RegisterLink(registers), CHIP, pe, MemoryLink(memory))
        return board.run(program, values.state.memories["HB"])

    run = await bridge(host)()
    assert run.error is None
    assert (run.cycles, run.counters) == (times.cycles, times.counters)
    assert run.state.digest(CHIP) == visible(values.state).digest(CHIP)
