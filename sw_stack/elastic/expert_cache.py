"""Expert-cache policies behind one interface: which slices of which experts stay in the fast memory.

`ExpertCache` is driven step by step by a runtime: ``access`` says which slices of the experts that a layer uses are
resident, ``end_draft`` hands over the counts of a draft phase. Policies:

* ``lru``, ``lfu``: filled on demand. After a step a layer keeps, of what was resident and what was just read, the
  experts last used, or most often used (ties: last used); among equals what was resident stays.
* ``hotness``: the most used experts of the last draft phase, replaced at its end only.
* ``static``: a fixed set from given counts.
* ``belady``: on demand, keeps the experts used again soonest; knows the future, so only `replay` offers it. It is the
  bound of every policy with entries of one size that never loads what was not asked for.

All experts of one step are looked up before anything is replaced: a slot is overwritten only after the layer's last
read of it. Demand policies keep MSB slices or whole experts; ``hotness`` and ``static`` also allocate adaptively.
"""

from __future__ import annotations

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.cache_kernels import demand_step
from sw_stack.elastic.slices import SliceSizes, allocate, check_allocation

POLICIES = ("lru", "lfu", "belady", "hotness", "static")
DEMAND = ("lru", "lfu", "belady")


def check_policy(policy: str, allocation: str) -> None:
    """UserError where a policy or allocation is unknown or the two do not go together."""
    if policy not in POLICIES:
        raise UserError(f"unknown cache policy {policy!r}; {nearest(policy, list(POLICIES))}")
    check_allocation(allocation)
    if policy in DEMAND and allocation == "adaptive":
        raise UserError(f"allocation of the cache policy {policy} must be msb-only or whole, not 'adaptive'")


def entry_bytes(allocation: str, sizes: SliceSizes) -> int:
    """Bytes of one entry of a demand policy."""
    return sizes.msb_bytes if allocation == "msb-only" else sizes.whole_bytes


class ExpertCache:
    """Residency of all layers under one policy.

    Parameters
    ----------
    policy, allocation : names in ``POLICIES`` (not belady) and ``ALLOCATIONS``
    layers, num_experts : MoE layers and routed experts of a layer
    sizes : bytes of an expert's slices
    capacity_bytes : per layer
    counts : uses [layers, num_experts] that fill the cache at the start; required for ``static``
    tokens : tokens over which ``counts`` was taken
    batch_tokens, draft_weight : see `sw_stack.elastic.slices.allocate`

    Attributes
    ----------
    resident : bool [layers, num_experts, 2], last axis MSB, LSB
    refill_bytes : bytes loaded by ``end_draft`` so far for slices that became resident
    """

    def __init__(
        self,
        policy: str,
        allocation: str,
        layers: int,
        num_experts: int,
        sizes: SliceSizes,
        capacity_bytes: int,
        *,
        counts: np.ndarray | None = None,
        tokens: int = 0,
        batch_tokens: int = 1,
        draft_weight: float = 0.0,
    ) -> None:
        check_policy(policy, allocation)
        if policy == "belady":
            raise UserError("cache policy must be one that does not know the future, not 'belady'")
        if policy == "static" and counts is None:
            raise UserError("cache policy static must be given counts, not None")
        self.policy, self.allocation, self.sizes, self.capacity_bytes = policy, allocation, sizes, capacity_bytes
        self.batch_tokens, self.draft_weight = batch_tokens, draft_weight
        self.resident = np.zeros((layers, num_experts, 2), bool)
        self.refill_bytes = 0
        self._priority = np.zeros((layers, num_experts), np.int64)
        self._clock = 0
        if counts is not None:
            self._fill(counts, tokens)

    def access(self, layer: int, experts: np.ndarray) -> np.ndarray:
        """Residency bool [len(experts), 2] of distinct ``experts`` as this step finds it; then the policy acts."""
        experts = np.asarray(experts, np.int64)
        found = self.resident[layer, experts]
        if self.policy in DEMAND:
            self._clock += 1
            held = self.resident[layer, :, 0].copy()
            demand_step(
                held,
                self._priority[layer],
                experts,
                self.capacity_bytes // entry_bytes(self.allocation, self.sizes),
                DEMAND.index(self.policy),
                self._clock,
                experts,
            )
            self.resident[layer, :, 0] = held
            self.resident[layer, :, 1] = held & (self.allocation == "whole")
        return found

    def end_draft(self, counts: np.ndarray, tokens: int) -> None:
        """Counts [layers, num_experts] of the unrestricted top-k over a draft phase's ``tokens``."""
        if self.policy == "hotness":
            self._fill(counts, tokens)

    def _fill(self, counts: np.ndarray, tokens: int) -> None:
        if np.shape(counts) != self.resident.shape[:2]:
            raise UserError(f"expert counts must have the shape {self.resident.shape[:2]}, not {np.shape(counts)}")
        for layer in range(len(self.resident)):
            keep = allocate(
                self.allocation,
                counts[layer],
                tokens,
                self.sizes,
                self.capacity_bytes,
                batch_tokens=self.batch_tokens,
                draft_weight=self.draft_weight,
            )
            new = (keep & ~self.resident[layer]).sum(0)
            self.refill_bytes += int(new[0]) * self.sizes.msb_bytes + int(new[1]) * self.sizes.lsb_bytes
            self.resident[layer] = keep
