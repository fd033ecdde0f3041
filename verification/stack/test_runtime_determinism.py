"""The same bits in other environments, and no fused multiply-add anywhere: machine code, and cases that would show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cycle_model.functional import projection, rotary, rows
from cycle_model.functional.attention import attend

ROOT = Path(__file__).resolve().parents[2]
OTHER_NUMPY = "2.2.6"

# SHA-256 of `runtime_digest`, the same on every x86-64 machine. A change of the contract changes them, nothing else.
DIGESTS = {
    "qwen3_moe": "54af2401fd49ee53e71d574adacdb0ff7ddf9e8079542c5aa91499b496a17333",
    "deepseek_v2": "61698d69cb33383610f593d07bbcf6d892e643ffba00cef12ca7a4b31a25455f",
    "glm4_moe_lite": "1b9460d385bfd5dedf3d04b5a2c8407cac6e78d39954fc7b4bb27b0cd651d83a",
    "gpt_oss": "91f8477a8aeecd32358f82907316ee2ce75ad05bb63a7a686fc5ad8537c5c280",
}


def digest(*options: str, python: str = sys.executable, **environment: str) -> dict:
    """Report of ``runtime_digest`` run by itself; an own ``NUMBA_CACHE_DIR`` has everything compiled anew."""
    done = subprocess.run(
        [python, "-m", "verification.bench.runtime_digest", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_digests_and_machine_code(tmp_path):
    """Committed digests; no kernel holds a fused multiply-add or calls a mathematics library.

    A kernel compiled with permission to contract shows that the search finds both where they are.
    """
    report = digest("--assembly", NUMBA_CACHE_DIR=str(tmp_path))
    assert report["digests"] == DIGESTS
    assert len(report["kernels"]) >= 25
    assert {name: found for name, found in report["kernels"].items() if found} == {}
    assert "expf" in report["control"]
    if "fma" in Path("/proc/cpuinfo").read_text().split():
        assert any(found.startswith("vfmadd") for found in report["control"])


def _optional_features() -> str:
    enabled = np._core._multiarray_umath.__cpu_features__
    return " ".join(name for name in np._core._multiarray_umath.__cpu_dispatch__ if enabled[name])


def test_digests_without_numpy_cpu_features():
    """NumPy without any optional CPU feature: the same digests."""
    report = digest(NPY_DISABLE_CPU_FEATURES=_optional_features())
    assert report["features"] == [] and report["digests"] == DIGESTS


@pytest.mark.full
def test_digests_on_plain_x86_64(tmp_path):
    """Kernels compiled for plain x86-64 (SSE2) besides: the same digests."""
    report = digest(
        NUMBA_CACHE_DIR=str(tmp_path),
        NPY_DISABLE_CPU_FEATURES=_optional_features(),
        NUMBA_CPU_NAME="generic",
        NUMBA_CPU_FEATURES="",
    )
    assert report["features"] == [] and report["digests"] == DIGESTS


@pytest.mark.full
def test_digests_under_another_numpy(tmp_path):
    """A fresh environment with another NumPy: the same digests (downloads it)."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    packages = [f"numpy=={OTHER_NUMPY}", "numba", "safetensors"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    report = digest(python=str(python), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert report["numpy"] == OTHER_NUMPY != np.__version__
    assert report["digests"] == DIGESTS


# rne(a a) = 1 + 2^-11, since a a = 1 + 2^-11 + 2^-24 ties to even. So rne(rne(a a) - c) = 0, while a fused
# multiply-add keeps the 2^-24.
A, C = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-11)
FUSED = 2.0**-24


def test_the_case_tells_fused_from_rounded():
    """In exact arithmetic a a - c is 2^-24; with the product rounded it is 0."""
    assert float(A) * float(A) - float(C) == FUSED and A * A - C == 0


@pytest.mark.parametrize("width", [1, 64])
def test_sums_of_products_are_rounded_twice(width):
    """Float projection and expert combination, in scalar and in vector code."""
    out = np.empty((1, width), np.float32)
    weights = np.repeat(np.array([[-C], [A]], np.float32), width, axis=1)
    x = np.array([[1, A]], np.float32)
    projection.project_float_rows(weights, np.zeros(0, np.float32), x, np.zeros(1, np.int32), 0, width, out)
    assert (out == 0).all()
    values = np.repeat(np.array([[-C], [A]], np.float32), width, axis=1)
    rows.combine_experts(values, np.array([[1, A]], np.float32), np.array([[0, 1]], np.int32), out)
    assert (out == 0).all()


def test_rotation_is_rounded_thrice():
    """a cos - b sin with a = cos = A, b sin = C."""
    x = np.array([A, C], np.float32)
    rotary.rotate(x, np.array([A], np.float32), np.array([1], np.float32), False)
    assert x[0] == 0


def test_attention_scores_are_rounded_twice():
    """q k of (1, A) and (-C, A) is 0, times a key scale of 2^20: both positions count the same, 2^30 and 0 give 2^29.

    A fused score of 2^-24 would become 2^-4 and move the weights.
    """
    keys = np.zeros((1, 1, 2, 256), np.float32)
    keys[0, 0, :, 0] = -C, A
    values = np.zeros((1, 1, 256, 1), np.float32)
    values[0, 0, 0] = 2.0**30
    scales = np.ones((1, 1, 256), np.float32)
    out = np.empty((1, 1, 1), np.float32)
    attend(
        np.array([[[1, A]]], np.float32), np.float32(1), keys, scales * np.float32(2**20), values, scales, 2,
        np.zeros((1, 0), np.int64), np.array([2]), 0, np.zeros(0, np.float32), 0, 1, out,
    )  # fmt: skip
    assert out[0, 0, 0] == 2.0**29
