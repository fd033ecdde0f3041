"""One lane of the vector unit: the arithmetic of one column."""

from dataclasses import replace
from enum import IntEnum

from amaranth.hdl import Const, Module, Mux, signed
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import Fp32Adder
from hw.hierarchy import Repeated, add_repeated
from hw.params import ChipParams
from hw.pe.vector.fp32_compare import extremum
from hw.pe.vector.fp32_multiplier import Fp32Multiplier
from hw.pe.vector.quantizer import Int8Rounder
from hw.pipeline import cut


class LaneOperation(IntEnum):
    """What a lane's ``value`` is."""

    SUM = 0
    PRODUCT = 1
    MAXIMUM = 2
    MINIMUM = 3
    MOVE = 4


class VectorLane(Repeated):
    """``value = a op b`` and ``code = clip(rne(rne(a b)))``, a pair of operands a cycle, never stalled.

    Latency: ``vector_add_stages`` for a sum, ``vector_mul_stages`` for a product and one more for ``code``, 1 for the
    others. The operation must not change while operands are under way; the unit's commands do not overlap.

    Members
    -------
    operation : In, LaneOperation
    a, b : In, 32
    value : Out, 32
    code : Out, signed(8)
    """

    module_name = "vector_lane"

    def __init__(self, chip: ChipParams):
        self._chip = chip
        super().__init__(
            {"operation": In(LaneOperation), "a": In(32), "b": In(32), "value": Out(32), "code": Out(signed(8))}
        )

    def elaborate(self, platform):
        m = Module()
        pe = self._chip.pe
        adder = Fp32Adder(replace(self._chip.array, add_stages=pe.vector_add_stages))
        multiplier, rounder = Fp32Multiplier(pe.vector_mul_stages), Int8Rounder()
        add_repeated(m, "adder", adder, platform)
        add_repeated(m, "multiplier", multiplier, platform)
        add_repeated(m, "rounder", rounder, platform)
        for unit in (adder, multiplier):
            m.d.comb += [unit.a.eq(self.a), unit.b.eq(self.b), unit.advance.eq(1)]
        m.d.comb += [rounder.value.eq(multiplier.product), rounder.advance.eq(1), self.code.eq(rounder.rounded)]
        chosen = extremum(self.a, self.b, self.operation == LaneOperation.MINIMUM)
        chosen = Mux(self.operation == LaneOperation.MOVE, self.a, chosen)
        chosen = cut(m, Const(1), True, chosen=chosen).chosen
        with m.Switch(self.operation):
            with m.Case(LaneOperation.SUM):
                m.d.comb += self.value.eq(adder.total)
            with m.Case(LaneOperation.PRODUCT):
                m.d.comb += self.value.eq(multiplier.product)
            with m.Default():
                m.d.comb += self.value.eq(chosen)
        return m
