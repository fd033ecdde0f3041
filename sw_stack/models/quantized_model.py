"""The layers of a model, ready for the runtime: merged projections, norms, RoPE frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.functional.rotary import pair_phases
from cycle_model.numerics import Mxfp4Weights
from hw.errors import UserError
from sw_stack.models.architectures import GqaConfig, ModelConfig, layer_tensors
from sw_stack.models.tensor_source import TensorSource
from sw_stack.models.weights import ProjectionStack

_NONE = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class FfnWeights:
    """Feed-forward networks of one shape: ``up`` is [gate; up], stacked over experts."""

    up: ProjectionStack
    down: ProjectionStack


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One decoder layer; what its configuration has no use for is None or empty.

    first       GQA: [q; k; v].  MLA: [q; kv_down] or [q_down; kv_down]
    query_up    MLA with a latent query
    kv_up       MLA
    """

    attention_norm: np.ndarray
    first: ProjectionStack
    query_up: ProjectionStack | None
    query_down_norm: np.ndarray
    kv_up: ProjectionStack | None
    kv_norm: np.ndarray
    query_norm: np.ndarray
    key_norm: np.ndarray
    sinks: np.ndarray
    output: ProjectionStack
    ffn_norm: np.ndarray
    dense: FfnWeights | None
    router: ProjectionStack | None
    correction: np.ndarray
    experts: FfnWeights | None
    shared: FfnWeights | None


class QuantizedModel:
    """A model quantised for the machine: INT8 with one FP16 scale per 32 inputs, or MXFP4 as stored.

    The embedding table and all vectors keep their stored values, widened to FP32.

    Parameters
    ----------
    source : where tensors come from
    keep_layers : keep quantised layers; otherwise each use quantises the layer again, so that a model larger
        than memory needs room for one layer only
    """

    def __init__(self, source: TensorSource, *, keep_layers: bool = True) -> None:
        self.config: ModelConfig = source.config
        self.source, self._keep = source, keep_layers
        self._layers: dict[int, LayerWeights] = {}
        embedding = source.load("embedding")
        if not np.isfinite(embedding).all():
            raise UserError("tensor 'embedding' must be finite")
        self.embedding = np.asarray(embedding)
        self.final_norm = self._vector("final_norm")
        self.head = ProjectionStack(source, [["embedding" if self.config.tied_embeddings else "head"]])
        rope, yarn = self.config.rope, self.config.rope.yarn
        if yarn is None:
            self.phases = pair_phases(rope.dims, rope.theta)
            self.rope_factor = np.float32(1)
        else:
            self.phases = pair_phases(
                rope.dims,
                rope.theta,
                factor=yarn.factor,
                original_positions=yarn.original_positions,
                beta_fast=yarn.beta_fast,
                beta_slow=yarn.beta_slow,
                truncate=yarn.truncate,
            )
            self.rope_factor = np.float32(yarn.attention_factor)

    def layer(self, index: int) -> LayerWeights:
        """Weights of one layer, quantised when first needed."""
        if index in self._layers:
            return self._layers[index]
        weights = self._load(index)
        if self._keep:
            self._layers[index] = weights
        return weights

    def _vector(self, name: str, *, present: bool = True) -> np.ndarray:
        if not present:
            return _NONE
        values = self.source.load(name)
        if isinstance(values, Mxfp4Weights) or not np.isfinite(values).all():
            raise UserError(f"tensor {name!r} must be finite numbers")
        return np.ascontiguousarray(values, np.float32)

    def _load(self, index: int) -> LayerWeights:
        config, prefix = self.config, f"layers.{index}."
        have = layer_tensors(config, index)

        def stack(*names: str) -> ProjectionStack:
            """Tensors side by side; where only some have a bias, the others' is zero."""
            return _with_biases(self.source, prefix, [list(names)], have)

        def vector(name: str) -> np.ndarray:
            return self._vector(prefix + name, present=name in have)

        def ffn(members: list[str]) -> FfnWeights:
            up = [[f"{member}gate", f"{member}up"] for member in members]
            return FfnWeights(
                up=_with_biases(self.source, prefix, up, have),
                down=_with_biases(self.source, prefix, [[f"{member}down"] for member in members], have),
            )

        if isinstance(config.attention, GqaConfig):
            first = stack("q", "k", "v")
        else:
            first = stack("q" if config.attention.query_rank is None else "q_down", "kv_down")
        return LayerWeights(
            attention_norm=vector("attention_norm"),
            first=first,
            query_up=stack("q_up") if "q_up" in have else None,
            query_down_norm=vector("q_down_norm"),
            kv_up=stack("kv_up") if "kv_up" in have else None,
            kv_norm=vector("kv_norm"),
            query_norm=vector("q_norm"),
            key_norm=vector("k_norm"),
            sinks=vector("sinks"),
            output=stack("o"),
            ffn_norm=vector("ffn_norm"),
            dense=ffn([""]) if "gate" in have else None,
            router=stack("router") if "router" in have else None,
            correction=vector("router_correction"),
            experts=ffn([f"experts.{e}." for e in range(config.experts)]) if "router" in have else None,
            shared=ffn(["shared_"]) if "shared_gate" in have else None,
        )


def _with_biases(
    source: TensorSource, prefix: str, members: list[list[str]], have: dict[str, tuple[int, ...]]
) -> ProjectionStack:
    biases = [[f"{prefix}{name}_bias" if f"{name}_bias" in have else None for name in names] for names in members]
    return ProjectionStack(source, [[prefix + name for name in names] for names in members], biases)
