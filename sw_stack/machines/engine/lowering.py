"""From dispatch records to the numbers that the schedule needs: tiles, bytes, cycles of array and vector unit.

A tile is C outputs x K inputs (32 x K on the published array); gate and up of a column are one unit of work on one PE.
Cycles are the closed forms of `cycle_model.pe.durations`, which the PE's RTL is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cycle_model.pe.durations import matmul, vector
from hw.isa.encoding import Opcode
from hw.params import ChipParams
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.kernels.expert import TOKEN_BLOCKS
from sw_stack.compiler.kernels.matrix import projection_blocks
from sw_stack.machines.machine import Machine

K_BLOCK_GROUPS = 16
"""Groups of a MATMUL command: K is blocked by 512, 16 tokens of which fill a quarter of the input memory."""


@dataclass(frozen=True, eq=False)
class Work:
    """Arrays over records.

    units         columns of tiles that PEs share out, 0 where there is nothing to multiply
    first_pe      PE of the first unit
    passes, far_passes  how often weights from HB, from LPDDR, are read: token blocks beyond a kernel's come again
    hb_bytes, lpddr_bytes  weights of all units in all passes; KV read; refill
    extents       contiguous pieces that the LPDDR bytes lie in
    array_ns      of one unit, all its slices and token blocks
    vector_ns     of one unit, all token blocks
    in_bytes, out_bytes  on the aggregation link before and behind the product
    near_ns, near_bytes, near_bus_bytes  of the product in the memory; near_ns < 0 where that is impossible
    host_ns       of HOST operations, attention arithmetic, requantisation
    """

    units: np.ndarray
    first_pe: np.ndarray
    passes: np.ndarray
    far_passes: np.ndarray
    hb_bytes: np.ndarray
    lpddr_bytes: np.ndarray
    extents: np.ndarray
    array_ns: np.ndarray
    vector_ns: np.ndarray
    in_bytes: np.ndarray
    out_bytes: np.ndarray
    near_ns: np.ndarray
    near_bytes: np.ndarray
    near_bus_bytes: np.ndarray
    host_ns: np.ndarray


def blocks_per_pass(chip: ChipParams, slices: int, expert: bool) -> int:
    """Token blocks that the shipped kernels serve with one read of a tile's weights; for more they are read again."""
    return TOKEN_BLOCKS if expert else projection_blocks(chip, slices)


