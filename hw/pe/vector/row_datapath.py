"""What the vector unit does to a row between operands and result: lanes, sigmoid units, row maximum, divider."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.hierarchy import add_repeated
from hw.isa.encoding import OPCODE_BITS, Opcode
from hw.isa.vector_timing import vector_interval
from hw.params import ChipParams
from hw.pe.vector.fp32_divider import Fp32Divider
from hw.pe.vector.lane import LaneOperation, VectorLane
from hw.pe.vector.row_maximum import RowMaximum
from hw.pe.vector.sigmoid import SigmoidUnit
from hw.pipeline import cut

_LANE_OPERATIONS = {
    Opcode.ADD: LaneOperation.SUM,
    Opcode.MUL: LaneOperation.PRODUCT,
    Opcode.MAX: LaneOperation.MAXIMUM,
    Opcode.MIN: LaneOperation.MINIMUM,
    Opcode.ROW_MAX: LaneOperation.MAXIMUM,
    Opcode.ROW_MUL: LaneOperation.PRODUCT,
}
_127 = 0x42FE0000  # FP32 bits of 127
_INFINITY_MAGNITUDE = 0x7F800000


class RowDatapath(wiring.Component):
    """A row a cycle, SIGMOID `vector_interval` cycles a row; `vector_stages` of the opcode later comes the result.

    A row's operands stay for its interval, and the result of SIGMOID is whole in the interval's last cycle. The opcode
    stays while rows are under way.

    Members
    -------
    opcode : In, OPCODE_BITS
        A vector command.
    fresh : In, 1
        The operands are those of a new row.
    values_a, values_b : In, columns x 32
    scalar : In, 32
        Operand of the divider.
    row : Out, columns x 32
        Of commands that make rows or whole row registers.
    codes : Out, columns x 8
        Of QUANTIZE.
    row_scalar : Out, 32
        Of ROW_ABSMAX (the row's own maximum), ROW_SCALE and ROW_RECIPROCAL.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        columns = chip.array.columns
        values = data.ArrayLayout(32, columns)
        super().__init__(
            {
                "opcode": In(OPCODE_BITS),
                "fresh": In(1),
                "values_a": In(values),
                "values_b": In(values),
                "scalar": In(32),
                "row": Out(values),
                "codes": Out(data.ArrayLayout(8, columns)),
                "row_scalar": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        operation = Signal(LaneOperation)
        m.d.comb += operation.eq(LaneOperation.MOVE)
        with m.Switch(self.opcode):
            for code, lane_operation in _LANE_OPERATIONS.items():
                with m.Case(code):
                    m.d.comb += operation.eq(lane_operation)
        values = []
        for c in range(self._chip.array.columns):
            lane = VectorLane(self._chip)
            add_repeated(m, f"lane_{c}", lane, platform)
            m.d.comb += [
                lane.operation.eq(operation),
                lane.a.eq(self.values_a[c]),
                lane.b.eq(self.values_b[c]),
                self.codes[c].eq(lane.code),
            ]
            values.append(lane.value)
        sigmoids = self._sigmoids(m, platform)
        m.d.comb += Value.cast(self.row).eq(Mux(self.opcode == Opcode.SIGMOID, sigmoids, Cat(values)))

        m.submodules.row_maximum = maximum = RowMaximum(self._chip)
        m.d.comb += (maximum.magnitudes[c].eq(self.values_a[c][:31]) for c in range(self._chip.array.columns))
        quotient = self._quotient(m)
        m.d.comb += self.row_scalar.eq(Mux(self.opcode == Opcode.ROW_ABSMAX, maximum.maximum, quotient))
        return m

    def _sigmoids(self, m: Module, platform: object) -> Value:
        """The row of sigmoids: its values go through the units in turns, lowest columns first."""
        units = self._chip.pe.sigmoid_units
        turns = vector_interval(self._chip, Opcode.SIGMOID)
        later = Signal(range(turns))  # turn of the cycle after one of fresh operands
        turn = Mux(self.fresh, 0, later)
        m.d.sync += later.eq(turn + 1)
        outputs = []
        for u in range(units):
            unit = SigmoidUnit(self._chip)
            add_repeated(m, f"sigmoid_{u}", unit, platform)
            m.d.comb += unit.x.eq(Array(self.values_a[t * units + u] for t in range(turns))[turn])
            outputs.append(unit.value)
        parts = [Cat(outputs)]  # newest first: the row is whole when its last turn comes out
        for t in range(turns - 1):
            parts.append(cut(m, Const(1), True, **{f"turn_{t}": parts[-1]}).__dict__[f"turn_{t}"])
        return Cat(reversed(parts))

    def _quotient(self, m: Module) -> Value:
        """scalar / 127, or 127 / scalar with 0 for an infinite quotient."""
        m.submodules.divider = divider = Fp32Divider(self._chip.pe.vector_divide_stages)
        reciprocal = self.opcode == Opcode.ROW_RECIPROCAL
        m.d.comb += [
            divider.a.eq(Mux(reciprocal, _127, self.scalar)),
            divider.b.eq(Mux(reciprocal, self.scalar, _127)),
            divider.advance.eq(1),
        ]
        infinite = divider.quotient[:31] == _INFINITY_MAGNITUDE
        return Mux(reciprocal & infinite, 0, divider.quotient)
