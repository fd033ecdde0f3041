"""The decoder in PyTorch, for training only: Qwen3-MoE shape, or Qwen3 (dense) where there are no experts.

The bit-exact forward pass that the machine runs is elsewhere; this one only has to be differentiable and
fast on a CPU. Parameters are float32; matrix products run in bfloat16 (float32 sums inside), which is 2.5
times faster on CPUs with AVX512-BF16 and on GPUs. Norms, router, softmax and residual stay in float32.

Stored names are those of Hugging Face's Qwen3-MoE (`named_weights`), so any loader of that family reads
the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_stack.models.training.operators import (
    Combine,
    Dispatch,
    causal_attention,
    low,
    rms_norm,
    rope_tables,
    rotate,
)


@dataclass(frozen=True)
class ModelShape:
    """Dimensions, with the meaning they have in a Hugging Face ``config.json``; ``experts`` 0 = dense."""

    vocab: int = 1024
    hidden: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    experts: int = 32
    top_k: int = 4
    intermediate: int = 96
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6

    def config(self) -> dict:
        """The same as the content of a Hugging Face ``config.json``."""
        common = {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rope_scaling": None,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "use_sliding_window": False,
        }
        if not self.experts:
            return {
                "architectures": ["Qwen3ForCausalLM"],
                "model_type": "qwen3",
                "intermediate_size": self.intermediate,
                **common,
            }
        return {
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "num_experts": self.experts,
            "num_experts_per_tok": self.top_k,
            "moe_intermediate_size": self.intermediate,
            "intermediate_size": self.intermediate * self.top_k,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            **common,
        }


class Attention(nn.Module):
    """Causal grouped-query attention with per-head RMS norm of queries and keys."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.shape = shape
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Parameter(initial(wide, shape.hidden))
        self.k_proj = nn.Parameter(initial(narrow, shape.hidden))
        self.v_proj = nn.Parameter(initial(narrow, shape.hidden))
        self.o_proj = nn.Parameter(initial(shape.hidden, wide) / math.sqrt(2 * shape.layers))
        self.q_norm = nn.Parameter(torch.ones(shape.head_dim))
        self.k_norm = nn.Parameter(torch.ones(shape.head_dim))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """x (batch, length, hidden) bfloat16 to the same shape, float32."""
        batch, length, _ = x.shape
        s = self.shape
        projected = F.linear(x, low(torch.cat((self.q_proj, self.k_proj, self.v_proj))))
        heads = projected.view(batch, length, s.heads + 2 * s.kv_heads, s.head_dim).transpose(1, 2)
        q, k, v = heads.split((s.heads, s.kv_heads, s.kv_heads), dim=1)
        q = rotate(rms_norm(q.float(), self.q_norm, s.norm_eps), *rope)
        k = rotate(rms_norm(k.float(), self.k_norm, s.norm_eps), *rope)
        mixed = causal_attention(low(q * s.head_dim**-0.5), low(k), v)
        return F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), low(self.o_proj)).float()


