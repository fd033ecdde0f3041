"""``make bench-runtime``: tokens per second of the bit-exact runtime on the shipped model.

Prints ratios to the goal of 250 tokens/s in total for decode at batch 16 on two cores, and a digest of the logits,
which must be the same on every machine. The best of several steps is taken: other work on the machine only adds time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time

import numpy as np

from hw.errors import UserError
from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.precision import DRAFT, FULL, Precision
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.tensor_source import TensorSource, random_source

GOAL_TOKENS_PER_S = 250
BATCH = 16
CONTEXT = 256
STEPS = 24
TREE = (2, 4)  # width, depth

_SAME_SHAPE = {
    "model_type": "qwen3_moe",
    "vocab_size": 1024,
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
}


def _source() -> tuple[str, TensorSource]:
    try:
        return DEFAULT_MODEL.name, open_checkpoint(DEFAULT_MODEL)
    except UserError as error:
        return f"random weights of the shipped model's shape ({error})", random_source(from_hf_config(_SAME_SHAPE), 1)


def _decode(runtime: Runtime, batch: int, precision: Precision) -> tuple[float, float, str]:
    """Seconds of the prefill and of the best decode step, and the digest of all decode logits."""
    rng = np.random.default_rng(7)
    caches = [runtime.new_cache() for _ in range(batch)]
    prompts = rng.integers(0, runtime.config.vocab, (batch, CONTEXT))
    start = time.perf_counter()
    segments = [Segment(cache, list(prompt)) for cache, prompt in zip(caches, prompts, strict=True)]
    result = runtime.forward(segments, logits="last")
    prefill = time.perf_counter() - start
    digest, best = hashlib.sha256(result.logits.tobytes()), float("inf")
    for _ in range(STEPS):
        for cache in caches:
            cache.commit()
        chosen = result.logits.argmax(axis=1)
        start = time.perf_counter()
        segments = [Segment(cache, [int(token)]) for cache, token in zip(caches, chosen, strict=True)]
        result = runtime.forward(segments, precision=precision)
        best = min(best, time.perf_counter() - start)
        digest.update(result.logits.tobytes())
    return prefill, best, digest.hexdigest()[:16]


def _verify_tree(runtime: Runtime, batch: int) -> float:
    """Seconds of one pass over a token tree per sequence: one committed token, ``TREE`` below it."""
    rng = np.random.default_rng(8)
    caches = [runtime.new_cache() for _ in range(batch)]
    vocab, (width, depth) = runtime.config.vocab, TREE
    runtime.forward([Segment(cache, list(rng.integers(0, vocab, CONTEXT))) for cache in caches], logits="none")
    parents = [-1, *(0 if node <= width else node - width for node in range(1, width * depth + 1))]
    best = float("inf")
    for cache in caches:
        cache.commit()
    for _ in range(8):
        tokens = rng.integers(0, vocab, (batch, len(parents)))
        start = time.perf_counter()
        runtime.forward([Segment(cache, list(row), parents) for cache, row in zip(caches, tokens, strict=True)])
        best = min(best, time.perf_counter() - start)
        for cache in caches:
            cache.discard()
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    name, source = _source()
    model = QuantizedModel(source)
    _decode(Runtime(model, threads=threads), 1, FULL)  # compiles and quantises
    print(
        f"model: {name}\ncontext {CONTEXT}, {threads} threads, load average {os.getloadavg()[0]:.1f}, best of {STEPS}"
    )
    print(f"{'':34}{'tokens/s':>10}{'ms/pass':>10}{'of goal':>9}  digest")
    for count in sorted({1, threads}):
        runtime = Runtime(model, threads=count)
        for batch, precision, label in ((1, FULL, "decode"), (BATCH, FULL, "decode"), (BATCH, DRAFT, "draft")):
            prefill, step, digest = _decode(runtime, batch, precision)
            title = f"{label}, batch {batch}, {count} thread{'s' * (count > 1)}"
            rate = batch / step
            print(f"{title:34}{rate:10.0f}{1e3 * step:10.2f}{rate / GOAL_TOKENS_PER_S:9.2f}  {digest}")
        print(f"{f'prefill {BATCH} x {CONTEXT}':34}{BATCH * CONTEXT / prefill:10.0f}{1e3 * prefill:10.1f}")
        tree = _verify_tree(runtime, BATCH)
        nodes = BATCH * (TREE[0] * TREE[1] + 1)
        print(f"{f'verify {BATCH} trees of {TREE[0]} x {TREE[1]} + 1':34}{nodes / tree:10.0f}{1e3 * tree:10.2f}")


if __name__ == "__main__":
    main()
