"""Tiny configurations in the style of the published ``config.json`` files, one per family and option.

Sizes are the smallest that keep every mechanism: grouped heads, more experts than top-k, a dense layer before the
sparse ones, sequences longer than the sliding window and than YaRN's original context.
"""

from __future__ import annotations

TOKENS = 40
"""Longer than every window and original context below."""
COMMITTED = ("qwen3_moe", "deepseek_v2", "glm4_moe", "glm4_moe_lite", "gpt_oss")
"""Kept in the repository; the others are made where the loaders are verified against transformers."""

_COMMON = {
    "hidden_act": "silu",
    "hidden_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 96,
}
_QWEN3 = {
    **_COMMON,
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
}
_MLA = {
    **_COMMON,
    "attention_bias": False,
    "first_k_dense_replace": 1,
    "intermediate_size": 64,
    "kv_lora_rank": 32,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 1e-06,
    "topk_group": 1,
    "v_head_dim": 16,
}
_DEEPSEEK = {
    **_MLA,
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "moe_layer_freq": 1,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "q_lora_rank": None,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 4,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 16,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "torch_dtype": "float16",
}
_GLM_FLASH = {
    **_MLA,
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "model_type": "glm4_moe_lite",
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "partial_rotary_factor": 1.0,
    "q_lora_rank": 32,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.8,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
}
_GLM4_MOE = {
    **_COMMON,
    "architectures": ["Glm4MoeForCausalLM"],
    "attention_bias": True,
    "first_k_dense_replace": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "model_type": "glm4_moe",
    "moe_intermediate_size": 32,
    "n_group": 1,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.0,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "use_qk_norm": True,
}
_GPT_OSS = {
    **_COMMON,
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "eos_token_id": 0,
    "experts_per_token": 2,
    "head_dim": 16,
    "intermediate_size": 32,
    "layer_types": ["sliding_attention", "full_attention"],
    "model_type": "gpt_oss",
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 6,
    "quantization_config": {
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
        "quant_method": "mxfp4",
    },
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "sliding_window": 8,
    "swiglu_limit": 7.0,
    "torch_dtype": "bfloat16",
}

CONFIGS: dict[str, dict] = {
    "qwen3_moe": _QWEN3,
    "deepseek_v2": _DEEPSEEK,
    "glm4_moe": _GLM4_MOE,
    "glm4_moe_lite": _GLM_FLASH,
    "gpt_oss": _GPT_OSS,
    "qwen3_moe-dense-layers-tied": _QWEN3
    | {"num_hidden_layers": 4, "mlp_only_layers": [1], "decoder_sparse_step": 2, "tie_word_embeddings": True},
    "qwen3_moe-no-renormalisation": _QWEN3 | {"norm_topk_prob": False, "torch_dtype": "float32"},
    "deepseek_v2-groups-q-latent": _DEEPSEEK
    | {"q_lora_rank": 32, "topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 2, "rope_scaling": None},
    "glm4_moe-no-qk-norm-groups": _GLM4_MOE | {"use_qk_norm": False, "n_group": 3, "topk_group": 2},
    "gpt_oss-bf16-experts": {key: value for key, value in _GPT_OSS.items() if key != "quantization_config"},
}
