"""cocotb tests of the exported FP32 adder."""

import cocotb
import numpy as np

from cycle_model.numerics import fp32_add
from verification.bench.cocotb_pipeline import run_pipeline
from verification.bench.cocotb_streams import component

SPECIAL = (0, 0x80000000, 1, 0x80000001, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001)


def operands(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose exponents are mostly near, so that alignment, cancellation and ties happen; and special values."""
    a = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    near = np.clip((a >> 23 & 0xFF).astype(int) + rng.integers(-27, 28, count), 0, 255).astype(np.uint32)
    low = rng.choice(np.array([0, 1, 0x400000, 0x7FFFFF], np.uint32), count)
    fraction = np.where(rng.random(count) < 0.5, low, rng.integers(0, 1 << 23, count)).astype(np.uint32)
    b = (rng.integers(0, 2, count).astype(np.uint32) << 31) | (near << 23) | fraction
    pairs = np.array([(x, y) for x in SPECIAL for y in SPECIAL], np.uint32)
    return np.concatenate([pairs[:, 0], a]), np.concatenate([pairs[:, 1], b])


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def sums(dut, stalls):
    """Near, far, tying, cancelling and special operands: the functional numerics, which is NumPy's float32 addition."""
    a, b = operands(np.random.default_rng(17), 600)
    vectors = [{"a": int(x), "b": int(y)} for x, y in zip(a, b, strict=True)]
    got = np.array(await run_pipeline(dut, vectors, "total", component().latency, stalls=stalls), np.uint32)
    expected = fp32_add(a.view(np.float32), b.view(np.float32)).view(np.uint32)
    wrong = np.flatnonzero(got != expected)
    assert not len(wrong), [(hex(a[i]), hex(b[i]), hex(got[i]), hex(expected[i])) for i in wrong[:3]]
    assert len(got) == len(vectors)
