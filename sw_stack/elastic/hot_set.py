"""The hot set: which experts' slices HB holds, when they change, and what the change costs.

A round in the contract's order: the draft routes among `HotSet.mask`; `fix_next` chooses the next set from the counts
of the draft phase, before verification; verification finds the old set with `read`; `replace` overwrites a layer's
slots after that layer's last read; `end_pass` closes the pass. A slice that was streamed from LPDDR anyway enters for
nothing, any other one that enters is paid for. Every layer has the same budget (ties in the counts: lower id first).
"""

from __future__ import annotations

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.slices import SliceSizes, allocate, check_allocation
from sw_stack.models.architectures import ModelConfig
from sw_stack.models.runtime import LayerRouting

MXFP4_BITS_PER_WEIGHT = 4.25
POLICIES = ("hot", "random", "static")
"""hot: most used in the last draft phase. random: drawn once from a seed. static: most used over given counts."""


def expert_weights(config: ModelConfig) -> int:
    """Weights of one routed expert."""
    return 3 * config.moe.intermediate * config.hidden


def expert_sizes(config: ModelConfig) -> SliceSizes:
    """Bytes of one routed expert's slices; MXFP4 experts have one slice, 4 bits and an 8-bit scale per 32 weights."""
    if config.moe.mxfp4:
        return SliceSizes(int(expert_weights(config) * MXFP4_BITS_PER_WEIGHT / 8), 0)
    return SliceSizes.of_weights(expert_weights(config))


def capacity_of_fraction(config: ModelConfig, fraction: float) -> int:
    """Bytes per layer that hold this fraction of the layer's MSB slices, whole slices only."""
    if not 0 <= fraction <= 1:
        raise UserError(f"resident fraction must be 0 to 1, not {fraction!r}")
    return int(fraction * config.experts) * expert_sizes(config).msb_bytes


def count_routing(routing: list[LayerRouting], experts: int) -> np.ndarray:
    """One-hot counts of the unrestricted top-k, int64 [MoE layers, experts]."""
    return _uses([layer.wanted for layer in routing], experts)


def count_chosen(routing: list[LayerRouting], experts: int) -> np.ndarray:
    """How many tokens of a pass use an expert, int64 [MoE layers, experts]."""
    return _uses([layer.chosen for layer in routing], experts)


def _uses(ids: list[np.ndarray], experts: int) -> np.ndarray:
    """Counts of each layer's ids [tokens, k], -1 left out; all layers in one go."""
    size = experts + 1  # and one place per layer for -1
    places = np.stack(ids).reshape(len(ids), -1) + (1 + size * np.arange(len(ids))[:, None])
    return np.bincount(places.ravel(), minlength=size * len(ids)).reshape(-1, size)[:, 1:]


