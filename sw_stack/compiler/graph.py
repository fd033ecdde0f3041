"""A model as the machine sees it: per layer, projections and HOST operations in order of execution.

Projections that read the same activations are one (query, key and value; gate and up). MLA runs in its absorbed form:
queries are taken into the latent space, so that a cached position is one latent and nothing is projected again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sw_stack.models.architectures import GqaConfig, MlaConfig, ModelConfig, layer_matrices


class Role(IntEnum):
    """What a projection belongs to; decides its precision in a draft and which experts it stands for."""

    ATTENTION = 0
    DENSE = 1
    SHARED = 2
    ROUTER = 3
    EXPERT = 4
    HEAD = 5


@dataclass(frozen=True)
class Projection:
    """outputs x inputs weights; ``activated``: SiLU x up (or its clamped form) and requantisation follow."""

    name: str
    role: Role
    outputs: int
    inputs: int
    activated: bool = False

    @property
    def weights(self) -> int:
        """Stored weights."""
        return self.outputs * self.inputs


@dataclass(frozen=True)
class HostOperation:
    """Elements that the host works on, per token."""

    name: str
    elements: int


@dataclass(frozen=True)
class Attention:
    """Attention core of one layer: multiply-adds per token and visible position, KV bytes per position.

    window  positions that a token sees at most; None = all
    """

    name: str
    macs_per_position: int
    bytes_per_position: int
    window: int | None


Operation = Projection | HostOperation | Attention


@dataclass(frozen=True)
class LayerGraph:
    """Operations before the routed experts, of one expert (empty in a dense layer), and behind them."""

    before: tuple[Operation, ...]
    expert: tuple[Projection, ...]
    after: tuple[Operation, ...]


@dataclass(frozen=True)
class ModelGraph:
    """The whole model: embedding, layers, head."""

    config: ModelConfig
    layers: tuple[LayerGraph, ...]
    begin: tuple[Operation, ...]
    end: tuple[Operation, ...]

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Numbers of the layers with experts."""
        return tuple(i for i, moe in enumerate(self.config.moe_layers) if moe)


def graph(config: ModelConfig) -> ModelGraph:
    """Operations of every layer of ``config``."""
    hidden = config.hidden
    layers = []
    for layer in range(config.layers):
        before = [
            HostOperation("attention norm", hidden),
            *_attention(config, layer),
            HostOperation("ffn norm", hidden),
        ]
        matrices = layer_matrices(config)
        expert: tuple[Projection, ...] = ()
        after: list[Operation] = []
        if config.moe_layers[layer]:
            experts, k = config.moe.router.experts, config.moe.router.top_k
            before += [
                Projection("router", Role.ROUTER, experts, hidden),
                HostOperation("router weights", experts + k),
            ]
            if config.moe.shared_intermediate:
                before += _feed_forward("shared", Role.SHARED, config.moe.shared_intermediate, hidden)
            expert = tuple(_feed_forward("expert", Role.EXPERT, config.moe.intermediate, hidden))
        else:
            outputs = matrices["gate"][0]
            before += _feed_forward("dense", Role.DENSE, outputs, hidden)
        after.append(HostOperation("residual", hidden))
        layers.append(LayerGraph(tuple(before), expert, tuple(after)))
    return ModelGraph(
        config,
        tuple(layers),
        (HostOperation("embedding", hidden),),
        (
            HostOperation("final norm", hidden),
            Projection("head", Role.HEAD, config.vocab, hidden),
            HostOperation("sampling", config.vocab),
        ),
    )


def _feed_forward(name: str, role: Role, intermediate: int, hidden: int) -> list[Projection]:
    return [
        Projection(f"{name} gate, up", role, 2 * intermediate, hidden, activated=True),
        Projection(f"{name} down", role, hidden, intermediate),
    ]


def _attention(config: ModelConfig, layer: int) -> list[Operation]:
    a, matrices, window = config.attention, layer_matrices(config), config.windows[layer]

    def one(name: str, *parts: str) -> Projection:
        outputs = sum(matrices[part][0] for part in parts)
        return Projection(name, Role.ATTENTION, outputs, matrices[parts[0]][1])

    # INT8 keys and values with one FP32 scale per position and head (of MLA: latent and rope key).
    if isinstance(a, GqaConfig):
        core = Attention("attention", 2 * a.heads * a.head_dim, a.kv_elements + 8 * a.kv_heads, window)
        rope = HostOperation("norm, RoPE", a.query_size + a.kv_elements)
        return [one("query, key, value", "q", "k", "v"), rope, core, one("output", "o")]
    assert isinstance(a, MlaConfig)
    core = Attention("attention", a.heads * (2 * a.kv_rank + a.rope_dim), a.kv_elements + 8, window)
    if a.query_rank is None:
        made: list[Operation] = [one("query, latent", "q", "kv_down")]
    else:
        made = [
            one("query, latent", "q_down", "kv_down"),
            HostOperation("query norm", a.query_rank),
            one("query", "q_up"),
        ]
    rope = HostOperation("norm, RoPE", a.query_size + a.kv_elements)
    # Absorbed: the key half of kv_up is applied to queries, the value half to what attention gives.
    return [*made, rope, one("latent up", "kv_up"), core, one("output", "o")]
