"""The key/value cache of one sequence: committed positions, and behind them a tree of pending nodes.

Slot i holds position i for committed tokens. New tokens get the slots behind and stay pending until ``commit``
says which of them become part of the sequence; they may form a chain or a tree, and may be added in several
forward passes (a draft that grows level by level). ``discard`` drops them.

    int8  one FP32 scale per position and head, quantised like activations (the default)
    fp16  rounded to FP16
    fp32  not rounded, to compare with the float reference

For MLA the cached latent is one head and the rope key another; keys and values are projected from them anew in
each pass.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from cycle_model.functional.attention import BLOCK, store_float, store_quantized
from hw.errors import UserError
from sw_stack.models.architectures import GqaConfig, ModelConfig


class KvFormat(Enum):
    """How cached keys and values are stored."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def element_bytes(self) -> int:
        """Bytes of one cached element, scales not counted."""
        return {KvFormat.INT8: 1, KvFormat.FP16: 2, KvFormat.FP32: 4}[self]


class HeadStore:
    """Vectors of several heads by slot, in blocks of 256: int8 with scales, or float32 (FP16 and FP32 values).

    data    [blocks, heads, d, 256] where ``transposed`` (keys), else [blocks, heads, 256, d]
    scales  float32 [blocks, heads, 256]; ones where not INT8
    """

    def __init__(self, heads: int, d: int, transposed: bool, kv_format: KvFormat) -> None:
        self.transposed, self.kv_format = transposed, kv_format
        inner = (d, BLOCK) if transposed else (BLOCK, d)
        kind = np.int8 if kv_format is KvFormat.INT8 else np.float32
        self.data = np.zeros((0, heads, *inner), kind)
        self.scales = np.zeros((0, heads, BLOCK), np.float32)

    def write(self, slot: int, x: np.ndarray) -> None:
        """Store float32 [n, heads, d] from ``slot`` on. Raises UserError where a value is not finite."""
        if slot + len(x) > len(self.data) * BLOCK:
            self._reserve(slot + len(x))
        if self.kv_format is KvFormat.INT8:
            if not store_quantized(x, slot, self.transposed, self.data, self.scales):
                raise UserError("keys and values must be finite")
        else:
            if self.kv_format is KvFormat.FP16:
                with np.errstate(over="ignore"):
                    x = x.astype(np.float16).astype(np.float32)
            if not np.isfinite(x).all():
                raise UserError(f"keys and values must be finite in {self.kv_format.value}")
            store_float(x, slot, self.transposed, self.data)

    def _reserve(self, slots: int) -> None:
        """Grow to at least ``slots``, and at least twofold."""
        blocks = len(self.data)
        more = max(-(-slots // BLOCK) - blocks, blocks)
        self.data = np.concatenate([self.data, np.zeros((more, *self.data.shape[1:]), self.data.dtype)])
        self.scales = np.concatenate([self.scales, np.ones((more, *self.scales.shape[1:]), np.float32)])

    def move(self, slots: np.ndarray, first: int) -> None:
        """Copy ``slots`` (ascending, each at or behind its target) to ``first``, ``first`` + 1, ..."""
        for target, slot in enumerate(slots, first):
            (to, i), (of, j) = divmod(target, BLOCK), divmod(int(slot), BLOCK)
            if self.transposed:
                self.data[to, :, :, i] = self.data[of, :, :, j]
            else:
                self.data[to, :, i] = self.data[of, :, j]
            self.scales[to, :, i] = self.scales[of, :, j]

    def rows(self, slots: int) -> np.ndarray:
        """First ``slots`` vectors of the only head, [slots, d] (not transposed stores)."""
        return self.data[:, 0].reshape(-1, self.data.shape[3])[:slots]

    def row_scales(self, slots: int) -> np.ndarray:
        """Their scales, float32 [slots]."""
        return self.scales[:, 0].reshape(-1)[:slots]


class KvCache:
    """Cache of one sequence over all layers.

    length   committed positions
    parents  of pending nodes: index of another pending node, or -1 for the last committed position
    keys, values  per layer; MLA: ``keys`` holds the rope key and ``values`` the latent, both by rows
    """

    def __init__(self, config: ModelConfig, kv_format: KvFormat = KvFormat.INT8) -> None:
        self.config, self.kv_format = config, kv_format
        self.length = 0
        self.parents: list[int] = []
        self._depths: list[int] = []
        a = config.attention
        if isinstance(a, GqaConfig):
            shapes = ((a.kv_heads, a.head_dim, True), (a.kv_heads, a.head_dim, False))
        else:
            shapes = ((1, a.rope_dim, False), (1, a.kv_rank, False))
        self.keys = [HeadStore(*shapes[0], kv_format) for _ in range(config.layers)]
        self.values = [HeadStore(*shapes[1], kv_format) for _ in range(config.layers)]

    @property
    def pending(self) -> int:
        """Nodes that are neither committed nor discarded."""
        return len(self.parents)

    @property
    def is_chain(self) -> bool:
        """Whether every pending node follows the one before it."""
        return self.parents == list(range(-1, len(self.parents) - 1))

    def extend(self, parents: list[int]) -> np.ndarray:
        """Add pending nodes; returns their positions, int64 [n].

        Raises
        ------
        UserError
            A parent that is not an earlier pending node or -1, or a position beyond the model's context.
        """
        first = self.pending
        for i, parent in enumerate(parents, first):
            if not -1 <= parent < i:
                self.truncate(first)
                raise UserError(f"parent of node {i} must be an earlier node or -1, not {parent}")
            self.parents.append(parent)
            self._depths.append(0 if parent < 0 else self._depths[parent] + 1)
        positions = self.length + np.array(self._depths[first:], np.int64)
        if positions.size and positions.max() >= self.config.max_positions:
            self.truncate(first)
            raise UserError(
                f"the sequence must fit the model's {self.config.max_positions} positions, "
                f"not reach {int(positions.max()) + 1}"
            )
        return positions

    def paths(self, first: int) -> np.ndarray:
        """Slots on the root path of pending nodes ``first`` on, in position order, int64 [n, depth], 0 behind it."""
        depth = 1 + max(self._depths[first:], default=-1)
        paths = np.zeros((self.pending - first, depth), np.int64)
        for row, node in enumerate(range(first, self.pending)):
            while node >= 0:
                paths[row, self._depths[node]] = self.length + node
                node = self.parents[node]
        return paths

    def commit(self, nodes: list[int] | None = None) -> None:
        """Make a path of pending nodes, from the root on, part of the sequence and discard the others.

        ``nodes`` None stands for all of a chain. Raises UserError where the nodes are no such path.
        """
        if nodes is None:
            if not self.is_chain:
                raise UserError("a tree of pending tokens needs the path to commit")
            nodes = list(range(self.pending))
        before = -1
        for node in nodes:
            if not 0 <= node < self.pending or self.parents[node] != before:
                raise UserError(f"nodes to commit must be a path from the root, not {nodes}")
            before = node
        if nodes != list(range(len(nodes))):
            slots = self.length + np.array(nodes, np.int64)
            for store in (*self.keys, *self.values):
                store.move(slots, self.length)
        self.length += len(nodes)
        self.discard()

    def discard(self) -> None:
        """Forget all pending nodes."""
        self.truncate(0)

    def truncate(self, pending: int) -> None:
        """Forget all pending nodes but the first ``pending``."""
        del self.parents[pending:]
        del self._depths[pending:]

    @property
    def bytes_per_position(self) -> int:
        """Bytes that one position takes over all layers, scales (4 bytes per head, INT8 only) included."""
        a = self.config.attention
        heads = 2 * a.kv_heads if isinstance(a, GqaConfig) else 2
        scales = 4 * heads if self.kv_format is KvFormat.INT8 else 0
        return (self.kv_format.element_bytes * a.kv_elements + scales) * self.config.layers
