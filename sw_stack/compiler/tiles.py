"""Weights, activations and FP32 rows as the words that HB, links and memories hold (docs/pe.md, Memories)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.quantization import GROUP_SIZE
from hw.params import ChipParams


def words_of(chip: ChipParams, data: np.ndarray) -> list[int]:
    """Any array whose bytes are whole words -> the words, first byte lowest."""
    content = np.ascontiguousarray(data).tobytes()
    size = chip.hb.column_bytes
    return [int.from_bytes(content[i : i + size], "little") for i in range(0, len(content), size)]


def code_words(chip: ChipParams, codes: np.ndarray) -> list[int]:
    """uint8 [C, 32 n] 4-bit codes of one tile -> 4 n words; nibble (k mod D) + D (c + C (k div D)) of a group."""
    columns, depth = chip.array.columns, chip.array.depth
    nibbles = codes.reshape(columns, -1, GROUP_SIZE // depth, depth).transpose(1, 2, 0, 3).reshape(-1)
    return words_of(chip, nibbles[::2] | nibbles[1::2] << 4)


def scale_words(chip: ChipParams, scales: np.ndarray) -> list[int]:
    """uint16 [C, n] scales of one tile -> ceil(n / 2) words, two groups each, the even one low."""
    groups = scales.T
    if len(groups) % 2:
        groups = np.concatenate([groups, np.zeros_like(groups[:1])])
    return words_of(chip, groups.astype("<u2"))


def activation_words(chip: ChipParams, q: np.ndarray, k_block: int) -> list[int]:
    """int8 [blocks x R, K] -> words of AL: K blocks of ``k_block`` groups, in each token block after token block."""
    rows = chip.array.rows
    tokens = q.reshape(-1, rows, q.shape[1])
    pieces = [
        part.reshape(rows, -1, GROUP_SIZE).transpose(1, 0, 2).reshape(-1)
        for start in range(0, q.shape[1], k_block * GROUP_SIZE)
        for part in tokens[:, :, start : start + k_block * GROUP_SIZE]
    ]
    return words_of(chip, np.concatenate(pieces))


def scalar_word(chip: ChipParams, scalars: np.ndarray) -> int:
    """Up to C scalars of 32 bits -> one word, the rest 0."""
    row = np.zeros(chip.array.columns, "<u4")
    row[: len(scalars)] = np.ascontiguousarray(scalars).view("<u4")
    return words_of(chip, row)[0]


def tile_rows(chip: ChipParams, values: np.ndarray) -> list[int]:
    """float32 [n, outputs] -> rows (words) of all C-output tiles: tile after tile, n rows each."""
    n, outputs = values.shape
    tiles = values.reshape(n, outputs // chip.array.columns, chip.array.columns).transpose(1, 0, 2)
    return words_of(chip, tiles.astype("<f4"))


@dataclass(frozen=True)
class KBlocks:
    """How the groups of K are cut: blocks of ``size`` groups (even), the last one has ``last`` of them.

    A block's words are its scales, then its codes; scale words end where the codes of a full block begin.
    """

    groups: int
    size: int

    @property
    def count(self) -> int:
        return -(-self.groups // self.size)

    @property
    def last(self) -> int:
        return self.groups - (self.count - 1) * self.size

    @property
    def last_scale_words(self) -> int:
        return -(-self.last // 2)

    @property
    def registers(self) -> list[int]:
        """What a kernel wants to know: middle blocks, then of the last: groups, words with scales, LSB words, pad."""
        scales = self.last_scale_words
        return [max(0, self.count - 2), self.last, 4 * self.last + scales, 4 * self.last, self.size // 2 - scales]

    def parts(self) -> list[slice]:
        """Groups of each block."""
        return [slice(i, min(i + self.size, self.groups)) for i in range(0, self.groups, self.size)]
