"""Who holds how much of HB: dense weights first, then the KV cache, then expert slices.

Keys and values take HB before experts do: room for all positions that a request can reach is set aside when it begins,
and experts get what is left. Where even that room is too small, the oldest positions lie in LPDDR and are read from
there in every pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError


@dataclass(frozen=True)
class HbShare:
    """Bytes of HB.

    dense   weights of which every pass needs all: the target's dense parts and what the drafter has of its own
    kv      set aside for keys and values; None = as much as they need
    expert  slices of each MoE layer
    """

    dense: int
    kv: int | None
    expert: int

    @classmethod
    def of_capacity(cls, capacity: int, dense: int, kv: int, moe_layers: int) -> HbShare:
        """Shares of ``capacity`` bytes where the request's keys and values reach ``kv`` bytes."""
        left = capacity - dense
        if left < 0:
            raise UserError(f"HB must hold at least the dense weights of {dense:,} bytes, not {capacity:,}")
        kept = min(kv, left)
        return cls(dense, kept, (left - kept) // moe_layers)

    def divided(self, part: float) -> tuple[HbShare, HbShare]:
        """This share with ``part`` of its room for keys and values, and the share of a drafter: the rest of that."""
        if self.kv is None:
            return self, HbShare(0, None, 0)
        own = int(self.kv * part)
        return HbShare(self.dense, own, self.expert), HbShare(0, self.kv - own, 0)

    def spilled(self, kv_bytes: float) -> float:
        """Of ``kv_bytes`` of keys and values those in LPDDR."""
        return 0 if self.kv is None else max(0, kv_bytes - self.kv)
