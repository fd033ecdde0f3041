"""From frames on a serial line to accesses on the host bus. The frames are those of `hw.uart_frames`."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC16_XMODEM
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.die.host_bus import HostBus
from hw.die.uart import UartReceiver, UartTransmitter
from hw.uart_frames import HEADER_BYTES, QUIET_BIT_TIMES, REQUEST, RESPONSE, WORDS, Command, Status


class UartBridge(wiring.Component):
    """Takes a request, checks it whole, carries it out word by word, answers; one at a time, and never waits for ever.

    A damaged or unknown request changes nothing. One that breaks off is forgotten after `QUIET_BIT_TIMES`; bytes
    that begin no request are skipped.

    Parameters
    ----------
    cycles_per_bit : int

    Members
    -------
    receive : In, 1
    transmit : Out, 1
        The pins.
    bus : Out, HostBus
    """

    def __init__(self, cycles_per_bit: int):
        self._cycles = cycles_per_bit
        super().__init__({"receive": In(1, init=1), "transmit": Out(1, init=1), "bus": Out(HostBus())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._cycles)
        m.submodules.transmitter = transmitter = UartTransmitter(self._cycles)
        m.submodules.checksum = checksum = CRC16_XMODEM(data_width=8).create()
        m.submodules.words = words = Memory(shape=32, depth=WORDS, init=[])
        read, write = words.read_port(), words.write_port()
        arrived, byte = receiver.valid, receiver.byte
        m.d.comb += [receiver.pin.eq(self.receive), self.transmit.eq(transmitter.pin)]

        # The request, as it was received; ``place`` counts its bytes, ``done`` the words read or written.
        header = Signal(8 * HEADER_BYTES)
        command, count, address = header[:8], header[8:16], header[16:48]
        word = Signal(24)
        place = Signal(range(4 * WORDS + 1))
        done = Signal(range(WORDS + 1))
        status = Signal(Status)
        quiet = Signal(range(QUIET_BIT_TIMES * self._cycles))
        answered = Signal.like(done)
        is_write = (command & Command.WRITE).any()
        known = (command[2:] == 0) & (count != 0) & (count <= WORDS)

        bus, sending = self.bus, transmitter.bytes
        m.d.comb += [
            bus.write.eq(is_write),
            bus.address.eq(address + Mux((command & Command.FIXED).any(), 0, done << 2)),
            bus.data.eq(read.data),
            read.en.eq(1),
            read.addr.eq(done),
            write.addr.eq(place >> 2),
            write.data.eq(Cat(word, byte)),
            checksum.data.eq(byte),
        ]

        def receive(last: Value, following: str) -> None:
            """Bytes until ``place`` is ``last``, then the state ``following``; back to hunting after a long pause."""
            m.d.sync += quiet.eq(quiet + 1)
            with m.If(arrived):
                m.d.comb += checksum.valid.eq(1)
                m.d.sync += [quiet.eq(0), place.eq(place + 1)]
                with m.If(place == last):
                    m.d.sync += place.eq(0)
                    m.next = following
            with m.Elif(quiet == QUIET_BIT_TIMES * self._cycles - 1):
                m.next = "hunt"

        def send(value: Value, following: str, done_when: Value | None = None) -> None:
            """``value``, into the checksum too, as often as it takes until ``done_when``, then ``following``."""
            m.d.comb += [sending.valid.eq(1), sending.payload.eq(value), checksum.data.eq(value)]
            m.d.comb += checksum.valid.eq(sending.ready)
            with m.If(sending.ready & (Const(1) if done_when is None else done_when)):
                m.next = following

        with m.FSM():
            with m.State("hunt"):
                m.d.comb += checksum.start.eq(1)
                m.d.sync += [place.eq(0), quiet.eq(0), status.eq(Status.OK), done.eq(0)]
                with m.If(arrived & (byte == REQUEST)):
                    m.next = "header"
            with m.State("header"):
                with m.If(arrived):
                    m.d.sync += header.eq(Cat(header[8:], byte))
                receive(HEADER_BYTES - 1, "kind")
            with m.State("kind"):
                with m.If(is_write & known):
                    m.next = "words"
                with m.Else():
                    m.next = "checksum"
            with m.State("words"):
                with m.If(arrived):
                    m.d.sync += word.eq(Cat(word[8:], byte))
                    m.d.comb += write.en.eq(place[:2] == 3)
                receive((count << 2) - 1, "checksum")
            with m.State("checksum"):
                receive(1, "judge")
            with m.State("judge"):  # the checksum of a whole request, its own checksum included, is 0
                with m.If(checksum.crc != 0):
                    m.d.sync += status.eq(Status.CHECKSUM)
                    m.next = "answer"
                with m.Elif(~known):
                    m.d.sync += status.eq(Status.MALFORMED)
                    m.next = "answer"
                with m.Else():
                    m.next = "access"

            with m.State("access"):
                m.d.comb += bus.en.eq(1)
                m.next = "response"
            with m.State("response"), m.If(bus.done):
                m.d.comb += [write.addr.eq(done), write.data.eq(bus.read_data), write.en.eq(~is_write & ~bus.error)]
                with m.If(bus.error):
                    m.d.sync += status.eq(Status.BUS_ERROR)
                    m.next = "answer"
                with m.Else():
                    m.d.sync += done.eq(done + 1)
                    m.next = "next word"
            with m.State("next word"):  # the buffer is being read
                with m.If(done == count):
                    m.next = "answer"
                with m.Else():
                    m.next = "access"

            with m.State("answer"):
                m.d.comb += [checksum.start.eq(1), sending.valid.eq(1), sending.payload.eq(RESPONSE)]
                with m.If(sending.ready):
                    m.d.sync += [answered.eq(done), done.eq(0)]
                    m.next = "answer status"
            with m.State("answer status"):
                send(status, "answer count")
            with m.State("answer count"):
                send(answered, "answer words")
                with m.If(sending.ready & (is_write | (answered == 0))):
                    m.next = "answer checksum"
            with m.State("answer words"):
                send(read.data.word_select(place[:2], 8), "answer checksum", (place[:2] == 3) & (done + 1 == answered))
                with m.If(sending.ready):
                    m.d.sync += place.eq(Mux(place[:2] == 3, 0, place + 1))
                    m.d.sync += done.eq(done + (place[:2] == 3))
            with m.State("answer checksum"):
                m.d.comb += [sending.valid.eq(1), sending.payload.eq(checksum.crc.word_select(~place[0], 8))]
                with m.If(sending.ready):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place[0]):
                        m.next = "hunt"
        return m
