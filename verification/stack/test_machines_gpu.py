"""The GPU roofline, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.elastic.traffic import dense_weights
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.gpu import GpuRoofline, gpu_energy
from sw_stack.models.catalogue import model

QWEN = model("qwen3-30b-a3b").architecture()
EXPERT = 3 * 2048 * 768
DENSE = dense_weights(QWEN)


def one_pass(tokens: int, experts: int, each: int, kind=PassKind.DECODE, kv: int = 512) -> Pass:
    """A pass of ``tokens`` sequences that uses ``experts`` experts of every layer, ``each`` tokens in each."""
    counts = np.zeros((48, 128), np.int64)
    counts[:, :experts] = each
    return Pass(
        kind=kind,
        tokens=np.ones(tokens, np.int64),
        kv_lengths=np.full(tokens, kv),
        expert_tokens=counts,
        resident=np.zeros((48, 128, 2), np.bool_),
    )


def test_one_token_by_hand():
    """Batch 1: 1.23 B dense and 8 x 48 experts at 8.5 bit, 513 positions of KV, over 3.0 TB/s; 480 kernels of 2 us."""
    time = GpuRoofline(machine("h100"), QWEN).time(one_pass(1, 8, 1))
    moved = (DENSE + 48 * 8 * EXPERT) * 8.5 / 8 + 513 * 48 * (2 * 4 * 128 + 2 * 4 * 4)
    assert time.moved_bytes == pytest.approx(moved, rel=1e-6)
    assert time.memory_s == pytest.approx(moved / 3.0e12, rel=1e-6)
    assert time.overhead_s == pytest.approx(480 * 2e-6)
    assert time.operations == pytest.approx(2 * 16 * (DENSE + 48 * 8 * EXPERT))  # tiles of 16 tokens
    assert (time.bound, time.seconds) == ("memory", pytest.approx(time.memory_s + time.overhead_s))


def test_arithmetic_bounds_prefill():
    """4,096 tokens over all experts, 256 each: 2 x (4096 DENSE + 48 x 128 x 256 EXPERT) operations at 60 % of peak."""
    time = GpuRoofline(machine("h100"), QWEN).time(one_pass(4096, 128, 256, PassKind.VERIFY, 0))
    operations = 2 * (4096 * DENSE + 48 * 128 * 256 * EXPERT)
    assert time.operations == pytest.approx(operations)
    assert time.arithmetic_s == pytest.approx(operations / (0.6 * 1979e12))
    assert time.bound == "arithmetic"


def test_four_bits_and_drafts_read_less():
    """A 4-bit model reads 4.5 of 8.5 bits per weight; a draft pass reads the 4-bit copy whatever the target has."""
    whole, small = (GpuRoofline(machine("h200"), QWEN, p) for p in ("int8", "int4"))
    full, four = (r.time(one_pass(1, 8, 1, kv=0)).moved_bytes for r in (whole, small))
    kv = 48 * (2 * 4 * 128 + 2 * 4 * 4)
    assert (four - kv) / (full - kv) == pytest.approx(4.5 / 8.5, rel=1e-6)
    assert whole.time(one_pass(1, 8, 1, PassKind.DRAFT, 0)).moved_bytes == pytest.approx(four)
    row = GpuRoofline(machine("h200-int4"), QWEN).time(one_pass(1, 8, 1, kv=0))
    assert row.moved_bytes == pytest.approx(four)
    with pytest.raises(UserError, match="int8, int4, not 'fp8'"):
        GpuRoofline(machine("h200"), QWEN, "fp8")
    with pytest.raises(UserError, match="xpu must be a GPU"):
        GpuRoofline(machine("xpu"), QWEN)


def test_board_energy_by_hand():
    """2 s of an H100: 116 W idle are static; 0.7 x 700 - 116 = 374 W above, 234 at 50 %, 584 at full power."""
    energy = gpu_energy(machine("h100"), 2.0)
    assert energy.static.nominal == pytest.approx(232)
    assert energy.dynamic.nominal == pytest.approx(748)
    assert (energy.dynamic.low, energy.dynamic.high) == (pytest.approx(468), pytest.approx(1168))
    assert energy.total.nominal == pytest.approx(2 * 490)
    with pytest.raises(UserError, match="not a GPU"):
        gpu_energy(machine("xpu"), 1.0)
