"""From the content of a Hugging Face ``config.json`` to a ``ModelConfig``.

Values that decide the result are never guessed: a missing key is an error, except where the family's published
files leave it out and its meaning is fixed. transformers' class defaults are not the checkpoints' values and
are not used. Scaling formulas of YaRN: arXiv 2309.00071; DeepSeek's mscale: arXiv 2405.04434, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hw.errors import UserError, nearest
from sw_stack.models.architectures import (
    GqaConfig,
    GroupScore,
    MlaConfig,
    ModelConfig,
    MoeConfig,
    RopeConfig,
    RouterConfig,
    RouterKind,
    YarnScaling,
)


class _Reader:
    """Checked access to the keys of one file."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values, self.source = values, source

    def fail(self, message: str) -> UserError:
        return UserError(f"{self.source}: {message}")

    def get(self, key: str, kind: type, *default: Any) -> Any:
        """Value of ``key``; the default stands for a missing key or null, without one those are errors."""
        value = self.values.get(key)
        if value is None:
            if not default:
                raise self.fail(f"key {key!r} is missing")
            return default[0]
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(f"{key} must be of type {kind.__name__}, not {value!r}")
        if kind is float and not math.isfinite(value):
            raise self.fail(f"{key} must be finite, not {value!r}")
        return kind(value)

    def size(self, key: str, *default: Any, least: int = 1) -> Any:
        """A whole number of at least ``least``."""
        value = self.get(key, int, *default)
        if isinstance(value, int) and value < least:
            raise self.fail(f"{key} must be at least {least}, not {value!r}")
        return value

    def require(self, key: str, expected: Any, *default: Any) -> None:
        """Only one value of ``key`` is implemented."""
        value = self.values.get(key, *default)
        if value != expected:
            raise self.fail(f"{key} must be {expected!r}, not {value!r}")


def from_hf_config(values: dict[str, Any], source: str = "config.json") -> ModelConfig:
    """The architecture that a Hugging Face configuration describes.

    Parameters
    ----------
    values : the parsed file
    source : how messages name it

    Raises
    ------
    UserError
        One line: unknown model type, a missing key, a value of wrong type or out of range, an option that is
        not implemented.
    """
    if not isinstance(values, dict):
        raise UserError(f"{source}: must hold a JSON object, not {type(values).__name__}")
    read = _Reader(values, source)
    family = read.get("model_type", str)
    if family not in _FAMILIES:
        raise read.fail(f"unknown model_type {family!r}; {nearest(family, sorted(_FAMILIES))}")
    read.require("hidden_act", "silu", "silu")
    try:
        return ModelConfig(
            family=family,
            vocab=read.size("vocab_size"),
            hidden=read.size("hidden_size"),
            norm_eps=read.get("rms_norm_eps", float),
            max_positions=read.size("max_position_embeddings"),
            tied_embeddings=read.get("tie_word_embeddings", bool, False),
            end_tokens=_end_tokens(read),
            **_FAMILIES[family](read),
        )
    except UserError as error:
        message = str(error)
        raise error if message.startswith(source) else read.fail(message) from error


def _end_tokens(read: _Reader) -> tuple[int, ...]:
    value = read.values.get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(i, int) and i >= 0 for i in ids):
        raise read.fail(f"eos_token_id must be token ids, not {value!r}")
    return tuple(ids)


def _rope_parameters(read: _Reader) -> dict[str, Any]:
    """Old files hold rope_theta beside rope_scaling, new ones all in rope_parameters."""
    merged = dict(read.values.get("rope_scaling") or read.values.get("rope_parameters") or {})
    merged.setdefault("rope_theta", read.values.get("rope_theta"))
    merged.setdefault("rope_type", merged.get("type", "default"))
    return merged


