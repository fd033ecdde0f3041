"""Bytes and arithmetic of a `Pass`, and a machine's roofline over them: what decisions are predicted from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sw_stack.elastic.drafters.protocol import WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import expert_sizes, expert_weights
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.traffic import MSB_BYTES, WHOLE_BYTES, dense_weights, matrix_weights
from sw_stack.machines.capacity import bytes_per_weight
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig
from sw_stack.models.kv_cache import KvCache, KvFormat

READS = {
    "none": None,
    "elastic": WeightReads.MSB_SLICES,
    "quant": WeightReads.COPY,
    "slm": WeightReads.OWN,
    "eagle": WeightReads.OWN,
}
"""How each drafting method reads weights."""


def kv_bytes_per_position(config: ModelConfig) -> int:
    """INT8 keys and values of one position over all layers, scales included."""
    return KvCache(config, KvFormat.INT8).bytes_per_position


def gpu_bytes(machine: Machine, work: PassWork) -> float:
    """At least so many bytes does a GPU read for ``work``, which is of INT8 weights, at its own precision."""
    return (work.hb_bytes + work.lpddr_bytes) * bytes_per_weight(machine.precision) / WHOLE_BYTES


def expert_share(config: ModelConfig) -> float:
    """Share of a token's multiply-adds that routed experts do, in a pass of the target."""
    experts = sum(config.moe_layers) * config.top_k * expert_weights(config)
    return experts / (experts + dense_weights(config))


class WorkOfPasses:
    """Work of passes of one model; dense weights and KV count as HB's, spilled KV as LPDDR's."""

    def __init__(self, config: ModelConfig, share: HbShare) -> None:
        self.config, self.share = config, share
        self.kv_per_position = kv_bytes_per_position(config)
        self._dense = dense_weights(config) if config.moe else matrix_weights(config)
        self._expert = expert_weights(config) if config.moe else 0
        self._sizes = expert_sizes(config) if config.moe else None
        self._slices = 1 if config.moe and config.moe.mxfp4 else 2

    def of(self, one: Pass) -> PassWork:
        """Bytes from each memory and slice MACs."""
        draft = one.kind is PassKind.DRAFT
        whole_dense = not draft or one.dense_full
        used = one.expert_tokens > 0
        msb = used & one.resident[:, :, 0]
        near = far = 0.0
        if self._sizes is not None:
            near = float(msb.sum()) * self._sizes.msb_bytes
            far = float(used.sum() - msb.sum()) * self._sizes.msb_bytes
            if not draft:
                lsb = float((used & one.resident[:, :, 1]).sum())
                near += lsb * self._sizes.lsb_bytes
                far += (float(used.sum()) - lsb) * self._sizes.lsb_bytes
        kv = self.kv_per_position * float(one.kv_lengths.sum())
        spilled = self.share.spilled(kv)
        pairs = float(one.expert_tokens.sum())
        macs = (2 if whole_dense else 1) * one.total_tokens * self._dense
        macs += (1 if draft else self._slices) * pairs * self._expert
        dense = self._dense * (WHOLE_BYTES if whole_dense else MSB_BYTES)
        return PassWork(dense + near + kv - spilled, far + spilled, float(macs))


@dataclass
class MachinePredictor:
    """Seconds of a pass: the machine's roofline, scaled by what an engine took for earlier passes of that kind.

    Without `observe` it is the bare roofline, a lower bound. ``observe`` moves the factor of the resource that bounds
    the pass (HB, external memory, arithmetic) to the ratio measured, half way each time, so that decisions follow the
    engine, not the peaks.
    """

    machine: Machine
    expert_share: float = 1.0
    factors: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """In the reasons of decisions."""
        return f"{'engine-calibrated ' if self.factors else ''}roofline of {self.machine.name}"

    def bounds(self, work: PassWork) -> dict[str, float]:
        """Seconds that each resource needs at its peak."""
        m = self.machine
        if m.gpu is not None:
            rate = 1e9 * m.gpu.gb_per_s.value * m.gpu.memory_efficiency.value
            operations = 1e12 * m.gpu.int8_tops.value * m.gpu.compute_efficiency.value
            return {"memory": gpu_bytes(m, work) / rate, "arithmetic": work.slice_macs / operations}
        near, far = work.hb_bytes, work.lpddr_bytes
        arithmetic = work.slice_macs / (1e9 * m.slice_macs_per_ns)
        external = 1e9 * m.lpddr_gb_per_s
        if m.has_hb:
            return {"HB": near / (1e9 * m.hb_gb_per_s), "LPDDR": far / external, "arithmetic": arithmetic}
        if m.near_memory is None:
            return {"LPDDR": (near + far) / external, "arithmetic": arithmetic}
        unit = m.near_memory  # experts in the memory, all else over the bus, or everything over the bus
        reading = far / (1e9 * unit.sustained_gb_per_s(m.lpddr))
        in_memory = max(reading, work.slice_macs * self.expert_share / 2 / (1e9 * unit.macs_per_ns(m.lpddr)))
        rest = {"LPDDR": near / external, "arithmetic": arithmetic * (1 - self.expert_share)}
        if in_memory + max(rest.values()) < max((near + far) / external, arithmetic):
            return rest | {"near memory": in_memory}
        return {"LPDDR": (near + far) / external, "arithmetic": arithmetic}

    def seconds(self, work: PassWork) -> float:
        """Predicted time; experts computed in the memory add to the processor's part, all else overlaps."""
        bounds = {name: t * self.factors.get(name, 1.0) for name, t in self.bounds(work).items()}
        in_memory = bounds.pop("near memory", 0.0)
        return max(bounds.values()) + in_memory

    def observe(self, work: PassWork, seconds: float) -> None:
        """An engine took ``seconds`` for a pass of this work."""
        bounds = self.bounds(work)
        binding = max(bounds, key=bounds.get)
        predicted = self.seconds(work)
        if predicted > 0:
            old = self.factors.get(binding, 1.0)
            self.factors[binding] = float(np.clip(old * (1 + seconds / predicted) / 2, 1e-3, 1e3))
