"""From dispatch records to the numbers that the schedule needs: bytes, cycles of array and vector unit.

Records say how a product is cut, shared out and mapped (`sw_stack.compiler.compile`); here that gets durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hw.lpddr5_config import Lpddr5Config
from hw.params import ChipParams
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier, is_product
from sw_stack.machines.engine.kernel_times import (
    ARRAY,
    DOWN_START,
    KERNEL_START,
    ROW_FIELDS,
    exchange_cycles,
    kernel_row,
)
from sw_stack.machines.machine import MAPPINGS, Machine
from sw_stack.machines.near_memory import NearMemory

_SPLIT = MAPPINGS.index("split")


@dataclass(frozen=True, eq=False)
class Work:
    """Arrays over records.

    units         columns of tiles that PEs share out, 0 where there is nothing to multiply
    first_pe      PE of the first unit
    far_passes    how often weights from LPDDR are read: token blocks beyond a kernel's come again
    hb_bytes, lpddr_bytes  weights of all units in all passes; KV read; refill
    extents       contiguous pieces that the LPDDR bytes lie in
    kinds, kind   what kernels take, float64 [kinds, ROW_FIELDS] of `kernel_times`, and the row of every record
    exchange      cycles of row maxima and requantised rows behind a gate and up projection
    started       cycles until a kernel's first load
    in_bytes, out_bytes  on the aggregation link before and behind the product
    near_ns, near_bytes, near_bus_bytes  of the product in the memory; near_ns < 0 where that is impossible
    host_ns       of HOST operations, attention arithmetic, requantisation
    """

    units: np.ndarray
    first_pe: np.ndarray
    far_passes: np.ndarray
    hb_bytes: np.ndarray
    lpddr_bytes: np.ndarray
    extents: np.ndarray
    kinds: np.ndarray
    kind: np.ndarray
    exchange: np.ndarray
    started: np.ndarray
    in_bytes: np.ndarray
    out_bytes: np.ndarray
    near_ns: np.ndarray
    near_bytes: np.ndarray
    near_bus_bytes: np.ndarray
    host_ns: np.ndarray


# The only results that are kept from pass to pass: durations of a kind of product, which depend on nothing but its
# shape, tokens and slices. Routing, refresh and everything that waits for something else are simulated every time.


@lru_cache(maxsize=64)
def _known_rows(chip: ChipParams) -> dict[int, tuple[float, ...]]:
    """Rows of `kernel_row` by packed shape, filled by `_kernels`."""
    return {}


@lru_cache(maxsize=64)
def _known_near(unit: NearMemory, lpddr: Lpddr5Config) -> dict[tuple[int, ...], tuple[float, float, float]]:
    """Nanoseconds, bytes read and bytes on the bus of a product in the memory by bytes and shape, filled by `_near`."""
    return {}


def forget() -> None:
    """Drop all durations kept, for measurements without them."""
    for kept in (_known_rows, _known_near, exchange_cycles):
        kept.cache_clear()


def predicted_ns(work: Work, machine: Machine) -> np.ndarray:
    """Of each record alone: its slowest resource, all others hidden behind it. Mappings differ in array and link."""
    links, waves = machine.links, -(-work.units // machine.chip.pes)
    return np.maximum.reduce(
        [
            work.lpddr_bytes / machine.lpddr_gb_per_s,
            work.hb_bytes / (machine.hb_gb_per_s or np.inf),
            waves * work.kinds[work.kind, ARRAY] / machine.chip.hb.logic_ghz,
            (work.in_bytes + work.out_bytes) / links.aggregation_gb_per_s.value,
        ]
    )


def lower(dispatch: Dispatch, machine: Machine) -> Work:
    """Numbers of every record on ``machine`` (a processor)."""
    r, chip = dispatch.records, machine.chip
    pes = chip.pes
    product = is_product(r)
    activated = r["activated"] == 1
    slices = np.where(r["precision"] == Precision.FULL, 2, 1)

    msb_hb, lsb_hb = r["msb_tier"] == Tier.HB, r["lsb_tier"] == Tier.HB
    msb_far, lsb_far = r["msb_tier"] == Tier.LPDDR, r["lsb_tier"] == Tier.LPDDR
    tokens = r["tokens"].astype(np.int64)
    expert = r["kernel"] == Kernel.EXPERT

    # Slices that every PE works through for its own share of the tokens (mapping "split": LPDDR data-parallel).
    apart = product & (r["mapping"] == _SPLIT)
    shared = apart * (msb_far.astype(np.int64) + lsb_far)

    # Weights are read once for as many tokens as the kernels serve in a pass.
    blocks = r["token_blocks"].astype(np.int64)
    at_once = np.maximum(1, blocks * chip.array.rows)
    passes = np.where(product, -(-tokens // at_once), 1)
    own_tokens = -(-tokens // pes)
    far_passes = np.where(apart, -(-own_tokens // at_once), passes)
    hb_once = r["msb_bytes"] * msb_hb + r["lsb_bytes"] * lsb_hb
    far_once = r["msb_bytes"] * msb_far + r["lsb_bytes"] * lsb_far
    hb = hb_once * passes + r["hb_bytes"]
    far = far_once * far_passes + r["lpddr_bytes"]

    kinds, kind = _kernels(r, chip, product, slices, shared, np.stack([msb_hb, lsb_hb], axis=1))
    others = np.minimum(r["units"].astype(np.int64), pes) - 1
    exchange = np.zeros(len(r))
    for number in np.unique(others[product & activated]):
        exchange[product & activated & (others == number)] = exchange_cycles(chip, int(number))
    exchange *= passes
    started = np.where(expert & ~activated, DOWN_START, KERNEL_START)

    # Aggregation link: INT8 activations in with an FP32 scale, FP32 results out; between up and down row maxima of
    # every PE and the requantised row. Results of experts stay in their PEs until the layer's end.
    into = np.where(product, tokens * (r["inputs"].astype(np.int64) + 4), 0)
    into[expert & ~activated] = 0
    width = np.where(activated, r["outputs"] // 2, r["outputs"]).astype(np.int64)
    out = np.where(activated, tokens * (width + 4 * pes), tokens * width * 4) * product
    out[expert & ~activated] = 0
    # LSB chains of resident experts come from another PE than MSB chains.
    out = out + np.where(apart & msb_hb & lsb_far, tokens * r["outputs"].astype(np.int64) * 4, 0)
    residual = (r["kernel"] == Kernel.HOST) & (r["after"] == -1) & (r["layer"] >= 0)
    into = into + np.where(residual, 4 * r["elements"], 0)  # the combined rows of a layer

    host = machine.host
    host_ns = np.where(
        r["kernel"] == Kernel.HOST,
        host.command_ns.value + r["elements"] / host.elements_per_ns.value,
        np.where(
            r["kernel"] == Kernel.ATTENTION, host.command_ns.value + r["macs"] / host.attention_macs_per_ns.value, 0.0
        ),
    )
    extents = (msb_far & (r["msb_bytes"] > 0)).astype(np.int64) + (lsb_far & (r["lsb_bytes"] > 0))
    extents = np.maximum(extents * far_passes, np.where(far > 0, np.maximum(r["pieces"], 1), 0))
    near_ns, near_bytes, bus = _near(dispatch, machine, far_once, product & (hb == 0))
    return Work(
        r["units"].astype(np.int64),
        r["first_pe"].astype(np.int64),
        far_passes,
        hb.astype(np.float64),
        far.astype(np.float64),
        extents,
        kinds,
        kind,
        exchange,
        started,
        into.astype(np.float64),
        out.astype(np.float64),
        near_ns,
        near_bytes,
        bus,
        host_ns,
    )


def _kernels(
    r: np.ndarray, chip: ChipParams, product: np.ndarray, slices: np.ndarray, shared: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `kernel_row` for the distinct products of a stream, and which row each record has."""
    kind = np.zeros(len(r), np.int64)
    if not product.any():
        return np.zeros((1, ROW_FIELDS)), kind
    tokens, blocks = r["tokens"].astype(np.int64), r["token_blocks"].astype(np.int64)
    key = r["k_block"].astype(np.int64) << 54 | blocks << 48 | r["inputs"].astype(np.int64) << 29 | tokens << 8
    key |= (r["kernel"] == Kernel.EXPERT) << 7 | near[:, 0] << 6 | near[:, 1] << 5
    key |= shared << 3 | slices << 1 | (r["activated"] == 1)
    distinct, kind[product] = np.unique(key[product], return_inverse=True)
    known = _known_rows(chip)
    for v in set(distinct.tolist()) - known.keys():
        known[v] = kernel_row(
            chip,
            inputs=v >> 29 & (1 << 19) - 1,
            tokens=v >> 8 & (1 << 21) - 1,
            most=v >> 48 & 63,
            k_block=v >> 54,
            slices=v >> 1 & 3,
            shared=v >> 3 & 3,
            activated=bool(v & 1),
            expert=bool(v >> 7 & 1),
            near=(bool(v >> 6 & 1), bool(v >> 5 & 1)),
        )
    return np.array([known[v] for v in distinct.tolist()], np.float64), kind