def _mscale(factor: float, multiplier: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0


def _rope(read: _Reader, head_dim: int, *, interleaved: bool = False, partial: float = 1.0) -> RopeConfig:
    given = _rope_parameters(read)
    rope = _Reader(given, f"{read.source}: rope parameters")
    theta = rope.get("rope_theta", float)
    if theta <= 1:
        raise rope.fail(f"rope_theta must be above 1, not {theta!r}")
    kind = rope.get("rope_type", str)
    if kind not in ("default", "yarn"):
        raise rope.fail(f"rope_type must be default or yarn, not {kind!r}")
    yarn = None
    if kind == "yarn":
        factor = rope.get("factor", float)
        mscale, mscale_all = rope.get("mscale", float, 0.0), rope.get("mscale_all_dim", float, 0.0)
        both = mscale and mscale_all
        inferred = _mscale(factor, mscale) / _mscale(factor, mscale_all) if both else _mscale(factor, 1.0)
        yarn = YarnScaling(
            factor=factor,
            original_positions=rope.size("original_max_position_embeddings"),
            beta_fast=rope.get("beta_fast", float, 32.0),
            beta_slow=rope.get("beta_slow", float, 1.0),
            truncate=rope.get("truncate", bool, True),
            attention_factor=rope.get("attention_factor", float, inferred),
        )
    return RopeConfig(dims=int(head_dim * partial), theta=theta, interleaved=interleaved, yarn=yarn)


def _windows(read: _Reader, layers: int) -> tuple[int | None, ...]:
    """Sliding windows where ``layer_types`` says so; the same for all layers where it is absent."""
    types = read.get("layer_types", list, ["full_attention"] * layers)
    if len(types) != layers or not set(types) <= {"full_attention", "sliding_attention"}:
        raise read.fail(f"layer_types must name full_attention or sliding_attention for {layers} layers")
    if "sliding_attention" not in types:
        return (None,) * layers
    window = read.size("sliding_window")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _gqa(read: _Reader, *, qk_norm: bool, output_bias: bool, sinks: bool = False) -> GqaConfig:
    heads = read.size("num_attention_heads")
    head_dim = read.size("head_dim", read.size("hidden_size") // heads)
    return GqaConfig(
        heads=heads,
        kv_heads=read.size("num_key_value_heads"),
        head_dim=head_dim,
        softmax_scale=head_dim**-0.5,
        qk_norm=qk_norm,
        qkv_bias=read.get("attention_bias", bool, False),
        output_bias=output_bias,
        sinks=sinks,
    )


def _mla(read: _Reader) -> MlaConfig:
    nope, rope = read.size("qk_nope_head_dim"), read.size("qk_rope_head_dim")
    parameters = _rope_parameters(read)
    scale = (nope + rope) ** -0.5
    if parameters["rope_type"] != "default" and parameters.get("mscale_all_dim"):
        scale *= _mscale(parameters["factor"], parameters["mscale_all_dim"]) ** 2
    return MlaConfig(
        heads=read.size("num_attention_heads"),
        query_rank=read.size("q_lora_rank", None),
        kv_rank=read.size("kv_lora_rank"),
        nope_dim=nope,
        rope_dim=rope,
        value_dim=read.size("v_head_dim"),
        softmax_scale=scale,
        bias=read.get("attention_bias", bool, False),
    )


def _qwen3_layers(read: _Reader, layers: int) -> dict[str, Any]:
    if read.get("use_sliding_window", bool, False):
        raise read.fail("use_sliding_window must be false for this model type, not true")
    attention = _gqa(read, qk_norm=True, output_bias=read.get("attention_bias", bool, False))
    return {
        "attention": attention,
        "rope": _rope(read, attention.head_dim),
        "windows": (None,) * layers,
    }


def _qwen3(read: _Reader) -> dict[str, Any]:
    layers = read.size("num_hidden_layers")
    return _qwen3_layers(read, layers) | {
        "moe_layers": (False,) * layers,
        "moe": None,
        "dense_intermediate": read.size("intermediate_size"),
    }


def _qwen3_moe(read: _Reader) -> dict[str, Any]:
    layers = read.size("num_hidden_layers")
    dense = read.get("mlp_only_layers", list, [])
    step = read.size("decoder_sparse_step", 1)
    moe_layers = tuple(i not in dense and (i + 1) % step == 0 for i in range(layers))
    router = RouterConfig(
        kind=RouterKind.SOFTMAX,
        experts=read.size("num_local_experts" if "num_experts" not in read.values else "num_experts"),
        top_k=read.size("num_experts_per_tok"),
        renormalize=read.get("norm_topk_prob", bool),
    )
    return _qwen3_layers(read, layers) | {
        "moe_layers": moe_layers,
        "moe": MoeConfig(router=router, intermediate=read.size("moe_intermediate_size")) if any(moe_layers) else None,
        "dense_intermediate": 0 if all(moe_layers) else read.size("intermediate_size"),
    }


def _dense_first(read: _Reader, router: RouterConfig, first_dense: int) -> dict[str, Any]:
    """``first_dense`` dense layers, then experts with shared ones (DeepSeek and GLM)."""
    layers = read.size("num_hidden_layers")
    intermediate = read.size("moe_intermediate_size")
    moe = MoeConfig(
        router=router,
        intermediate=intermediate,
        shared_intermediate=intermediate * read.size("n_shared_experts", 0, least=0),
    )
    return {
        "windows": (None,) * layers,
        "moe_layers": tuple(i >= first_dense for i in range(layers)),
        "moe": moe if first_dense < layers else None,
        "dense_intermediate": read.size("intermediate_size") if first_dense else 0,
    }


def _deepseek_v2(read: _Reader) -> dict[str, Any]:
    method = read.get("topk_method", str)
    if method not in ("greedy", "group_limited_greedy"):
        raise read.fail(f"topk_method must be greedy or group_limited_greedy, not {method!r}")
    read.require("scoring_func", "softmax", "softmax")
    read.require("norm_topk_prob", False, False)
    read.require("moe_layer_freq", 1, 1)
    limited = method == "group_limited_greedy"
    router = RouterConfig(
        kind=RouterKind.SOFTMAX,
        experts=read.size("n_routed_experts"),
        top_k=read.size("num_experts_per_tok"),
        renormalize=False,
        scale=read.get("routed_scaling_factor", float),
        groups=read.size("n_group") if limited else 1,
        chosen_groups=read.size("topk_group") if limited else 1,
        group_score=GroupScore.MAX,
    )
    return _dense_first(read, router, read.size("first_k_dense_replace", least=0)) | {
        "attention": _mla(read),
        "rope": _rope(read, read.size("qk_rope_head_dim"), interleaved=True),
    }


def _glm_router(read: _Reader) -> RouterConfig:
    return RouterConfig(
        kind=RouterKind.SIGMOID,
        experts=read.size("n_routed_experts"),
        top_k=read.size("num_experts_per_tok"),
        renormalize=read.get("norm_topk_prob", bool),
        scale=read.get("routed_scaling_factor", float),
        correction=True,
        groups=read.size("n_group"),
        chosen_groups=read.size("topk_group"),
        group_score=GroupScore.TOP2_SUM,
    )


def _glm4_moe(read: _Reader) -> dict[str, Any]:
    attention = _gqa(read, qk_norm=read.get("use_qk_norm", bool), output_bias=False)
    partial = _rope_parameters(read).get("partial_rotary_factor", read.get("partial_rotary_factor", float, 0.5))
    return _dense_first(read, _glm_router(read), read.size("first_k_dense_replace", least=0)) | {
        "attention": attention,
        "rope": _rope(read, attention.head_dim, partial=partial),
    }


def _glm4_moe_lite(read: _Reader) -> dict[str, Any]:
    layers = read.size("num_hidden_layers")
    types = read.get("mlp_layer_types", list, None)
    first_dense = read.size("first_k_dense_replace", 1, least=0) if types is None else types.count("dense")
    if types is not None and types != ["dense"] * first_dense + ["sparse"] * (layers - first_dense):
        raise read.fail(f"mlp_layer_types must be dense layers, then sparse ones, {layers} in all")
    interleaved = read.get("rope_interleave", bool, True)
    return _dense_first(read, _glm_router(read), first_dense) | {
        "attention": _mla(read),
        "rope": _rope(read, read.size("qk_rope_head_dim"), interleaved=interleaved),
    }


def _gpt_oss(read: _Reader) -> dict[str, Any]:
    layers = read.size("num_hidden_layers")
    quantization = read.get("quantization_config", dict, {})
    method = quantization.get("quant_method")
    if method not in (None, "mxfp4"):
        raise read.fail(f"quant_method must be mxfp4 or absent, not {method!r}")
    bias = read.get("attention_bias", bool)
    attention = _gqa(read, qk_norm=False, output_bias=bias, sinks=True)
    router = RouterConfig(
        kind=RouterKind.TOPK_SOFTMAX,
        experts=read.size("num_local_experts"),
        top_k=read.size("num_experts_per_tok"),
        renormalize=False,
        bias=True,
    )
    moe = MoeConfig(
        router=router,
        intermediate=read.size("intermediate_size"),
        bias=True,
        swiglu_limit=read.get("swiglu_limit", float),
        swiglu_alpha=read.get("swiglu_alpha", float, 1.702),  # fixed by the family; only newer files state it
        mxfp4=method == "mxfp4",
    )
    return {
        "attention": attention,
        "rope": _rope(read, attention.head_dim),
        "windows": _windows(read, layers),
        "moe_layers": (True,) * layers,
        "moe": moe,
        "dense_intermediate": 0,
    }


_FAMILIES: dict[str, Callable[[_Reader], dict[str, Any]]] = {
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek_v2,
    "glm4_moe": _glm4_moe,
    "glm4_moe_lite": _glm4_moe_lite,
    "gpt_oss": _gpt_oss,
}
