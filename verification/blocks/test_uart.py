"""The serial line to the register map: frames bit by bit at the pins, and everything that can be wrong with them."""

import binascii
import os
import pty
import struct
import threading

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.die.host_bus import HostDecoder
from hw.die.uart_bridge import UartBridge
from hw.errors import UserError
from hw.memory_map import IDENTITY, BufferSizes, MemoryMap, die_map
from hw.params import chip
from hw.uart_frames import QUIET_BIT_TIMES
from sw_stack.host.link import HostLink, open_port, request_frame

CYCLES_PER_BIT = 4
SCRATCH = 0x10
ID_MAP = MemoryMap("id alone", die_map(chip("fpga-small"), BufferSizes()).blocks[:1])


class Registers(wiring.Component):
    """Bridge and decoder with the identification block."""

    receive: In(1, init=1)
    transmit: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bridge = bridge = UartBridge(CYCLES_PER_BIT)
        m.submodules.decoder = decoder = HostDecoder(ID_MAP)
        wiring.connect(m, bridge.bus, decoder.bus)
        m.d.comb += [bridge.receive.eq(self.receive), self.transmit.eq(bridge.transmit)]
        return m


def exchange(*sent: bytes | int, dut: wiring.Component | None = None) -> bytes:
    """Bytes that come back from ``dut``; an integer in ``sent`` is a pause in bit times."""
    dut, received = dut or Registers(), bytearray()
    over = []

    async def send(ctx):
        for part in sent:
            if isinstance(part, int):
                await ctx.tick().repeat(part * CYCLES_PER_BIT)
                continue
            for byte in part:
                for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
                    ctx.set(dut.receive, bit)
                    await ctx.tick().repeat(CYCLES_PER_BIT)
        await ctx.tick().repeat(40 * 10 * CYCLES_PER_BIT)
        over.append(True)

    async def listen(ctx):
        while not over:
            if ctx.get(dut.transmit):
                await ctx.tick()
                continue
            await ctx.tick().repeat(CYCLES_PER_BIT // 2)
            byte = 0
            for i in range(8):
                await ctx.tick().repeat(CYCLES_PER_BIT)
                byte |= ctx.get(dut.transmit) << i
            await ctx.tick().repeat(CYCLES_PER_BIT)
            assert ctx.get(dut.transmit) == 1, "no stop bit"
            received.append(byte)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(send)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    return bytes(received)


def response(status: int, done: int, *words: int) -> bytes:
    """A response, from the frame's description alone."""
    body = struct.pack(f"<BB{len(words)}I", status, done, *words)
    return b"\x5a" + body + binascii.crc_hqx(body, 0).to_bytes(2, "big")


def test_a_frame_by_hand():
    """A read of one word at address 0: A5 00 01 00000000 and CRC-16/XMODEM (divided bit by bit) gives the identity."""
    frame = bytes.fromhex("a5 00 01 00 00 00 00")
    checksum = 0
    for byte in frame[1:]:  # the polynomial division, bit by bit
        for i in reversed(range(8)):
            high = checksum >> 15 ^ byte >> i & 1
            checksum = (checksum << 1 & 0xFFFF) ^ (0x1021 if high else 0)
    frame += checksum.to_bytes(2, "big")
    assert frame == request_frame(0, count=1)
    assert exchange(frame) == response(0, 1, IDENTITY)


def test_words_go_in_and_out():
    """A write is acknowledged and read back; a burst counts up its address, a fixed one does not."""
    found = exchange(
        request_frame(SCRATCH, words=[0xDEADBEEF]),
        200,
        request_frame(SCRATCH - 4, count=2),
        300,
        request_frame(SCRATCH, words=[1, 2, 3], fixed=True),
        200,
        request_frame(SCRATCH, count=1),
    )
    bank = next(r for r in ID_MAP.blocks[0].registers if r.name == "BANK").constant
    answers = (response(0, 1), response(0, 2, bank, 0xDEADBEEF), response(0, 3), response(0, 1, 3))
    assert found == b"".join(answers)


def test_damage_changes_nothing():
    """A wrong checksum, an unknown command, counts of 0 and 65: named in the answer; the register keeps its value."""
    good = request_frame(SCRATCH, words=[7])
    damaged = bytearray(request_frame(SCRATCH, words=[8]))
    damaged[8] ^= 1

    def raw(command: int, count: int) -> bytes:
        body = struct.pack("<BBI", command, count, SCRATCH)
        return b"\xa5" + body + binascii.crc_hqx(body, 0).to_bytes(2, "big")

    sent = [good, bytes(damaged), raw(4, 1), raw(0, 0), raw(0, 65), raw(0, 1)]
    found = exchange(*(part for frame in sent for part in (frame, 200)))
    wrong = [response(1, 0), *[response(3, 0)] * 3]
    assert found == b"".join([response(0, 1), *wrong, response(0, 1, 7)])


def test_accesses_outside_the_map():
    """An address with nothing behind it, a constant written: a bus error with the number of words done before."""
    found = exchange(
        request_frame(0x14, count=1), 200, request_frame(SCRATCH, words=[5, 6]), 300, request_frame(0, words=[1]), 200
    )
    assert found == response(2, 0) + response(2, 1) + response(2, 0)


def test_noise_and_broken_requests():
    """Bytes that begin nothing are skipped; a request that breaks off is forgotten, the next one heard."""
    begun = request_frame(SCRATCH, words=[1, 2, 3])[:9]
    good = request_frame(0, count=1)
    assert exchange(b"\x00\xff\x13", good) == response(0, 1, IDENTITY)
    assert exchange(begun, QUIET_BIT_TIMES + 20, good) == response(0, 1, IDENTITY)


class Scripted:
    """A port that answers with what it was given, whatever is asked."""

    def __init__(self, answer: bytes, fail: bool = False):
        self.answer, self.fail = answer, fail

    def read(self, size: int) -> bytes:
        if self.fail and not self.answer:
            raise OSError(5, "Input/output error")
        part, self.answer = self.answer[:size], self.answer[size:]
        return part

    def write(self, content: bytes) -> int:
        return len(content)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (Scripted(b""), r"tty did not answer within 0.05 s \(0 bytes came\)"),
        (Scripted(b"\x5a\x00"), r"tty did not answer within 0.05 s \(2 bytes came\)"),
        (Scripted(b"hello, world"), "tty answered 68656c, which begins no response: is it such a board?"),
        (Scripted(response(0, 1, IDENTITY)[:-1] + b"\x00"), "tty answered with a wrong checksum"),
        (Scripted(response(2, 0)), "tty refused the access to address 0x20"),
        (Scripted(response(3, 0)), "tty rejected a request of 1 words: MALFORMED"),
        (Scripted(response(0, 1)[:2], fail=True), "tty vanished: Input/output error"),
    ],
)
def test_what_a_host_can_meet(port, message):
    """Silence, half an answer, another device, noise, refusals, an unplugged cable: one line, a bounded wait."""
    with pytest.raises(UserError, match=message):
        HostLink(port, "tty", seconds=0.05).read(0x20)


def test_a_serial_port_that_vanishes():
    """A pseudo-terminal whose other side closes in the middle of an answer: one line."""
    board, device = pty.openpty()
    name = os.ttyname(device)
    port = open_port(name, 115200)

    def answer() -> None:
        os.read(board, 100)
        os.write(board, b"\x5a\x00")
        os.close(board)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(UserError, match=f"{name} (vanished|did not answer)"):
        HostLink(port, name, seconds=0.5).read(0)
    thread.join()
    port.close()
    os.close(device)


def test_a_port_that_does_not_exist():
    """No such device: one line."""
    with pytest.raises(UserError, match="port /dev/no-such-port cannot be opened"):
        open_port("/dev/no-such-port", 115200)
