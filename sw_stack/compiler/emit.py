"""Emission: the records of a pass, from the model's graph, the placement and which experts have tokens.

What does not change from pass to pass is a template made once; a pass fills in tokens, positions, experts and refill.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.kernel_cache import njit
from sw_stack.compiler.dispatch import BARRIER, BEGIN, RECORD, Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.graph import Attention, HostOperation, ModelGraph, Operation, Projection, Role
from sw_stack.compiler.placement import Placement
from sw_stack.elastic.hot_set import expert_sizes
from sw_stack.elastic.slices import LSB_BITS_PER_WEIGHT, MSB_BITS_PER_WEIGHT
from sw_stack.machines.engine.workload import Pass, PassKind


@dataclass(frozen=True, eq=False)
class _Template:
    """The records of a pass beside experts and refill, and what in them grows with tokens and positions.

    records    RECORD [fixed], ``after`` relative: BEGIN, BARRIER, or 0 for the record before
    elements   per token; macs, kv_bytes  per position
    window     index into the distinct windows
    layer_end  index behind the operations before the experts of each MoE layer
    """

    records: np.ndarray
    elements: np.ndarray
    macs: np.ndarray
    kv_bytes: np.ndarray
    window: np.ndarray
    layer_end: np.ndarray


_PREVIOUS = 0


class Emitter:
    """Turns passes of one model into dispatch streams.

    Parameters
    ----------
    model : graph of the model
    placement : tiers of dense weights, of experts that the pass says are resident, and of keys and values
    """

    def __init__(self, model: ModelGraph, placement: Placement) -> None:
        self.model, self.placement = model, placement
        self.sizes = expert_sizes(model.config) if model.config.moe else None
        self._windows = list(dict.fromkeys(model.config.windows))
        self._names: dict[str, int] = {}
        self._templates = {whole: self._template(whole) for whole in (True, False)}
        self._name("refill")
        self._projections = next((layer.expert for layer in model.layers if layer.expert), ())
        for projection in self._projections:
            self._name(projection.name)

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    # --- once per model --------------------------------------------------------------------------------------

    def _template(self, whole: bool) -> _Template:
        """``whole``: dense weights are read with both slices."""
        rows, layer_end = [], []

        def add(operations: tuple[Operation, ...], layer: int, first_after: int) -> None:
            rows.extend(
                (operation, layer, first_after if i == 0 else _PREVIOUS) for i, operation in enumerate(operations)
            )

        add(self.model.begin, -1, BEGIN)
        for layer, operations in enumerate(self.model.layers):
            add(operations.before, layer, BARRIER)
            if operations.expert:
                layer_end.append(len(rows))
            add(operations.after, layer, BARRIER)
        add(self.model.end, -1, BARRIER)
        made = np.zeros(len(rows), RECORD)
        elements, macs, kv, window = (np.zeros(len(rows), np.int64) for _ in range(4))
        for i, (operation, layer, after) in enumerate(rows):
            record = made[i]
            record["operation"], record["layer"], record["expert"] = self._name(operation.name), layer, -1
            record["after"], record["weights_known"] = after, BEGIN
            if isinstance(operation, HostOperation):
                record["kernel"], elements[i] = Kernel.HOST, operation.elements
            elif isinstance(operation, Attention):
                record["kernel"], macs[i], kv[i] = (
                    Kernel.ATTENTION,
                    operation.macs_per_position,
                    operation.bytes_per_position,
                )
                window[i] = self._windows.index(operation.window)
            else:
                self._dense(record, operation, whole or operation.role is Role.ROUTER)
        return _Template(made, elements, macs, kv, window, np.array(layer_end, np.int64))

    def _dense(self, record: np.void, operation: Projection, whole: bool) -> None:
        tier = self.placement.dense
        record["kernel"] = Kernel.PROJECTION
        record["outputs"], record["inputs"] = operation.outputs, operation.inputs
        record["activated"] = operation.activated
        record["precision"] = Precision.FULL if whole else Precision.DRAFT
        record["msb_tier"], record["lsb_tier"] = tier, tier if whole else Tier.NONE
        record["msb_bytes"] = operation.weights * MSB_BITS_PER_WEIGHT / 8
        record["lsb_bytes"] = operation.weights * LSB_BITS_PER_WEIGHT / 8 if whole else 0

    # --- one pass ------------------------------------------------------------------------------------------

    def emit(self, one: Pass) -> Dispatch:
        """The stream of ``one``."""
        template = self._templates[one.kind is not PassKind.DRAFT or one.dense_full]
        fixed = self._fixed(template, one)
        layers, used = np.nonzero(one.expert_tokens)
        active = np.bincount(layers, minlength=len(template.layer_end))
        refill = self._refill(one)
        # Where everything comes to lie: experts behind the layer's router, refill behind the layer's last operation.
        extra = np.zeros(len(fixed) + 1, np.int64)
        np.add.at(extra, template.layer_end, 2 * active)
        after = np.array([len(self.model.layers[i].after) for i in self.model.moe_layers], np.int64)
        behind = template.layer_end + after
        np.add.at(extra, behind, (refill["hb_bytes"] > 0).astype(np.int64))
        shift = np.cumsum(extra)
        at = np.arange(len(fixed)) + shift[:-1]
        fixed["after"] = np.where(fixed["after"] == _PREVIOUS, at - 1, fixed["after"])
        records = np.empty(len(fixed) + int(shift[-1]), RECORD)
        records[at] = fixed
        if len(used):
            self._experts(
                records, one, layers, used, active, template.layer_end + shift[template.layer_end] - 2 * active
            )
        kept = refill["hb_bytes"] > 0
        records[(behind + shift[behind] - 1)[kept]] = refill[kept]
        return Dispatch(records, tuple(self._names))

    def _fixed(self, template: _Template, one: Pass) -> np.ndarray:
        made = template.records.copy()
        tokens = np.full(len(made), one.total_tokens)
        tokens[len(made) - len(self.model.end) :] = one.head_tokens
        read, pairs = self._positions(one)
        made["tokens"] = tokens
        made["elements"] = template.elements * tokens
        made["macs"] = template.macs * pairs[template.window]
        size = template.kv_bytes * read[template.window]
        spilled = self.placement.spilled_share(float(template.kv_bytes.sum()) * float(one.kv_lengths.sum()))
        made["lpddr_bytes"] = np.rint(size * spilled)
        made["hb_bytes"] = size - made["lpddr_bytes"]
        # New positions go to HB; where it is full, as many of the oldest, which the core reads, go on to LPDDR.
        new = template.kv_bytes * one.total_tokens
        made["hb_written"] = new if spilled < 1 else 0
        made["lpddr_written"] = new if spilled > 0 else 0
        made["pieces"] = np.where(new > 0, one.sequences, 0)
        return made

    def _positions(self, one: Pass) -> tuple[np.ndarray, np.ndarray]:
        """Per distinct window: positions read, and token-position pairs; all sequences together."""
        prefill = one.kind is PassKind.PREFILL
        read, pairs = [], []
        for window in self._windows:
            limit = np.inf if window is None else window
            read.append(np.minimum(one.kv_lengths + prefill * one.tokens, limit).sum())
            # Of a prompt, causal: half of the square, plus what was cached.
            seen = one.kv_lengths + ((one.tokens + 1) / 2 if prefill else 1)
            pairs.append((one.tokens * np.minimum(seen, limit)).sum())
        return np.array(read, np.int64), np.array(pairs, np.int64)

    def _experts(
        self,
        records: np.ndarray,
        one: Pass,
        layers: np.ndarray,
        used: np.ndarray,
        active: np.ndarray,
        base: np.ndarray,
    ) -> None:
        """Gate and up, then down, of every expert with tokens, by layer and ascending id.

        An expert's down projection follows its gate and up: the kernels keep one expert's products at a time.
        ``base``: index of each layer's first record.
        """
        up, down = self._projections
        weights = up.weights + down.weights
        draft, mxfp4 = one.kind is PassKind.DRAFT, self.model.config.moe.mxfp4
        one_slice = draft or mxfp4
        made = np.zeros(2, RECORD)
        made["kernel"] = Kernel.EXPERT
        made["precision"] = Precision.MXFP4 if mxfp4 else Precision.DRAFT if draft else Precision.FULL
        for record, projection in zip(made, (up, down), strict=True):
            record["operation"] = self._names[projection.name]
            record["outputs"], record["inputs"] = projection.outputs, projection.inputs
            record["activated"] = projection.activated
            record["msb_bytes"] = self.sizes.msb_bytes * projection.weights // weights
            record["lsb_bytes"] = 0 if one_slice else self.sizes.lsb_bytes * projection.weights // weights
        tiers = self.placement.slices(one.resident[layers, used])
        if one_slice:
            tiers[:, 1] = Tier.NONE
        tokens = one.expert_tokens[layers, used]
        _place_experts(
            records, made, layers, np.array(self.model.moe_layers)[layers], used, tokens, tiers, active, base
        )

    def _refill(self, one: Pass) -> np.ndarray:
        """Per MoE layer, slices that become resident; those not streamed in this pass are read once more."""
        made = np.zeros(len(self.model.moe_layers), RECORD)
        if one.next_resident is None or not len(made):
            return made
        new = one.next_resident & ~one.resident
        sizes = np.array([self.sizes.msb_bytes, self.sizes.lsb_bytes])
        streamed = (one.expert_tokens > 0)[:, :, None] & ~one.resident
        made["kernel"], made["operation"], made["expert"] = Kernel.REFILL, self._names["refill"], -1
        made["layer"] = self.model.moe_layers
        made["after"] = made["weights_known"] = BARRIER
        made["hb_bytes"] = (new * sizes).sum(axis=(1, 2))
        made["lpddr_bytes"] = ((new & ~streamed) * sizes).sum(axis=(1, 2))
        return made


@njit(cache=True)
def _place_experts(records, made, layers, names, used, tokens, tiers, active, base):
    """Both records of every expert, ``made`` [up, down], into ``records`` in the order of `Emitter._experts`."""
    rank, before = 0, -1
    for i in range(len(used)):
        layer = layers[i]
        rank = rank + 1 if layer == before else 0
        before = layer
        first = base[layer]
        up = first + 2 * rank
        down = up + 1
        for which in range(2):
            at = up if which == 0 else down
            records[at] = made[which]
            q = records[at]
            q.layer, q.expert, q.tokens = names[i], used[i], tokens[i]
            q.msb_tier, q.lsb_tier = tiers[i, 0], tiers[i, 1]
            q.weights_known = first - 1
            q.after = first - 1 if which == 0 else up
