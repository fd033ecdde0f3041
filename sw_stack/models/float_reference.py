"""The same models in plain floating point: what checkpoint loaders are verified with, and the float rows of studies.

Written to be read, one sequence at a time, without cache and without quantisation; NumPy's own matrix products
and transcendentals. No bit of it is part of the numeric contract.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hw.errors import UserError
from sw_stack.models.architectures import (
    MLA_LATENT_NORM_EPS,
    GqaConfig,
    GroupScore,
    MlaConfig,
    MoeConfig,
    RopeConfig,
    RouterConfig,
    RouterKind,
)
from sw_stack.models.tensor_source import TensorSource
from sw_stack.models.weights import dequantized


class FloatReference:
    """Forward pass of a whole sequence.

    Parameters
    ----------
    source : tensors by canonical name, read layer by layer and not kept
    dtype : numpy float type of all arithmetic
    """

    def __init__(self, source: TensorSource, dtype: type = np.float32) -> None:
        self.source, self.config, self.dtype = source, source.config, dtype

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits after every token, [tokens, vocabulary]."""
        config = self.config
        ids = np.asarray(tokens, np.int64)
        if ids.size == 0 or ids.min() < 0 or ids.max() >= config.vocab:
            raise UserError(f"tokens must be ids 0 to {config.vocab - 1}, at least one")
        x = self._load("embedding")[ids]
        for index in range(config.layers):
            x = x + self._attention(index, rms_norm(x, self._layer(index, "attention_norm"), config.norm_eps))
            x = x + self._feed_forward(index, rms_norm(x, self._layer(index, "ffn_norm"), config.norm_eps))
        x = rms_norm(x, self._load("final_norm"), config.norm_eps)
        return x @ self._load("embedding" if config.tied_embeddings else "head").T

    def _load(self, name: str) -> np.ndarray:
        return dequantized(self.source.load(name)).astype(self.dtype)

    def _layer(self, index: int, name: str) -> np.ndarray:
        return self._load(f"layers.{index}.{name}")

    def _linear(self, index: int, name: str, x: np.ndarray, biased: bool = False) -> np.ndarray:
        y = x @ self._layer(index, name).T
        return y + self._layer(index, f"{name}_bias") if biased else y

    def _attention(self, index: int, x: np.ndarray) -> np.ndarray:
        a = self.config.attention
        heads = self._gqa_heads if isinstance(a, GqaConfig) else self._mla_heads
        q, k, v = heads(index, x, a)
        sinks = self._layer(index, "sinks") if isinstance(a, GqaConfig) and a.sinks else None
        mixed = causal_attention(q, k, v, a.softmax_scale, self.config.windows[index], sinks)
        biased = a.output_bias if isinstance(a, GqaConfig) else a.bias
        return self._linear(index, "o", mixed.reshape(len(x), -1), biased)

    def _gqa_heads(self, index: int, x: np.ndarray, a: GqaConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k, v [heads, tokens, d], key/value heads repeated to as many as there are query heads."""
        q = self._linear(index, "q", x, a.qkv_bias).reshape(len(x), a.heads, a.head_dim)
        k = self._linear(index, "k", x, a.qkv_bias).reshape(len(x), a.kv_heads, a.head_dim)
        v = self._linear(index, "v", x, a.qkv_bias).reshape(len(x), a.kv_heads, a.head_dim)
        if a.qk_norm:
            q = rms_norm(q, self._layer(index, "q_norm"), self.config.norm_eps)
            k = rms_norm(k, self._layer(index, "k_norm"), self.config.norm_eps)
        q, k = (rotate(heads.swapaxes(0, 1), self.config.rope) for heads in (q, k))
        shared = a.heads // a.kv_heads
        return q, np.repeat(k, shared, axis=0), np.repeat(v.swapaxes(0, 1), shared, axis=0)

    def _mla_heads(self, index: int, x: np.ndarray, a: MlaConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k [heads, tokens, nope + rope] and v [heads, tokens, value]; all heads share the rope key."""
        n = len(x)
        if a.query_rank is None:
            q = self._linear(index, "q", x)
        else:
            latent = self._linear(index, "q_down", x, a.bias)
            q = self._linear(index, "q_up", rms_norm(latent, self._layer(index, "q_down_norm"), MLA_LATENT_NORM_EPS))
        q = q.reshape(n, a.heads, a.head_dim).swapaxes(0, 1)
        down = self._linear(index, "kv_down", x, a.bias)
        latent = rms_norm(down[:, : a.kv_rank], self._layer(index, "kv_norm"), MLA_LATENT_NORM_EPS)
        up = self._linear(index, "kv_up", latent).reshape(n, a.heads, a.nope_dim + a.value_dim).swapaxes(0, 1)
        rope_key = rotate(down[None, :, a.kv_rank :], self.config.rope)
        rope_query = rotate(q[:, :, a.nope_dim :], self.config.rope)
        q = np.concatenate([q[:, :, : a.nope_dim], rope_query], axis=2)
        k = np.concatenate([up[:, :, : a.nope_dim], np.repeat(rope_key, a.heads, axis=0)], axis=2)
        return q, k, up[:, :, a.nope_dim :]

    def _feed_forward(self, index: int, x: np.ndarray) -> np.ndarray:
        if not self.config.moe_layers[index]:
            return self._network(index, "", x)
        moe = self.config.moe
        weights = self._routing(index, x, moe.router)
        out = np.zeros_like(x)
        for expert in range(moe.router.experts):
            rows = np.flatnonzero(weights[:, expert])
            if rows.size:
                y = self._network(index, f"experts.{expert}.", x[rows], moe)
                out[rows] += weights[rows, expert, None] * y
        return out + self._network(index, "shared_", x) if moe.shared_intermediate else out

    def _network(self, index: int, prefix: str, x: np.ndarray, moe: MoeConfig | None = None) -> np.ndarray:
        biased = moe is not None and moe.bias
        gate = self._linear(index, f"{prefix}gate", x, biased)
        up = self._linear(index, f"{prefix}up", x, biased)
        if moe is not None and moe.swiglu_limit is not None:
            inner = clamped_swiglu(gate, up, moe.swiglu_alpha, moe.swiglu_limit)
        else:
            inner = gate * sigmoid(gate) * up
        return self._linear(index, f"{prefix}down", inner, biased)

    def _routing(self, index: int, x: np.ndarray, router: RouterConfig) -> np.ndarray:
        """Weight of every expert for every token, [tokens, experts], zero where not chosen."""
        logits = self._linear(index, "router", x, router.bias)
        correction = self._layer(index, "router_correction") if router.correction else 0
        return route(logits, router, correction)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps)) * weight


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def clamped_swiglu(gate: np.ndarray, up: np.ndarray, alpha: float, limit: float) -> np.ndarray:
    """GPT-OSS: gate clamped above, up on both sides; (up + 1) x gate x sigmoid(alpha gate)."""
    gate, up = np.minimum(gate, gate.dtype.type(limit)), np.clip(up, -limit, limit)
    return (up + 1) * (gate * sigmoid(gate.dtype.type(alpha) * gate))


