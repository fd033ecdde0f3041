"""Drafts from an EAGLE-style head: one dense decoder layer that continues the target's features.

After EAGLE (Li et al., 2024). f_t is the target's last output after its final norm at position t:

    x_t = fc [embedding of token t+1 ; f_t]      f'_{t+1} = layer(x)_t      logits of token t+2 = head f'_{t+1}

Embedding and output matrix are the target's; f' stands for features that the target has not computed yet. The head
runs in the machine's INT8 numerics like everything else.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hw.errors import UserError
from sw_stack.elastic.drafters.protocol import DraftPass, Sequence, WeightReads
from sw_stack.elastic.tree import TokenTree
from sw_stack.models.architectures import ModelConfig, layer_tensors
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.hf_names import location
from sw_stack.models.kv_cache import KvCache
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.safetensors_file import SafetensorsFile
from sw_stack.models.tensor_source import TensorSource
from sw_stack.models.weights import ProjectionStack

FUSE = "fc"
"""The matrix [hidden, 2 hidden] in front of the layer."""


class HeadSource:
    """A `TensorSource` of the head: its own layer and ``fc``, the target's embedding and output matrix."""

    def __init__(self, config: ModelConfig, tensors: dict[str, np.ndarray], target: TensorSource) -> None:
        """``tensors`` by canonical name; UserError where one is missing or of the wrong shape."""
        own, wanted = config, target.config
        if (own.layers, own.hidden, own.vocab, own.experts) != (1, wanted.hidden, wanted.vocab, 0):
            raise UserError(
                f"the EAGLE head must be one dense layer of hidden {wanted.hidden} and vocabulary {wanted.vocab}, not "
                f"{own.layers} layers, {own.experts} experts, {own.hidden} and {own.vocab}"
            )
        for name, shape in head_shapes(config).items():
            if name not in tensors:
                raise UserError(f"EAGLE head: tensor {name!r} is missing")
            if tensors[name].shape != shape:
                raise UserError(f"EAGLE head: tensor {name!r} must be of shape {shape}, not {tensors[name].shape}")
        self.config, self._tensors, self._target = config, tensors, target

    def load(self, name: str) -> np.ndarray:
        """A tensor of the head, or the target's; the head has no final norm of its own."""
        if name in self._tensors:
            return self._tensors[name]
        if name == "final_norm":
            return np.ones(self.config.hidden, np.float32)
        tied = name == "head" and self._target.config.tied_embeddings
        return self._target.load("embedding" if tied else name)


def head_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Tensors that a head stores, by canonical name."""
    layer = {f"layers.0.{name}": shape for name, shape in layer_tensors(config, 0).items()}
    return {FUSE: (config.hidden, 2 * config.hidden), **layer}


def open_head(folder: Path, target: TensorSource) -> HeadSource:
    """The head in ``folder`` (``config.json``, ``model.safetensors`` with ``fc.weight`` and ``layers.0.*``)."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; --method eagle needs the head of this model") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict) or values.get("model_type") != "elmoe_eagle":
        raise UserError(f"{path}: model_type must be 'elmoe_eagle'")
    config = from_hf_config(values | {"model_type": "qwen3"}, str(path))
    file = SafetensorsFile(folder / "model.safetensors")
    tensors = {}
    for name, shape in head_shapes(config).items():
        stored = "fc.weight" if name == FUSE else location(config, name, shape).name.removeprefix("model.")
        if stored not in file.tensors:
            raise UserError(f"{file.path}: tensor {stored!r} is missing")
        tensors[name] = file.floats(stored)
        if tensors[name].shape != shape:
            raise UserError(f"{file.path}: tensor {stored!r} must be of shape {shape}, not {tensors[name].shape}")
    return HeadSource(config, tensors, target)