@lru_cache(maxsize=65536)
def tile_cycles(chip: ChipParams, inputs: int, tokens: int, slices: int, most: int) -> int:
    """Cycles in which the array is taken by one tile: every slice, K block and token block, ``most`` blocks a pass."""
    blocks, groups = -(-tokens // chip.array.rows), -(-inputs // chip.array.group_size)
    whole, rest = divmod(blocks, most)
    cycles = 0
    for first in range(0, groups, K_BLOCK_GROUPS):
        here = min(K_BLOCK_GROUPS, groups - first)
        cycles += whole * (matmul(chip, here, most).free + 1)
        if rest:
            cycles += matmul(chip, here, rest).free + 1
    return slices * cycles


def _unit_cycles(chip: ChipParams, inputs: int, tokens: int, slices: int, shared: int, most: int) -> int:
    """Array cycles of one tile on its PE; ``shared`` of its slices go through every PE, each with its own tokens.

    A PE then works on all PEs' tiles, so that a tile counts once per PE; a token block is not filled by few tokens.
    """
    own = tile_cycles(chip, inputs, tokens, slices - shared, most) if slices > shared else 0
    return own + (chip.pes * tile_cycles(chip, inputs, -(-tokens // chip.pes), shared, most) if shared else 0)


@lru_cache(maxsize=65536)
def tile_vector_cycles(chip: ChipParams, tokens: int, slices: int, activated: bool) -> int:
    """Cycles of the vector unit for one unit of work.

    Merge of the slices' chains and activation scale for each tile; SiLU x up, row maximum and requantisation of a gate
    and up pair; else weighting and accumulation of the output.
    """
    rows = min(tokens, chip.array.rows)
    blocks = -(-tokens // chip.array.rows)
    tile = [Opcode.ADD] * (slices - 1) + [Opcode.MUL]
    if activated:
        ops = 2 * tile + [Opcode.SIGMOID, Opcode.MUL, Opcode.MUL, Opcode.ROW_ABSMAX, Opcode.QUANTIZE]
    else:
        ops = [*tile, Opcode.MUL, Opcode.ADD]
    return blocks * sum(vector(chip, op, rows) + 1 for op in ops)


PER_PROJECTION = "per projection"
"""As a mapping: of the machine's legal ones the faster for each record, by predicted time."""


def lower(dispatch: Dispatch, machine: Machine, mapping: str) -> Work:
    """Numbers of every record on ``machine`` (a processor) under a parallel mapping, or `PER_PROJECTION`."""
    if mapping != PER_PROJECTION:
        return _lower(dispatch, machine, mapping)
    best, *others = (_lower(dispatch, machine, each) for each in machine.mappings)
    least = _predicted_ns(best, machine)
    for work in others:
        ns = _predicted_ns(work, machine)
        faster = ns < least  # ties: the first legal mapping
        least = np.minimum(ns, least)
        best = replace(
            best,
            far_passes=np.where(faster, work.far_passes, best.far_passes),
            lpddr_bytes=np.where(faster, work.lpddr_bytes, best.lpddr_bytes),
            extents=np.where(faster, work.extents, best.extents),
            array_ns=np.where(faster, work.array_ns, best.array_ns),
            out_bytes=np.where(faster, work.out_bytes, best.out_bytes),
        )
    return best


def _predicted_ns(work: Work, machine: Machine) -> np.ndarray:
    """Of each record alone: its slowest resource, all others hidden behind it. Mappings differ in array and link."""
    links, waves = machine.links, -(-work.units // machine.chip.pes)
    return np.maximum.reduce(
        [
            work.lpddr_bytes / machine.lpddr_gb_per_s,
            work.hb_bytes / (machine.hb_gb_per_s or np.inf),
            waves * work.array_ns,
            (work.in_bytes + work.out_bytes) / links.aggregation_gb_per_s.value,
        ]
    )


def _lower(dispatch: Dispatch, machine: Machine, mapping: str) -> Work:
    r, chip = dispatch.records, machine.chip
    pes, columns = chip.pes, chip.array.columns
    product = (r["kernel"] == Kernel.PROJECTION) | (r["kernel"] == Kernel.EXPERT)
    activated = r["activated"] == 1
    slices = np.where(r["precision"] == Precision.FULL, 2, 1)
    tiles = -(-r["outputs"].astype(np.int64) // columns)
    units = np.where(product, np.where(activated, -(-tiles // 2), tiles), 0)

    msb_hb, lsb_hb = r["msb_tier"] == Tier.HB, r["lsb_tier"] == Tier.HB
    msb_far, lsb_far = r["msb_tier"] == Tier.LPDDR, r["lsb_tier"] == Tier.LPDDR
    tokens = r["tokens"].astype(np.int64)
    expert = r["kernel"] == Kernel.EXPERT

    # Slices that every PE works through for its own share of the tokens (mapping "split": LPDDR data-parallel).
    apart = product & (mapping == "split")
    shared = apart * (msb_far.astype(np.int64) + lsb_far)

    # Weights are read once for as many tokens as the kernels serve in a pass.
    most = np.ones(len(r), np.int64)
    for of_expert in (False, True):
        for n in (1, 2):
            most[(expert == of_expert) & (slices == n)] = blocks_per_pass(chip, n, of_expert)
    at_once = most * chip.array.rows
    passes = np.where(product, -(-tokens // at_once), 1)
    far_passes = np.where(apart, -(-(-(-tokens // pes)) // at_once), passes)
    hb_once = r["msb_bytes"] * msb_hb + r["lsb_bytes"] * lsb_hb
    far_once = r["msb_bytes"] * msb_far + r["lsb_bytes"] * lsb_far
    hb = hb_once * passes + r["hb_bytes"]
    far = far_once * far_passes + r["lpddr_bytes"]

    array_ns, vector_ns = np.zeros(len(r)), np.zeros(len(r))
    keys = (r["inputs"].astype(np.int64) << 36 | tokens << 7)[product]
    keys |= (expert << 6 | shared << 4 | slices << 1 | activated)[product]
    if len(keys):
        distinct, inverse = np.unique(keys, return_inverse=True)
        clock = chip.hb.logic_ghz
        cycles = np.array(
            [
                (
                    _unit_cycles(chip, k, t, s, d, blocks_per_pass(chip, s, bool(e))) * (2 if a else 1),
                    tile_vector_cycles(chip, t, s, bool(a)),
                )
                for k, t, e, d, s, a in (
                    (v >> 36, v >> 7 & (1 << 29) - 1, v >> 6 & 1, v >> 4 & 3, v >> 1 & 7, v & 1)
                    for v in distinct.tolist()
                )
            ],
            np.float64,
        )
        array_ns[product], vector_ns[product] = (cycles / clock)[inverse].T

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
    first_pe = np.where(expert, r["expert"].astype(np.int64) * 7, 0) % pes
    extents = (msb_far & (r["msb_bytes"] > 0)).astype(np.int64) + (lsb_far & (r["lsb_bytes"] > 0))
    extents = np.maximum(extents * far_passes, np.where(far > 0, np.maximum(r["pieces"], 1), 0))
    near_ns, near_bytes, bus = _near(dispatch, machine, far_once, product & (hb == 0))
    return Work(
        units,
        first_pe,
        passes,
        far_passes,
        hb.astype(np.float64),
        far.astype(np.float64),
        extents,
        array_ns,
        vector_ns,
        into.astype(np.float64),
        out.astype(np.float64),
        near_ns,
        near_bytes,
        bus,
        host_ns,
    )


def _near(
    dispatch: Dispatch, machine: Machine, far: np.ndarray, possible: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, bytes read inside the memory, and bytes over its bus, of products in the memory."""
    r = dispatch.records
    near_ns, near_bytes, bus = np.full(len(r), -1.0), np.zeros(len(r)), np.zeros(len(r))
    unit = machine.near_memory
    if unit is None:
        return near_ns, near_bytes, bus
    keys = np.stack([far, r["inputs"], r["outputs"], r["tokens"]], axis=1)[possible]
    if not len(keys):
        return near_ns, near_bytes, bus
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    found = []
    for size, inputs, outputs, tokens in distinct:
        cost = unit.product(float(size), float(inputs * outputs), int(tokens), int(inputs), machine.lpddr)
        found.append((cost.ns, cost.read_bytes, tokens * (inputs + 4.0 * outputs)))
    near_ns[possible], near_bytes[possible], bus[possible] = np.array(found)[inverse.ravel()].T
    return near_ns, near_bytes, bus
