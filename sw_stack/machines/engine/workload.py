"""One pass through the model as the engine sees it: how many tokens, which experts, what is resident. No values.

Whoever knows the routing (the shipped model live, a trace, the generator) fills a `Pass`; the compiler turns it into
a dispatch stream, the engine times that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hw.errors import UserError


class PassKind(IntEnum):
    """What a pass is for.

    PREFILL  a prompt, causal; logits of the last token of each sequence only
    DECODE   one token per sequence, both slices
    DRAFT    drafted tokens: MSB slices only (one slice pass), nothing is committed to the KV cache
    VERIFY   all drafted tokens of every sequence, both slices; hot slots are refilled behind it
    """

    PREFILL = 0
    DECODE = 1
    DRAFT = 2
    VERIFY = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """One forward pass of the target, or of a drafter with its own model.

    kind           see `PassKind`
    tokens         int [sequences], new tokens of each sequence, at least 1
    kv_lengths     int [sequences], positions already cached (for a draft: committed and the tree so far)
    expert_tokens  int [MoE layers, experts], tokens that each expert serves; [0, 0] for a dense model
    resident       bool [MoE layers, experts, 2], MSB and LSB slice in HB while this pass runs
    next_resident  bool as ``resident``, the set that replaces it behind each layer's last read; None = unchanged
    output_tokens  rows that go through the output matrix; None = the kind's usual number
    dense_full     a draft also reads the LSB slices of dense parts (attention, shared experts, head)
    """

    kind: PassKind
    tokens: np.ndarray
    kv_lengths: np.ndarray
    expert_tokens: np.ndarray
    resident: np.ndarray
    next_resident: np.ndarray | None = None
    output_tokens: int | None = None
    dense_full: bool = False

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "kind", PassKind(self.kind))
        for name in ("tokens", "kv_lengths", "expert_tokens"):
            set_field(self, name, np.ascontiguousarray(getattr(self, name), np.int64))
        for name in ("resident", "next_resident"):
            value = getattr(self, name)
            set_field(self, name, None if value is None else np.ascontiguousarray(value, np.bool_))
        if self.tokens.ndim != 1 or not self.tokens.size or self.tokens.min() < 1:
            raise UserError(f"tokens of a pass must be at least 1 for each sequence, not {self.tokens!r}")
        if self.kv_lengths.shape != self.tokens.shape or self.kv_lengths.min() < 0:
            raise UserError(
                f"kv_lengths of a pass must be one number of at least 0 per sequence, not {self.kv_lengths}"
            )
        if self.expert_tokens.ndim != 2 or (self.expert_tokens.size and self.expert_tokens.min() < 0):
            raise UserError("expert_tokens of a pass must be counts [MoE layers, experts]")
        if self.expert_tokens.size and self.expert_tokens.max() > self.total_tokens:
            raise UserError(
                f"expert_tokens of a pass must be at most its {self.total_tokens} tokens, "
                f"not {int(self.expert_tokens.max())}"
            )
        for name in ("resident", "next_resident"):
            value = getattr(self, name)
            if value is not None and value.shape != (*self.expert_tokens.shape, 2):
                raise UserError(f"{name} of a pass must be {(*self.expert_tokens.shape, 2)}, not {value.shape}")

    @property
    def sequences(self) -> int:
        """Sequences in the batch."""
        return len(self.tokens)

    @property
    def total_tokens(self) -> int:
        """New tokens of all sequences."""
        return int(self.tokens.sum())

    @property
    def head_tokens(self) -> int:
        """Rows that go through the output matrix."""
        if self.output_tokens is not None:
            return self.output_tokens
        return self.sequences if self.kind is PassKind.PREFILL else self.total_tokens