class EagleDrafter:
    """The head beside its target.

    Its cache holds, at position t, the pair (token t + 1, f_t). Pairs of committed tokens are read in the same pass as
    the newest one; those of drafted nodes are discarded.

    Parameters
    ----------
    target : runtime of the target, for its final norm and output matrix
    source : the head
    """

    name = "eagle"
    reads = WeightReads.OWN

    def __init__(self, target: Runtime, source: HeadSource, threads: int = 1) -> None:
        self._target = target
        self._runtime = Runtime(QuantizedModel(source), kv_format=target.kv_format, threads=threads)
        self._fuse = ProjectionStack(source, [[FUSE]])
        self._embedding = self._runtime.model.embedding
        self.own_weights = sum(int(np.prod(shape)) for shape in head_shapes(source.config).values() if len(shape) == 2)
        self.passes: list[DraftPass] = []
        self._caches: dict[int, KvCache] = {}
        self._pairs: dict[int, tuple[list[int], list[np.ndarray]]] = {}
        self._features: dict[int, dict[int, np.ndarray]] = {}

    def observe(self, sequence: Sequence, tokens: list[int], hidden: np.ndarray) -> None:
        """Queues the features of committed tokens; each pairs with the token behind it."""
        ids, features = self._pairs.setdefault(sequence.number, ([], []))
        ids.extend(tokens)
        features.extend(self._target.features(hidden))

    def begin(self, sequences: list[Sequence]) -> list[np.ndarray]:
        """One pass over the queued pairs; the last one pairs with the root."""
        segments, followers, features = [], [], []
        for sequence in sequences:
            ids, queued = self._pairs[sequence.number]
            cache = self._caches.setdefault(sequence.number, self._runtime.new_cache())
            tokens = [*ids[1:], sequence.root]
            segments.append(Segment(cache, tokens))
            followers.extend(tokens)
            features.extend(queued)
            self._pairs[sequence.number] = ([], [])
        drafted, first = self._pass(segments, followers, features)
        for segment in segments:
            segment.cache.commit()
        last = drafted[first[1:] - 1]
        self._features = {s.number: {0: row} for s, row in zip(sequences, last, strict=True)}
        return np.split(self._target.head(last), len(sequences))

    def extend(self, sequences: list[Sequence], trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        """One pass over a level; a node continues the features drafted for its parent."""
        segments, followers, features = [], [], []
        for s, tree, level in zip(sequences, trees, nodes, strict=True):
            tokens = [tree.tokens[node] for node in level]
            segments.append(Segment(self._caches[s.number], tokens, [tree.parents[node] - 1 for node in level]))
            followers.extend(tokens)
            features.extend(self._features[s.number][tree.parents[node]] for node in level)
        drafted, first = self._pass(segments, followers, features)
        parts = np.split(drafted, first[1:-1])
        for s, level, rows in zip(sequences, nodes, parts, strict=True):
            self._features[s.number].update(zip(level, rows, strict=True))
        return np.split(self._target.head(drafted), first[1:-1])

    def _pass(
        self, segments: list[Segment], followers: list[int], features: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Drafted features float32 [n, hidden], and where each segment's rows begin."""
        joined = np.concatenate([self._embedding[followers].astype(np.float32), np.stack(features)], axis=1)
        inputs = self._runtime.project(self._fuse, joined, "fc of the EAGLE head")
        at = 0
        for segment in segments:
            segment.inputs = inputs[at : at + len(segment)]
            at += len(segment)
        result = self._runtime.forward(segments, logits="none")
        self.passes.append(DraftPass(len(result.hidden), []))
        return result.hidden, result.first

    def end(self, sequences: list[Sequence]) -> None:
        """Drops the keys and values of drafted nodes."""
        for sequence in sequences:
            if sequence.number in self._caches:
                self._caches[sequence.number].discard()

    def forget(self, sequence: Sequence) -> None:
        """Frees the sequence's cache."""
        self._caches.pop(sequence.number, None)
        self._pairs.pop(sequence.number, None)
