"""Placement: what lies in hybrid-bonded DRAM and what in LPDDR.

HB holds dense weights first, then keys and values, then slices of experts; the rest lies in LPDDR. Which experts is
decided while the machine runs (`sw_stack.elastic.hot_set`), so a pass brings its own table of residents. Where within a
memory a slice begins: `sw_stack.compiler.layout` for whole machines, `sw_stack.compiler.builder.Bank` for one PE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.compiler.dispatch import Tier
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.machine import Machine


@dataclass(frozen=True)
class Placement:
    """Tiers of everything that is stored.

    has_hb  the machine has HB
    share   of HB between dense weights, keys and values, experts
    """

    has_hb: bool
    share: HbShare

    @property
    def dense(self) -> Tier:
        """Of dense weights, both slices."""
        return Tier.HB if self.has_hb else Tier.LPDDR

    def slices(self, resident: np.ndarray) -> np.ndarray:
        """Tiers of experts' slices where ``resident`` (bool) says which are in HB."""
        return np.where(resident & self.has_hb, Tier.HB, Tier.LPDDR)

    def spilled_share(self, kv_bytes: float) -> float:
        """Share of so many bytes of keys and values that lies in LPDDR."""
        if not self.has_hb:
            return 1.0
        return self.share.spilled(kv_bytes) / kv_bytes if kv_bytes else 0.0


def place(machine: Machine, share: HbShare | None) -> Placement:
    """Placement on ``machine``; ``share`` None = room for all keys and values."""
    return Placement(machine.has_hb, share or HbShare(0, None, 0))
