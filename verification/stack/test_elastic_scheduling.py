"""Draft or AR, and how deep: decided by predicted time, against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest

from hw.params import chip
from sw_stack.elastic.drafters.protocol import WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, expert_sizes
from sw_stack.elastic.scheduler import FIRST_PROBES, PROBE_EVERY, Decision, DepthScheduler
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import PassWork, Roofline
from sw_stack.elastic.traffic import TrafficMeter
from sw_stack.elastic.tree import TreeShape
from verification.stack.elastic_models import moe_runtime


def meter(experts: int) -> TrafficMeter:
    """An Elastic-SD meter with the first experts of eight resident."""
    config = moe_runtime().config
    chosen = HotSet(config, experts * expert_sizes(config).msb_bytes)
    chosen.fill(np.tile(np.arange(8, 0, -1), (3, 1)), 36)
    return TrafficMeter(config, chosen, WeightReads.MSB_SLICES, 0, HbShare(0, None, chosen.capacity_bytes))


def test_roofline_takes_the_slowest() -> None:
    """819.2 GB/s HB, 102.4 GB/s LPDDR, 16 x 16384 slice MACs per ns: published peaks of the 4 GiB machine."""
    roof = Roofline.of_chip(chip("4gb"))
    assert roof.hb_gb_per_s == pytest.approx(819.2)
    assert roof.seconds(PassWork(819.2e9, 0, 0)) == pytest.approx(1)
    assert roof.seconds(PassWork(819.2e9, 204.8e9, 0)) == pytest.approx(2)
    assert roof.seconds(PassWork(0, 0, 3 * 262144e9)) == pytest.approx(3)


class Fixed:
    """A predictor with a price per HB byte and LPDDR byte."""

    name = "fixed"

    def __init__(self, hb: float, lpddr: float) -> None:
        self._hb, self._lpddr = hb, lpddr

    def seconds(self, work: PassWork) -> float:
        return 1e-9 * (self._hb * work.hb_bytes + self._lpddr * work.lpddr_bytes)


def statistics(acceptance: float) -> SpeculationStatistics:
    """As measured over 100 rounds per position."""
    one = SpeculationStatistics(1, 4)
    one.tried[:] = 100
    one.accepted[:] = round(100 * acceptance)
    return one


def after_probes(scheduler: DepthScheduler, acceptance: float) -> Decision:
    """The first decision that is not a measurement."""
    for _ in range(FIRST_PROBES):
        assert scheduler.decide(4, 0, statistics(acceptance)).depth == 4
    return scheduler.decide(4, 0, statistics(acceptance))


def test_free_drafts_and_full_acceptance_draft_deep_and_the_reverse_gives_ar() -> None:
    """Where the draft costs nothing and all is accepted, full depth; where nothing is accepted, AR, with both times."""
    for mode in ("auto", "adaptive"):
        deep = after_probes(DepthScheduler(mode, TreeShape(4), Fixed(0, 1), meter(4)), 1.0)
        none = after_probes(DepthScheduler(mode, TreeShape(4), Fixed(1, 1), meter(4)), 0.0)
        assert (deep.depth, none.depth) == (4, 0)
        assert "AR at batch 4" in none.reason and "us per token predicted by fixed" in none.reason


def test_predicted_time_per_token_is_that_of_the_formula() -> None:
    """Depth 2, acceptance 0.5: draft + draft + verify, over 4 x (1 + 0.5 + 0.25) tokens."""
    one = meter(4)
    scheduler = DepthScheduler("auto", TreeShape(4), Fixed(1, 2), one)
    draft = one.expected_draft(4, 10).hb_bytes
    verify = one.expected_verify(12, 10)
    seconds = 1e-9 * (2 * draft + verify.hb_bytes + 2 * verify.lpddr_bytes)
    assert scheduler.seconds_per_token(2, 4, 10, statistics(0.5)) == pytest.approx(seconds / 7)


def test_the_batch_threshold_is_the_smallest_batch_where_drafting_pays() -> None:
    """With all accepted and free drafts it is 1, with nothing accepted there is none; else below it AR is cheaper."""
    one = meter(4)
    assert DepthScheduler("auto", TreeShape(4), Fixed(0, 1), one).batch_threshold(0, statistics(1.0)) == 1
    assert DepthScheduler("auto", TreeShape(4), Fixed(1, 1), one).batch_threshold(0, statistics(0.0)) is None
    scheduler = DepthScheduler("auto", TreeShape(4), Fixed(0.05, 1), one)
    threshold = scheduler.batch_threshold(0, statistics(0.4))
    assert 1 < threshold < 64
    for batch, pays in ((threshold - 1, False), (threshold, True)):
        ar, draft = (scheduler.seconds_per_token(depth, batch, 0, statistics(0.4)) for depth in (0, 4))
        assert (draft < ar) is pays


def test_adaptive_depth_stops_where_drafting_no_longer_pays() -> None:
    """With falling acceptance a depth between 0 and full is chosen."""
    falling = statistics(1.0)
    falling.accepted[:] = [[100, 90, 0, 0]]
    scheduler = DepthScheduler("adaptive", TreeShape(4), Fixed(0.05, 1), meter(4))
    for _ in range(FIRST_PROBES):
        scheduler.decide(4, 0, falling)
    assert scheduler.decide(4, 0, falling).depth == 2


def test_acceptance_is_measured_again_now_and_then() -> None:
    """A decision for AR is revised: every so many rounds one drafts."""
    scheduler = DepthScheduler("auto", TreeShape(4), Fixed(1, 1), meter(4))
    depths = [scheduler.decide(4, 0, statistics(0.0)).depth for _ in range(2 * PROBE_EVERY)]
    assert depths.count(4) == FIRST_PROBES + 2


def test_ar_is_offered_where_fewer_than_k_experts_are_resident() -> None:
    """With one of top-2 resident the reason says so, in every mode; with two it does not."""
    for mode in ("always", "auto", "adaptive"):
        decision = DepthScheduler(mode, TreeShape(4), Fixed(1, 1), meter(1)).decide(1, 0, statistics(0.5))
        assert "layer 0 holds 1 experts, fewer than top-2: AR offered" in decision.reason
    decision = DepthScheduler("always", TreeShape(4), Fixed(1, 1), meter(2)).decide(1, 0, statistics(0.5))
    assert "offered" not in decision.reason
