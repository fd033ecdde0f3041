"""What bounds each phase of a serving: the engine's time beside the roofline, its critical path, and what-if runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from sw_stack.comparison.evaluate import roofline_seconds
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.resources import NAMES, Resource
from sw_stack.machines.engine.timer import MachineTimer
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig
from sw_stack.workloads.pass_work import MachinePredictor, expert_share


@dataclass
class Phase:
    """Sums over the passes of one kind and model.

    roofline_s   every memory and all arithmetic at their peaks, all overlapped: a lower bound
    bounds_s     resource -> seconds that it needs at its peak
    critical_ns  resource -> nanoseconds on the critical path
    busy_ns      resource -> nanoseconds of use (HB, array and vector unit: mean over PEs)
    last         the latest pass
    """

    passes: int = 0
    seconds: float = 0.0
    roofline_s: float = 0.0
    bounds_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    critical_ns: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_ns: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: Pass | None = None

    @property
    def roofline_bound(self) -> str:
        """The resource that the roofline is of; with units in the memory both memories' bandwidths add."""
        slowest = max(self.bounds_s, key=self.bounds_s.get)
        return "both memories" if "near memory" in self.bounds_s and slowest != "arithmetic" else slowest

    @property
    def bound(self) -> str:
        """The resource with most time on the critical path."""
        return max(self.critical_ns, key=self.critical_ns.get)

    def critical_share(self, resource: str) -> float:
        """Of the phase's time."""
        return self.critical_ns.get(resource, 0.0) / (1e9 * self.seconds)


class PhaseRecorder:
    """A timer for `sw_stack.workloads.serving.Server` that also keeps `Phase` sums, by (kind, whether the target's)."""

    def __init__(self, timer: MachineTimer) -> None:
        self.timer = timer
        self.phases: dict[tuple[PassKind, bool], Phase] = defaultdict(Phase)
        self._predictors: dict[int, MachinePredictor] = {}

    def __call__(self, config: ModelConfig, one: Pass, work: PassWork) -> float:
        """Seconds of ``one``, as the timer says."""
        machine, totals = self.timer.machine, self.timer.totals
        before = [dict(totals.critical_ns), dict(totals.busy_ns)]
        seconds = self.timer(config, one, work)
        phase = self.phases[one.kind, config is self.timer.target]
        phase.passes += 1
        phase.seconds += seconds
        phase.last = one
        phase.roofline_s += roofline_seconds(machine, work)
        if id(config) not in self._predictors:
            share = expert_share(config) if config.moe else 0.0
            self._predictors[id(config)] = MachinePredictor(machine, share)
        for name, value in self._predictors[id(config)].bounds(work).items():
            phase.bounds_s[name] += value
        for into, now, old in zip(
            (phase.critical_ns, phase.busy_ns), (totals.critical_ns, totals.busy_ns), before, strict=True
        ):
            for name, value in now.items():
                into[name] += value - old.get(name, 0.0)
        return seconds


def what_if(
    machine: Machine, config: ModelConfig, timer: MachineTimer, one: Pass, factor: float = 0.5
) -> dict[str, float]:
    """Relative change of a pass's time if every duration on one resource were ``factor`` of what it is, by resource.

    Each run starts from DRAM that was just reset, the unchanged one too.
    """

    def ns(scale: dict[Resource, float]) -> float:
        return Engine(machine, config, timer.share, timer.engine.mapping).run(one, scale).ns

    base = ns({})
    by_name: dict[str, list[Resource]] = defaultdict(list)
    for resource, name in NAMES.items():
        by_name[name].append(resource)
    return {name: ns(dict.fromkeys(resources, factor)) / base - 1 for name, resources in by_name.items()}
