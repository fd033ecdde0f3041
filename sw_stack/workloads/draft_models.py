"""Draft models of their own: the sizes of an EAGLE-style head and of a small dense model, for timing.

An EAGLE head is one dense decoder layer of the target's width, a projection of its features (2 hidden -> hidden, timed
as part of that layer's feed-forward width) and an output matrix over a reduced vocabulary. The small model has the
shape of Qwen3-0.6B and the target's vocabulary; its acceptance decides, not its exact size. Both are stored in INT8
like everything else; EAGLE heads are published in FP16, which would cost them twice the bytes.
"""

from __future__ import annotations

from dataclasses import replace

from sw_stack.machines.sourced import Sourced
from sw_stack.models.architectures import GqaConfig, ModelConfig, RopeConfig

HEAD_DIM = 128
EAGLE_VOCABULARY = Sourced(32_000, "tokens", "assumed", "reduced vocabulary of published EAGLE-3 heads")
EAGLE_FFN = Sourced(4, "x hidden", "assumed", "dense feed-forward of 3 hidden, and the feature projection as 1 more")
SMALL_LAYERS, SMALL_HIDDEN, SMALL_FFN, SMALL_HEADS, SMALL_KV_HEADS = 28, 1024, 3072, 16, 8
"""Qwen3-0.6B."""


def eagle_head(target: ModelConfig) -> ModelConfig:
    """One dense layer over the target's features, grouped-query attention with a quarter of the heads for keys."""
    kv_heads = max(1, target.hidden // (4 * HEAD_DIM))
    vocabulary = min(target.vocab, int(EAGLE_VOCABULARY.value))
    ffn = -(-int(EAGLE_FFN.value * target.hidden) // 32) * 32
    return _dense(target, 1, target.hidden, ffn, 4 * kv_heads, kv_heads, vocabulary)


def small_model(target: ModelConfig) -> ModelConfig:
    """A small dense model with the target's vocabulary."""
    return _dense(target, SMALL_LAYERS, SMALL_HIDDEN, SMALL_FFN, SMALL_HEADS, SMALL_KV_HEADS, target.vocab)


def draft_model(method: str, target: ModelConfig) -> ModelConfig | None:
    """The draft model that ``method`` keeps beside ``target``; None where it has none of its own."""
    made = {"eagle": eagle_head, "slm": small_model}.get(method)
    return made(target) if made else None


def _dense(
    target: ModelConfig, layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocabulary: int
) -> ModelConfig:
    return replace(
        target,
        vocab=vocabulary,
        hidden=hidden,
        attention=GqaConfig(heads=heads, kv_heads=kv_heads, head_dim=HEAD_DIM, softmax_scale=HEAD_DIM**-0.5),
        rope=RopeConfig(dims=HEAD_DIM, theta=target.rope.theta),
        windows=(None,) * layers,
        moe_layers=(False,) * layers,
        moe=None,
        dense_intermediate=ffn,
    )
