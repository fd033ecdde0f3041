"""Does a model fit? Bytes of weights at a precision, and KV, against what a machine has."""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError
from sw_stack.elastic.hot_set import expert_sizes
from sw_stack.elastic.traffic import MSB_BYTES, WHOLE_BYTES, dense_weights, matrix_weights
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig

EMBEDDING_BYTES = 2
"""FP16 embedding table, where it is not the output matrix too."""
PRECISIONS = {"int8": WHOLE_BYTES, "int4": MSB_BYTES}
"""Name -> bytes per weight with its scales: 8.5 and 4.5 bits. MXFP4 experts stay MXFP4 in both."""


def bytes_per_weight(precision: str) -> float:
    """Of dense weights; UserError for an unknown precision."""
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    return PRECISIONS[precision]


def expert_bytes(config: ModelConfig, precision: str = "int8") -> int:
    """One routed expert; 0 for a dense model."""
    bytes_per_weight(precision)
    if config.moe is None:
        return 0
    sizes = expert_sizes(config)
    return sizes.whole_bytes if precision == "int8" else sizes.msb_bytes


def dense_bytes(config: ModelConfig, precision: str = "int8") -> float:
    """Everything a pass of any token reads: all projections but routed experts."""
    weights = dense_weights(config) if config.moe else matrix_weights(config)
    return weights * bytes_per_weight(precision)


def weight_bytes(config: ModelConfig, precision: str = "int8") -> float:
    """The whole model: projections with scales, and the embedding table."""
    experts = sum(config.moe_layers) * config.experts * expert_bytes(config, precision)
    table = 0 if config.tied_embeddings else EMBEDDING_BYTES * config.vocab * config.hidden
    return dense_bytes(config, precision) + experts + table


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a machine, in bytes; ``needed_int4`` is what it would need in 4 bits."""

    machine: str
    precision: str
    needed: float
    available: float
    needed_int4: float

    @property
    def fits(self) -> bool:
        """Weights and KV are in the machine's memory."""
        return self.needed <= self.available

    def __str__(self) -> str:
        what = f"{self.needed / 1e9:.1f} GB at {self.precision}, {self.available / 1e9:.1f} GB there"
        if self.fits:
            return what
        small = f"; {self.needed_int4 / 1e9:.1f} GB at int4 would" if self.needed_int4 <= self.available else ""
        return f"does not fit {self.machine}: {what}{small}"


def fit(
    machine: Machine, config: ModelConfig, kv_bytes: float = 0, precision: str | None = None, extra: float = 0
) -> Fit:
    """Weights, ``kv_bytes`` and ``extra`` (a draft model, a 4-bit copy) against the external or the GPU's memory.

    ``precision``: None = the machine's.
    """
    precision = precision or machine.precision
    rest = kv_bytes + extra
    needed, small = (weight_bytes(config, name) + rest for name in (precision, "int4"))
    return Fit(machine.name, precision, needed, machine.memory_bytes, small)


def require_fit(found: Fit) -> None:
    """UserError in one line where it does not fit."""
    if not found.fits:
        raise UserError(str(found))
