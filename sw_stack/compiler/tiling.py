"""Tiling: into how many units of work a product is cut, where they go, and how K and tokens are blocked.

A tile is C outputs x K inputs, the least that a PE computes; a unit is a tile, or the gate and up tiles of a column,
which stay on one PE for SiLU x up. Units go round-robin over the PEs.
"""

from __future__ import annotations

import numpy as np

from hw.params import ChipParams
from sw_stack.compiler.dispatch import Kernel, Precision, is_product
from sw_stack.compiler.kernels.expert import TOKEN_BLOCKS
from sw_stack.compiler.kernels.matrix import projection_blocks

K_BLOCK_GROUPS = 16
"""Groups of a MATMUL command: K is blocked by 512, 16 tokens of which fill a quarter of the input memory."""
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
    records["k_block"] = np.where(product, K_BLOCK_GROUPS, 0)
    whole = records["precision"] == Precision.FULL
    blocks = np.where(whole, projection_blocks(chip, 2), projection_blocks(chip, 1))
    records["token_blocks"] = np.where(product, np.where(expert, TOKEN_BLOCKS, blocks), 0)
