"""How far the runtime is from float logits of the same checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.kv_cache import KvFormat
from sw_stack.models.precision import FULL, Precision, WeightScheme
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment


@dataclass(frozen=True)
class RuntimeDistance:
    """Distances of logits from expected ones [tokens, vocab], relative to the standard deviation of those.

    A random model is the worst case: nothing in it has learned to be insensitive to rounding, and a router's choice
    between nearly equal experts flips; the median token has no flip in it, the root mean square has.

    float_rms     the runtime's own operators, weights and keys in float
    int8_rms      bit-exact INT8 target, INT8 keys and values
    int8_median   the same, median over tokens of the root mean square
    same_choice   share of tokens with the same most probable next one
    """

    float_rms: float
    int8_rms: float
    int8_median: float
    same_choice: float


def runtime_distance(folder: Path, tokens: np.ndarray, expected: np.ndarray) -> RuntimeDistance:
    """Run the checkpoint in ``folder`` in float and in INT8 and compare with ``expected``."""
    model = QuantizedModel(open_checkpoint(folder))

    def squared(kv_format: KvFormat, precision: Precision) -> tuple[np.ndarray, np.ndarray]:
        runtime = Runtime(model, kv_format=kv_format)
        found = runtime.forward([Segment(runtime.new_cache(), tokens.tolist())], precision=precision).logits
        return np.mean((found - expected) ** 2, axis=1) / expected.var(), found

    in_float, _ = squared(KvFormat.FP32, Precision.uniform(WeightScheme.FLOAT))
    in_int8, found = squared(KvFormat.INT8, FULL)
    return RuntimeDistance(
        float_rms=float(np.sqrt(in_float.mean())),
        int8_rms=float(np.sqrt(in_int8.mean())),
        int8_median=float(np.median(np.sqrt(in_int8))),
        same_choice=float((found.argmax(1) == expected.argmax(1)).mean()),
    )
