"""The machine behind AXI4-Lite: what a vendor's block design instantiates."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.die.axi_columns import BankColumns
from hw.die.axi_memory_subordinate import AxiMemorySubordinate
from hw.die.host_axi import AxiLiteSubordinate, axil_members
from hw.die.host_bus import BlockPorts, HostDecoder
from hw.die.hosted_pe import HostedPe
from hw.hierarchy import add_repeated
from hw.memory.axi import pass_through
from hw.memory.axi_bank import AxiBank
from hw.memory_map import BankWindows, BufferSizes, MemoryMap, die_map
from hw.params import ChipParams

HOST_ID_BITS = 4
"""Width of the identifiers of the host's bursts."""


def _port(pe: int) -> str:
    """Prefix of a PE's manager port, as vendors number them."""
    return f"m{pe:02}_axi"


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
        pass_through(m, self, subordinate, axil_members())
        for block in self._map.blocks:
            for inner, outer in zip(getattr(decoder, block.name), getattr(self, block.name), strict=True):
                connect(m, inner, flipped(outer))
        return m


class AxiMachine(wiring.Component):
    """`ChipParams.pes` hosted PEs behind the register map; `hw.die.board.Board` with AXI in place of the serial line.

    Where a PE's bank is on chip, the host reaches all of it over AXI4 while that PE's CONTROL.run is 0; in a run the
    bank is its PE's alone and the host's bursts are answered with SLVERR at once. Where it is a memory behind AXI4,
    each PE is a manager of its own there, and the host reaches that memory by the vendor's ways.

    Parameters
    ----------
    chip : ChipParams
    buffers : BufferSizes

    Members
    -------
    s_axil_* : AXI4-Lite subordinate
    s_axi_* : AXI4 subordinate, the banks at the places of `hw.memory_map.BankWindows`; only with banks on chip
    m00_axi_*, m01_axi_* ... : AXI4 managers, one per PE; only with memories behind AXI4
    running : Out, pes
        PEs that run and are not finished; the end of a run is the falling edge.
    """

    def __init__(self, chip: ChipParams, buffers: BufferSizes | None = None):
        self._chip, self._buffers = chip, buffers or BufferSizes()
        self._subordinate = None
        if chip.memory == "hb":
            self._subordinate = AxiMemorySubordinate(chip.hb, HOST_ID_BITS, BankWindows(chip.hb, chip.pes))
            memory = self._subordinate.subordinate_members
        else:
            members = AxiBank.manager_members(chip.hb, chip.axi).items()
            memory = {name.replace("m_axi", _port(i)): member for i in range(chip.pes) for name, member in members}
        super().__init__(axil_members() | memory | {"running": Out(chip.pes)})

    def elaborate(self, platform):
        m = Module()
        chip = self._chip
        memory_map = die_map(self._chip, self._buffers)
        block = next(block for block in memory_map.blocks if block.name == "pe")
        m.submodules.registers = registers = AxiRegisters(memory_map)
        pass_through(m, self, registers, axil_members())
        pes = [HostedPe(chip, self._buffers, block) for _ in range(chip.pes)]
        for i, pe in enumerate(pes):
            add_repeated(m, f"pe_{i}", pe, platform)
            connect(m, registers.pe[i], pe.host)
            m.d.comb += self.running[i].eq(pe.host.control.run & ~pe.host.status.finished)
            if chip.memory == "axi":
                pass_through(m, self, pe, AxiBank.manager_members(chip.hb, chip.axi), ("m_axi", _port(i)))
        if self._subordinate:
            m.submodules.memory = subordinate = self._subordinate
            m.submodules.columns = columns = BankColumns(chip.hb, chip.pes)
            pass_through(m, self, subordinate, subordinate.subordinate_members)
            connect(m, subordinate.port, columns.port)
            m.d.comb += columns.bank.eq(subordinate.bank)
            for i, pe in enumerate(pes):
                connect(m, columns.columns[i], pe.columns)
        return m