class DenseFfn(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.gate_proj = nn.Parameter(initial(shape.intermediate, shape.hidden))
        self.up_proj = nn.Parameter(initial(shape.intermediate, shape.hidden))
        self.down_proj = nn.Parameter(initial(shape.hidden, shape.intermediate) / math.sqrt(2 * shape.layers))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.silu(F.linear(low(x), low(self.gate_proj))) * F.linear(low(x), low(self.up_proj))
        return F.linear(inner, low(self.down_proj)).float()


class MoeFfn(nn.Module):
    """Softmax router, top-k with renormalised weights, SwiGLU experts.

    After a forward pass ``balance`` is the Switch Transformer's load-balancing loss of this layer (1 when
    uniform), ``load`` the experts' shares of the assignments, and ``picked`` (tokens, top_k) the experts
    chosen, most probable first.
    """

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.shape = shape
        e, i, h = shape.experts, shape.intermediate, shape.hidden
        self.gate = nn.Parameter(initial(e, h))
        self.gate_proj = nn.Parameter(initial(e, i, h))
        self.up_proj = nn.Parameter(initial(e, i, h))
        self.down_proj = nn.Parameter(initial(e, h, i) / math.sqrt(2 * shape.layers))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, length, hidden), normalised, float32, to the same shape."""
        k = self.shape.top_k
        flat = x.reshape(-1, x.shape[-1])
        probability = F.linear(flat, self.gate).softmax(-1)
        top, self.picked = probability.topk(k)
        weight = top / top.sum(-1, keepdim=True)

        expert = self.picked.reshape(-1)
        order = expert.argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=order.device)
        counts = torch.bincount(expert, minlength=self.shape.experts)
        self.load = counts / counts.sum()
        self.balance = self.shape.experts * (self.load * probability.mean(0)).sum()

        counts = counts.tolist()
        rows = Dispatch.apply(low(flat), order, inverse, k).split(counts)
        share = low(weight.reshape(-1, 1).index_select(0, order)).split(counts)
        into = torch.cat((low(self.gate_proj), low(self.up_proj)), 1).unbind(0)
        back = low(self.down_proj).unbind(0)
        out = []
        for row, weigh, w_in, w_out in zip(rows, share, into, back, strict=True):
            gate, up = F.linear(row, w_in).chunk(2, dim=-1)
            out.append(F.linear(F.silu(gate) * up * weigh, w_out))  # weighed before down: half as wide as after
        return Combine.apply(torch.cat(out), order, inverse, k).view_as(x)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.eps = shape.norm_eps
        self.input_layernorm = nn.Parameter(torch.ones(shape.hidden))
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.Parameter(torch.ones(shape.hidden))
        self.mlp = MoeFfn(shape) if shape.experts else DenseFfn(shape)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(low(rms_norm(x, self.input_layernorm, self.eps)), rope)
        return x + self.mlp(rms_norm(x, self.post_attention_layernorm, self.eps))


class Decoder(nn.Module):
    """Embedding, layers, final norm, output matrix (not tied)."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Parameter(torch.randn(shape.vocab, shape.hidden) * 0.5)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.lm_head = nn.Parameter(initial(shape.vocab, shape.hidden) * 0.3)

    def features(self, tokens: Tensor) -> Tensor:
        """tokens (batch, length) to the last layer's output (batch, length, hidden), before the final norm."""
        rope = rope_tables(self.shape.head_dim, self.shape.rope_theta, tokens.shape[1], tokens.device)
        x = F.embedding(tokens, self.embed_tokens)
        for layer in self.layers:
            x = layer(x, rope)
        return x

    def logits(self, features: Tensor) -> Tensor:
        """Final norm and output matrix; float32."""
        return F.linear(low(rms_norm(features, self.norm, self.shape.norm_eps)), low(self.lm_head)).float()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.features(tokens))

    def balance(self) -> Tensor:
        """Load-balancing loss of the last forward pass, mean over layers; 0 for a dense model."""
        losses = [layer.mlp.balance for layer in self.layers if self.shape.experts]
        return torch.stack(losses).mean() if losses else torch.zeros(())


def initial(*size: int) -> Tensor:
    """Normal with variance 1 / inputs."""
    return torch.randn(*size) / math.sqrt(size[-1])


def named_weights(model: Decoder) -> dict[str, Tensor]:
    """Every tensor under its Hugging Face name; experts one by one. Views, nothing copied."""
    weights = {"lm_head.weight": model.lm_head}
    for name, tensor in model.named_parameters():
        if name == "lm_head":
            continue
        if ".mlp." in name and model.shape.experts and not name.endswith(".mlp.gate"):
            layer, matrix = name.split(".mlp.")
            for expert in range(model.shape.experts):
                weights[f"model.{layer}.mlp.experts.{expert}.{matrix}.weight"] = tensor[expert]
        else:
            weights[f"model.{name}.weight"] = tensor
    return {name: tensor.detach() for name, tensor in weights.items()}


def load_named_weights(model: Decoder, weights: dict[str, Tensor]) -> None:
    """The inverse of ``named_weights``; KeyError where a tensor is missing."""
    for name, target in named_weights(model).items():
        target.copy_(weights[name])
