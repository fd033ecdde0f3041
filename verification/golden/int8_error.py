"""How far the bit-exact INT8 runtime is from float logits of the same checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment


def int8_error(folder: Path, tokens: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square difference of the logits over the standard deviation of ``expected`` [tokens, vocab].

    A random model is the worst case: nothing in it has learned to be insensitive to rounding, and a router's choice
    between nearly equal experts flips.
    """
    runtime = Runtime(QuantizedModel(open_checkpoint(folder)))
    found = runtime.forward([Segment(runtime.new_cache(), tokens.tolist())]).logits
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
