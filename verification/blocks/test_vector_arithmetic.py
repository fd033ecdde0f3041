"""The vector unit's multiplier, divider, maxima and INT8 rounding against hand-worked, rational and NumPy values."""

import math
from fractions import Fraction

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from cycle_model.functional import vector
from hw.params import chip
from hw.pe.vector.fp32_compare import extremum
from hw.pe.vector.fp32_divider import Fp32Divider
from hw.pe.vector.fp32_multiplier import Fp32Multiplier
from hw.pe.vector.normal_multiplier import NormalMultiplier
from hw.pe.vector.quantizer import Int8Rounder
from hw.pe.vector.row_maximum import RowMaximum
from verification.bench.exact_rounding import rne_fp32, round_half_even
from verification.bench.float_vectors import NAN, canonical_bits, hard_values, run_pipeline

INF = 0x7F800000

# (a, b, a x b) as FP32 bits, worked by hand.
PRODUCTS = [
    (0x3F800000, 0x40490FDB, 0x40490FDB),  # 1 x pi
    (0x3FC00000, 0xC0000000, 0xC0400000),  # 1.5 x -2
    (0x3F800001, 0x3F800001, 0x3F800002),  # (1 + u)^2 = 1 + 2u + u^2
    (0x3FFFFFFF, 0x3FFFFFFF, 0x407FFFFE),  # (2 - u)^2 = 4 - 4u + u^2
    (0x3F800001, 0x3FC00000, 0x3FC00002),  # 1.5 + 1.5u: a tie in u, to even
    (0x3F800003, 0x3FC00000, 0x3FC00004),  # 1.5 + 4.5u: a tie, to even, downwards
    (0x7F7FFFFF, 0x3F800001, INF),  # just beyond the largest
    (0x7F7FFFFF, 0x3F800000, 0x7F7FFFFF),
    (0x7F000000, 0x40000000, INF),  # 2^127 x 2
    (0x00800000, 0x3F000000, 0x00400000),  # the smallest normal halved: subnormal, exact
    (0x00FFFFFF, 0x3F000000, 0x00800000),  # half of the next binade's last: a tie, rounds up to a normal
    (0x00800001, 0x3F000000, 0x00400000),  # half of an odd one: a tie, to even
    (0x00800003, 0x3F000000, 0x00400002),
    (0x00000001, 0x3F000000, 0x00000000),  # half the smallest: a tie, to zero
    (0x00000001, 0x3F000001, 0x00000001),  # a little more than half
    (0x00000003, 0x3F000000, 0x00000002),
    (0x00000001, 0x00000001, 0x00000000),
    (0x80000001, 0x00000001, 0x80000000),  # underflows to -0
    (0x00000001, 0x4B000000, 0x00800000),  # 2^-149 x 2^23: the smallest normal
    (0x007FFFFF, 0x40000000, 0x00FFFFFE),  # subnormal x 2 becomes normal
    (0x00000000, 0xC0000000, 0x80000000),
    (INF, 0xC0000000, 0xFF800000),
    (INF, 0x00000000, NAN),
    (0x80000000, 0xFF800000, NAN),
    (0xFFC12345, 0x3F800000, NAN),
    (0x7F800001, INF, NAN),
]

# (a, b, a / b) as FP32 bits, worked by hand.
QUOTIENTS = [
    (0x3F800000, 0x40400000, 0x3EAAAAAB),  # 1 / 3
    (0x40000000, 0x40400000, 0x3F2AAAAB),
    (0x42FE0000, 0x42FE0000, 0x3F800000),  # 127 / 127
    (0x3F800000, 0x42FE0000, 0x3C010204),  # 1 / 127: 1.00000010000001... binary, 2^-7
    (0x3F7FFFFF, 0x3F800000, 0x3F7FFFFF),
    (0x3F800000, 0x3F7FFFFF, 0x3F800001),  # 1 / (1 - u/2) = 1 + u/2 + u^2/4: above the tie
    (0x3F800000, 0x3F800001, 0x3F7FFFFE),  # 1 / (1 + u) = 1 - u + u^2
    (0x7F7FFFFF, 0x3F000000, INF),
    (0x7F7FFFFF, 0x7F7FFFFF, 0x3F800000),
    (0x00800000, 0x40000000, 0x00400000),  # a subnormal, exact
    (0x00000001, 0x40000000, 0x00000000),  # a tie, to zero
    (0x00000003, 0x40000000, 0x00000002),  # a tie, to even
    (0x00000001, 0x3FFFFFFF, 0x00000001),  # a little more than half
    (0x00000001, 0x00000001, 0x3F800000),
    (0x3F800000, 0x00000001, INF),
    (0x00000001, 0x7F7FFFFF, 0x00000000),
    (0x3F800000, 0x7F7FFFFF, 0x00200000),  # 1 / (2^128 (1 - 2^-24)) = 2^-128 and a little: down
    (0xBF800000, 0x00000000, 0xFF800000),
    (0x00000000, 0xBF800000, 0x80000000),
    (0x3F800000, 0xFF800000, 0x80000000),
    (INF, 0x3F800000, INF),
    (0x00000000, 0x80000000, NAN),
    (INF, INF, NAN),
    (0x7F800001, 0x3F800000, NAN),
]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_products_by_hand(stages):
    """Products worked by hand, both operand orders, at every pipeline depth."""
    a, b, product = (np.array(column) for column in zip(*PRODUCTS, strict=True))
    dut = Fp32Multiplier(stages)
    assert dut.latency == stages
    assert run_pipeline(dut, {"a": a, "b": b}, "product") == product.tolist()
    assert run_pipeline(Fp32Multiplier(stages), {"a": b, "b": a}, "product") == product.tolist()


