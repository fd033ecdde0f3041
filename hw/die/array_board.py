"""The smallest board: the PE array alone behind a serial line, its streams fed from buffers that the host fills."""

from amaranth.hdl import Cat, Module, ResetInserter, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.array.group_accumulator import ResultBeat
from hw.array.mac_array import ActivationBeat
from hw.array.pe_array import PeArray
from hw.array.weight_feed import TileBeat
from hw.die.host_bus import HostDecoder, WindowPort
from hw.die.hosted_pe import SinkBuffer, SourceBuffer
from hw.die.uart_bridge import UartBridge
from hw.errors import UserError
from hw.memory_map import Access, Block, Field, MemoryMap, Register, Window
from hw.params import ArrayParams

BEATS = 64
"""Entries of each buffer."""
ENTRY_WORDS = 4
"""32-bit words of a tile beat, an activation beat, a result."""


def array_board_map(params: ArrayParams) -> MemoryMap:
    """Register map: payloads are laid out as in docs/pe_array.md, lowest bit first."""
    sizes = tuple(Field(name, 8, "of the array", getattr(params, name)) for name in ("rows", "columns", "depth"))
    words = ENTRY_WORDS * BEATS
    entries = (
        Register("ARRAY", 0x00, Access.CONSTANT, sizes, "sizes"),
        Register("CONTROL", 0x04, Access.WRITE, (Field("run", 1, "0: the array is in reset"),), "reset"),
        Register("TILE_COUNT", 0x08, Access.WRITE, (Field("entries", 16, "tile beats offered"),), "length"),
        Register("ACTIVATION_COUNT", 0x0C, Access.WRITE, (Field("entries", 16, "activation beats"),), "length"),
        Register("RESULT_COUNT", 0x10, Access.READ, (Field("entries", 16, "results"),), "length"),
        Register("BEATS", 0x14, Access.READ, (Field("count", 32, "beats computed"),), "counter"),
        Window("TILES", 0x400, words, "tile beats", ENTRY_WORDS, readable=False),
        Window("ACTIVATIONS", 0x800, words, "activation beats", ENTRY_WORDS, readable=False),
        Window("RESULTS", 0xC00, words, "results", ENTRY_WORDS, writable=False),
    )
    return MemoryMap("array", (Block("array", 0, 0x1000, entries, "the array and its buffers"),))


class ArrayBoard(wiring.Component):
    """`PeArray` between two source buffers and a sink buffer.

    Parameters
    ----------
    params : ArrayParams
        So small that every payload has at most 128 bits.
    cycles_per_bit : int

    Members
    -------
    receive : In, 1
    transmit : Out, 1
    running : Out, 1

    Raises
    ------
    UserError
        A payload does not fit an entry of the buffers.
    """

    def __init__(self, params: ArrayParams, cycles_per_bit: int):
        for name, beat in (("tiles", TileBeat), ("activations", ActivationBeat), ("results", ResultBeat)):
            bits = Shape.cast(beat(params)).width
            if bits > 32 * ENTRY_WORDS:
                raise UserError(
                    f"array of {params.rows} x {params.columns} x {params.depth} must have {name} of at most"
                    f" {32 * ENTRY_WORDS} bits on a board of the array alone, not {bits}"
                )
        self._params, self._cycles = params, cycles_per_bit
        self.slice_macs = params.slice_macs
        super().__init__({"receive": In(1, init=1), "transmit": Out(1, init=1), "running": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.bridge = bridge = UartBridge(self._cycles)
        m.submodules.decoder = decoder = HostDecoder(array_board_map(self._params))
        m.d.comb += [bridge.receive.eq(self.receive), self.transmit.eq(bridge.transmit)]
        connect(m, bridge.bus, decoder.bus)
        host, width = decoder.array[0], 32 * ENTRY_WORDS
        array = PeArray(self._params)
        m.submodules.array = ResetInserter(~host.control.run)(array)
        m.submodules.tiles = tiles = SourceBuffer(BEATS, width)
        m.submodules.activations = activations = SourceBuffer(BEATS, width)
        m.submodules.results = results = SinkBuffer(BEATS, width)
        for buffer, window, count, sink in (
            (tiles, host.tiles, host.tile_count, array.tiles),
            (activations, host.activations, host.activation_count, array.activations),
        ):
            m.d.comb += [
                buffer.run.eq(host.control.run),
                buffer.count.eq(count.entries),
                sink.valid.eq(buffer.words.valid),
                sink.payload.as_value().eq(buffer.words.payload),
                buffer.words.ready.eq(sink.ready),
                *_window(window, buffer.host),
            ]
        m.d.comb += [
            array.results.ready.eq(1),
            results.run.eq(host.control.run),
            results.valid.eq(array.results.valid),
            results.entry.eq(Cat(array.results.payload.as_value())),
            host.result_count.entries.eq(results.count),
            host.beats.count.eq(array.beats),
            self.running.eq(host.control.run),
            *_window(host.results, results.host),
        ]
        return m


def _window(decoder: WindowPort, memory: WindowPort) -> list:
    return [
        memory.en.eq(decoder.en),
        memory.write.eq(decoder.write),
        memory.address.eq(decoder.address),
        memory.data.eq(decoder.data),
        decoder.read_data.eq(memory.read_data),
    ]
