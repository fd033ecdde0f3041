"""Published configurations become the published models: parameter counts, options, and errors in one line."""

from __future__ import annotations

import math

import pytest

from hw.errors import UserError
from sw_stack.models.architectures import (
    GroupScore,
    MlaConfig,
    ModelConfig,
    RouterKind,
    layer_tensors,
    tensor_shapes,
)
from sw_stack.models.hf_config import from_hf_config
from verification.bench.tiny_models import HF_CONFIGS

# The keys of the published config.json files that decide the architecture, and the published parameter counts.
QWEN3_30B = {
    "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "intermediate_size": 6144, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "rope_scaling": None, "max_position_embeddings": 40960, "sliding_window": None, "tie_word_embeddings": False,
}  # fmt: skip
GLM_47_FLASH = {
    "model_type": "glm4_moe_lite", "vocab_size": 154880, "hidden_size": 2048, "num_hidden_layers": 47,
    "num_attention_heads": 20, "num_key_value_heads": 20, "q_lora_rank": 768, "kv_lora_rank": 512,
    "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256, "n_routed_experts": 64,
    "n_shared_experts": 1, "num_experts_per_tok": 4, "moe_intermediate_size": 1536, "intermediate_size": 10240,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "topk_method": "noaux_tc",
    "routed_scaling_factor": 1.8, "rms_norm_eps": 1e-5, "rope_theta": 1000000, "rope_scaling": None,
    "max_position_embeddings": 202752, "attention_bias": False,
}  # fmt: skip
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 27,
    "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408, "intermediate_size": 10944,
    "first_k_dense_replace": 1, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
    "scoring_func": "softmax", "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-6, "rope_theta": 10000,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "max_position_embeddings": 163840,
}  # fmt: skip
GPT_OSS_20B = {
    "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
    "num_experts_per_tok": 4, "intermediate_size": 2880, "sliding_window": 128, "swiglu_limit": 7.0,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "attention_bias": True, "rms_norm_eps": 1e-5,
    "rope_theta": 150000, "max_position_embeddings": 131072, "quantization_config": {"quant_method": "mxfp4"},
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn", "truncate": False,
                     "original_max_position_embeddings": 4096},
}  # fmt: skip


@pytest.mark.parametrize(
    ("published", "total"),
    [
        (QWEN3_30B, 30_532_122_624),
        (GLM_47_FLASH, 29_943_393_920),
        (DEEPSEEK_V2_LITE, 15_706_484_224),
        (GPT_OSS_20B, 20_914_757_184),
    ],
)
def test_parameter_counts(published, total):
    """All canonical tensors together hold exactly the published number of parameters."""
    assert sum(math.prod(shape) for shape in tensor_shapes(from_hf_config(published)).values()) == total


def test_attention_scales_and_rope():
    """DeepSeek's mscale^2 / sqrt(192) = 0.114721 and factor 1; GPT-OSS 1/8 and cos, sin x 1.346574; GLM 1/16."""
    deepseek, oss, glm = (from_hf_config(c) for c in (DEEPSEEK_V2_LITE, GPT_OSS_20B, GLM_47_FLASH))
    assert deepseek.attention.softmax_scale == pytest.approx(192**-0.5 * (0.0707 * math.log(40) + 1) ** 2)
    assert deepseek.rope.yarn.attention_factor == 1 and deepseek.rope.interleaved
    assert oss.attention.softmax_scale == 0.125 and not oss.rope.yarn.truncate
    assert oss.rope.yarn.attention_factor == pytest.approx(0.1 * math.log(32) + 1)
    assert glm.attention.softmax_scale == 1 / 16 and glm.rope.yarn is None and glm.rope.interleaved


def test_routers():
    """Each family's rule, as its publication states it."""
    kinds = {c["model_type"]: from_hf_config(c) for c in (QWEN3_30B, GLM_47_FLASH, DEEPSEEK_V2_LITE, GPT_OSS_20B)}
    routers = {family: config.moe.router for family, config in kinds.items()}
    assert routers["qwen3_moe"].kind is RouterKind.SOFTMAX and routers["qwen3_moe"].renormalize
    assert routers["deepseek_v2"].kind is RouterKind.SOFTMAX and not routers["deepseek_v2"].renormalize
    glm = routers["glm4_moe_lite"]
    assert (glm.kind, glm.correction, glm.scale) == (RouterKind.SIGMOID, True, 1.8)
    assert glm.group_score is GroupScore.TOP2_SUM
    assert routers["gpt_oss"].kind is RouterKind.TOPK_SOFTMAX and routers["gpt_oss"].bias
    assert kinds["gpt_oss"].windows == (128, None) * 12 and kinds["gpt_oss"].moe.mxfp4
    assert kinds["glm4_moe_lite"].moe_layers == (False, *(True,) * 46)
    assert kinds["deepseek_v2"].moe.shared_intermediate == 2816


def test_cached_elements():
    """Elements per position and layer: 1,024 for Qwen3 and GPT-OSS, 576 for both latent-attention models."""
    sizes = [from_hf_config(c).attention.kv_elements for c in (QWEN3_30B, GPT_OSS_20B, GLM_47_FLASH, DEEPSEEK_V2_LITE)]
    assert sizes == [1024, 1024, 576, 576]


def test_tensor_names_of_a_layer():
    """The canonical structure of a MoE layer of the latent-attention family, by name."""
    config: ModelConfig = from_hf_config(HF_CONFIGS["glm4_moe_lite"])
    assert isinstance(config.attention, MlaConfig)
    names = [name for name in layer_tensors(config, 1) if not name.startswith("experts.")]
    assert names == [
        "attention_norm", "q_down", "q_down_bias", "q_up", "kv_down", "kv_down_bias", "kv_up", "o", "o_bias",
        "kv_norm", "q_down_norm", "ffn_norm", "router", "router_correction", "shared_gate", "shared_up", "shared_down",
    ]  # fmt: skip
    assert "head" not in tensor_shapes(config)  # tied


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen4_moe"}, "unknown model_type 'qwen4_moe'; did you mean qwen3_moe"),
        ({"model_type": None}, "key 'model_type' is missing"),
        ({"hidden_size": None}, "key 'hidden_size' is missing"),
        ({"hidden_size": "64"}, "hidden_size must be of type int"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"hidden_size": 80}, "multiple of the group size 32"),
        ({"vocab_size": True}, "vocab_size must be of type int"),
        ({"num_key_value_heads": 3}, "multiple of 3 key/value heads"),
        ({"head_dim": 15}, "RoPE dims must be even"),
        ({"num_experts_per_tok": 9}, "top_k must be 1 to 8 experts"),
        ({"norm_topk_prob": None}, "key 'norm_topk_prob' is missing"),
        ({"rope_theta": None}, "key 'rope_theta' is missing"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_type must be default or yarn"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "key 'factor' is missing"),
        ({"use_sliding_window": True}, "use_sliding_window must be false"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be finite"),
        ({"eos_token_id": "end"}, "eos_token_id must be token ids"),
    ],
)
def test_mistakes_are_one_line(change, message):
    """Each names the file and what must be otherwise."""
    with pytest.raises(UserError, match=message) as error:
        from_hf_config(HF_CONFIGS["qwen3_moe"] | change, "some/config.json")
    assert str(error.value).startswith("some/config.json") and "\n" not in str(error.value)