@pytest.mark.parametrize("seed", [None, 5])
def test_products_random(seed):
    """Hard operands, with and without holds: NumPy's float32 product, NaN canonical."""
    rng = np.random.default_rng(21)
    a, b = hard_values(2500, rng), hard_values(2500, rng)
    with np.errstate(all="ignore"):
        product = canonical_bits(a.view(np.float32) * b.view(np.float32))
    got = run_pipeline(Fp32Multiplier(3), {"a": a, "b": b}, "product", seed)
    assert np.array_equal(got, product)


def test_products_around_the_smallest_normal():
    """Products from the last subnormal bit to the first binade: a rational number rounded once."""
    rng = np.random.default_rng(22)
    count = 600
    field = rng.integers(1, 200, count)
    a = field << 23 | rng.integers(0, 1 << 23, count)
    b = np.clip(rng.integers(102, 130, count) - field, 0, 254) << 23 | rng.integers(0, 1 << 23, count)
    a, b = a.astype(np.uint32), b.astype(np.uint32)
    exact = [
        rne_fp32(Fraction(float(x)) * Fraction(float(y)))
        for x, y in zip(a.view(np.float32), b.view(np.float32), strict=True)
    ]
    got = np.array(run_pipeline(Fp32Multiplier(4), {"a": a, "b": b}, "product"))
    assert np.array_equal(got, canonical_bits(np.array(exact, np.float32)))
    assert 50 < np.sum((got > 0) & (got < 1 << 23)) < count - 50  # both sides of the border are there


@pytest.mark.parametrize(("stages", "seed"), [(1, None), (2, 7), (3, None), (4, 7)])
def test_products_without_subnormals(stages, seed):
    """Where operands and product are normal or zero, with and without holds: by hand, and NumPy's float32 product."""
    rng = np.random.default_rng(24)
    a, b, product = (np.array(column, np.uint32) for column in zip(*PRODUCTS, strict=True))
    random_a, random_b = hard_values(900, rng), hard_values(900, rng)
    random_a[::40] &= np.uint32(1 << 31)
    random_b[::60] &= np.uint32(1 << 31)
    with np.errstate(all="ignore"):
        random_product = (random_a.view(np.float32) * random_b.view(np.float32)).view(np.uint32)
    a, b, product = (np.append(*pair) for pair in ((a, random_a), (b, random_b), (product, random_product)))
    fields = [values >> np.uint32(23) & np.uint32(255) for values in (a, b, product)]
    zero = ((a << np.uint32(1)) == 0) | ((b << np.uint32(1)) == 0)
    finite = np.all([field < 255 for field in fields], axis=0)
    normal = (fields[0] > 0) & (fields[1] > 0) & (fields[2] > 1)  # 1 may come from rounding up a subnormal
    known = finite & (normal | zero)
    assert known.sum() > 300 and (known & zero).sum() > 10
    got = run_pipeline(NormalMultiplier(stages), {"a": a[known], "b": b[known]}, "product", seed)
    assert np.array_equal(got, product[known])


@pytest.mark.parametrize("stages", [1, 8, 29])
def test_quotients_by_hand(stages):
    """Quotients worked by hand, at several pipeline depths."""
    a, b, quotient = (np.array(column) for column in zip(*QUOTIENTS, strict=True))
    dut = Fp32Divider(stages)
    assert dut.latency == stages
    assert run_pipeline(dut, {"a": a, "b": b}, "quotient") == quotient.tolist()


def test_quotients_random_with_holds():
    """Hard operands: NumPy's float32 quotient, NaN canonical, however often the pipeline is held."""
    rng = np.random.default_rng(23)
    a, b = hard_values(600, rng), hard_values(600, rng)
    with np.errstate(all="ignore"):
        quotient = canonical_bits(a.view(np.float32) / b.view(np.float32))
    assert np.array_equal(run_pipeline(Fp32Divider(4), {"a": a, "b": b}, "quotient", 6), quotient)


def test_quotients_by_127_are_rational_ones_rounded_once():
    """x / 127 and 127 / x for random x of all magnitudes, from exact fractions: both cases of the leading bit."""
    rng = np.random.default_rng(24)
    x = hard_values(200, rng) & 0x7FFFFFFF
    x = x[(x > 0) & (x < INF)]
    values = [Fraction(float(v)) for v in x.view(np.float32)]
    for a, b, exact in (
        (x, np.full_like(x, 0x42FE0000), [rne_fp32(v / 127) for v in values]),
        (np.full_like(x, 0x42FE0000), x, [rne_fp32(127 / v) for v in values]),
    ):
        got = run_pipeline(Fp32Divider(2), {"a": a, "b": b}, "quotient")
        assert np.array_equal(got, canonical_bits(np.array(exact, np.float32)))


