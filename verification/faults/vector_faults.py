"""Mistakes in the vector unit that an engineer could make; each must make a test fail."""

from verification.faults.fault import Fault, Target

_BLOCKS = "verification/blocks"
_ARITHMETIC = f"{_BLOCKS}/test_vector_arithmetic.py"
_SIGMOID_TEST = f"{_BLOCKS}/test_vector_sigmoid.py"
_UNIT_TEST = f"{_BLOCKS}/test_vector_unit.py"
_PE = "hw/pe/vector"
_MULTIPLIER = f"{_PE}/fp32_multiplier.py"
_DIVIDER = f"{_PE}/fp32_divider.py"
_COMPARE = f"{_PE}/fp32_compare.py"
_QUANTIZER = f"{_PE}/quantizer.py"
_NORMAL_MULTIPLIER = f"{_PE}/normal_multiplier.py"
_SIGMOID = f"{_PE}/sigmoid.py"
_TABLE = f"{_PE}/sigmoid_table.py"
_MAXIMUM = f"{_PE}/row_maximum.py"
_REGISTERS = f"{_PE}/row_registers.py"
_LANE = f"{_PE}/lane.py"
_DATAPATH = f"{_PE}/row_datapath.py"
_CHECK = f"{_PE}/operand_check.py"
_UNIT = f"{_PE}/vector_unit.py"
_FUNCTIONAL = "cycle_model/functional/vector.py"

_PRODUCTS = tuple(
    f"{_ARITHMETIC}::test_products_{name}" for name in ("by_hand", "around_the_smallest_normal", "random")
)
_QUOTIENTS = (
    f"{_ARITHMETIC}::test_quotients_by_hand",
    f"{_ARITHMETIC}::test_quotients_by_127_are_rational_ones_rounded_once",
    f"{_ARITHMETIC}::test_quotients_random_with_holds",
)
_MAXIMA = (f"{_ARITHMETIC}::test_maxima_by_hand_and_random", f"{_ARITHMETIC}::test_row_maximum")

# Seconds to half a minute a mutant: mutated at random only by name.
TARGETS = (
    Target("fp32_multiplier", _MULTIPLIER, _PRODUCTS, on_demand=True),
    Target(
        "normal_multiplier",
        _NORMAL_MULTIPLIER,
        (f"{_ARITHMETIC}::test_products_without_subnormals",),
        on_demand=True,
    ),
    Target("fp32_divider", _DIVIDER, _QUOTIENTS, on_demand=True),
    Target("fp32_compare", _COMPARE, _MAXIMA, on_demand=True),
    Target("quantizer", _QUANTIZER, (f"{_ARITHMETIC}::test_rounding_to_int8",), on_demand=True),
    Target("row_maximum", _MAXIMUM, (f"{_ARITHMETIC}::test_row_maximum",), on_demand=True),
    Target("sigmoid", _SIGMOID, (_SIGMOID_TEST,), on_demand=True),
    Target("sigmoid_table", _TABLE, (_SIGMOID_TEST,), on_demand=True),
    Target("row_registers", _REGISTERS, (_UNIT_TEST,), on_demand=True),
    Target("vector_lane", _LANE, (_UNIT_TEST,), on_demand=True),
    Target("row_datapath", _DATAPATH, (_UNIT_TEST,), on_demand=True),
    Target("operand_check", _CHECK, (_UNIT_TEST,), on_demand=True),
    Target("vector_unit", _UNIT, (_UNIT_TEST,), on_demand=True),
    Target("functional_vector", _FUNCTIONAL, (_ARITHMETIC,), on_demand=True),
)