class HotSet:
    """Resident slices of every MoE layer.

    Parameters
    ----------
    config : a MoE model
    capacity_bytes : per layer
    policy : in ``POLICIES``
    allocation : which slices of the experts chosen are kept, see ``sw_stack.elastic.slices``
    seed : of the random set
    batch_tokens, draft_weight : of the adaptive allocation

    Attributes
    ----------
    resident : bool [MoE layers, experts, 2], MSB and LSB slices
    paid_bytes, free_bytes : slices that entered, read for this purpose or streamed anyway
    """

    def __init__(
        self,
        config: ModelConfig,
        capacity_bytes: int,
        *,
        policy: str = "hot",
        allocation: str = "msb-only",
        seed: int = 0,
        batch_tokens: int = 1,
        draft_weight: float = 0.0,
    ) -> None:
        if not config.experts:
            raise UserError("a hot set needs a model with experts, not a dense one")
        if policy not in POLICIES:
            raise UserError(f"unknown hot set policy {policy!r}; {nearest(policy, list(POLICIES))}")
        if capacity_bytes < 0:
            raise UserError(f"capacity of the hot set must be at least 0 bytes, not {capacity_bytes}")
        self.policy, self.allocation = policy, check_allocation(allocation)
        self.sizes, self.capacity_bytes = expert_sizes(config), capacity_bytes
        self.batch_tokens, self.draft_weight = batch_tokens, draft_weight
        self.top_k = config.top_k
        self._layers = np.flatnonzero(config.moe_layers)
        self._shape = (config.layers, config.experts)
        self.resident = np.zeros((len(self._layers), config.experts, 2), np.bool_)
        self._next: np.ndarray | None = None
        self._replaced = np.zeros(len(self._layers), np.bool_)
        self.paid_bytes = self.free_bytes = 0
        self.usage = np.full(self.resident.shape[:2], config.top_k / config.experts)
        self._static: np.ndarray | None = None
        if policy == "random":
            order = np.random.Generator(np.random.PCG64(seed))
            counts = np.stack([order.permutation(config.experts) for _ in self._layers])
            self.resident = self._chosen(counts, 1)

    def mask(self) -> np.ndarray:
        """Experts that a draft may use, bool [layers, experts]; rows of dense layers are True."""
        mask = np.ones(self._shape, np.bool_)
        mask[self._layers] = self.resident[:, :, 0]
        return mask

    @property
    def fewest_resident(self) -> tuple[int, int]:
        """(experts, model layer) where the fewest experts are resident."""
        held = self.resident[:, :, 0].sum(axis=1)
        return int(held.min()), int(self._layers[held.argmin()])

    def fill(self, counts: np.ndarray, tokens: int) -> None:
        """The first set, from prefill counts [MoE layers, experts] over ``tokens``; prefill streamed its weights."""
        self.usage = counts / max(tokens, 1)
        if self.policy == "static" and self._static is None:
            self._static = counts.copy()
        if self.policy != "random":
            self.resident = self._chosen(counts, tokens)

    def fix_next(self, counts: np.ndarray, tokens: int) -> None:
        """Choose the next set from a phase's counts; nothing is overwritten yet. Other policies keep theirs."""
        self.usage = counts / max(tokens, 1)
        self._next = self._chosen(counts, tokens) if self.policy == "hot" else None

    def read(self, layer: int, experts: np.ndarray) -> np.ndarray:
        """Residency bool [n, 2] of ``experts`` of the ``layer``-th MoE layer, in the old set.

        Raises RuntimeError where this pass has overwritten the layer already: that read would be lost.
        """
        if self._replaced[layer]:
            raise RuntimeError(f"MoE layer {layer} was overwritten before its last read")
        return self.resident[layer, experts]

    def replace(self, layer: int, streamed: np.ndarray) -> int:
        """Overwrite a layer's slots after its last read; returns the bytes that were paid for.

        ``streamed`` bool [experts, 2]: slices that the pass read from LPDDR.
        """
        if self._next is None:
            return 0
        entering = self._next[layer] & ~self.resident[layer]
        paid = self._bytes(entering & ~streamed)
        self.paid_bytes += paid
        self.free_bytes += self._bytes(entering & streamed)
        self.resident[layer] = self._next[layer]
        self._replaced[layer] = True
        return paid

    def end_pass(self) -> None:
        """The pass is over: every layer may be read again, and the set that was fixed is in place."""
        self._next = None
        self._replaced[:] = False

    def _bytes(self, slices: np.ndarray) -> int:
        msb, lsb = slices.sum(axis=0)
        return int(msb) * self.sizes.msb_bytes + int(lsb) * self.sizes.lsb_bytes

    def _chosen(self, counts: np.ndarray, tokens: int) -> np.ndarray:
        return np.stack(
            [
                allocate(
                    self.allocation,
                    row,
                    tokens,
                    self.sizes,
                    self.capacity_bytes,
                    batch_tokens=self.batch_tokens,
                    draft_weight=self.draft_weight,
                )
                for row in counts
            ]
        )
