"""Small models of every family that between them use every option of the architectures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from hw.files import write_atomic
from sw_stack.models.architectures import tensor_shapes
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.hf_names import location
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.tensor_source import ArraySource, random_source

VOCAB = 96
_COMMON = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_MLA = {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 24, "first_k_dense_replace": 1}
_EXPERTS = {"moe_intermediate_size": 32, "intermediate_size": 96}

HF_CONFIGS: dict[str, dict] = {
    "qwen3_moe": _COMMON
    | _EXPERTS
    | {
        "model_type": "qwen3_moe",
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 640,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "norm_topk_prob": True,
        "eos_token_id": 95,
    },
    "deepseek_v2": _COMMON
    | _MLA
    | _EXPERTS
    | {
        "model_type": "deepseek_v2",
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.5,
        "rope_scaling": {
            "type": "yarn",
            "factor": 8,
            "original_max_position_embeddings": 64,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 0.7,
            "mscale_all_dim": 0.9,
        },
    },
    "glm4_moe_lite": _COMMON
    | _MLA
    | _EXPERTS
    | {
        "model_type": "glm4_moe_lite",
        "q_lora_rank": 32,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.8,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
    "gpt_oss": _COMMON
    | {
        "model_type": "gpt_oss",
        "num_key_value_heads": 2,
        "head_dim": 16,
        "attention_bias": True,
        "max_position_embeddings": 1024,
        "rope_theta": 150000.0,
        "rms_norm_eps": 1e-5,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "swiglu_limit": 1.5,  # so low that tokens meet it
        "quantization_config": {"quant_method": "mxfp4"},
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
        },
    },
}
FAMILIES = tuple(HF_CONFIGS)


@cache
def source(family: str) -> ArraySource:
    """Random tensors of one family."""
    return random_source(from_hf_config(HF_CONFIGS[family]), seed=FAMILIES.index(family) + 1)


@cache
def model(family: str) -> QuantizedModel:
    """The same, quantised."""
    return QuantizedModel(source(family))


def write_checkpoint(folder: Path, hf_config: dict, seed: int) -> None:
    """A Hugging Face checkpoint with random FP32 weights (families whose stored tensors are the canonical ones)."""
    import json

    config = from_hf_config(hf_config)
    tensors = random_source(config, seed).tensors
    stored = {location(config, name, shape).name: np.ascontiguousarray(tensors[name]) for name, shape in
              tensor_shapes(config).items()}  # fmt: skip
    write_atomic(folder / "config.json", json.dumps(hf_config))
    save_file(stored, folder / "model.safetensors")
