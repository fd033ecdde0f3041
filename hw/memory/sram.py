"""On-chip memory with the ports of a real SRAM: one synchronous read, one write, no reset, no read-through."""

from amaranth.hdl import ClockSignal, Instance, Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature

from hw.hierarchy import Repeated, add_repeated


class _Port(Signature):
    """Ports of equal members are equal, so that copies of a memory count as one module."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.members == other.members

    __hash__ = None


class ReadPort(_Port):
    """What a reader drives and gets back.

    en    Out, the word at ``addr`` is wanted
    addr  Out
    data  In, the word, from the next cycle until the one after the next ``en``
    """

    def __init__(self, depth: int, width: int):
        super().__init__({"en": Out(1), "addr": Out(range(depth)), "data": In(width)})


class WritePort(_Port):
    """What a writer drives; ``en`` has a bit for each granule of the word, lowest first."""

    def __init__(self, depth: int, width: int, granule: int | None = None):
        super().__init__({"en": Out(width // (granule or width)), "addr": Out(range(depth)), "data": Out(width)})


class Sram(Repeated):
    """``depth`` words of ``width`` bits, written in granules.

    A read takes one cycle and its data stays until the next read. A word read while it is written has its old
    value. Without macros it is a `Memory`, which tools map to block RAM, even a small one, or to registers; with them
    it holds one instance of the module ``<module_name>_macro`` (ports clk, read_en, read_addr, read_data, write_en,
    write_addr, write_data), which comes with the technology.

    Parameters
    ----------
    depth, width : int
    granule : int, optional
        Bits that are written together; the whole word unless given.
    macro : bool
        Leave the storage to a macro.

    Members
    -------
    read : In, ReadPort
    write : In, WritePort
    """

    def __init__(self, depth: int, width: int, granule: int | None = None, *, macro: bool = False):
        self._depth, self._width, self._granule, self._macro = depth, width, granule or width, macro
        if width % self._granule:
            raise ValueError(f"granule {granule} does not divide a word of {width} bits")
        self.module_name = f"sram_{depth}x{width}" + (f"_by_{granule}" if self._granule != width else "")
        super().__init__({"read": In(ReadPort(depth, width)), "write": In(WritePort(depth, width, self._granule))})

    def elaborate(self, platform):
        m = Module()
        if self._macro:
            m.submodules.macro = Instance(
                f"{self.module_name}_macro",
                i_clk=ClockSignal(),
                i_read_en=self.read.en,
                i_read_addr=self.read.addr,
                o_read_data=self.read.data,
                i_write_en=self.write.en,
                i_write_addr=self.write.addr,
                i_write_data=self.write.data,
            )
            return m
        lanes = self._width // self._granule
        shape = data.ArrayLayout(unsigned(self._granule), lanes) if lanes > 1 else unsigned(self._width)
        m.submodules.words = words = Memory(shape=shape, depth=self._depth, init=[], attrs={"ram_style": "block"})
        read, write = words.read_port(), words.write_port(granularity=1 if lanes > 1 else None)
        m.d.comb += [
            read.en.eq(self.read.en),
            read.addr.eq(self.read.addr),
            self.read.data.eq(read.data),
            write.en.eq(self.write.en),
            write.addr.eq(self.write.addr),
            write.data.eq(self.write.data),
        ]
        return m


class SharedSram(wiring.Component):
    """A memory with several readers: a copy for each, all written together.

    Parameters
    ----------
    readers : int
    depth, width, granule, macro
        As of `Sram`.

    Members
    -------
    reads : In, array of ReadPort
    write : In, WritePort
    """

    def __init__(self, readers: int, depth: int, width: int, granule: int | None = None, *, macro: bool = False):
        self._copies = [Sram(depth, width, granule, macro=macro) for _ in range(readers)]
        super().__init__(
            {
                "reads": In(ReadPort(depth, width)).array(readers),
                "write": In(WritePort(depth, width, granule)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for i, copy in enumerate(self._copies):
            add_repeated(m, f"copy_{i}", copy, platform)
            m.d.comb += [
                copy.write.en.eq(self.write.en),
                copy.write.addr.eq(self.write.addr),
                copy.write.data.eq(self.write.data),
            ]
            wiring.connect(m, wiring.flipped(self.reads[i]), copy.read)
        return m
