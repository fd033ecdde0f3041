"""Row registers: 8 registers of R scalars, one scalar for each row of a tile."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.params import ChipParams
from hw.params.pe import ROW_REGISTERS


class RowRegisters(wiring.Component):
    """Two registers read and any scalars of one register written in every cycle.

    A read shows the register one cycle after its selection, with all writes before that cycle, so that a scalar can be
    read, changed and written in every cycle.

    Members
    -------
    selects : In, 2 x range(8)
    values : Out, 2 x rows x 32
        The registers selected one cycle ago.
    write : In, rows
        Scalars of register ``target`` to write.
    target : In, range(8)
    data : In, rows x 32
    """

    def __init__(self, chip: ChipParams):
        self._register = data.ArrayLayout(unsigned(32), chip.array.rows)
        super().__init__(
            {
                "selects": In(range(ROW_REGISTERS)).array(2),
                "values": Out(self._register).array(2),
                "write": In(chip.array.rows),
                "target": In(range(ROW_REGISTERS)),
                "data": In(self._register),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.scalars = scalars = Memory(shape=self._register, depth=ROW_REGISTERS, init=[])
        write = scalars.write_port(granularity=1)
        m.d.comb += [write.en.eq(self.write), write.addr.eq(self.target), write.data.eq(self.data)]
        for select, value in zip(self.selects, self.values, strict=True):
            port = scalars.read_port(transparent_for=[write])
            m.d.comb += [port.en.eq(1), port.addr.eq(select), value.eq(port.data)]
        return m
