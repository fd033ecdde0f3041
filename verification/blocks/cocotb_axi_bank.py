"""cocotb tests of the AXI4 manager in place of an HB bank: against a memory written by others (cocotbext-axi)."""

import os
import random

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam, AxiSlave, MemoryRegion

from hw.isa import HbError
from hw.memory.hb_types import beat_layout, transfer_layout
from hw.params import chip
from verification.bench.axi_cocotb import STALLS, reset, stall, start_clock
from verification.bench.payloads import pack, unpack

PARAMS = chip(os.environ["CHIP"]).hb
BASE = 3 * 4096


class Requester:
    """One requester of the port, by hand: `read`, `write`; every wait is bounded."""

    def __init__(self, dut, index: int, stall: float):
        self._dut, self._prefix = dut, f"requesters__{index}__"
        self._rng, self._stall = random.Random(index), stall
        for name in ("request__valid", "request__payload", "write__valid", "write__payload", "read__ready"):
            self._of(name).value = 0

    def _of(self, name: str):
        return getattr(self._dut, self._prefix + name)

    async def _request(self, **fields) -> None:
        self._of("request__payload").value = pack(transfer_layout(PARAMS), fields)
        self._of("request__valid").value = 1
        for _ in range(2000):
            await RisingEdge(self._dut.clk)
            if int(self._of("request__ready").value):
                self._of("request__valid").value = 0
                return
        raise AssertionError("request not taken")

    async def transfer(self, row: int, column: int, columns: int, words: list[int] | None = None, tag: int = 1):
        """(error of the done pulse, beats read as (data, last, uncorrectable))."""
        write = words is not None
        await self._request(write=write, tag=tag, row=row, column=column, columns=columns)
        words, beats = list(words or ()), []
        for _ in range(4000):
            ready = self._rng.random() >= self._stall
            self._of("read__ready").value = ready and not write
            offer = bool(words) and (int(self._of("write__valid").value) or self._rng.random() >= self._stall)
            self._of("write__valid").value = offer
            if words:
                self._of("write__payload").value = words[0]
            await RisingEdge(self._dut.clk)
            if int(self._of("write__valid").value) and int(self._of("write__ready").value):
                words.pop(0)
            if int(self._of("read__valid").value) and int(self._of("read__ready").value):
                beat = unpack(beat_layout(PARAMS), int(self._of("read__payload").value))
                assert beat["tag"] == tag
                beats.append((beat["data"], beat["last"], beat["uncorrectable"]))
            if int(self._of("done").value):
                assert int(self._of("done_tag").value) == tag
                return HbError(int(self._of("done_error").value)), beats
        raise AssertionError("no done pulse")


async def _start(dut, stalls: str, small: MemoryRegion | None = None):
    """The requesters and the memory; ``small`` is one that answers what lies behind its end with errors."""
    start_clock(dut, ("abandon",))
    dut.base.value = BASE
    requesters = [Requester(dut, i, STALLS[stalls]) for i in range(PARAMS.requesters)]
    bus = AxiBus.from_prefix(dut, "m_axi")
    if small:
        ram = AxiSlave(bus, dut.clk, dut.rst, target=small)
    else:
        ram = AxiRam(bus, dut.clk, dut.rst, size=1 << 16)
    stall(ram, STALLS[stalls])
    await reset(dut)
    return requesters, ram


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def transfers(dut, stalls):
    """Writes and reads of any length, from every requester, over 4 KB boundaries: the memory has the bytes."""
    requesters, ram = await _start(dut, stalls)
    rng = random.Random(2)
    width, row_columns = PARAMS.column_bytes, PARAMS.data_columns
    places = [(0, 0, 1), (0, 3, 16), (0, 5, 17), (4096 // width // row_columns - 1, row_columns - 2, 40)]
    for index, (row, column, columns) in enumerate(places):
        requester = requesters[index % len(requesters)]
        words = [rng.getrandbits(8 * width) for _ in range(columns)]
        error, _ = await requester.transfer(row, column, columns, words, tag=index + 1)
        assert error is HbError.NONE
        first = BASE + width * (row * row_columns + column)
        assert ram.read(first, width * columns) == b"".join(word.to_bytes(width, "little") for word in words)
        error, beats = await requester.transfer(row, column, columns, tag=index + 1)
        assert error is HbError.NONE
        assert beats == [(word, int(i == columns - 1), 0) for i, word in enumerate(words)]


@cocotb.test()
async def wrong_transfers_are_refused(dut):
    """No columns, a column of no row, an end behind the bank: the controller's errors, and no address goes out."""
    requesters, _ = await _start(dut, "none")
    for row, column, columns, error in (
        (0, 0, 0, HbError.ZERO_LENGTH),
        (PARAMS.rows - 1, PARAMS.data_columns - 1, 2, HbError.BEYOND_BANK),
    ):
        assert await requesters[0].transfer(row, column, columns) == (error, [])
    error, beats = await requesters[1].transfer(PARAMS.rows - 1, PARAMS.data_columns - 1, 1)
    assert (error, len(beats)) == (HbError.NONE, 1)


@cocotb.test()
async def error_responses_are_reported(dut):
    """A read behind the memory's end has its beats marked, a write is done with BUS; the next transfer is well."""
    requesters, _ = await _start(dut, "none", MemoryRegion(BASE + 4096))
    beyond = 4096 // PARAMS.column_bytes // PARAMS.data_columns
    error, beats = await requesters[0].transfer(beyond, 0, 2)
    assert error is HbError.NONE
    assert [uncorrectable for _, _, uncorrectable in beats] == [1, 1]
    error, _ = await requesters[0].transfer(beyond, 0, 2, [1, 2])
    assert error is HbError.BUS
    error, beats = await requesters[0].transfer(0, 0, 1)
    assert (error, beats[0][2]) == (HbError.NONE, 0)