def frequencies(rope: RopeConfig) -> np.ndarray:
    """Radians per position of each pair, float64 [dims / 2]."""
    pair = np.arange(rope.dims // 2)
    kept = rope.theta ** (-2 * pair / rope.dims)
    yarn = rope.yarn
    if yarn is None or yarn.factor == 1:
        return kept

    def pair_with(rotations: float) -> float:
        return rope.dims * math.log(yarn.original_positions / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = pair_with(yarn.beta_fast), pair_with(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dims - 1)
    slowed = np.clip((pair - low) / ((high - low) or 0.001), 0, 1)
    return kept / yarn.factor * slowed + kept * (1 - slowed)


def rotate(x: np.ndarray, rope: RopeConfig) -> np.ndarray:
    """Rotary embedding of [heads, tokens, d] at positions 0, 1, ...; dimensions behind ``rope.dims`` pass."""
    angle = np.arange(x.shape[1])[:, None] * frequencies(rope)
    factor = rope.yarn.attention_factor if rope.yarn else 1.0
    cos, sin = ((factor * f(angle)).astype(x.dtype) for f in (np.cos, np.sin))
    pairs = rope.dims // 2
    first, second = (slice(0, rope.dims, 2), slice(1, rope.dims, 2)) if rope.interleaved else (
        slice(0, pairs), slice(pairs, rope.dims)
    )  # fmt: skip
    out = x.copy()
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = b * cos + a * sin
    return out


def causal_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, window: int | None, sinks: np.ndarray | None
) -> np.ndarray:
    """Attention of [heads, tokens, d] over own and earlier positions; [tokens, heads, value d].

    ``window`` limits them to the last that many, the own included; a sink takes part in each head's softmax and
    adds nothing.
    """
    n = q.shape[1]
    distance = np.arange(n)[:, None] - np.arange(n)
    seen = (distance >= 0) & (distance < (window or n))
    scores = np.where(seen, q @ k.swapaxes(1, 2) * q.dtype.type(scale), q.dtype.type(-np.inf))
    if sinks is not None:
        scores = np.concatenate([scores, np.broadcast_to(sinks[:, None, None], (*scores.shape[:2], 1))], axis=2)
    return (softmax(scores)[:, :, :n] @ v).swapaxes(0, 1)


def route(logits: np.ndarray, router: RouterConfig, correction: np.ndarray | float = 0) -> np.ndarray:
    """Weights [tokens, experts] of the chosen experts, zero elsewhere; ties to the lower id."""
    if router.kind is RouterKind.TOPK_SOFTMAX:
        chosen = _highest(logits, router.top_k)
        return softmax(np.where(chosen, logits, logits.dtype.type(-np.inf)))
    scores = sigmoid(logits) if router.kind is RouterKind.SIGMOID else softmax(logits)
    choice = scores + correction
    if router.groups > 1:
        grouped = np.sort(choice.reshape(len(logits), router.groups, -1), axis=2)
        ranks = grouped[:, :, -1] if router.group_score is GroupScore.MAX else grouped[:, :, -2:].sum(axis=2)
        best = np.repeat(_highest(ranks, router.chosen_groups), router.experts // router.groups, axis=1)
        choice = np.where(best, choice, choice.dtype.type(-np.inf))
    weights = np.where(_highest(choice, router.top_k), scores, scores.dtype.type(0))
    if router.renormalize:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return weights * logits.dtype.type(router.scale)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Mask of the ``count`` highest of each row."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    mask = np.zeros(values.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask
