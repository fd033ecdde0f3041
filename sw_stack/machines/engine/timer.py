"""The engine as serving rounds see it: seconds of a pass; and what all passes together did, for energy and reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cycle_model.counts import Counts
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.machines.engine.engine import Engine, PassResult
from sw_stack.machines.engine.workload import Pass
from sw_stack.machines.gpu import GpuRoofline
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig


@dataclass
class Totals:
    """Sums over passes; bytes and nanoseconds by name."""

    passes: int = 0
    ns: float = 0.0
    slice_macs: float = 0.0
    counts: Counts = field(default_factory=Counts)
    critical_ns: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_ns: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes_by: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class MachineTimer:
    """Seconds of passes of the target and of draft models on one machine: the engine, or a GPU's roofline.

    Called as `sw_stack.workloads.serving` calls a timer. All models share one clock.

    Attributes
    ----------
    share, draft_share : of HB, of the target and of a drafter with a model of its own
    totals : of all passes so far
    last : the engine's last result; None on a GPU
    """

    def __init__(
        self, machine: Machine, target: ModelConfig, share: HbShare | None = None, mapping: str | None = None
    ) -> None:
        self.machine, self.target, self.share, self.mapping = machine, target, share, mapping
        self.draft_share: HbShare | None = None
        self.totals = Totals()
        self.last: PassResult | None = None
        self._engines: dict[int, Engine] = {}
        self._rooflines: dict[int, GpuRoofline] = {}

    @property
    def engine(self) -> Engine:
        """The target's engine."""
        return self._engine(self.target)

    def _engine(self, config: ModelConfig) -> Engine:
        if id(config) not in self._engines:
            share = self.share if config is self.target else self.draft_share
            self._engines[id(config)] = Engine(self.machine, config, share, self.mapping)
        return self._engines[id(config)]

    def __call__(self, config: ModelConfig, one: Pass, work: PassWork) -> float:
        """Seconds of ``one``."""
        totals = self.totals
        totals.passes += 1
        if self.machine.is_gpu:
            roofline = self._rooflines.setdefault(id(config), GpuRoofline(self.machine, config))
            time = roofline.time(one)
            totals.ns += 1e9 * time.seconds
            totals.slice_macs += time.operations  # an operation is half a multiply-add, which is two slice MACs
            totals.bytes_by["memory"] += time.moved_bytes
            totals.critical_ns[time.bound] += 1e9 * max(time.memory_s, time.arithmetic_s)
            totals.critical_ns["kernels"] += 1e9 * time.overhead_s
            totals.busy_ns["memory"] += 1e9 * time.memory_s
            totals.busy_ns["arithmetic"] += 1e9 * time.arithmetic_s
            return time.seconds
        engine = self._engine(config)
        engine.clock_ns = max([engine.clock_ns, *(e.clock_ns for e in self._engines.values())])
        result = self.last = engine.run(one)
        totals.ns += result.ns
        totals.slice_macs += result.slice_macs
        totals.counts += result.counts
        for into, values in (
            (totals.critical_ns, result.critical_ns),
            (totals.busy_ns, result.busy_ns),
            (totals.bytes_by, result.bytes_by),
        ):
            for name, value in values.items():
                into[name] += value
        return 1e-9 * result.ns
