"""Where serving gets its routing: cursors, counts, coverage, restricted choices."""

from __future__ import annotations

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.workloads.routing_source import RoutingSource, coverage, expert_tokens, restricted
from sw_stack.workloads.trace import Trace

GPT = "gpt-oss-20b"


def small_trace(tokens: int = 6) -> Trace:
    """Two sequences, one layer, top-2 of 4 experts: token t uses t % 4 and (t + 1) % 4."""
    experts = np.array([[[t % 4, (t + 1) % 4]] for t in range(2 * tokens)], np.uint8)
    return Trace(
        experts=experts, offsets=np.array([0, tokens, 2 * tokens]), num_experts=4, model="m", source="s", licence="l"
    )


def test_cursor_walks_and_wraps():
    """Tokens to come follow the newest one; a sequence wraps round within itself; a shorter model is refused."""
    source = RoutingSource(small_trace(), 1, 4, 2, seed=0)
    slots = np.arange(2)
    first = source.choices(slots, np.arange(6)).reshape(2, 6, 2)
    for sequence in first:
        assert (np.diff(sequence[:, 0].astype(int)) % 4).tolist().count(1) >= 4  # one wrap at most
    source.advance(slots, np.array([2, 0]))
    again = source.choices(slots, np.arange(2)).reshape(2, 2, 2)
    np.testing.assert_array_equal(again[0], first[0, 2:4])
    np.testing.assert_array_equal(again[1], first[1, :2])
    with pytest.raises(UserError, match="2 MoE layers of 4 experts, not 1 of 4"):
        RoutingSource(small_trace(), 2, 4, 1, seed=0)


def test_counts_and_coverage_by_hand():
    """Three tokens on layers of four experts; -1 counts for nothing; coverage is the resident share of the mass."""
    choices = np.array([[[0, 1], [2, 3]], [[0, 2], [3, -1]], [[0, 1], [-1, -1]]])
    np.testing.assert_array_equal(expert_tokens(choices, 4), [[3, 2, 1, 0], [0, 0, 1, 2]])
    mask = np.array([[True, False, False, False]])
    assert coverage(np.array([[[0, 1]], [[2, 0]]]), np.array([0.75, 0.25]), mask) == pytest.approx(0.5)


def test_restricted_choice_keeps_residents_and_never_repeats():
    """Wanted residents stay in their slots, other slots take distinct residents, missing ones are empty."""
    rng = np.random.default_rng(3)
    choices = np.stack([rng.permuted(np.arange(16)[None].repeat(5, 0), axis=1)[:, :4] for _ in range(50)])
    mask = rng.random((5, 16)) < 0.4
    mask[0] = False
    mask[1, 3:] = False  # three residents, fewer than k
    mask[1, :3] = True
    out = restricted(choices, mask, rng.random((5, 16)), rng)
    for t in range(50):
        for layer in range(5):
            used = out[t, layer][out[t, layer] >= 0]
            assert len(used) == min(4, mask[layer].sum()) == len(set(used))
            assert mask[layer, used].all()
            kept = mask[layer, choices[t, layer]]
            np.testing.assert_array_equal(out[t, layer][kept], choices[t, layer][kept])