class _Extremum(wiring.Component):
    """`extremum` and a register."""

    latency = 1

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "minimum": In(1), "result": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.result.eq(extremum(self.a, self.b, self.minimum))
        return m


EXTREMA = [  # a, b, max, min
    (0x3F800000, 0x40000000, 0x40000000, 0x3F800000),
    (0xBF800000, 0xC0000000, 0xBF800000, 0xC0000000),
    (0xBF800000, 0x3F800000, 0x3F800000, 0xBF800000),
    (0x00000000, 0x80000000, 0x00000000, 0x00000000),  # equal: a
    (0x80000000, 0x00000000, 0x80000000, 0x80000000),
    (0x80000001, 0x00000000, 0x00000000, 0x80000001),
    (0xFF800000, 0xFF7FFFFF, 0xFF7FFFFF, 0xFF800000),
    (INF, 0x7F7FFFFF, INF, 0x7F7FFFFF),
    (0x7F800001, 0x3F800000, NAN, NAN),
    (0x3F800000, 0xFFC00001, NAN, NAN),
]


def test_maxima_by_hand_and_random():
    """Stated cases; then random ones, where RTL and functional agree with Python's max and min on what is not NaN."""
    rng = np.random.default_rng(25)
    a, b, greater, less = (np.array(column, np.uint32) for column in zip(*EXTREMA, strict=True))
    for minimum, want in ((0, greater), (1, less)):
        columns = {"a": a, "b": b, "minimum": np.full(len(a), minimum)}
        assert run_pipeline(_Extremum(), columns, "result") == want.tolist()
    a = hard_values(1500, rng)
    b = np.where(rng.random(1500) < 0.2, a ^ (rng.integers(0, 2, 1500) << 31), hard_values(1500, rng)).astype(np.uint32)
    for minimum, builtin, functional in ((0, max, vector.maximum), (1, min, vector.minimum)):
        got = np.array(run_pipeline(_Extremum(), {"a": a, "b": b, "minimum": np.full(len(a), minimum)}, "result"))
        x, y = a.view(np.float32), b.view(np.float32)
        assert np.array_equal(got, functional(x, y).view(np.uint32))
        for result, one, other in zip(got.astype(np.uint32).view(np.float32), x, y, strict=True):
            if math.isnan(one) or math.isnan(other):
                assert math.isnan(result)
            else:
                want = builtin(float(one), float(other))
                assert result == want and math.copysign(1, result) == math.copysign(1, want)


def test_rounding_to_int8():
    """Halves and their neighbours, all exponents: the rational value rounded to even and clipped; NaN is 0."""
    rng = np.random.default_rng(26)
    halves = (np.arange(-260, 261) / 2).astype(np.float32)
    x = np.concatenate([halves, np.nextafter(halves, 999), np.nextafter(halves, -999)]).astype(np.float32)
    x = np.concatenate([x, hard_values(800, rng).view(np.float32), rng.uniform(-130, 130, 800).astype(np.float32)])
    want = []
    for value in x:
        if math.isfinite(value):
            want.append(max(-127, min(127, round_half_even(Fraction(float(value))))))
        else:
            want.append(0 if math.isnan(value) else int(math.copysign(127, value)))
    assert run_pipeline(Int8Rounder(), {"value": x.view(np.uint32)}, "rounded", 7) == want
    assert vector.quantize(x, np.float32(1)).tolist() == want


class _RowMaximum(wiring.Component):
    """`RowMaximum` with its values in one port."""

    def __init__(self, size: str):
        self._inner = RowMaximum(chip(size))
        self.latency, self.columns = self._inner.latency, chip(size).array.columns
        super().__init__({"row": In(32 * self.columns), "maximum": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self._inner
        m.d.comb += [self._inner.magnitudes[c].eq(self.row[32 * c : 32 * c + 31]) for c in range(self.columns)]
        m.d.comb += self.maximum.eq(self._inner.maximum)
        return m


@pytest.mark.parametrize("size", ["tiny", "4gb"])
def test_row_maximum(size):
    """NumPy's maximum of the absolute values in every row; the canonical NaN from any NaN; each column can win."""
    dut = _RowMaximum(size)
    rng = np.random.default_rng(27)
    rows = hard_values(150 * dut.columns, rng).reshape(150, dut.columns)
    calm = rng.integers(0, 0x3F800000, (dut.columns, dut.columns))
    np.fill_diagonal(calm, 0x3F800001 + np.arange(dut.columns))
    rows[: dut.columns] = calm
    magnitudes = np.abs(rows.view(np.float32))
    packed = [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in rows]
    got = run_pipeline(dut, {"row": np.array(packed, object)}, "maximum")
    assert np.array_equal(got, canonical_bits(np.max(magnitudes, axis=1)))  # np.max gives NaN where there is one
    zero = np.zeros(len(rows), np.float32)
    assert np.array_equal(got, vector.absolute_maximum(zero, rows.view(np.float32)).view(np.uint32))
