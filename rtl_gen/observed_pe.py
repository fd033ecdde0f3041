"""A PE whose memories can be watched from outside: the top of compiled simulations, never of hardware."""

from amaranth.hdl import Cat, Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.hierarchy import DefineOnce
from hw.params import ChipParams
from hw.pe.pe import Pe
from rtl_gen.pe_probes import Written, components, probes, registers


class ObservedPe(wiring.Component):
    """`Pe` and, beside its ports, every write port inside it.

    Members
    -------
    pe : Out, the ports of Pe
    written : for each memory of `hw.isa.result.MEMORIES` that lies in the PE
        Out {enable, address, data} of its write port.
    registers : Out, 15 x 32
        r1 ... r15, r1 lowest.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        # A first elaboration tells the widths of what is to be watched.
        (pe, _), watched, register_bits = self._elaborated(DefineOnce())
        members = {
            name: wiring.Signature(
                {
                    part: Out(len(signal))
                    for part, signal in zip(("enable", "address", "data"), probe.signals, strict=True)
                }
            )
            for name, probe in watched.items()
        }
        self.watched: dict[str, Written] = watched
        super().__init__(
            {
                "pe": Out(pe.signature),
                "written": Out(wiring.Signature({name.lower(): Out(each) for name, each in members.items()})),
                "registers": Out(len(register_bits)),
            }
        )

    def _elaborated(self, platform):
        """The PE's ports and fragment, its probes, its registers."""
        pe = Pe(self._chip)
        fragment = Fragment.get(pe, platform)
        design = components(fragment)
        return (pe, fragment), probes(pe, design, self._chip), Cat(registers(design))

    def elaborate(self, platform):
        m = Module()
        (pe, fragment), watched, register_bits = self._elaborated(platform)
        m.submodules.inner = fragment
        connect(m, pe, flipped(self.pe))
        for name, probe in watched.items():
            port = getattr(self.written, name.lower())
            for part, signal in zip(("enable", "address", "data"), probe.signals, strict=True):
                m.d.comb += getattr(port, part).eq(signal)
        m.d.comb += self.registers.eq(register_bits)
        return m
