"""Drive a lockstep pipeline (operands, ``advance``, one result ``latency`` advances later) under cocotb."""

from collections.abc import Sequence

import numpy as np
from cocotb.handle import SimHandleBase

from verification.bench.amaranth_streams import STALLS
from verification.bench.cocotb_streams import falling, reset, rising, sample


async def run_pipeline(
    dut: SimHandleBase,
    vectors: Sequence[dict[str, int]],
    result: str,
    latency: int,
    *,
    stalls: str = "none",
    seed: int = 0,
) -> list[int]:
    """``result`` for each vector, which must appear exactly ``latency`` advances after the vector entered.

    With stalls, ``advance`` is low in random cycles, in which other operands are offered that must not count.
    """
    probability = STALLS[stalls]
    rng = np.random.default_rng(seed)
    ports = {name: getattr(dut, name) for name in vectors[0]}
    output = getattr(dut, result)
    await reset(dut, [*ports, "advance"])
    results: list[int] = []
    garbage = vectors[::-1]
    step = 0
    while step < len(vectors) + latency:
        advance = not (probability and rng.random() < probability)
        vector = (vectors if advance else garbage)[step % len(vectors)]
        for name, port in ports.items():
            port.value = vector[name]
        dut.advance.value = int(advance)
        await falling(dut)
        if advance:
            if step >= latency:
                results.append(sample(output))
            step += 1
        await rising(dut)
    return results
