"""Where a model's tensors come from: the interface between checkpoint loaders and the runtimes."""

from __future__ import annotations

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

    Matrices are normal with variance 2 / inputs, norms uniform in [0.5, 1.5], biases and the rest normal. MXFP4
    matrices have random codes and exponents near the same variance.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray | Mxfp4Weights] = {}
    for name, shape in tensor_shapes(config).items():
        short = name.rsplit(".", 1)[-1]
        if config.moe and config.moe.mxfp4 and ".experts." in name and not short.endswith("_bias"):
            exponents = rng.integers(122, 125, (shape[0], shape[1] // 32)).astype(np.uint8)
            tensors[name] = Mxfp4Weights(rng.integers(0, 16, shape).astype(np.uint8), exponents)
        elif short.endswith("norm"):
            tensors[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif short.endswith("_bias") or short in ("sinks", "router_correction"):
            tensors[name] = (0.3 * rng.standard_normal(shape)).astype(np.float32)
        else:
            spread = 1.0 if short == "embedding" else (2 / shape[1]) ** 0.5
            tensors[name] = (spread * rng.standard_normal(shape)).astype(np.float32)
    return ArraySource(config, tensors)
