"""From canonical tensor names to what Hugging Face checkpoints store, and where in it.

GPT-OSS keeps all experts of a layer in one tensor. In MXFP4: ``_blocks`` [experts, outputs, inputs / 32, 16] with two
codes per byte, the lower half first, and ``_scales`` [experts, outputs, inputs / 32]; unquantised: [experts, inputs,
outputs]. Rows of ``gate_up_proj`` alternate gate, up. Others store every expert's matrices by themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sw_stack.models.architectures import ModelConfig


@dataclass(frozen=True)
class Location:
    """Where a canonical tensor lies in a checkpoint.

    name        stored tensor; with ``mxfp4`` the stem before ``_blocks`` and ``_scales``
    index       of the stored tensor, that selects the canonical one
    transposed  stored [inputs, outputs]
    mxfp4       packed codes and scales
    shape       of the whole stored tensor (of the unpacked codes where ``mxfp4``)
    """

    name: str
    shape: tuple[int, ...]
    index: tuple = ()
    transposed: bool = False
    mxfp4: bool = False


_TOP = {"embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "head": "lm_head.weight"}
_LAYER = {
    "attention_norm": "input_layernorm.weight",
    "ffn_norm": "post_attention_layernorm.weight",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "sinks": "self_attn.sinks",
    "q_down_norm": "self_attn.q_a_layernorm.weight",
    "kv_norm": "self_attn.kv_a_layernorm.weight",
    "router": "mlp.gate.weight",
    "router_correction": "mlp.gate.e_score_correction_bias",
}
_PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "q_down": "self_attn.q_a_proj",
    "q_up": "self_attn.q_b_proj",
    "kv_down": "self_attn.kv_a_proj_with_mqa",
    "kv_up": "self_attn.kv_b_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "shared_gate": "mlp.shared_experts.gate_proj",
    "shared_up": "mlp.shared_experts.up_proj",
    "shared_down": "mlp.shared_experts.down_proj",
}
_GPT_OSS_ROUTER = {"router": "mlp.router.weight", "router_bias": "mlp.router.bias"}
_EXPERT = re.compile(r"experts\.(\d+)\.(gate|up|down)(_bias)?")


def location(config: ModelConfig, name: str, shape: tuple[int, ...]) -> Location:
    """Where the canonical tensor ``name`` of ``shape`` lies in a checkpoint of this family."""
    if name in _TOP:
        return Location(_TOP[name], shape)
    _, layer, short = name.split(".", 2)
    prefix = f"model.layers.{layer}."
    if expert := _EXPERT.fullmatch(short):
        number, matrix, bias = int(expert[1]), expert[2], bool(expert[3])
        if config.family == "gpt_oss":
            return _gpt_oss_expert(config, prefix + "mlp.experts.", number, matrix, bias)
        return Location(f"{prefix}mlp.experts.{number}.{matrix}_proj.{'bias' if bias else 'weight'}", shape)
    if config.family == "gpt_oss" and short in _GPT_OSS_ROUTER:
        return Location(prefix + _GPT_OSS_ROUTER[short], shape)
    if short in _LAYER:
        return Location(prefix + _LAYER[short], shape)
    bias = short.endswith("_bias")
    return Location(f"{prefix}{_PROJECTIONS[short.removesuffix('_bias')]}.{'bias' if bias else 'weight'}", shape)


def _gpt_oss_expert(config: ModelConfig, prefix: str, expert: int, matrix: str, bias: bool) -> Location:
    moe = config.moe
    outputs, inputs = (config.hidden, moe.intermediate) if matrix == "down" else (2 * moe.intermediate, config.hidden)
    rows = slice(None) if matrix == "down" else slice(0 if matrix == "gate" else 1, None, 2)
    stem = f"{prefix}{'down' if matrix == 'down' else 'gate_up'}_proj"
    experts = moe.router.experts
    if bias:
        return Location(f"{stem}_bias", (experts, outputs), (expert, rows))
    if moe.mxfp4:
        return Location(stem, (experts, outputs, inputs), (expert, rows), mxfp4=True)
    return Location(stem, (experts, inputs, outputs), (expert, slice(None), rows), transposed=True)


def is_ignored(config: ModelConfig, stored: str) -> bool:
    """Stored tensors beside the decoder: rotary tables, a tied head, GLM's layer that predicts further tokens."""
    if stored.endswith("rotary_emb.inv_freq") or (stored == "lm_head.weight" and config.tied_embeddings):
        return True
    found = re.match(r"model\.layers\.(\d+)\.", stored)
    return bool(found) and config.family.startswith("glm4_moe") and int(found[1]) == config.layers
