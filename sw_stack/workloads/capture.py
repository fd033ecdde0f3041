"""Routing traces from running models: through this project's runtime, or through hooks on a transformers model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hw.errors import UserError
from sw_stack.models.precision import FULL, Precision
from sw_stack.models.runtime import LayerRouting, Runtime, Segment
from sw_stack.workloads.trace import Trace, expert_dtype

Sequences = Sequence[Sequence[int]]
"""Token ids of every sequence."""


@dataclass(frozen=True)
class CaptureNeeds:
    """What a capture will take: resident weights, available memory, estimated seconds (an estimate, not a promise)."""

    weight_bytes: int
    available_bytes: int
    seconds: float

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.1f} min" if self.seconds > 90 else f"{self.seconds:.1f} s"
        weights, free = self.weight_bytes / 2**30, self.available_bytes / 2**30
        return f"needs about {weights:.2f} GiB for weights ({free:.2f} GiB free) and {minutes} (estimate)"


def available_bytes() -> int:
    """Memory that the system can still give."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _multiply_rate() -> float:
    """Multiply-adds per second of a float32 matrix product here, from one of about 50 ms."""
    a = np.ones((512, 512), np.float32)
    a @ a
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < 0.05:
        a @ a
        runs += 1
    return runs * 512**3 / (time.perf_counter() - start)


def estimate(weight_bytes: int, active_weights: int, tokens: int) -> CaptureNeeds:
    """Needs of a forward pass over ``tokens`` that multiplies with ``active_weights`` per token, at a tenth of the
    measured speed of a large matrix product: experts see few tokens at a time.
    """
    return CaptureNeeds(weight_bytes, available_bytes(), 10 * active_weights * tokens / _multiply_rate())


