"""The STREAM unit: words of the stream link into the weight memory WL, or into the HB bank."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HbError
from hw.isa.encoding import Opcode, PeError
from hw.memory.hb_types import HbRequesterSignature
from hw.memory.sram import WritePort
from hw.params import ChipParams
from hw.pe.hb_unit import cannot_ask, set_transfer
from hw.pe.unit import is_beyond, operand_error, unit_members


class StreamUnit(wiring.Component):
    """Both commands begin in the cycle after their start, one at a time.

    LOAD takes a word a cycle and is done with the last; REFILL requests a write, lets the controller take the words,
    and is done with the controller's done pulse.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    go, command, done, error
        As of `unit_members`.
    link : In, stream of words
    hb : Out, HbRequesterSignature
    write : Out, WritePort
        WL.
    loading : Out, 1
        Waiting for words, or taking one, for WL.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        super().__init__(
            unit_members(chip.pe)
            | {
                "link": In(stream.Signature(unsigned(chip.hb.data_bits))),
                "hb": Out(HbRequesterSignature(chip.hb)),
                "write": Out(WritePort(chip.pe.wl_words, chip.hb.data_bits)),
                "loading": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hb, words = self._chip.hb, self._chip.pe.wl_words
        command, request = self.command, self.hb.request
        is_refill = command.opcode == Opcode.STREAM_REFILL
        outside = (~is_refill & is_beyond(command.d, command.n, words)) | (
            is_refill & cannot_ask(hb, command.d, command.n)
        )
        wrong = operand_error(m, command.n == 0, outside)
        place = Signal(32)
        left = Signal(max(hb.length_bits, words.bit_length()))
        ask, refilling = Signal(), Signal()

        set_transfer(m, request.payload, hb, place, left)
        m.d.comb += [
            request.payload.write.eq(1),
            request.valid.eq(ask),
            self.hb.write.payload.eq(self.link.payload),
            self.hb.write.valid.eq(refilling & self.link.valid),
            self.link.ready.eq(self.loading | (refilling & self.hb.write.ready)),
            self.write.en.eq(self.loading & self.link.valid),
            self.write.addr.eq(place),
            self.write.data.eq(self.link.payload),
            self.done.eq((self.loading & self.link.valid & (left == 1)) | (refilling & self.hb.done)),
        ]
        with m.If(self.go & (wrong == PeError.NONE)):
            m.d.sync += [
                place.eq(command.d),
                left.eq(command.n),
                ask.eq(is_refill),
                refilling.eq(is_refill),
                self.loading.eq(~is_refill),
            ]
        with m.If(request.valid & request.ready):
            m.d.sync += ask.eq(0)
        with m.If(self.loading & self.link.valid):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1)]
        with m.If(self.done):
            m.d.sync += [refilling.eq(0), self.loading.eq(0)]

        with m.If(self.go):
            m.d.comb += self.error.eq(wrong)
        with m.Elif(self.hb.done & (self.hb.done_error != HbError.NONE)):
            m.d.comb += self.error.eq(PeError.HB_REFUSED)
        return m
