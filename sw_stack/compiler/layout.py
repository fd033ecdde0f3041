"""Weight layout: where expert slices lie in HB banks and in LPDDR5, and what else one might have done.

A tile is 32 outputs x K, the least that a PE computes. An expert has inter / 32 columns, each a gate and an up tile of
K = hidden, and hidden / 32 down tiles of K = inter. A weight's MSB slice takes 4.5 bits (4 and its share of the
group's FP16 scale), its LSB slice 4.0.

HB: gate and up of a column go to one PE, so that SiLU x up stays there; columns, then down tiles, go round-robin over
the PEs, and the next expert goes on where the last one ended. In its bank a PE packs tiles in the order of use, rows
filled to the end: a stream then pays one row opening per full row.

LPDDR5: per layer all MSB slices of an expert, then its LSB slices, tiles in the order of use, each expert from a
multiple of 32 KiB on: two rows in each of the 8 channels under the "weight-stream" mapping. An LSB tile of K = 2048 is
exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError

TILE_OUTPUTS = 32
MSB_EIGHTHS, LSB_EIGHTHS = 36, 32  # bits per weight times 8
LPDDR_ALIGN_BYTES = 32 * 1024

HB_POLICIES = ("round-robin", "restart at PE 0", "expert per PE")


@dataclass(frozen=True, kw_only=True)
class ExpertShape:
    """One routed expert: ``hidden`` inputs, ``inter`` outputs of gate and up; both multiples of 32."""

    hidden: int
    inter: int

    def __post_init__(self) -> None:
        for name in ("hidden", "inter"):
            value = getattr(self, name)
            if type(value) is not int or value < 1 or value % TILE_OUTPUTS:
                raise UserError(f"expert {name} must be a positive multiple of {TILE_OUTPUTS}, not {value!r}")

    @property
    def columns(self) -> int:
        """Gate and up columns of tiles."""
        return self.inter // TILE_OUTPUTS

    @property
    def down_tiles(self) -> int:
        """Tiles of the down projection."""
        return self.hidden // TILE_OUTPUTS

    def tile_bytes(self, inputs: int, eighths: int) -> int:
        """Bytes of one slice of a tile with ``inputs`` inputs."""
        return TILE_OUTPUTS * inputs * eighths // 64

    def slice_bytes(self, eighths: int) -> int:
        """Bytes of one slice of the whole expert."""
        return 3 * self.hidden * self.inter * eighths // 64


QWEN3_30B_A3B = ExpertShape(hidden=2048, inter=768)
QWEN3_EXPERTS, QWEN3_ACTIVE = 128, 8


def hb_bytes_per_pe(shape: ExpertShape, expert: int, pes: int, policy: str = "round-robin") -> np.ndarray:
    """Bytes of ``expert``'s MSB slice on each PE, (pes,) int64. ``expert`` counts the resident ones of a layer."""
    loads = np.zeros(pes, np.int64)
    if policy == "expert per PE":
        loads[expert % pes] = shape.slice_bytes(MSB_EIGHTHS)
        return loads
    per_expert = shape.columns + shape.down_tiles
    first = expert * per_expert if policy == "round-robin" else 0
    column, down = 2 * shape.tile_bytes(shape.hidden, MSB_EIGHTHS), shape.tile_bytes(shape.inter, MSB_EIGHTHS)
    np.add.at(loads, (first + np.arange(shape.columns)) % pes, column)
    np.add.at(loads, (first + shape.columns + np.arange(shape.down_tiles)) % pes, down)
    return loads


def lpddr_extent(shape: ExpertShape, expert: int, base: int = 0) -> tuple[int, int]:
    """(address, bytes) of both slices of ``expert``: MSB first, LSB behind it, experts 32 KiB aligned."""
    size = shape.slice_bytes(MSB_EIGHTHS) + shape.slice_bytes(LSB_EIGHTHS)
    pitch = -(-size // LPDDR_ALIGN_BYTES) * LPDDR_ALIGN_BYTES
    return base + expert * pitch, size
