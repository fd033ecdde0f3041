"""A serial line, 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


class UartReceiver(wiring.Component):
    """Samples each bit in its middle; a byte whose stop bit is low is dropped. Bytes cannot be held back.

    Parameters
    ----------
    cycles_per_bit : int
        At least 4.

    Members
    -------
    pin : In, 1
    byte : Out, 8
    valid : Out, 1
        ``byte`` has arrived, for one cycle.
    """

    def __init__(self, cycles_per_bit: int):
        self._cycles = cycles_per_bit
        super().__init__({"pin": In(1, init=1), "byte": Out(8), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.pin, line, init=1)
        timer = Signal(range(self._cycles + self._cycles // 2))
        left = Signal(range(10))
        m.d.sync += self.valid.eq(0)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("idle"), m.If(~line):  # a start bit began; its middle is half a bit away
                m.d.sync += [timer.eq(self._cycles // 2 - 1), left.eq(9)]
                m.next = "bits"
            with m.State("bits"), m.If(timer == 0):
                m.d.sync += [timer.eq(self._cycles - 1), left.eq(left - 1)]
                with m.If((left == 9) & line):  # a glitch, no start bit
                    m.next = "idle"
                with m.Elif(left == 0):  # stop bit
                    m.d.sync += self.valid.eq(line)
                    m.next = "stop"
                with m.Else():
                    m.d.sync += self.byte.eq(Cat(self.byte[1:], line))
            with m.State("stop"), m.If(line):  # a line held low (unplugged) is no byte after byte
                m.next = "idle"
        return m


class UartTransmitter(wiring.Component):
    """Sends a byte in ten bit times.

    Parameters
    ----------
    cycles_per_bit : int

    Members
    -------
    bytes : In, stream of 8 bits
    pin : Out, 1
    """

    def __init__(self, cycles_per_bit: int):
        self._cycles = cycles_per_bit
        super().__init__({"bytes": In(stream.Signature(8)), "pin": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        bits = Signal(10, init=-1)
        left = Signal(range(11))
        timer = Signal(range(self._cycles))
        m.d.comb += [self.pin.eq(bits[0]), self.bytes.ready.eq(left == 0)]
        with m.If((left == 0) & self.bytes.valid):
            m.d.sync += [bits.eq(Cat(Const(0, 1), self.bytes.payload, Const(1, 1))), left.eq(10)]
            m.d.sync += timer.eq(self._cycles - 1)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left != 0):
            m.d.sync += [timer.eq(self._cycles - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], 1))]
        return m
