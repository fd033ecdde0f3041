"""A GPU as a roofline with stated efficiencies: time of a pass and energy of a run.

    time = max(bytes / (bandwidth x copy efficiency), operations / (peak x GEMM efficiency)) + kernels x overhead

Bytes are dense weights, every expert that some token of the pass uses, and KV; no cache between layers. Operations
count whole tiles: an expert with one token costs as many as one with ``tile_tokens``. Energy is board power: what a
GPU draws above idle counts as dynamic, idle as static.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError
from sw_stack.elastic.hot_set import expert_weights
from sw_stack.elastic.traffic import dense_weights, matrix_weights
from sw_stack.machines.capacity import bytes_per_weight, dense_bytes, expert_bytes
from sw_stack.machines.energy import Band, Energy
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import CORNERS
from sw_stack.models.architectures import ModelConfig
from sw_stack.models.kv_cache import KvCache, KvFormat


@dataclass(frozen=True)
class GpuTime:
    """Time of one pass and its parts, seconds; ``bound`` names the larger of memory and arithmetic."""

    memory_s: float
    arithmetic_s: float
    overhead_s: float
    moved_bytes: float
    operations: float

    @property
    def seconds(self) -> float:
        """Memory and arithmetic overlap, kernel overhead does not."""
        return max(self.memory_s, self.arithmetic_s) + self.overhead_s

    @property
    def bound(self) -> str:
        """What limits the pass beside kernel overhead."""
        return "memory" if self.memory_s >= self.arithmetic_s else "arithmetic"


class GpuRoofline:
    """Passes of one model on one GPU.

    Parameters
    ----------
    machine : a GPU
    config : the model, target or drafter
    precision : of the weights, see `capacity.PRECISIONS`, None = the machine's; drafts always read the 4-bit copy
    """

    def __init__(self, machine: Machine, config: ModelConfig, precision: str | None = None) -> None:
        if machine.gpu is None:
            raise UserError(f"machine {machine.name} must be a GPU to be timed by its roofline alone")
        precision = precision or machine.precision
        bytes_per_weight(precision)
        self.gpu, self.config, self.precision = machine.gpu, config, precision
        self._dense = dense_weights(config) if config.moe else matrix_weights(config)
        self._expert = expert_weights(config) if config.moe else 0
        self._kv = KvCache(config, KvFormat.INT8).bytes_per_position

    def time(self, one: Pass) -> GpuTime:
        """Time of a pass; residency plays no part, the GPU has one memory."""
        gpu = self.gpu
        precision = "int4" if one.kind is PassKind.DRAFT else self.precision
        used = one.expert_tokens[one.expert_tokens > 0]
        moved = dense_bytes(self.config, precision) + len(used) * expert_bytes(self.config, precision)
        moved += self._kv * float(one.kv_lengths.sum() + one.total_tokens)
        tile = gpu.tile_tokens.value
        rows = float((np.ceil(used / tile) * tile).sum())
        operations = 2.0 * (self._dense * np.ceil(one.total_tokens / tile) * tile + self._expert * rows)
        return GpuTime(
            moved / (1e9 * gpu.gb_per_s.value * gpu.memory_efficiency.value),
            operations / (1e12 * gpu.int8_tops.value * gpu.compute_efficiency.value),
            1e-6 * gpu.kernel_us.value * gpu.kernels_per_layer.value * self.config.layers,
            moved,
            operations,
        )


def gpu_energy(machine: Machine, seconds: float) -> Energy:
    """Board power while busy over ``seconds``; the part up to a loaded context's idle power is static."""
    gpu = machine.gpu
    if gpu is None:
        raise UserError(f"machine {machine.name} is not a GPU: its energy is made of action counts")
    static = Band(*(seconds * gpu.idle_w.at(corner) for corner in CORNERS))
    above = []
    for corner in CORNERS:
        busy = gpu.busy_share.at(corner) * gpu.board_w.value
        above.append(seconds * max(0.0, busy - gpu.idle_w.value))
    return Energy({"board": Band(*above)}, static, ("gpu.busy_share", "gpu.idle_w"))
