"""Transfers of the host's AXI4 port to banks on chip, while the host has them."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HbError
from hw.memory.hb_types import HbRequesterSignature
from hw.memory.on_chip_bank import ColumnPort
from hw.params import HbParams


class BankColumns(wiring.Component):
    """Serves one requester from the column ports of `hw.memory.on_chip_bank.OnChipBank`, a column a cycle.

    A bank that its PE has is left alone: beats read are marked uncorrectable, a write is done with `HbError.BUS` and
    its beats are dropped. Nobody waits for a PE. Where a run begins in the middle of a transfer, the columns until
    then are moved, the others are not, and the transfer is in error.

    Parameters
    ----------
    params : HbParams
    banks : int

    Members
    -------
    port : In, HbRequesterSignature
        Legal transfers only; beats read must be taken at once.
    bank : In
        Of the request.
    columns : Out, array of ColumnPort
    """

    def __init__(self, params: HbParams, banks: int):
        self._params, self._banks = params, banks
        super().__init__(
            {
                "port": In(HbRequesterSignature(params)),
                "bank": In(range(max(banks, 2))),
                "columns": Out(ColumnPort(params)).array(banks),
            }
        )

    def elaborate(self, platform):
        m = Module()
        port, request = self.port, self.port.request
        bank, place = Signal.like(self.bank), Signal.like(self.columns[0].place)
        left = Signal(self._params.length_bits)
        writing, wanted, failed, lost = Signal(), Signal(), Signal(), Signal()
        here = [bank == i for i in range(self._banks)]
        owned = Cat(each.owned & here[i] for i, each in enumerate(self.columns)).any()
        taken = Cat(each.taken & here[i] for i, each in enumerate(self.columns)).any()
        for i, each in enumerate(self.columns):
            m.d.comb += [
                each.en.eq(wanted & here[i]),
                each.write.eq(writing),
                each.place.eq(place),
                each.data.eq(port.write.payload),
            ]
            with m.If(here[i]):
                m.d.comb += port.read.payload.data.eq(each.read_data)
        moved = wanted & (taken | ~owned)
        with m.If(moved):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1), failed.eq(failed | ~owned)]
        m.d.sync += [port.read.valid.eq(moved & ~writing), lost.eq(~owned), port.done.eq(0)]

        with m.FSM():
            with m.State("idle"):
                m.d.comb += request.ready.eq(1)
                with m.If(request.valid):
                    m.d.sync += [
                        bank.eq(self.bank),
                        place.eq(request.payload.row * self._params.data_columns + request.payload.column),
                        left.eq(request.payload.columns),
                        writing.eq(request.payload.write),
                        port.done_tag.eq(request.payload.tag),
                        failed.eq(0),
                    ]
                    m.next = "move"
            with m.State("move"):
                m.d.comb += [wanted.eq(~writing | port.write.valid), port.write.ready.eq(moved & writing)]
                with m.If(moved & (left == 1)):
                    m.next = "done"
            with m.State("done"):
                m.d.comb += port.read.payload.last.eq(1)
                m.d.sync += [port.done.eq(1), port.done_error.eq(HbError.NONE)]
                with m.If(failed & writing):
                    m.d.sync += port.done_error.eq(HbError.BUS)
                m.next = "idle"
        m.d.comb += [port.read.payload.tag.eq(port.done_tag), port.read.payload.uncorrectable.eq(lost)]
        return m
