"""ExpertRouter: both selections in the router's order, against sorting, through any stall."""

import numpy as np
import pytest

from hw.params import RoutingParams, chip
from hw.pe.expert_router import ExpertRouter
from verification.bench.amaranth_streams import run_streams

SIZES = {
    "tiny": chip("tiny").routing,
    "full": RoutingParams(experts=128, top_k=8, layers=1),
    "one": RoutingParams(experts=3, top_k=1, layers=1),
    "all": RoutingParams(experts=4, top_k=4, layers=1),
}


def _bits(score: float) -> int:
    return int(np.float32(score).view(np.uint32))


def _beats(tokens: list[list[tuple[float, int]]]) -> list[dict]:
    return [
        {"score": _bits(score), "resident": resident, "last": n == len(token) - 1}
        for token in tokens
        for n, (score, resident) in enumerate(token)
    ]


def _expected(token: list[tuple[float, int]], k: int) -> tuple[list, list]:
    """Expert numbers of both selections by Python's stable sort."""
    order = [e for e in sorted(range(len(token)), key=lambda e: -token[e][0]) if not np.isnan(token[e][0])]
    return order[:k], [e for e in order if token[e][1]][:k]


def _check(params: RoutingParams, tokens: list[list[tuple[float, int]]], stalls: str = "none"):
    seen = run_streams(ExpertRouter(params), {"scores": _beats(tokens)}, {"routed": len(tokens)}, stalls=stalls)
    for token, got in zip(tokens, seen["routed"].payloads, strict=True):
        for name, experts in zip(("all", "resident"), _expected(token, params.top_k), strict=True):
            count = got[name]["count"]
            assert got[name]["experts"][:count] == experts
            assert got[name]["scores"][:count] == [_bits(token[e][0]) for e in experts]
        assert got["invalid"] == any(np.isnan(score) for score, _ in token)
    return seen


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize("size", SIZES)
def test_random_scores(size, stalls):
    """Random scores, many of them equal, random residency: stable descending order, fewer than k where fewer exist."""
    params = SIZES[size]
    rng = np.random.default_rng(len(size))
    tokens = []
    for _ in range(3 if params.experts > 8 else 25):
        scores = rng.choice([-1.5, -0.0, 0.0, 0.25, 1.0, np.inf, -np.inf, *rng.standard_normal(8)], params.experts)
        residency = rng.random()
        tokens.append([(float(s), int(rng.random() < residency)) for s in scores])
    _check(params, tokens, stalls)


def test_ties_go_to_the_lower_expert():
    """By hand: 0.5 twice, and -0 equal to +0: lower numbers first."""
    token = [(-0.0, 1), (0.5, 0), (0.0, 1), (0.5, 1), (-1.0, 1), (0.25, 0), (0.25, 1), (-2.0, 1)]
    seen = _check(RoutingParams(experts=8, top_k=6, layers=1), [token])
    got = seen["routed"].payloads[0]
    assert got["all"]["experts"] == [1, 3, 5, 6, 0, 2]
    assert got["resident"]["experts"][:6] == [3, 6, 0, 2, 4, 7]


def test_nothing_resident_and_short_tokens():
    """None resident gives count 0 although the token before had some; a shorter token is selected from what came."""
    full, none = [(0.1 * e, 1) for e in range(8)], [(0.1 * e, 0) for e in range(8)]
    seen = _check(chip("tiny").routing, [full, none, full[:1], none])
    assert [token["resident"]["count"] for token in seen["routed"].payloads] == [2, 0, 1, 0]


def test_nan_is_never_selected_and_marks_the_token():
    """A NaN score is left out and the token marked invalid; the next token is valid again."""
    token = [(float("nan"), 1), (0.5, 1), (-1.0, 1), (float("nan"), 0)]
    seen = _check(chip("tiny").routing, [token, [(0.5, 1)] * 8, [(float("nan"), 1)] * 8])
    assert [t["invalid"] for t in seen["routed"].payloads] == [1, 0, 1]


def test_too_many_scores():
    """Scores beyond the number of experts are dropped and mark the token invalid; the next token is right."""
    params = RoutingParams(experts=2, top_k=1, layers=1)
    beats = _beats([[(0.1, 1), (0.2, 1), (0.9, 1)], [(0.4, 1), (0.3, 1)]])
    seen = run_streams(ExpertRouter(params), {"scores": beats}, {"routed": 2})["routed"].payloads
    assert [(t["all"]["experts"], t["invalid"]) for t in seen] == [([1], 1), ([0], 0)]


def test_rate():
    """Unstalled: a score every cycle, each token's result in the cycle after its last score."""
    params = chip("tiny").routing
    tokens = [[(float(e), 1) for e in range(8)]] * 4
    seen = _check(params, tokens)
    taken = seen["scores"].cycles
    assert taken == list(range(taken[0], taken[0] + 32))
    assert seen["routed"].cycles == [taken[n] + 1 for n in (7, 15, 23, 31)]
