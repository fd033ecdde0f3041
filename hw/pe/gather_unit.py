"""The GATHER unit: words of the aggregation link into activation memory AL or row memory LT."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.isa.encoding import GatherSpace, PeError
from hw.memory.sram import WritePort
from hw.params import ChipParams
from hw.pe.unit import is_beyond, operand_error, unit_members


class GatherUnit(wiring.Component):
    """Takes a word a cycle from the cycle after its start, and is done with the last.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    go, command, done, error
        As of `unit_members`.
    link : In, stream of words
    write_al : Out, WritePort
        Group words, written a link word at a time, lowest bytes first.
    write_lt : Out, WritePort
    loading : Out, 1
        Waiting for words, or taking one.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        word = 32 * chip.array.columns
        group = 256 * chip.array.rows
        super().__init__(
            unit_members(chip.pe)
            | {
                "link": In(stream.Signature(unsigned(word))),
                "write_al": Out(WritePort(chip.pe.al_groups, group, word)),
                "write_lt": Out(WritePort(chip.pe.lt_rows, word)),
                "loading": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pe, command = self._chip.pe, self.command
        lanes = len(self.write_al.en)
        al_words = pe.al_groups * lanes
        to_lt = command.flags.gather.space == GatherSpace.LT
        outside = Mux(to_lt, is_beyond(command.d, command.n, pe.lt_rows), is_beyond(command.d, command.n, al_words))
        wrong = operand_error(m, command.n == 0, outside)
        into_lt = Signal()
        place = Signal(range(max(al_words, pe.lt_rows)))
        left = Signal(range(max(al_words, pe.lt_rows) + 1))
        lane_bits = (lanes - 1).bit_length()

        taken = self.loading & self.link.valid
        m.d.comb += [
            self.link.ready.eq(self.loading),
            self.write_al.en.eq((taken & ~into_lt) << place[:lane_bits]),
            self.write_al.addr.eq(place[lane_bits:]),
            self.write_al.data.eq(self.link.payload.replicate(lanes)),
            self.write_lt.en.eq(taken & into_lt),
            self.write_lt.addr.eq(place),
            self.write_lt.data.eq(self.link.payload),
            self.done.eq(taken & (left == 1)),
        ]
        with m.If(self.go & (wrong == PeError.NONE)):
            m.d.sync += [place.eq(command.d), left.eq(command.n), into_lt.eq(to_lt), self.loading.eq(1)]
        with m.If(taken):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1)]
        with m.If(self.done):
            m.d.sync += self.loading.eq(0)
        with m.If(self.go):
            m.d.comb += self.error.eq(wrong)
        return m
