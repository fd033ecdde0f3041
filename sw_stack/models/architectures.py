"""What a decoder-only MoE language model consists of: dimensions, options and the canonical names of its tensors.

One set of dataclasses describes all supported families; ``hf_config.from_hf_config`` fills it from a
Hugging Face ``config.json`` (model types qwen3_moe, qwen3, deepseek_v2, glm4_moe, glm4_moe_lite, gpt_oss).
Loaders map a checkpoint's tensors to the canonical names of ``tensor_shapes``; runtime and float reference
know no others.

    embedding, final_norm, head (absent where tied)
    layers.{i}.attention_norm, layers.{i}.ffn_norm
    GQA     layers.{i}.q, k, v, o (+ _bias), q_norm, k_norm, sinks
    MLA     layers.{i}.q, or q_down (+ _bias), q_down_norm, q_up; kv_down (+ _bias), kv_norm, kv_up; o (+ _bias)
    dense   layers.{i}.gate, up, down
    MoE     layers.{i}.router (+ _bias), router_correction; shared_gate, shared_up, shared_down;
            layers.{i}.experts.{e}.gate, up, down (+ _bias)

Matrices are [outputs, inputs]. Rows of MLA's ``q``/``q_up`` are per head nope then rope, of ``kv_down`` latent
then rope, of ``kv_up`` per head nope then value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hw.errors import UserError

MLA_LATENT_NORM_EPS = 1e-6
"""Of the norms inside MLA, whatever ``rms_norm_eps`` says (as the published implementations do)."""


class RouterKind(Enum):
    """How logits become expert weights.

    SOFTMAX       softmax over all experts, top-k of it (Qwen3, DeepSeek-V2)
    SIGMOID       sigmoid; top-k of score + correction, weights are the scores (GLM)
    TOPK_SOFTMAX  top-k of the (biased) logits, softmax over the chosen (GPT-OSS)
    """

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    TOPK_SOFTMAX = "topk-softmax"


class GroupScore(Enum):
    """What a group of experts is ranked by where routing is limited to the best groups; TOP2_SUM: SIGMOID only."""

    MAX = "max"
    TOP2_SUM = "top2-sum"


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN: low frequencies divided by ``factor``, high ones kept, a linear ramp between.

    factor                 context extension
    original_positions     context length before it
    beta_fast, beta_slow   rotations over that length where the ramp starts and ends
    truncate               whether the ramp's ends are rounded to whole pairs
    attention_factor       multiplies cos and sin
    """

    factor: float
    original_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary embedding of the first ``dims`` dimensions of a head (of MLA: of its rope part).

    interleaved  pairs are (2i, 2i + 1) instead of (i, i + dims / 2)
    """

    dims: int
    theta: float
    interleaved: bool = False
    yarn: YarnScaling | None = None


@dataclass(frozen=True, kw_only=True)
class GqaConfig:
    """Grouped-query attention.

    softmax_scale  factor on q . k
    qk_norm        RMS norm of each query and key head before RoPE
    sinks          one learned logit per head that takes softmax mass and gives no value
    """

    heads: int
    kv_heads: int
    head_dim: int
    softmax_scale: float
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    sinks: bool = False

    @property
    def query_size(self) -> int:
        """Elements of all query heads."""
        return self.heads * self.head_dim

    @property
    def value_size(self) -> int:
        """Elements of all heads' outputs, the input of ``o``."""
        return self.heads * self.head_dim

    @property
    def kv_elements(self) -> int:
        """Cached elements per position."""
        return 2 * self.kv_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class MlaConfig:
    """Multi-head latent attention: keys and values are projected from a cached latent and one rope key.

    query_rank  latent size of the query, None = projected directly
    bias        of q_down, kv_down and o
    """

    heads: int
    query_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    softmax_scale: float
    bias: bool = False

    @property
    def head_dim(self) -> int:
        """Elements of a query or key head."""
        return self.nope_dim + self.rope_dim

    @property
    def query_size(self) -> int:
        """Elements of all query heads."""
        return self.heads * self.head_dim

    @property
    def value_size(self) -> int:
        """Elements of all heads' outputs, the input of ``o``."""
        return self.heads * self.value_dim

    @property
    def kv_elements(self) -> int:
        """Cached elements per position: the latent and the rope key."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """Routing of one layer.

    renormalize           divide the chosen weights by their sum
    scale                 factor on the weights at the end
    bias                  the router's projection has a bias
    correction            a bias that counts in the choice only (SIGMOID)
    groups, chosen_groups routing limited to the best groups; 1 group = no limit
    """

    kind: RouterKind
    experts: int
    top_k: int
    renormalize: bool
    scale: float = 1.0
    bias: bool = False
    correction: bool = False
    groups: int = 1
    chosen_groups: int = 1
    group_score: GroupScore = GroupScore.MAX


@dataclass(frozen=True, kw_only=True)
class MoeConfig:
    """Routed and shared experts.

    intermediate         of one routed expert
    shared_intermediate  of all shared experts together, 0 = none
    bias                 of gate, up and down
    swiglu_limit         clamp of GPT-OSS's SwiGLU, None = plain SiLU x up
    swiglu_alpha         factor inside its sigmoid
    mxfp4                experts are stored in MXFP4: one slice, no draft precision of their own
    """

    router: RouterConfig
    intermediate: int
    shared_intermediate: int = 0
    bias: bool = False
    swiglu_limit: float | None = None
    swiglu_alpha: float = 1.702
    mxfp4: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A whole model.

    windows             per layer: positions a token sees, itself included; None = all
    moe_layers          per layer: experts (True) or a dense FFN
    moe                 None where every layer is dense
    dense_intermediate  of dense layers, 0 where there are none
    end_tokens          ids that end a text
    """

    family: str
    vocab: int
    hidden: int
    attention: GqaConfig | MlaConfig
    rope: RopeConfig
    windows: tuple[int | None, ...]
    moe_layers: tuple[bool, ...]
    moe: MoeConfig | None
    dense_intermediate: int
    norm_eps: float
    max_positions: int
    tied_embeddings: bool = False
    end_tokens: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return len(self.windows)

    @property
    def experts(self) -> int:
        """Routed experts of a MoE layer, 0 for a dense model."""
        return self.moe.router.experts if self.moe else 0

    @property
    def top_k(self) -> int:
        """Experts per token, 0 for a dense model."""
        return self.moe.router.top_k if self.moe else 0

    def __post_init__(self) -> None:
        attention = self.attention
        _require(len(self.moe_layers) == self.layers > 0, "moe_layers", "one entry per layer", self.moe_layers)
        _require(all(w is None or w > 0 for w in self.windows), "windows", "positive or None", self.windows)
        if isinstance(attention, GqaConfig):
            _require(
                attention.kv_heads > 0 and attention.heads % attention.kv_heads == 0,
                "num_attention_heads",
                f"a multiple of {attention.kv_heads} key/value heads",
                attention.heads,
            )
        limit = attention.rope_dim if isinstance(attention, MlaConfig) else attention.head_dim
        _require(
            0 < self.rope.dims <= limit and self.rope.dims % 2 == 0, "RoPE dims", f"even, 2 to {limit}", self.rope.dims
        )
        _require(
            any(self.moe_layers) == (self.moe is not None), "moe", "given exactly if a layer has experts", self.moe
        )
        if self.moe:
            router = self.moe.router
            _require(
                router.group_score is GroupScore.MAX or router.kind is RouterKind.SIGMOID,
                "router kind",
                "sigmoid where groups are ranked by two scores",
                router.kind.value,
            )
            _require(0 < router.top_k <= router.experts, "top_k", f"1 to {router.experts} experts", router.top_k)
            _require(
                router.experts % router.groups == 0 and 0 < router.chosen_groups <= router.groups,
                "expert groups",
                f"a divisor of {router.experts}, of which at least 1 and at most all are chosen",
                (router.groups, router.chosen_groups),
            )
        for name, shape in layer_matrices(self).items():
            _require(shape[1] % 32 == 0, f"inputs of {name}", "a multiple of the group size 32", shape[1])


