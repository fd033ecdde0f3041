"""Sizes of expert slices, and which slices a layer's capacity is given to.

An entry of the expert cache is a slice: the MSB slice of an expert with its scales (4.5 bit per weight), or its LSB
slice (4.0). Three allocations of a layer's bytes, experts taken in the order of a hotness count:

* ``msb-only``, the published one: MSB slices of as many experts as fit;
* ``whole``: both slices of as many experts as fit;
* ``adaptive``: the slices that save most external bytes per byte kept. With a verification pass that reaches expert e
  with probability v(e), a resident slice of either kind saves v(e) bytes per byte; an MSB slice also serves the
  draft, which would otherwise read it in d(e) of its steps. So MSB slices are ranked by v + draft_weight d, LSB
  slices by v. At high batch v is near 1 for every expert and the draft decides (MSB slices only); at low batch
  both slices of the hottest experts beat the MSB slices of cold ones. ``draft_weight`` is the number of draft steps
  per verification pass, 0 for plain decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.cache_kernels import keep_slices

MSB_BITS_PER_WEIGHT = 4.5
"""4 bits and the FP16 scale of 32 weights (derived from the numeric contract)."""
LSB_BITS_PER_WEIGHT = 4.0

ALLOCATIONS = ("msb-only", "whole", "adaptive")


class Slice(IntEnum):
    """Index of a slice in residency arrays [experts, 2]."""

    MSB = 0
    LSB = 1


@dataclass(frozen=True)
class SliceSizes:
    """Bytes of one expert's slices."""

    msb_bytes: int
    lsb_bytes: int

    def __post_init__(self) -> None:
        if self.msb_bytes <= 0 or self.lsb_bytes < 0:
            raise UserError(f"slice sizes must be positive bytes, not {self.msb_bytes!r} and {self.lsb_bytes!r}")

    @classmethod
    def of_weights(cls, weights: int) -> SliceSizes:
        """Sizes of an expert of so many weights; a multiple of 32."""
        if weights <= 0 or weights % 32:
            raise UserError(f"weights of an expert must be a positive multiple of 32, not {weights!r}")
        return cls(int(weights * MSB_BITS_PER_WEIGHT / 8), int(weights * LSB_BITS_PER_WEIGHT / 8))

    @property
    def whole_bytes(self) -> int:
        """Bytes of both slices."""
        return self.msb_bytes + self.lsb_bytes


def check_allocation(allocation: str) -> str:
    """``allocation`` itself; UserError with the nearest known name otherwise."""
    if allocation not in ALLOCATIONS:
        raise UserError(f"unknown allocation {allocation!r}; {nearest(allocation, list(ALLOCATIONS))}")
    return allocation


def allocate(
    allocation: str,
    counts: np.ndarray,
    tokens: int,
    sizes: SliceSizes,
    capacity_bytes: int,
    *,
    batch_tokens: int = 1,
    draft_weight: float = 0.0,
) -> np.ndarray:
    """Slices to keep, bool [experts, 2], within ``capacity_bytes``; lower ids first among equal counts.

    Parameters
    ----------
    counts : uses of each expert [experts] over ``tokens`` tokens
    batch_tokens : tokens of one verification pass, which reach an expert with 1 - (1 - count / tokens)^batch_tokens
    draft_weight : draft steps per verification pass (adaptive allocation only)
    """
    code = ALLOCATIONS.index(check_allocation(allocation))
    counts = np.ascontiguousarray(counts, np.float64)
    if counts.ndim != 1 or not (counts >= 0).all():
        raise UserError("expert counts must be a row of numbers of at least 0")
    if capacity_bytes < 0 or tokens < 0 or batch_tokens < 1 or draft_weight < 0:
        raise UserError(
            "capacity, tokens and draft_weight must be at least 0 and batch_tokens at least 1, not "
            f"{capacity_bytes!r}, {tokens!r}, {draft_weight!r}, {batch_tokens!r}"
        )
    return keep_slices(
        counts,
        max(tokens, 1),
        sizes.msb_bytes,
        sizes.lsb_bytes,
        capacity_bytes,
        code,
        batch_tokens,
        float(draft_weight),
    )