_VALUES = (
    Fault(
        name="multiply-sticky-lost",
        file=_MULTIPLIER,
        before="normal=Cat(shifted[:49].any(), shifted[49:])",
        after="normal=Cat(shifted[48], shifted[49:])",
        reason="Products just above a tie round to even instead of up.",
    ),
    Fault(
        name="multiply-flushes-subnormals",
        file=_MULTIPLIER,
        before="right=Mux(s.room < 0, Mux(right > 26, 26, right), 0)[:5],",
        after="right=Mux(s.room < 0, 26, 0)[:5],",
        reason="Results below the smallest normal become zero.",
    ),
    Fault(
        name="normal-multiply-sticky-lost",
        file=_NORMAL_MULTIPLIER,
        before="normal=Cat(normal[:23].any(), normal[23:])",
        after="normal=Cat(normal[22], normal[23:])",
        reason="Products of the sigmoid's polynomial just above a tie round to even instead of up.",
    ),
    Fault(
        name="divide-remainder-ignored",
        file=_DIVIDER,
        before="Cat(s.rest != 0, Mux(small",
        after="Cat(Const(0, 1), Mux(small",
        reason="The remainder does not reach the sticky bit: quotients just above a tie round to even.",
    ),
    Fault(
        name="divide-one-bit-short",
        file=_DIVIDER,
        before="small = ~s.digits[-1]",
        after="small = Const(0, 1)",
        reason="Quotients below 1 are not normalised.",
    ),
    Fault(
        name="maximum-by-sign-magnitude",
        file=_COMPARE,
        before="Mux(a[31], b[:31] < a[:31], a[:31] < b[:31])",
        after="a[:31] < b[:31]",
        reason="Of two negative numbers the lower is taken as the greater.",
    ),
    Fault(
        name="maximum-ignores-nan",
        file=_COMPARE,
        before="Mux(is_nan(a) | is_nan(b), CANONICAL_NAN,",
        after="Mux(is_nan(a) & is_nan(b), CANONICAL_NAN,",
        reason="A NaN in a row vanishes in its maximum, and with it the sign that the row is broken.",
    ),
    Fault(
        name="requantise-half-away-from-zero",
        file=_QUANTIZER,
        before="(fixed[23] & (fixed[:23].any() | fixed[24]))",
        after="fixed[23]",
        reason="Halves round away from zero instead of to even.",
    ),
    Fault(
        name="requantise-wraps",
        file=_QUANTIZER,
        before="clipped.eq(Mux(magnitude > LARGEST, LARGEST, magnitude)),",
        after="clipped.eq(magnitude),",
        reason="127.5 becomes 0 instead of 127.",
    ),
    Fault(
        name="reciprocal-of-zero-infinite",
        file=_DATAPATH,
        before="Mux(reciprocal & infinite, 0, divider.quotient)",
        after="divider.quotient",
        reason="A row of zeros gets the reciprocal infinity, and NaN from zero times it.",
    ),
    Fault(
        name="sigmoid-segment-off-by-one",
        file=_SIGMOID,
        before="odd = Cat(Const(1, 1), segment)",
        after="odd = Cat(Const(0, 1), segment)",
        reason="The polynomial is taken around the segment's edge instead of its middle.",
    ),
    Fault(
        name="sigmoid-not-reflected",
        file=_SIGMOID,
        before="Mux(tail.negative, tail.t, reflected)",
        after="Mux(tail.negative, reflected, tail.t)",
        reason="sigmoid(-x) instead of sigmoid(x).",
    ),
    Fault(
        name="sigmoid-table-truncated",
        file=_TABLE,
        before="whole += twice > 0 or (twice == 0 and whole & 1)",
        after="whole += 0",
        reason="Coefficients are truncated instead of rounded: the last bit of half of them is wrong.",
    ),
)

_CONTROL = (
    Fault(
        name="row-scalar-of-next-row",
        file=_UNIT,
        before="m.d.sync += operand_slot.eq(slot)",
        after="m.d.sync += operand_slot.eq(slot + 1)",
        reason="Each token is scaled by its neighbour's scale.",
    ),
    Fault(
        name="row-map-not-applied-to-writes",
        file=_UNIT,
        before="row = (command.d + Mux(indexed, Array(first)[slot], written))[:32]",
        after="row = (command.d + written)[:32]",
        reason="Results of gathered tokens go to consecutive rows.",
    ),
    Fault(
        name="row-maximum-reads-stale-register",
        file=_REGISTERS,
        before="transparent_for=[write]",
        after="transparent_for=[]",
        reason="A scalar written a cycle ago is read with its old value: later maxima are lost.",
    ),
    Fault(
        name="row-maximum-never-starts-over",
        file=_UNIT,
        before="so_far = Mux(flags.first, 0, Array(first)[slot])",
        after="so_far = Array(first)[slot]",
        reason="The maximum of an earlier block of tokens leaks into the next one.",
    ),
    Fault(
        name="broadcast-advances",
        file=_UNIT,
        before="Mux(flags.broadcast, 0, issued)",
        after="issued",
        reason="A bias row is taken from the next row for each token.",
    ),
    Fault(
        name="piece-order-in-send-memory",
        file=_UNIT,
        before="place = Cat(piece[:in_group], slot, piece[in_group:])",
        after="place = Cat(slot, piece)",
        reason="Pieces lie by token instead of by input: the receiver reads other tokens' activations.",
    ),
    Fault(
        name="vector-done-a-row-early",
        file=_UNIT,
        before="self.done.eq(write & (written == count - 1))",
        after="self.done.eq(write & (written + 1 >= count - 1))",
        reason="Signals are given before the last row is written.",
    ),
    Fault(
        name="sigmoid-turns-reversed",
        file=_DATAPATH,
        before="return Cat(reversed(parts))",
        after="return Cat(parts)",
        reason="Columns of a row come back in the wrong order.",
    ),
    Fault(
        name="vector-count-beyond-memory",
        file=_CHECK,
        before="(command.a + a_count > a_limit)",
        after="(command.a >= a_limit)",
        reason="A command that runs over the end of a memory wraps to its beginning.",
    ),
)

FAULTS = _VALUES + _CONTROL