def _require(condition: bool, thing: str, rule: str, value: object) -> None:
    if not condition:
        raise UserError(f"{thing} must be {rule}, not {value!r}")


def layer_matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Projections that occur in some layer, by short name -> [outputs, inputs]; one expert stands for all."""
    a, hidden = config.attention, config.hidden
    shapes: dict[str, tuple[int, int]] = {}
    if isinstance(a, GqaConfig):
        shapes["q"] = (a.query_size, hidden)
        shapes["k"] = shapes["v"] = (a.kv_heads * a.head_dim, hidden)
    else:
        if a.query_rank is None:
            shapes["q"] = (a.query_size, hidden)
        else:
            shapes["q_down"] = (a.query_rank, hidden)
            shapes["q_up"] = (a.query_size, a.query_rank)
        shapes["kv_down"] = (a.kv_rank + a.rope_dim, hidden)
        shapes["kv_up"] = (a.heads * (a.nope_dim + a.value_dim), a.kv_rank)
    shapes["o"] = (hidden, a.value_size)
    if not all(config.moe_layers):
        shapes |= _ffn_matrices("", config.dense_intermediate, hidden)
    if config.moe:
        shapes["router"] = (config.experts, hidden)
        shapes |= _ffn_matrices("experts.", config.moe.intermediate, hidden)
        if config.moe.shared_intermediate:
            shapes |= _ffn_matrices("shared_", config.moe.shared_intermediate, hidden)
    return shapes


def _ffn_matrices(prefix: str, intermediate: int, hidden: int) -> dict[str, tuple[int, int]]:
    return {
        f"{prefix}gate": (intermediate, hidden),
        f"{prefix}up": (intermediate, hidden),
        f"{prefix}down": (hidden, intermediate),
    }


def layer_tensors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """Canonical names (without ``layers.{i}.``) and shapes of one layer's tensors; experts one by one."""
    matrices = layer_matrices(config)
    a = config.attention
    shapes: dict[str, tuple[int, ...]] = {"attention_norm": (config.hidden,)}
    if isinstance(a, GqaConfig):
        biased = [*("qkv" if a.qkv_bias else ""), *("o" if a.output_bias else "")]
        names = ("q", "k", "v", "o")
    else:
        biased = [name for name in ("q_down", "kv_down", "o") if a.bias]
        names = tuple(name for name in ("q", "q_down", "q_up", "kv_down", "kv_up", "o") if name in matrices)
    for name in names:
        shapes[name] = matrices[name]
        if name in biased:
            shapes[f"{name}_bias"] = matrices[name][:1]
    if isinstance(a, MlaConfig):
        shapes["kv_norm"] = (a.kv_rank,)
        if a.query_rank is not None:
            shapes["q_down_norm"] = (a.query_rank,)
    else:
        if a.qk_norm:
            shapes["q_norm"] = shapes["k_norm"] = (a.head_dim,)
        if a.sinks:
            shapes["sinks"] = (a.heads,)
    shapes["ffn_norm"] = (config.hidden,)
    if not config.moe_layers[layer]:
        return shapes | {name: matrices[name] for name in ("gate", "up", "down")}
    moe = config.moe
    shapes["router"] = matrices["router"]
    if moe.router.bias:
        shapes["router_bias"] = (moe.router.experts,)
    if moe.router.correction:
        shapes["router_correction"] = (moe.router.experts,)
    shapes |= {name: shape for name, shape in matrices.items() if name.startswith("shared_")}
    for expert in range(moe.router.experts):
        for name in ("gate", "up", "down"):
            shapes[f"experts.{expert}.{name}"] = matrices[f"experts.{name}"]
            if moe.bias:
                shapes[f"experts.{expert}.{name}_bias"] = matrices[f"experts.{name}"][:1]
    return shapes


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model: canonical name -> shape."""
    shapes: dict[str, tuple[int, ...]] = {"embedding": (config.vocab, config.hidden), "final_norm": (config.hidden,)}
    if not config.tied_embeddings:
        shapes["head"] = (config.vocab, config.hidden)
    for layer in range(config.layers):
        for name, shape in layer_tensors(config, layer).items():
            shapes[f"layers.{layer}.{name}"] = shape
    return shapes
