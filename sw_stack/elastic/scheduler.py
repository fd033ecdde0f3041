"""How deep to draft, or not at all: chosen by predicted time per token, with the reason in words.

Acceptance is measured, not assumed: the first rounds draft at full depth, and every ``PROBE_EVERY`` rounds one drafts
again, so that a decision for plain decoding (AR) can be revised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import TimePredictor
from sw_stack.elastic.traffic import TrafficMeter
from sw_stack.elastic.tree import TreeShape

MODES = ("always", "auto", "adaptive")
"""always: draft in every round. auto: full depth or AR. adaptive: the best depth from 0 to full."""
FIRST_PROBES = 4
PROBE_EVERY = 32
LARGEST_BATCH = 64
_NO_TRIALS_YET = 0.5
"""Acceptance of a depth that was never tried (assumed; only until it is)."""


@dataclass(frozen=True)
class Decision:
    """Depth of the next round (0 = AR), and why; ``measuring`` where it was not chosen but acceptance is measured."""

    depth: int
    reason: str
    measuring: bool = False


class DepthScheduler:
    """Chooses the depth of every round.

    Parameters
    ----------
    mode : in ``MODES``
    shape : the full tree
    predictor : seconds of a pass
    meter : expected work of passes
    """

    def __init__(self, mode: str, shape: TreeShape, predictor: TimePredictor, meter: TrafficMeter) -> None:
        if mode not in MODES:
            raise UserError(f"unknown mode {mode!r}; {nearest(mode, list(MODES))}")
        self.mode, self.shape, self.predictor, self.meter = mode, shape, predictor, meter
        self._rounds = 0

    def decide(self, batch: int, kv_bytes: int, statistics: SpeculationStatistics) -> Decision:
        """Depth of the next round for ``batch`` sequences that hold ``kv_bytes`` together."""
        full = self.shape.depth
        if full == 0:
            return Decision(0, "no drafting method")
        self._rounds += 1
        offer = self._offer()
        if self.mode == "always":
            return Decision(full, "drafting in every round was asked for" + offer)
        if self._rounds <= FIRST_PROBES or self._rounds % PROBE_EVERY == 0:
            return Decision(full, f"round {self._rounds} measures acceptance{offer}", True)
        depths = (0, full) if self.mode == "auto" else range(full + 1)
        times = {depth: self.seconds_per_token(depth, batch, kv_bytes, statistics) for depth in depths}
        best = min(times, key=times.get)
        other = full if best == 0 else 0
        what = "AR" if best == 0 else f"depth {best}"
        against = "AR" if other == 0 else f"depth {other}"
        return Decision(
            best,
            f"{what} at batch {batch}: {1e6 * times[best]:.2f} us per token predicted by {self.predictor.name}, "
            f"{1e6 * times[other]:.2f} with {against}{offer}",
        )

    def _offer(self) -> str:
        fewest, layer = self.meter.hot_set.fewest_resident
        k = self.meter.config.top_k
        return f"; layer {layer} holds {fewest} experts, fewer than top-{k}: AR offered" if fewest < k else ""

    def batch_threshold(self, kv_bytes: float, statistics: SpeculationStatistics) -> int | None:
        """Smallest batch, up to ``LARGEST_BATCH``, in which full depth is predicted to beat AR; None if there is none.

        ``kv_bytes`` of one sequence.
        """
        for batch in range(1, LARGEST_BATCH + 1):
            times = [self.seconds_per_token(d, batch, batch * kv_bytes, statistics) for d in (0, self.shape.depth)]
            if times[1] < times[0]:
                return batch
        return None

    def seconds_per_token(self, depth: int, batch: int, kv_bytes: float, statistics: SpeculationStatistics) -> float:
        """Predicted seconds of a round over its expected new tokens, all sequences together."""
        width = self.shape.width
        passes = [self.meter.expected_draft(batch * (1 if i == 0 else width), kv_bytes) for i in range(depth)]
        verify = self.meter.expected_verify(batch * (1 + depth * width), kv_bytes)
        seconds = sum(map(self.predictor.seconds, [*passes, verify]))
        reach = np.cumprod(statistics.acceptance(self.shape.depth, _NO_TRIALS_YET))[:depth]
        return seconds / (batch * (1 + float(reach.sum())))
