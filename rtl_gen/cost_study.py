"""Cost of the idea: what LSB augmentation adds to a dot unit by where it sits, beside a native 8 x 8 unit.

A dot unit needs a 5-bit signed operand with or without augmentation, because the LSB slice is unsigned: {0, l}. So
augmentation never widens the multiplier; what it costs is forming the operand:

    absent            {h, 0} or {0, l}, formed once per stored weight
    shared            {h, 0}, {0, l} or {h, 1}, formed once per stored weight and shared by all rows
    bit per MAC       as absent, and the fixed one is put in at every MAC
    selection per MAC the stored code goes to every MAC, which selects among the three operands itself
    as built          shared, and the MXFP4 decoder too

Every placement is charged per dot unit: what is formed once per weight is divided by the rows that share it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.dot_product import DotProduct
from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.group_accumulator import AccumulatorColumn
from hw.array.mac_array import MacColumn
from hw.array.weight_feed import WeightColumn, WeightDecoder
from hw.params import ArrayParams, ChipParams
from rtl_gen.liberty import Liberty
from rtl_gen.synth import Synthesis, synthesise


class OperandSelect(wiring.Component):
    """Operands of one column's beat from stored codes: MSB or LSB slice, with or without the draft's fixed one.

    Members
    -------
    codes : In, depth x unsigned(slice_bits)
    lsb, draft : In, 1
        ``draft`` only where the augmentation is present.
    operands : Out, depth x signed(operand_bits)
    """

    def __init__(self, params: ArrayParams, augmented: bool):
        self._params = params
        self._augmented = augmented
        super().__init__(
            {
                "codes": In(data.ArrayLayout(unsigned(params.slice_bits), params.depth)),
                "lsb": In(1),
                "operands": Out(data.ArrayLayout(signed(params.operand_bits), params.depth)),
            }
            | ({"draft": In(1)} if augmented else {})
        )

    def elaborate(self, platform):
        m = Module()
        for k in range(self._params.depth):
            code = Signal(self._params.slice_bits, name=f"code_{k}")
            fixed = self.draft if self._augmented else 0
            m.d.comb += [code.eq(self.codes[k]), self.operands[k].eq(Mux(self.lsb, Cat(code, 0), Cat(fixed, code)))]
        return m


class BitInsertion(wiring.Component):
    """The fixed one, put into a dot unit's operands at every MAC.

    Members
    -------
    operands : In, depth x signed(operand_bits)
    draft : In, 1
    augmented : Out, depth x signed(operand_bits)
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        operands = data.ArrayLayout(signed(params.operand_bits), params.depth)
        super().__init__({"operands": In(operands), "draft": In(1), "augmented": Out(operands)})

    def elaborate(self, platform):
        m = Module()
        for k in range(self._params.depth):
            operand = self.operands[k]
            m.d.comb += self.augmented[k].eq(Cat(operand[0] | self.draft, operand[1:]))
        return m


@dataclass(frozen=True)
class _NativeParams(ArrayParams):
    """An array whose operand is a whole INT8 weight."""

    @property
    def operand_bits(self) -> int:
        return 8


def _native(params: ArrayParams) -> ArrayParams:
    return _NativeParams(**vars(params))


UNITS: dict[str, Callable[[ArrayParams], wiring.Component]] = {
    "dot_unit": DotProduct,
    "select_absent": lambda params: OperandSelect(params, augmented=False),
    "select_augmented": lambda params: OperandSelect(params, augmented=True),
    "bit_insertion": BitInsertion,
    "weight_decoder": WeightDecoder,
    "native_dot_unit": lambda params: DotProduct(_native(params)),
    "scale_multiplier": ScaleMultiplier,
    "fp32_adder": Fp32Adder,
    "weight_column": WeightColumn,
    "mac_column": MacColumn,
    "accumulator_column": AccumulatorColumn,
}


@dataclass(frozen=True)
class Placement:
    """One place for the augmentation: area per dot unit and what it adds to the unit without, in percent."""

    name: str
    area: float
    overhead_percent: float


@dataclass(frozen=True)
class CostStudy:
    """Synthesised units and what follows from them for one chip's array."""

    chip: ChipParams
    units: dict[str, Synthesis]
    flip_flop_area: float

    @property
    def placements(self) -> list[Placement]:
        """Areas per dot unit, the shared parts divided by the rows that share them."""
        area = {name: unit.area for name, unit in self.units.items()}
        rows = self.chip.array.rows
        dot, absent, augmented = area["dot_unit"], area["select_absent"], area["select_augmented"]
        totals = {
            "absent": dot + absent / rows,
            "shared per weight": dot + augmented / rows,
            "bit inserted per MAC": dot + absent / rows + area["bit_insertion"],
            "selection per MAC": dot + augmented,
            "as built (shared, and MXFP4)": dot + area["weight_decoder"] / rows,
        }
        base = totals["absent"]
        return [Placement(name, total, 100 * (total / base - 1)) for name, total in totals.items()]

    @property
    def two_slices_over_native_percent(self) -> float:
        """Two slice dot units against one native 8 x 8 unit of the same W8A8 rate."""
        return 100 * (2 * self.units["dot_unit"].area / self.units["native_dot_unit"].area - 1)

    @property
    def storage_bits(self) -> int:
        """FP32 chains of the whole array."""
        array = self.chip.array
        return array.rows * array.columns * array.chains * 32

    @property
    def array_area(self) -> dict[str, float]:
        """Area of the PE's array by part. The chain memories are counted as flip-flops, an upper bound."""
        array = self.chip.array
        area = {name: unit.area for name, unit in self.units.items()}
        units = array.columns * array.fp32_units_per_column
        fp32 = units * (area["scale_multiplier"] + area["fp32_adder"])
        storage = self.storage_bits * self.flip_flop_area
        parts = {
            "weight columns": array.columns * area["weight_column"],
            "MAC columns": array.columns * area["mac_column"],
            "FP32 units": fp32,
            "chain storage, flip-flops": storage,
            "group sums, chain read and write": array.columns * area["accumulator_column"] - fp32 - storage,
        }
        return parts | {"total": sum(parts.values())}


def run_study(
    chip: ChipParams, liberty: Liberty | None, progress: Callable[[str, int, int], None] = lambda name, done, of: None
) -> CostStudy:
    """Synthesise every unit at ``chip``'s sizes; ``progress`` hears each unit's name before its run."""
    units = {}
    for done, (name, make) in enumerate(UNITS.items()):
        progress(name, done, len(UNITS))
        units[name] = synthesise(make(chip.array), name, liberty)
    # A plain flip-flop: the library's smallest, or 16 transistors in Yosys' CMOS estimate.
    flip_flop = liberty.flip_flop_area if liberty else GENERIC_FLIP_FLOP_GE
    return CostStudy(chip, units, flip_flop)


GENERIC_FLIP_FLOP_GE = 16 / 4
