"""Which slices HB keeps when serving begins: the allocation asked for, or the one predicted faster."""

from __future__ import annotations

import numpy as np

from sw_stack.elastic.drafters.protocol import WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet
from sw_stack.elastic.scheduler import DepthScheduler
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.traffic import TrafficMeter
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.machine import HbUse, Machine
from sw_stack.models.architectures import ModelConfig
from sw_stack.workloads.acceptance import Acceptance
from sw_stack.workloads.pass_work import READS, MachinePredictor
from sw_stack.workloads.serving_types import Serving

CANDIDATES = ("msb-only", "adaptive")
"""What ``auto`` chooses from: the published allocation, and slices by bytes saved per byte kept."""
_TRIALS = 1_000_000


class Residency:
    """The first hot set of a `Server`.

    Parameters
    ----------
    machine, config, serving, share : as of the server
    predictor : of time
    own_weights, own_kv : of the drafter, as `TrafficMeter` has them

    Attributes
    ----------
    reason : after `choose`, in words
    """

    def __init__(
        self,
        machine: Machine,
        config: ModelConfig,
        serving: Serving,
        share: HbShare,
        predictor: MachinePredictor,
        own_weights: int,
        own_kv: float,
    ) -> None:
        self.machine, self.config, self.serving, self.share = machine, config, serving, share
        self.predictor, self.own_weights, self.own_kv = predictor, own_weights, own_kv
        self.shape = TreeShape(0) if serving.method == "none" else serving.shape
        self.reason = ""

    def choose(self, counts: np.ndarray, tokens: int, kv_bytes: int, acceptance: Acceptance | None) -> HotSet:
        """The hot set filled from ``counts`` [MoE layers, experts] over ``tokens``."""
        if READS[self.serving.method] is WeightReads.COPY:
            self.reason = "msb-only: experts of the 4-bit copy, which has one slice"
            return self._filled("msb-only", counts, tokens)
        if self.machine.hb_use is not HbUse.MSB_SLICES:
            self.reason = f"whole: the machine has {self.machine.hb_use.value}"
            return self._filled("whole", counts, tokens)
        if self.serving.allocation != "auto":
            self.reason = f"{self.serving.allocation}: asked for"
            return self._filled(self.serving.allocation, counts, tokens)
        made = {name: self._filled(name, counts, tokens) for name in CANDIDATES}
        times = {name: self._seconds_per_token(hot_set, kv_bytes, acceptance) for name, hot_set in made.items()}
        best, other = sorted(times, key=times.get)
        self.reason = f"{best}: {1e6 * times[best]:.1f} us per token predicted, {1e6 * times[other]:.1f} with {other}"
        return made[best]

    def _filled(self, allocation: str, counts: np.ndarray, tokens: int) -> HotSet:
        made = HotSet(
            self.config,
            self.share.expert,
            policy=self.serving.policy,
            allocation=allocation,
            seed=self.serving.seed,
            batch_tokens=self.serving.batch * (1 + self.shape.nodes),
            draft_weight=float(self.shape.depth),
        )
        made.fill(counts, tokens)
        return made

    def _seconds_per_token(self, hot_set: HotSet, kv_bytes: int, acceptance: Acceptance | None) -> float:
        """With the acceptance at the share of uses that this set covers, since no round has been measured yet."""
        meter = TrafficMeter(
            self.config, hot_set, READS[self.serving.method], self.own_weights, self.share, self.own_kv
        )
        scheduler = DepthScheduler(self.serving.mode, self.shape, self.predictor, meter)
        expected = SpeculationStatistics(1, self.shape.depth)
        if acceptance is not None:
            covered = float((hot_set.usage * hot_set.resident[:, :, 0]).sum() / hot_set.usage.sum())
            expected.tried[:] = _TRIALS
            expected.accepted[0] = _TRIALS * acceptance.by_position(self.shape, covered, self.serving.corner)
        return scheduler.seconds_per_token(self.shape.depth, self.serving.batch, kv_bytes, expected)
