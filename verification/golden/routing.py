"""Routing weights of the float reference: what a captured trace is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sw_stack.models.architectures import RouterConfig
from sw_stack.models.float_reference import FloatReference
from sw_stack.models.tensor_source import TensorSource


class _Recording(FloatReference):
    """Keeps every layer's weights [tokens, experts] while logits are computed."""

    def __init__(self, source: TensorSource) -> None:
        super().__init__(source)
        self.weights: list[np.ndarray] = []

    def _routing(self, index: int, x: np.ndarray, router: RouterConfig) -> np.ndarray:
        weights = super()._routing(index, x, router)
        self.weights.append(weights)
        return weights


def float_routing(source: TensorSource, tokens: Sequence[int]) -> np.ndarray:
    """Weights [tokens, MoE layers, experts], 0 where an expert was not chosen."""
    reference = _Recording(source)
    reference.logits(tokens)
    return np.stack(reference.weights, axis=1)
