"""The host's side of the machine: a simple register bus, and the decoder that a memory map turns into."""

import functools
import operator

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory_map import WORD_BYTES, Access, Block, MemoryMap, Register, Window

ADDRESS_BITS = 32
RESPONSE_CYCLES = 2
"""From a request to its response, always: no access can hang."""


class HostBus(wiring.Signature):
    """One 32-bit access at a time; the next one no sooner than in the cycle of the response.

    en, write, address, data  Out, the request, for one cycle; ``address`` in bytes
    done                      In, the response, `RESPONSE_CYCLES` later
    read_data, error          In, valid with ``done``; an error means that nothing was read or written
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "write": Out(1),
                "address": Out(ADDRESS_BITS),
                "data": Out(32),
                "done": In(1),
                "read_data": In(32),
                "error": In(1),
            }
        )


class WindowPort(wiring.Signature):
    """What the decoder drives into a memory: a word a cycle, ``read_data`` in the cycle after ``en``."""

    def __init__(self, words: int):
        super().__init__(
            {"en": Out(1), "write": Out(1), "address": Out(range(words)), "data": Out(32), "read_data": In(32)}
        )


def fields_layout(register: Register) -> data.StructLayout:
    """A register's fields as a port."""
    return data.StructLayout({field.name: unsigned(field.bits) for field in register.fields})


class BlockPorts(wiring.Signature):
    """What a block shows to the hardware: a port per register that is no constant, and one per window.

    Ports of READ registers should come from registers: the decoder reads them in the cycle after the request.
    """

    def __init__(self, block: Block):
        members = {}
        for entry in block.entries:
            name = entry.name.lower()
            if isinstance(entry, Window):
                members[name] = Out(WindowPort(entry.words))
            elif entry.access is not Access.CONSTANT:
                members[name] = (Out if entry.access is Access.WRITE else In)(fields_layout(entry))
        super().__init__(members)


class HostDecoder(wiring.Component):
    """Answers every access `RESPONSE_CYCLES` later; outside the map, and where an access is not allowed, with an error.

    Parameters
    ----------
    memory_map : MemoryMap

    Members
    -------
    bus : In, HostBus
    one array of BlockPorts per block of the map, by its name
    """

    def __init__(self, memory_map: MemoryMap):
        self._map = memory_map
        super().__init__(
            {"bus": In(HostBus())}
            | {block.name: Out(BlockPorts(block)).array(block.count) for block in memory_map.blocks}
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        # Cycle 0: who is meant. Windows see the request at once, registers and the choice of the answer are registered.
        address = bus.address
        hits, values = [], []
        for block in self._map.blocks:
            shift = (block.stride - 1).bit_length()
            for copy in range(block.count):
                here = address[shift:] == (block.base + copy * block.stride) >> shift
                ports = getattr(self, block.name)[copy]
                for entry in block.entries:
                    hit, value = self._entry(m, entry, ports, here, address[:shift])
                    hits.append(hit)
                    values.append(value)

        # Cycle 1: the answers of the entries that were hit; all others are 0.
        hit_1, value_1, valid_1 = Signal(), Signal(32), Signal()
        m.d.sync += [valid_1.eq(bus.en), hit_1.eq(Cat(hits).any())]
        selected = Signal(len(hits))
        m.d.sync += selected.eq(Cat(hits))
        answers = [value & selected[i].replicate(32) for i, value in enumerate(values)]
        while len(answers) > 1:  # a tree: as deep as the logic must be, and a map of 16 PEs is no deep expression
            answers = [functools.reduce(operator.or_, answers[i : i + 2]) for i in range(0, len(answers), 2)]
        m.d.comb += value_1.eq(answers[0])

        # Cycle 2: the response.
        m.d.sync += [bus.done.eq(valid_1), bus.error.eq(valid_1 & ~hit_1), bus.read_data.eq(value_1)]
        return m

    def _entry(self, m, entry, ports, here, offset):
        """Whether an access to ``entry`` is allowed now, and its value in the next cycle."""
        bus = self.bus
        unaligned = offset[:2] != 0
        if isinstance(entry, Window):
            first, port = entry.offset // WORD_BYTES, getattr(ports, entry.name.lower())
            word = offset[2:]
            size = 1 << (entry.words - 1).bit_length()
            inside = word[(size - 1).bit_length() :] == first // size
            if entry.words != size:
                inside &= word[: (size - 1).bit_length()] < entry.words
            allowed = (bus.write & int(entry.writable)) | (~bus.write & int(entry.readable))
            hit = Signal(name=f"hit_{entry.name.lower()}")
            m.d.comb += [
                hit.eq(bus.en & here & inside & allowed & ~unaligned),
                port.en.eq(hit),
                port.write.eq(hit & bus.write),
                port.address.eq(word),
                port.data.eq(bus.data),
            ]
            return hit, port.read_data
        hit = Signal(name=f"hit_{entry.name.lower()}")
        writable = entry.access is Access.WRITE
        m.d.comb += hit.eq(bus.en & here & (offset == entry.offset) & (~bus.write | int(writable)))
        if entry.access is Access.CONSTANT:
            return hit, entry.constant
        port = getattr(ports, entry.name.lower())
        if writable:
            with m.If(hit & bus.write):
                m.d.sync += port.eq(bus.data)
        return hit, port.as_value()
