"""cocotb tests of the exported MAC array."""

import cocotb
import numpy as np

from hw.isa import WeightMode
from verification.bench.array_reference import joined_dots
from verification.bench.cocotb_streams import array_params, component, run_streams

BEATS = 48


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def dots(dut, stalls):
    """Exact dot products with their tags, in order, extremes included; unstalled, one beat per cycle at ``latency``."""
    params, layouts = array_params(), component()
    rng = np.random.default_rng(12)
    weights, activations = [], []
    for beat in range(BEATS):
        operands = rng.integers(-16, 16, (params.columns, params.depth))
        values = rng.integers(-128, 128, (params.rows, params.depth))
        if beat % 8 == 0:
            operands, values = np.full_like(operands, -16), np.full_like(values, -128)
        scales = rng.integers(0, 1 << 16, params.columns)
        weights.append({"operands": operands, "scales": scales, "mode": WeightMode(rng.integers(4))})
        tags = {"chain": rng.integers(params.chains), "first": rng.integers(2), "last": rng.integers(2)}
        activations.append({"values": values, "keep": rng.integers(2), **tags})
    seen = await run_streams(
        dut, layouts, {"weights": weights, "activations": activations}, {"dots": BEATS}, stalls=stalls
    )
    assert seen["dots"].payloads == joined_dots(seen["weights"].payloads, seen["activations"].payloads)
    if stalls == "none":
        entered, left = seen["activations"].cycles, seen["dots"].cycles
        assert entered == list(range(entered[0], entered[0] + BEATS))
        assert left == [cycle + layouts.latency for cycle in entered]
