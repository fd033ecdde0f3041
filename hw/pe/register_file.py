"""The sequencer's registers: r0 is 0, the others hold what was written, 0 from reset on."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.params import REGISTERS


class RegisterFile(wiring.Component):
    """A memory with a bit for each register that was written since reset: as registers with six readers, an FPGA would
    spend five times the logic on choosing.

    Parameters
    ----------
    readers : int

    Members
    -------
    numbers : In, readers x range(16)
    values : Out, readers x 32
        In the same cycle.
    write : In, range(16)
        Register that gets ``data`` at the end of the cycle; 0 for none.
    data : In, 32

    ``registers`` are r1 ... r15 for simulations that look at them. Nothing else reads them, so synthesis drops them.
    """

    def __init__(self, readers: int):
        self.registers = [Signal(32, name=f"r{i}") for i in range(1, REGISTERS)]
        number = range(REGISTERS)
        super().__init__(
            {
                "numbers": In(number).array(readers),
                "values": Out(32).array(readers),
                "write": In(number),
                "data": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = Memory(shape=32, depth=REGISTERS, init=[])
        written = Signal(REGISTERS)
        write = words.write_port()
        m.d.comb += [write.en.eq(self.write != 0), write.addr.eq(self.write), write.data.eq(self.data)]
        with m.If(self.write != 0):
            m.d.sync += written.bit_select(self.write, 1).eq(1)
        for number, value in zip(self.numbers, self.values, strict=True):
            read = words.read_port(domain="comb")
            m.d.comb += [read.addr.eq(number), value.eq(Mux(written.bit_select(number, 1), read.data, 0))]
        for i, register in enumerate(self.registers, 1):
            with m.If(self.write == i):
                m.d.sync += register.eq(self.data)
        return m
