"""Tiling: into how many units of work a product is cut, where they go, and how K and tokens are blocked.

A tile is C outputs x K inputs, the least that a PE computes; a unit is a tile, or the gate and up tiles of a column,
which stay on one PE for SiLU x up. Units go round-robin over the PEs.
"""

from __future__ import annotations

import numpy as np

from hw.params import ChipParams
from sw_stack.compiler.dispatch import Kernel, Precision, Tier, is_product
from sw_stack.compiler.kernels.expert import TOKEN_BLOCKS
from sw_stack.compiler.kernels.matrix import projection_blocks
from sw_stack.compiler.kernels.projection import block_groups, most_groups

EXPERT_STRIDE = 7
"""First PEs of consecutive experts are so far apart, so that experts with few tiles do not meet on the same PEs."""


def tile(records: np.ndarray, chip: ChipParams) -> None:
    """Fill ``units``, ``first_pe``, ``k_block`` and ``token_blocks`` of all records."""
    product = is_product(records)
    tiles = -(-records["outputs"].astype(np.int64) // chip.array.columns)
    units = np.where(records["activated"] == 1, -(-tiles // 2), tiles)
    records["units"] = np.where(product, units, 0)
    expert = records["kernel"] == Kernel.EXPERT
    records["first_pe"] = np.where(expert, records["expert"].astype(np.int64) * EXPERT_STRIDE, 0) % chip.pes
    whole = records["precision"] == Precision.FULL
    most = np.empty(len(records), np.int64)
    for tier, near in (("hb", True), ("stream", False)):
        for slices in (1, 2):
            of = ((records["msb_tier"] == Tier.HB) == near) & (whole == (slices == 2))
            most[of] = most_groups(chip, tier, slices)
    groups = -(-records["inputs"].astype(np.int64) // chip.array.group_size)
    records["k_block"] = np.where(product, block_groups(np.maximum(groups, 1), most), 0)
    blocks = np.where(whole, projection_blocks(chip, 2), projection_blocks(chip, 1))
    records["token_blocks"] = np.where(product, np.where(expert, TOKEN_BLOCKS, blocks), 0)
