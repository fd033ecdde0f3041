"""GroupAccumulator: corners that injected faults showed to be missing elsewhere (slots and the stall counter)."""

import numpy as np
import pytest

from hw.array.group_accumulator import GroupAccumulator, chain_latency
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.amaranth_streams import run_streams


def _groups(params: ArrayParams, chains: list[int], firsts: list[bool]) -> list[dict]:
    """One single-beat group per entry, every dot product 1, scale 1, every sum emitted."""
    dots = np.ones((params.columns, params.rows), int)
    scales = [0x3C00] * params.columns
    return [
        {"dots": dots, "scales": scales, "mode": WeightMode.LSB, "chain": c, "first": f, "last": True}
        for c, f in zip(chains, firsts, strict=True)
    ]


def test_rows_of_one_chain_do_not_wait_for_each_other():
    """Two rows per FP32 unit, a chain revisited after 8 cycles (more than its latency of 7): nothing ever waits.

    By hand: four chains of two slots each; a slot's next addition comes 4 x 2 cycles later. The other slot of the
    same chain is in flight meanwhile and is no hazard.
    """
    params = ArrayParams(rows=2, columns=1, depth=32, dots_per_fp32=2, chains=4)
    assert chain_latency(params) == 7
    count = 12
    payloads = _groups(params, [n % 4 for n in range(count)], [n < 4 for n in range(count)])
    seen = run_streams(GroupAccumulator(params), {"dots": payloads}, {"results": 2 * count}, watch=("hazard_stalls",))
    assert seen["hazard_stalls"] == 0
    assert np.diff(seen["results"].cycles).tolist() == [1] * (2 * count - 1)


@pytest.mark.parametrize("seed", range(3))
def test_waiting_for_the_consumer_is_not_a_hazard(seed):
    """One chain under a consumer that is busy 80 % of the time: at most chain_latency - 1 stalls are counted per group.

    Cycles in which the adder cannot move are the consumer's; the chain's own wait is 6 moves for each next group.
    """
    params = ArrayParams(rows=1, columns=1, depth=32, chains=2)
    count = 12
    payloads = _groups(params, [1] * count, [n == 0 for n in range(count)])
    seen = run_streams(
        GroupAccumulator(params),
        {"dots": payloads},
        {"results": count},
        stalls="heavy",
        seed=seed,
        watch=("hazard_stalls",),
    )
    assert seen["results"].waits > 10
    assert 0 < seen["hazard_stalls"] <= (chain_latency(params) - 1) * (count - 1)


@pytest.mark.parametrize("depth", [8, 32])
@pytest.mark.parametrize(("product", "total"), [(2048, 65536), (-2032, -65024), (1920, 61440), (-1920, -61440)])
def test_group_sums_at_the_ends(depth, product, total):
    """All 32 products of a group at an end of their range, over one beat and over four: the sum is not cut.

    By hand: -16 x -128 = 2048 and 32 x 2048 = 65536, which 17 signed bits do not hold; -16 x 127 = -2032.
    """
    params = ArrayParams(rows=1, columns=1, depth=depth, chains=1)
    beat = {"dots": [[depth * product]], "scales": [0x3C00], "mode": WeightMode.LSB, "chain": 0, "first": 1, "last": 1}
    seen = run_streams(GroupAccumulator(params), {"dots": [beat] * params.beats}, {"results": 1})
    assert seen["results"].payloads[0]["values"] == [[int(np.float32(total).view(np.uint32))]]
