"""ScaleMultiplier and Fp32Adder: IEEE binary32, round to nearest even, against hand-worked values and NumPy."""

import ml_dtypes
import numpy as np
import pytest

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.params import ArrayParams
from verification.bench.float_vectors import NAN, canonical_bits, run_pipeline

# (a, b, a + b) as FP32 bits, worked by hand from IEEE 754.
ADDITIONS = [
    (0x3F800000, 0x33800000, 0x3F800000),  # 1 + 2^-24: a tie, to even
    (0x3F800001, 0x33800000, 0x3F800002),  # (1 + 2^-23) + 2^-24: a tie, to even, upwards
    (0x3F800000, 0x33800001, 0x3F800001),  # just above the tie: the sticky bit decides
    (0x3F800000, 0xB3000000, 0x3F800000),  # 1 - 2^-25: a tie below a power of two, back to 1
    (0x3F800000, 0xB3000001, 0x3F7FFFFF),  # 1 - (2^-25 + a little)
    (0x3FFFFFFF, 0x33800000, 0x40000000),  # rounding carries into the exponent
    (0x7F7FFFFF, 0x73000000, 0x7F800000),  # largest + half its last place: overflows to infinity
    (0x7F7FFFFF, 0x72FFFFFF, 0x7F7FFFFF),  # a little less does not
    (0x7F7FFFFF, 0x7F7FFFFF, 0x7F800000),
    (0x00000001, 0x00000001, 0x00000002),  # subnormals add exactly
    (0x00400000, 0x00400000, 0x00800000),  # and become normal
    (0x00800000, 0x80000001, 0x007FFFFF),  # the smallest normal less one becomes subnormal
    (0x00800001, 0x80800000, 0x00000001),  # cancellation down to the last bit
    (0x3F800000, 0xBF800000, 0x00000000),  # exact zero is +0
    (0x80000000, 0x80000000, 0x80000000),  # but -0 + -0 = -0
    (0x00000000, 0x80000000, 0x00000000),
    (0x7F800000, 0xFF800000, NAN),  # infinity - infinity
    (0x7F800000, 0x7F7FFFFF, 0x7F800000),
    (0x7F800001, 0x3F800000, NAN),  # a signalling NaN becomes the canonical quiet one
    (0x3F800000, 0xFFFFFFFF, NAN),
]

# (dot, scale bits, e8m0, times_8, product bits), worked by hand.
PRODUCTS = [
    (1, 0x3C00, 0, 0, 0x3F800000),  # 1 x 1.0
    (1, 0x3C00, 0, 1, 0x41000000),  # 8
    (-3, 0x3800, 0, 0, 0xBFC00000),  # -3 x 0.5
    (65535, 0x3C01, 0, 0, 0x47801F80),  # 65535 x (1 + 2^-10) = 65598.9990...: 27 bits, rounds to 65599 = 0x1003F
    (1, 0x0001, 0, 0, 0x33800000),  # smallest FP16 subnormal, 2^-24
    (65536, 0x7BFF, 0, 1, 0x50FFE000),  # 2^16 x 65504 x 8: 0x477FE000 with 19 more in the exponent
    (5, 0x7C00, 0, 0, 0x7F800000),
    (-5, 0x7C00, 0, 0, 0xFF800000),
    (0, 0x7C00, 0, 0, NAN),
    (7, 0x7E00, 0, 0, NAN),
    (0, 0x8001, 0, 0, 0x80000000),  # a zero takes the scale's sign
    (1, 0, 1, 0, 0x00200000),  # E8M0 0 with the 1/2: 2^-128, a subnormal
    (2, 0, 1, 0, 0x00400000),
    (3, 0, 1, 0, 0x00600000),
    (4, 0, 1, 0, 0x00800000),  # 2^-126, the smallest normal
    (1, 1, 1, 0, 0x00400000),
    (-2, 254, 1, 0, 0xFF000000),  # -2 x 2^126
    (4, 254, 1, 0, 0x7F800000),  # 2^128 overflows
    (1, 255, 1, 0, NAN),
    (0, 255, 1, 0, NAN),
]


