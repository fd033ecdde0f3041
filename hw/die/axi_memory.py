"""One bank on chip behind AXI4: subordinate, HB controller, block memory with the bank's timing."""

import dataclasses

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hw.die.axi_memory_subordinate import AxiMemorySubordinate
from hw.memory.hb_controller import HbController
from hw.memory.on_chip_bank import OnChipBank
from hw.params import HbParams

ON_CHIP_BYTES = 1 << 16


def on_chip(params: HbParams) -> HbParams:
    """``params`` with as many rows as fit on chip, at least two."""
    rows = max(2, ON_CHIP_BYTES // params.row_bytes)
    return dataclasses.replace(params, rows=min(params.rows, rows))


class AxiMemory(wiring.Component):
    """The host's way to a bank, with requester 0 of its controller; the others are idle.

    Parameters
    ----------
    params : HbParams
    id_bits : int

    Members
    -------
    s_axi_* : AXI4 subordinate of `AxiMemorySubordinate`
    violation : Out, 1
        The bank saw a command before its time.
    """

    def __init__(self, params: HbParams, id_bits: int = 4):
        self._params = params
        self._subordinate = AxiMemorySubordinate(params, id_bits)
        super().__init__(self._subordinate.subordinate_members | {"violation": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.subordinate = subordinate = self._subordinate
        m.submodules.controller = controller = HbController(self._params)
        m.submodules.bank = bank = OnChipBank(self._params)
        connect(m, subordinate.port, controller.requesters[0])
        connect(m, controller.pins, bank.pins)
        m.d.comb += self.violation.eq(bank.violation)
        for name, member in self.signature.members.items():
            if name.startswith("s_axi_"):
                inner, outer = getattr(subordinate, name), getattr(self, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m
