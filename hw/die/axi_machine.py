"""The machine behind AXI4-Lite: what a vendor's block design instantiates."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.die.host_axi import AxiLiteSubordinate, axil_members
from hw.die.host_bus import BlockPorts, HostDecoder
from hw.die.hosted_pe import HostedPe
from hw.memory_map import BufferSizes, MemoryMap, die_map
from hw.params import ChipParams


def _pass_through(m: Module, outer: wiring.Component, inner: wiring.Component) -> None:
    """The ``s_axil_*`` ports of ``inner`` as those of ``outer``."""
    for name, member in axil_members().items():
        source, sink = (inner, outer) if member.flow is Out else (outer, inner)
        m.d.comb += getattr(sink, name).eq(getattr(source, name))


class AxiRegisters(wiring.Component):
    """AXI4-Lite in front of a memory map's decoder.

    Parameters
    ----------
    memory_map : MemoryMap

    Members
    -------
    s_axil_* : AXI4-Lite subordinate
    one array of BlockPorts per block of the map, by its name
    """

    def __init__(self, memory_map: MemoryMap):
        self._map = memory_map
        super().__init__(
            axil_members() | {block.name: Out(BlockPorts(block)).array(block.count) for block in memory_map.blocks}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.subordinate = subordinate = AxiLiteSubordinate()
        m.submodules.decoder = decoder = HostDecoder(self._map)
        connect(m, subordinate.bus, decoder.bus)
        _pass_through(m, self, subordinate)
        for block in self._map.blocks:
            for inner, outer in zip(getattr(decoder, block.name), getattr(self, block.name), strict=True):
                connect(m, inner, flipped(outer))
        return m


class AxiMachine(wiring.Component):
    """`ChipParams.pes` hosted PEs behind the register map; `hw.die.board.Board` with AXI in place of the serial line.

    Parameters
    ----------
    chip : ChipParams
    buffers : BufferSizes

    Members
    -------
    s_axil_* : AXI4-Lite subordinate
    running : Out, pes
        PEs that run and are not finished; the end of a run is the falling edge.
    """

    def __init__(self, chip: ChipParams, buffers: BufferSizes | None = None):
        self._chip, self._buffers = chip, buffers or BufferSizes()
        super().__init__(axil_members() | {"running": Out(chip.pes)})

    def elaborate(self, platform):
        m = Module()
        memory_map = die_map(self._chip, self._buffers)
        block = next(block for block in memory_map.blocks if block.name == "pe")
        m.submodules.registers = registers = AxiRegisters(memory_map)
        _pass_through(m, self, registers)
        for i in range(self._chip.pes):
            m.submodules[f"pe_{i}"] = pe = HostedPe(self._chip, self._buffers, block)
            connect(m, registers.pe[i], pe.host)
            m.d.comb += self.running[i].eq(pe.host.control.run & ~pe.host.status.finished)
        return m
