"""The machine behind a serial line: bridge, decoder, PEs with their memories. What goes on an FPGA board."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.die.host_bus import HostDecoder
from hw.die.hosted_pe import HostedPe
from hw.die.uart_bridge import UartBridge
from hw.errors import UserError
from hw.memory_map import BufferSizes, die_map
from hw.params import ChipParams


class Board(wiring.Component):
    """`ChipParams.pes` hosted PEs, each running a program of its own.

    Parameters
    ----------
    chip : ChipParams
    cycles_per_bit : int
        Of the serial line.
    buffers : BufferSizes

    Members
    -------
    receive : In, 1
    transmit : Out, 1
    running : Out, pes
        PEs that run and are not finished, for lamps.
    """

    def __init__(self, chip: ChipParams, cycles_per_bit: int, buffers: BufferSizes | None = None):
        if chip.memory != "hb":
            raise UserError(f"chip memory must be hb on a board with a serial line, not {chip.memory!r}")
        self._chip, self._cycles, self._buffers = chip, cycles_per_bit, buffers or BufferSizes()
        self.slice_macs = chip.pes * chip.array.slice_macs
        super().__init__({"receive": In(1, init=1), "transmit": Out(1, init=1), "running": Out(chip.pes)})

    def elaborate(self, platform):
        m = Module()
        memory_map = die_map(self._chip, self._buffers)
        block = next(block for block in memory_map.blocks if block.name == "pe")
        m.submodules.bridge = bridge = UartBridge(self._cycles)
        m.submodules.decoder = decoder = HostDecoder(memory_map)
        m.d.comb += [bridge.receive.eq(self.receive), self.transmit.eq(bridge.transmit)]
        connect(m, bridge.bus, decoder.bus)
        for i in range(self._chip.pes):
            m.submodules[f"pe_{i}"] = pe = HostedPe(self._chip, self._buffers, block)
            connect(m, decoder.pe[i], pe.host)
            m.d.comb += self.running[i].eq(pe.host.control.run & ~pe.host.status.finished)
        return m
