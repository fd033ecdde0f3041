"""The STORE unit: words of XM to the aggregation link."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from hw.isa.encoding import PeError
from hw.memory.sram import ReadPort
from hw.params import ChipParams
from hw.pe.unit import is_beyond, operand_error, unit_members


class StoreUnit(wiring.Component):
    """Offers its first word two cycles after its start, then a word a cycle while they are taken; done with the last.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    go, command, done, error
        As of `unit_members`.
    read : Out, ReadPort
        XM.
    link : Out, stream of words
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        word = 32 * chip.array.columns
        super().__init__(
            unit_members(chip.pe)
            | {"read": Out(ReadPort(chip.pe.xm_words, word)), "link": Out(stream.Signature(unsigned(word)))}
        )

    def elaborate(self, platform):
        m = Module()
        words, command = self._chip.pe.xm_words, self.command
        wrong = operand_error(m, command.n == 0, is_beyond(command.a, command.n, words))
        place = Signal(range(words))
        left = Signal(range(words + 1))  # words not yet read
        offered = Signal()

        taken = offered & self.link.ready
        m.d.comb += [
            self.read.en.eq((left != 0) & (~offered | taken)),
            self.read.addr.eq(place),
            self.link.valid.eq(offered),
            self.link.payload.eq(self.read.data),
            self.done.eq(taken & (left == 0)),
        ]
        with m.If(self.read.en):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1), offered.eq(1)]
        with m.Elif(taken):
            m.d.sync += offered.eq(0)
        with m.If(self.go):
            m.d.comb += self.error.eq(wrong)
            with m.If(wrong == PeError.NONE):
                m.d.sync += [place.eq(command.a), left.eq(command.n)]
        return m