def _near(
    dispatch: Dispatch, machine: Machine, far: np.ndarray, possible: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, bytes read inside the memory, and bytes over its bus, of products in the memory."""
    r = dispatch.records
    near_ns, near_bytes, bus = np.full(len(r), -1.0), np.zeros(len(r)), np.zeros(len(r))
    unit = machine.near_memory
    if unit is None:
        return near_ns, near_bytes, bus
    if not possible.any():
        return near_ns, near_bytes, bus
    # Kinds of product: by weights' bytes and shape, each a dense number, since all together exceed 64 bits.
    inputs, outputs, tokens = (r[name][possible].astype(np.int64) for name in ("inputs", "outputs", "tokens"))
    _, size_kind = np.unique(far[possible], return_inverse=True)
    _, shape_kind = np.unique(inputs << 45 | outputs << 26 | tokens, return_inverse=True)
    _, first, kind = np.unique(shape_kind << 32 | size_kind, return_index=True, return_inverse=True)
    kinds = np.stack([far[possible][first], inputs[first], outputs[first], tokens[first]], axis=1).tolist()
    known = _known_near(unit, machine.lpddr)
    found = []
    for size, k, n, t in map(tuple, kinds):
        if (size, k, n, t) not in known:
            cost = unit.product(float(size), float(k * n), t, k, machine.lpddr)
            known[size, k, n, t] = cost.ns, cost.read_bytes, t * (k + 4.0 * n)
        found.append(known[size, k, n, t])
    near_ns[possible], near_bytes[possible], bus[possible] = np.array(found)[kind].T
    return near_ns, near_bytes, bus
