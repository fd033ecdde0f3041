"""cocotb tests of the exported weight feed."""

import cocotb
import numpy as np

from hw.isa import WeightMode
from verification.bench.array_reference import fed_operands
from verification.bench.cocotb_streams import array_params, component, run_streams

GROUPS = 16


@cocotb.test()
@cocotb.parametrize(stalls=["none", "light", "heavy"])
async def operands(dut, stalls):
    """Decoded beats in order, each group as often as it is kept; unstalled, a beat leaves in every cycle."""
    params, layouts = array_params(), component()
    rng = np.random.default_rng(11)
    uses = rng.integers(1, 4, GROUPS)
    tiles = [
        {
            "codes": rng.integers(0, 16, (params.columns, params.depth)),
            "scales": rng.integers(0, 1 << 16, params.columns),
            "mode": WeightMode(rng.integers(4)),  # of all beats but a group's first, garbage that must not count
        }
        for _ in range(GROUPS * params.beats)
    ]
    keeps = [use < count - 1 for count in uses for use in range(count) for _ in range(params.beats)]
    seen = await run_streams(
        dut,
        layouts,
        {"tiles": tiles},
        {"operands": len(keeps)},
        stalls=stalls,
        strobes={"keep": ("operands", keeps)},
    )
    assert seen["operands"].payloads == fed_operands(params, seen["tiles"].payloads, keeps)
    if stalls == "none":
        entered, left = seen["tiles"].cycles, seen["operands"].cycles
        assert left[0] == entered[params.beats - 1] + 1
        assert left == list(range(left[0], left[0] + len(left)))
