"""MacArray: all dot products of joined beats, tags kept beside them, through any stall."""

import numpy as np
import pytest

from hw.array.mac_array import MacArray
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.amaranth_streams import run_streams

SIZES = [
    ArrayParams(rows=4, columns=3, depth=8, chains=4),
    ArrayParams(rows=1, columns=1, depth=2, chains=1),
    ArrayParams(rows=2, columns=2, depth=32, chains=8, tree_levels_per_stage=1),
]


def _beats(params: ArrayParams, count: int, rng: np.random.Generator) -> tuple[list[dict], list[dict], list[dict]]:
    """Weights, activations and the dot products of random beats, every eighth beat at the extremes."""
    weights, activations, dots = [], [], []
    for n in range(count):
        operands = rng.integers(-16, 16, (params.columns, params.depth))
        values = rng.integers(-128, 128, (params.rows, params.depth))
        if n % 8 == 0:
            operands, values = np.full_like(operands, -16), np.full_like(values, -128)
        tags = {"chain": int(rng.integers(params.chains)), "first": int(rng.integers(2)), "last": int(rng.integers(2))}
        shared = {"scales": rng.integers(0, 1 << 16, params.columns).tolist(), "mode": WeightMode(rng.integers(4))}
        weights.append({"operands": operands, **shared})
        activations.append({"values": values, "keep": int(rng.integers(2)), **tags})
        dots.append({"dots": (operands @ values.T).tolist(), **shared, **tags})
    return weights, activations, dots


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize("params", SIZES, ids=lambda p: f"{p.rows}x{p.columns}x{p.depth}")
def test_dots(params, stalls):
    """Every joined beat gives rows x columns exact dot products with its scales, mode and tags, in order."""
    weights, activations, expected = _beats(params, 60, np.random.default_rng(params.depth))
    seen = run_streams(
        MacArray(params), {"weights": weights, "activations": activations}, {"dots": len(expected)}, stalls=stalls
    )
    assert seen["dots"].payloads == expected


@pytest.mark.parametrize("params", SIZES, ids=lambda p: f"{p.rows}x{p.columns}x{p.depth}")
def test_latency_and_rate(params):
    """Unstalled: one beat enters and one leaves per cycle, ``latency`` cycles apart."""
    weights, activations, expected = _beats(params, 40, np.random.default_rng(0))
    dut = MacArray(params)
    seen = run_streams(dut, {"weights": weights, "activations": activations}, {"dots": len(expected)})
    entered, left = seen["activations"].cycles, seen["dots"].cycles
    assert entered == list(range(entered[0], entered[0] + 40))
    assert left == [cycle + dut.latency for cycle in entered]
