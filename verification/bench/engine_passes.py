"""Passes for tests of the whole-model engine: random ones of small models, and one recorded by hand."""

from __future__ import annotations

from functools import cache

import numpy as np

from sw_stack.compiler.dispatch import BEGIN, RECORD, Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.tiling import tile
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.models.architectures import GqaConfig, ModelConfig, MoeConfig, RopeConfig, RouterConfig, RouterKind


@cache
def small_model(layers: int = 3, hidden: int = 512, experts: int = 16, top_k: int = 4, inter: int = 256) -> ModelConfig:
    """A MoE model in which every layer has experts, small enough to time in a millisecond."""
    return ModelConfig(
        family="qwen3_moe",
        vocab=2048,
        hidden=hidden,
        attention=GqaConfig(heads=8, kv_heads=2, head_dim=64, softmax_scale=0.125, qk_norm=True),
        rope=RopeConfig(dims=64, theta=1e4),
        windows=(None,) * layers,
        moe_layers=(True,) * layers,
        moe=MoeConfig(
            router=RouterConfig(kind=RouterKind.SOFTMAX, experts=experts, top_k=top_k, renormalize=True),
            intermediate=inter,
        ),
        dense_intermediate=0,
        norm_eps=1e-6,
        max_positions=4096,
    )


def random_pass(config: ModelConfig, rng: np.random.Generator, kind: PassKind | None = None) -> Pass:
    """A pass with uniform routing, random residency and, for verification, a random next set."""
    kind = PassKind(int(rng.integers(4))) if kind is None else kind
    sequences = int(rng.integers(1, 9))
    tokens = np.ones(sequences, np.int64)
    if kind is not PassKind.DECODE:
        tokens = rng.integers(1, 40 if kind is PassKind.PREFILL else 9, sequences)
    layers = sum(config.moe_layers)
    counts = np.zeros((layers, config.experts), np.int64)
    for layer in range(layers):
        for _ in range(int(tokens.sum())):
            counts[layer, rng.permutation(config.experts)[: config.top_k]] += 1
    resident = rng.random((layers, config.experts, 2)) < rng.random(2)
    if kind is PassKind.DRAFT:
        counts[~resident[:, :, 0]] = 0
    return Pass(
        kind=kind,
        tokens=tokens,
        kv_lengths=rng.integers(0, 2000, sequences),
        expert_tokens=counts,
        resident=resident,
        next_resident=rng.random(resident.shape) < 0.3 if kind is PassKind.VERIFY else None,
    )


def one_projection(tokens: int, inputs: int, outputs: int, tier: Tier) -> Dispatch:
    """A stream of a single dense projection, both slices in ``tier``, output-parallel, on the published array."""
    records = np.zeros(1, RECORD)
    records["kernel"], records["precision"] = Kernel.PROJECTION, Precision.FULL
    records["msb_tier"] = records["lsb_tier"] = tier
    records["layer"] = records["expert"] = -1
    records["tokens"], records["inputs"], records["outputs"] = tokens, inputs, outputs
    records["after"] = records["weights_known"] = BEGIN
    records["msb_bytes"], records["lsb_bytes"] = inputs * outputs * 9 // 16, inputs * outputs // 2
    tile(records, machine("elmoe3d-8gb").chip)
    return Dispatch(records, ("projection",))
