"""The HB unit: LOAD moves columns of the HB bank into the weight memory WH."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.isa import HbError
from hw.isa.encoding import PeError
from hw.memory.hb_types import HbRequesterSignature
from hw.memory.sram import WritePort
from hw.params import ChipParams, HbParams
from hw.pe.unit import is_beyond, operand_error, unit_members


def set_transfer(m: Module, transfer, params: HbParams, first: Value, count: Value) -> None:
    """Fill a request from linear data column ``first`` on."""
    m.d.comb += [
        transfer.row.eq(first // params.data_columns),
        transfer.column.eq(first % params.data_columns),
        transfer.columns.eq(count),
    ]


def cannot_ask(params: HbParams, first: Value, count: Value) -> Value:
    """Whether a transfer does not fit the fields of a request."""
    return (first >= params.rows * params.data_columns) | (count >= 1 << params.length_bits)


class HbUnit(wiring.Component):
    """Requests from the cycle after its start; takes every beat at once; done with the controller's done pulse, or with
    the last beat if that is later.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    go, command, done, error
        As of `unit_members`.
    hb : Out, HbRequesterSignature
    write : Out, WritePort
        WH.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        super().__init__(
            unit_members(chip.pe)
            | {
                "hb": Out(HbRequesterSignature(chip.hb)),
                "write": Out(WritePort(chip.pe.wh_words, chip.hb.data_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hb, words = self._chip.hb, self._chip.pe.wh_words
        command, beat = self.command, self.hb.read
        wrong = operand_error(
            m, command.n == 0, is_beyond(command.d, command.n, words) | cannot_ask(hb, command.a, command.n)
        )
        ask = Signal()
        active = Signal()
        column = Signal(32)
        count = Signal(hb.length_bits)
        left = Signal(hb.length_bits)  # beats to come
        answered = Signal()
        address = Signal(range(words))

        set_transfer(m, self.hb.request.payload, hb, column, count)
        m.d.comb += [
            self.hb.request.valid.eq(ask),
            beat.ready.eq(1),
            self.write.en.eq(beat.valid),
            self.write.addr.eq(address),
            self.write.data.eq(beat.payload.data),
        ]
        with m.If(self.go & (wrong == PeError.NONE)):
            m.d.sync += [
                ask.eq(1),
                active.eq(1),
                answered.eq(0),
                column.eq(command.a),
                count.eq(command.n),
                left.eq(command.n),
                address.eq(command.d),
            ]
        with m.If(self.hb.request.valid & self.hb.request.ready):
            m.d.sync += ask.eq(0)
        with m.If(beat.valid):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        with m.If(self.hb.done):
            m.d.sync += answered.eq(1)
        m.d.comb += self.done.eq(active & (self.hb.done | answered) & ((left == 0) | (beat.valid & (left == 1))))
        with m.If(self.done):
            m.d.sync += active.eq(0)

        with m.If(self.go):
            m.d.comb += self.error.eq(wrong)
        with m.Elif(self.hb.done & (self.hb.done_error != HbError.NONE)):
            m.d.comb += self.error.eq(PeError.HB_REFUSED)
        with m.Elif(beat.valid & beat.payload.uncorrectable):
            m.d.comb += self.error.eq(PeError.HB_UNCORRECTABLE)
        return m
