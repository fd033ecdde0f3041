"""Perplexity of the model in each numeric, on held-out text."""

from __future__ import annotations

import numpy as np

from sw_stack.models.kv_cache import KvFormat
from sw_stack.models.precision import DRAFT_EXPERTS, Precision, WeightScheme
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment

NUMERICS = ("float", "int8", "augmented", "augmented-experts", "truncated", "rounded", "copy4")
"""float: neither weights, activations nor keys and values quantised. The others: INT8 activations and KV."""


def perplexity(model: QuantizedModel, numeric: str, texts: dict[str, list[list[int]]], threads: int) -> dict:
    """Mean bits per token and perplexity by domain and over all; every token but a window's first is scored."""
    if numeric == "augmented-experts":
        precision = DRAFT_EXPERTS
    else:
        precision = Precision.uniform(WeightScheme(numeric))
    runtime = Runtime(model, kv_format=KvFormat.FP32 if numeric == "float" else KvFormat.INT8, threads=threads)
    bits: dict[str, float] = {}
    count: dict[str, int] = {}
    for domain, windows in texts.items():
        total = 0.0
        for window in windows:
            result = runtime.forward([Segment(runtime.new_cache(), window[:-1])], precision=precision)
            logits = result.logits.astype(np.float64)
            highest = logits.max(axis=1)
            norm = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
            total += float((norm - logits[np.arange(len(logits)), window[1:]]).sum()) / np.log(2)
        bits[domain], count[domain] = total, sum(len(window) - 1 for window in windows)
    every = sum(bits.values()) / sum(count.values())
    return {
        "bits_per_token": {domain: bits[domain] / count[domain] for domain in bits} | {"all": every},
        "perplexity": 2**every,
        "tokens": sum(count.values()),
    }