def _descending(experts: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Experts and weights [..., k] by falling score; equal scores keep their order."""
    order = np.argsort(-score, axis=-1, kind="stable")
    return np.take_along_axis(experts, order, -1), np.take_along_axis(weight, order, -1)


def routing_rows(routing: list[LayerRouting]) -> tuple[np.ndarray, np.ndarray]:
    """Experts and weights [tokens, MoE layers, k] of one unrestricted forward pass, in descending weight."""
    pairs = [_descending(layer.chosen, layer.weights, layer.weights) for layer in routing]
    return np.stack([experts for experts, _ in pairs], 1), np.stack([weights for _, weights in pairs], 1)


def _trace(
    experts: list[np.ndarray],
    weights: list[np.ndarray],
    num_experts: int,
    layer_index: Sequence[int],
    domains: Sequence[str],
    **texts: str,
) -> Trace:
    names = tuple(dict.fromkeys(domains))
    return Trace(
        experts=np.concatenate(experts).astype(expert_dtype(num_experts)),
        probs=np.concatenate(weights).astype(np.float16),
        offsets=np.cumsum([0, *(len(rows) for rows in experts)]).astype(np.int64),
        num_experts=num_experts,
        layer_index=np.array(layer_index, np.int16),
        domains=names,
        domain_of_sequence=np.array([names.index(name) for name in domains], np.int16),
        **texts,
    )


def capture_runtime(
    runtime: Runtime,
    sequences: Sequences,
    domains: Sequence[str],
    *,
    model: str,
    source: str,
    licence: str,
    chunk: int = 64,
    precision: Precision = FULL,
) -> Trace:
    """Trace of given texts through the bit-exact runtime: every token's routing with its true history.

    ``chunk`` tokens go through a pass together; the trace does not depend on it.
    """
    config = runtime.config
    if not config.experts:
        raise UserError(f"{model}: a dense model has no routing to capture")
    experts, weights = [], []
    for tokens in sequences:
        cache, rows = runtime.new_cache(), []
        for first in range(0, len(tokens), chunk):
            result = runtime.forward(
                [Segment(cache, tokens[first : first + chunk])], precision=precision, logits="none"
            )
            cache.commit()
            rows.append(routing_rows(result.routing))
        experts.append(np.concatenate([ids for ids, _ in rows]))
        weights.append(np.concatenate([values for _, values in rows]))
    return _trace(
        experts,
        weights,
        config.experts,
        [i for i, sparse in enumerate(config.moe_layers) if sparse],
        domains,
        model=model,
        source=source,
        licence=licence,
        phase="prefill",
    )


def find_routers(model: object) -> Iterator[tuple[str, object]]:
    """Modules of a transformers model that route: called ``gate`` or ``router``, with a row of weights per expert."""
    count = num_experts_of(model)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if name.rsplit(".", 1)[-1] in ("gate", "router") and weight is not None and weight.shape[0] == count:
            yield name, module


def num_experts_of(model: object) -> int:
    """Routed experts of a layer by the model's configuration."""
    config = model.config.get_text_config()
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if value := getattr(config, key, None):
            return int(value)
    raise UserError(f"{type(model).__name__}: the configuration names no number of experts: not a MoE model")


class RouterHooks:
    """Records, while it is open, what the routers of a transformers model choose.

    Routers may return logits [tokens, experts], or a tuple with the chosen ids and their weights (transformers 5).
    Use as a context manager around forward passes of one sequence at a time, and take ``rows`` after each.
    """

    def __init__(self, model: object) -> None:
        self.routers = list(find_routers(model))
        if not self.routers:
            raise UserError(f"{type(model).__name__}: no router found: modules called gate or router")
        self.num_experts = num_experts_of(model)
        self.top_k = int(model.config.get_text_config().num_experts_per_tok)
        self._seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name, _ in self.routers}
        self._handles: list = []

    def __enter__(self) -> RouterHooks:
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in self.routers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable:
        def record(module: object, inputs: object, output: object) -> None:
            self._seen[name].append(self._chosen(name, output))

        return record

    def _chosen(self, name: str, output: object) -> tuple[np.ndarray, np.ndarray]:
        """Ids and weights [tokens, k] from whatever a router returned."""
        parts = [part.detach() for part in (output if isinstance(output, tuple) else (output,))]
        ids = [part for part in parts if not part.is_floating_point() and part.shape[-1] == self.top_k]
        if ids:
            experts = ids[0].reshape(-1, self.top_k)
            weights = [part for part in parts if part.is_floating_point() and part.shape == ids[0].shape]
            if not weights:
                raise UserError(f"router {name}: returned ids but no weights of the same shape")
            weight = weights[0].reshape(-1, self.top_k)
        else:
            logits = [part for part in parts if part.shape[-1] == self.num_experts]
            if not logits:
                raise UserError(f"router {name}: returned neither ids of {self.top_k} experts nor logits")
            probability = logits[0].reshape(-1, self.num_experts).float().softmax(-1)
            weight, experts = probability.topk(self.top_k, -1)
        weight = weight.float().cpu().numpy()
        return _descending(experts.cpu().numpy(), weight, weight)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Experts and weights [tokens, layers, k] since the last call."""
        layers = [self._seen[name] for name, _ in self.routers]
        if any(not layer for layer in layers):
            silent = next(name for (name, _), layer in zip(self.routers, layers, strict=True) if not layer)
            raise UserError(f"router {silent}: was not called in the forward pass")
        result = tuple(np.stack([np.concatenate([row[i] for row in layer]) for layer in layers], 1) for i in (0, 1))
        self._seen = {name: [] for name in self._seen}
        return result


def layer_number(module_name: str) -> int:
    """The layer in a module's path: its last number."""
    numbers = [int(part) for part in module_name.split(".") if part.isdigit()]
    if not numbers:
        raise UserError(f"router {module_name}: no layer number in its name")
    return numbers[-1]


def capture_transformers(
    model: object, sequences: Sequences, domains: Sequence[str], *, name: str, source: str, licence: str
) -> Trace:
    """Trace of given texts through any transformers MoE model, without its logits being kept."""
    import torch

    experts, weights = [], []
    with RouterHooks(model) as hooks, torch.no_grad():
        for tokens in sequences:
            model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
            ids, values = hooks.rows()
            experts.append(ids)
            weights.append(values)
    return _trace(
        experts,
        weights,
        hooks.num_experts,
        [layer_number(router) for router, _ in hooks.routers],
        domains,
        model=name,
        source=source,
        licence=licence,
        phase="prefill",
    )
