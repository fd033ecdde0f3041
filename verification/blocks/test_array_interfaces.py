"""Interfaces of the array's blocks: payload widths worked by hand, and a clock exactly where one is used."""

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Shape

from hw.array.dot_product import DotProduct
from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.group_accumulator import AccumulatorColumn, ResultBeat
from hw.array.mac_array import ActivationBeat, DotBeat, MacArray, MacColumn
from hw.array.slice_mac import SliceMac
from hw.array.weight_feed import OperandBeat, TileBeat, WeightColumn, WeightDecoder, WeightFeed
from hw.params import ArrayParams, chip

WIDTHS = {
    TileBeat: 32 * 32 * 4 + 32 * 16 + 2,  # codes, scales, mode
    OperandBeat: 32 * 32 * 5 + 32 * 16 + 2,  # the augmented codes are a bit wider
    ActivationBeat: 16 * 32 * 8 + 3 + 3,  # values, one of 8 chains, first last keep
    DotBeat: 32 * 16 * 18 + 32 * 16 + 2 + 3 + 2,  # dots, scales, mode, chain, first last
    ResultBeat: 32 * 2 * 32 + 3 + 3,  # FP32 of 2 units a column, one of 8 slots, chain
}


@pytest.mark.parametrize(("layout", "width"), WIDTHS.items(), ids=lambda v: getattr(v, "__name__", v))
def test_payload_widths_by_hand(layout, width):
    """Bits of each stream's payload in the published array, added up from its fields."""
    assert layout(chip("4gb").array).size == width


@pytest.mark.parametrize(
    "unit",
    [SliceMac, WeightDecoder, DotProduct, WeightColumn, MacColumn, AccumulatorColumn, ScaleMultiplier, Fp32Adder],
)
def test_clock_only_where_used(unit):
    """A repeated component says that it is clocked exactly when its netlist has a clock port."""
    component = unit(ArrayParams(rows=2, columns=1, depth=2, group_size=4))
    top = rtlil.convert(component, name="top", emit_src=False).rsplit("module \\top\n", 1)[1]
    ports = [line.split()[-1] for line in top.split("\nend\n")[0].splitlines() if " input " in line]
    assert ("\\clk" in ports) == component.clocked


def test_chain_memory_is_addressed_whole():
    """8 chains of 8 rows per FP32 unit: 64 sums, 6 address bits."""
    members = AccumulatorColumn(chip("4gb").array).signature.members
    assert [Shape.cast(members[name].shape).width for name in ("fetch_address", "store_address")] == [6, 6]


@pytest.mark.parametrize("layout", [ActivationBeat, DotBeat, ResultBeat])
def test_every_chain_number_fits(layout):
    """The chain tag holds the numbers 0 .. chains - 1 and no bit more, for every allowed count."""
    for chains in range(1, 65):
        params = ArrayParams(rows=1, columns=1, depth=2, chains=chains)
        assert layout(params)["chain"].width == len(f"{chains - 1:b}") * (chains > 1)


# Ports of single bits: strobes, flags and two-way choices. Counted in Verilog, where a wider port would be an
# interface of another block.
SINGLE_BITS = {
    DotProduct: {"advance"},
    WeightColumn: {"load_bank", "show_bank"},
    WeightFeed: {"keep"},
    MacColumn: {"advance"},
    MacArray: {"keep"},
    ScaleMultiplier: {"e8m0", "times_8", "advance"},
    Fp32Adder: {"advance"},
    AccumulatorColumn: {
        "gather",
        "gather_first",
        "hold",
        "e8m0",
        "times_8",
        "multiply",
        "fetch",
        "start",
        "add",
        "store",
    },
}


@pytest.mark.parametrize("unit", SINGLE_BITS, ids=lambda unit: unit.__name__)
def test_control_ports_are_single_bits(unit):
    """Every control port is one bit wide."""
    members = unit(ArrayParams(rows=2, columns=1, depth=2, group_size=4)).signature.members
    assert {name: Shape.cast(members[name].shape).width for name in SINGLE_BITS[unit]} == dict.fromkeys(
        SINGLE_BITS[unit], 1
    )
