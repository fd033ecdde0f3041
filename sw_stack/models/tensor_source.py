"""Where a model's tensors come from: the interface between checkpoint loaders and the runtimes."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from cycle_model.numerics import Mxfp4Weights
from hw.errors import UserError
from sw_stack.models.architectures import ModelConfig, tensor_shapes


class TensorSource(Protocol):
    """A model's configuration and its tensors by canonical name (see ``architectures``).

    ``load`` reads one tensor when asked for it, so that a model larger than memory can be worked on layer by
    layer. It returns floats (float16, float32 or float64, widened exactly from what is stored), or
    ``Mxfp4Weights`` with codes [outputs, inputs] for matrices of MXFP4 experts.
    """

    config: ModelConfig

    def load(self, name: str) -> np.ndarray | Mxfp4Weights: ...


class ArraySource:
    """Tensors held in a dictionary, checked against the configuration."""

    def __init__(self, config: ModelConfig, tensors: dict[str, np.ndarray | Mxfp4Weights]) -> None:
        """Raises UserError where a tensor is missing, unknown, or of the wrong shape."""
        shapes = tensor_shapes(config)
        for name, shape in shapes.items():
            if name not in tensors:
                raise UserError(f"tensor {name!r} is missing")
            tensor = tensors[name]
            found = np.shape(tensor.codes if isinstance(tensor, Mxfp4Weights) else tensor)
            if found != shape:
                raise UserError(f"tensor {name!r} must be of shape {shape}, not {found}")
        unknown = sorted(set(tensors) - set(shapes))
        if unknown:
            raise UserError(f"tensor {unknown[0]!r} is no part of a {config.family} model")
        self.config, self.tensors = config, tensors

    def load(self, name: str) -> np.ndarray | Mxfp4Weights:
        """The tensor called ``name``."""
        return self.tensors[name]


def random_source(config: ModelConfig, seed: int) -> ArraySource:
    """A model with every tensor drawn at random, such that logits spread and attention is peaked.

    Matrices are uniform with variance 2 / inputs, norms uniform in [0.5, 1.5], embeddings of variance 1, biases and
    the rest of 0.1. MXFP4 matrices have random codes and exponents near the same variance. All values are
    integers times a power of two or one rounded factor, from the raw bits of Philox, so they are the same under
    every version of NumPy.
    """
    bits = np.random.Philox(seed)
    tensors: dict[str, np.ndarray | Mxfp4Weights] = {}
    for name, shape in tensor_shapes(config).items():
        short = name.rsplit(".", 1)[-1]
        raw = bits.random_raw(math.prod(shape)).reshape(shape)
        uniform = ((raw >> np.uint64(40)).astype(np.float32) - np.float32(2**23)) / np.float32(2**23)
        if config.moe and config.moe.mxfp4 and ".experts." in name and not short.endswith("_bias"):
            exponents = 122 + (raw[:, ::32] >> np.uint64(16)) % np.uint64(3)
            tensors[name] = Mxfp4Weights((raw & np.uint64(15)).astype(np.uint8), exponents.astype(np.uint8))
        elif short.endswith("norm"):
            tensors[name] = np.float32(0.5) * uniform + np.float32(1)
        else:
            small = short.endswith("_bias") or short in ("sinks", "router_correction")
            variance = 0.1 if small else 1.0 if short == "embedding" else 2 / shape[1]
            tensors[name] = np.float32(math.sqrt(3 * variance)) * uniform
    return ArraySource(config, tensors)