def _params(stages: int = 5) -> ArrayParams:
    return ArrayParams(rows=1, columns=1, depth=32, add_stages=stages, scale_stages=min(stages, 3))


def _hard_operands(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that force ties, cancellation, subnormals, far and near exponents, overflow and NaN."""

    def one() -> np.ndarray:
        exponent = np.where(
            rng.random(count) < 0.7,
            rng.choice([0, 1, 2, 3, 24, 25, 26, 27, 100, 124, 125, 126, 253, 254, 255], count),
            rng.integers(0, 256, count),
        )
        fraction = np.where(
            rng.random(count) < 0.5,
            rng.choice([0, 1, 2, 3, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFE, 0x7FFFFF], count),
            rng.integers(0, 1 << 23, count),
        )
        return (rng.integers(0, 2, count) << 31 | exponent << 23 | fraction).astype(np.uint32)

    a, b = one(), one()
    near = a ^ rng.integers(0, 8, count).astype(np.uint32) ^ (rng.integers(0, 2, count) << 31).astype(np.uint32)
    return a, np.where(rng.random(count) < 0.3, near, b).astype(np.uint32)


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_additions_by_hand(stages):
    """Sums worked by hand, both operand orders, at every pipeline depth."""
    a, b, total = (np.array(column) for column in zip(*ADDITIONS, strict=True))
    dut = Fp32Adder(_params(stages))
    assert dut.latency == stages
    assert run_pipeline(dut, {"a": a, "b": b}, "total") == total.tolist()
    assert run_pipeline(Fp32Adder(_params(stages)), {"a": b, "b": a}, "total") == total.tolist()


@pytest.mark.parametrize("seed", [None, 3])
def test_additions_random(seed):
    """Hard random operands, with and without holds: NumPy's float32 sum, NaN canonical."""
    a, b = _hard_operands(5000, np.random.default_rng(11))
    with np.errstate(over="ignore", invalid="ignore"):
        total = canonical_bits(a.view(np.float32) + b.view(np.float32))
    assert run_pipeline(Fp32Adder(_params()), {"a": a, "b": b}, "total", seed) == total.tolist()


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_products_by_hand(stages):
    """Scaled dot products worked by hand, at every pipeline depth."""
    dot, scale, e8m0, times_8, product = (np.array(column) for column in zip(*PRODUCTS, strict=True))
    dut = ScaleMultiplier(_params(stages))
    assert dut.latency == stages
    assert (
        run_pipeline(dut, {"dot": dot, "scale": scale, "e8m0": e8m0, "times_8": times_8}, "product") == product.tolist()
    )


@pytest.mark.parametrize("seed", [None, 4])
def test_products_random(seed):
    """Random and corner scales of both formats: ml-dtypes and NumPy give the scale and the rounded product."""
    rng = np.random.default_rng(12)
    count = 5000
    corners = rng.choice([0, 1, -1, 2, 3, 4, -4, 65535, -65536, 65536, 32767, 43691], count)
    dot = np.where(rng.random(count) < 0.5, corners, rng.integers(-65536, 65537, count))
    bits = np.where(
        rng.random(count) < 0.3,
        rng.choice([0, 1, 2, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0xFC00, 0x7C01, 0x8000, 0xFE, 0xFF], count),
        rng.integers(0, 1 << 16, count),
    ).astype(np.uint16)
    e8m0, times_8 = rng.random(count) < 0.4, rng.random(count) < 0.5
    times_8 &= ~e8m0
    wide = np.where(
        e8m0,
        bits.astype(np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32) * np.float32(0.5),
        bits.view(np.float16).astype(np.float32),
    )
    with np.errstate(over="ignore", invalid="ignore"):
        product = canonical_bits((dot * np.where(times_8, 8, 1)).astype(np.float32) * wide)
    columns = {"dot": dot, "scale": bits, "e8m0": e8m0, "times_8": times_8}
    assert run_pipeline(ScaleMultiplier(_params()), columns, "product", seed) == product.tolist()
