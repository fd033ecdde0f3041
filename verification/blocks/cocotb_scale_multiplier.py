"""cocotb tests of the exported scale multiplier; scales are read by ml-dtypes and NumPy, not by our own tables."""

import cocotb
import ml_dtypes
import numpy as np

from cycle_model.numerics import scale_dots
from verification.bench.cocotb_pipeline import run_pipeline
from verification.bench.cocotb_streams import array_params, component

NAN = 0x7FC00000


def _vectors(dots: np.ndarray, scales: np.ndarray, e8m0: np.ndarray, times_8: np.ndarray, bits: int) -> list[dict]:
    mask = (1 << bits) - 1
    return [
        {"dot": int(d) & mask, "scale": int(s), "e8m0": int(e), "times_8": int(t)}
        for d, s, e, t in zip(dots, scales, e8m0, times_8, strict=True)
    ]


def _expected(dots: np.ndarray, scales: np.ndarray, e8m0: np.ndarray, times_8: np.ndarray) -> np.ndarray:
    """FP32 bits: the scale as an independent library reads it, one float32 multiplication by NumPy."""
    fp16 = scales.astype(np.uint16).view(np.float16).astype(np.float32)
    half = scales.astype(np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float64) / 2  # exact; 2^-128 is subnormal
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.where(e8m0, half.astype(np.float32), fp16)
        product = (dots * np.where(times_8, 8, 1)).astype(np.float32) * scale
    return np.where(np.isnan(product), np.uint32(NAN), product.view(np.uint32))


def corner_dots(bits: int) -> list[int]:
    """Group sums at both ends, around zero, at powers of two and where 24 bits of a product tie."""
    top = 1 << (bits - 1)
    return [0, 1, -1, 3, -7, 127, -128, 2047, top // 2 + 1, top - 1, -(top - 1), -top]


async def _check(dut, dots, scales, e8m0, times_8, stalls="none") -> None:
    bits = array_params().group_bits
    latency = component().latency
    got = await run_pipeline(dut, _vectors(dots, scales, e8m0, times_8, bits), "product", latency, stalls=stalls)
    expected = _expected(dots, scales, e8m0, times_8)
    wrong = np.flatnonzero(np.array(got, np.uint32) != expected)
    assert not len(wrong), [(dots[i], hex(scales[i]), e8m0[i], times_8[i], hex(got[i])) for i in wrong[:3]]
    assert len(got) == len(dots)


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def products(dut, stalls):
    """Random and corner sums times random scales of both formats, with and without holds."""
    rng = np.random.default_rng(16)
    count = 600
    top = 1 << (array_params().group_bits - 1)
    dots = np.where(rng.random(count) < 0.3, rng.choice(corner_dots(top.bit_length()), count), 0)
    dots = np.where(dots == 0, rng.integers(-top, top, count), dots)
    e8m0 = rng.integers(0, 2, count)
    scales = np.where(e8m0, rng.integers(0, 1 << 8, count), rng.integers(0, 1 << 16, count))
    times_8 = np.where(e8m0, 0, rng.integers(0, 2, count))
    await _check(dut, dots, scales, e8m0, times_8, stalls)
    ours = scale_dots(dots * np.where(times_8, 8, 1), np.float32(0.5), 0)  # the functional model agrees on plain scales
    assert np.array_equal(ours.view(np.uint32), _expected(dots, np.full(count, 0x3800), np.zeros(count), times_8))


@cocotb.test()
async def every_e8m0_scale(dut):
    """All 256 E8M0 scales against the corner sums."""
    corners = corner_dots(array_params().group_bits)
    scales, dots = (grid.ravel() for grid in np.meshgrid(np.arange(1 << 8), corners, indexing="ij"))
    zero = np.zeros(len(dots), int)
    await _check(dut, dots, scales, zero + 1, zero)


@cocotb.test()
async def every_fp16_scale(dut):
    """All 2^16 FP16 scales against the corner sums, with weight 8 and 1 in turn."""
    corners = corner_dots(array_params().group_bits)
    scales, dots = (grid.ravel() for grid in np.meshgrid(np.arange(1 << 16), corners, indexing="ij"))
    zero = np.zeros(len(dots), int)
    await _check(dut, dots, scales, zero, (scales + np.arange(len(dots))) % 2)
