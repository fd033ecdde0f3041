"""Hotness: saturating counts and the most counted experts, against counting and sorting."""

from collections import Counter

import numpy as np
import pytest

from hw.params import RoutingParams, chip
from hw.pe.hotness import Hotness, HotnessOperation, select_cycles
from verification.bench.amaranth_streams import run_streams

TINY = chip("tiny").routing
SIZES = {"tiny": TINY, "odd": RoutingParams(experts=5, top_k=1, layers=3, counter_bits=2)}


def _command(operation: HotnessOperation, layer: int, budget: int = 0) -> dict:
    return {"operation": operation, "layer": layer, "budget": budget}


def _hot_set(params: RoutingParams, events: list[tuple[int, int]], layer: int, budget: int) -> int:
    """Members as bits: most counted first, saturated counts equal, lower number first."""
    counts = Counter(expert for at, expert in events if at == layer)
    top = (1 << params.counter_bits) - 1
    order = sorted(range(params.experts), key=lambda e: (-min(counts[e], top), e))
    return sum(1 << e for e in order[:budget])


@pytest.mark.parametrize("stalls", ["none", "light", "heavy"])
@pytest.mark.parametrize("size", SIZES)
def test_hot_sets(size, stalls):
    """Random events until counters saturate; every layer and budget: the most counted, ties to the lower number.

    Commands go before events, so all events are counted in a first run of commands that only clears, and the
    selections wait for them: they are sent once the last event has been taken.
    """
    params = SIZES[size]
    rng = np.random.default_rng(5)
    weights = rng.dirichlet(np.full(params.experts, 0.6))
    events = [(int(rng.integers(params.layers)), int(rng.choice(params.experts, p=weights))) for _ in range(60)]
    selections = [(layer, budget) for layer in range(params.layers) for budget in range(params.experts + 1)]
    dut = Hotness(params)
    seen = run_streams(
        dut,
        {
            "events": [{"layer": layer, "expert": expert} for layer, expert in events],
            "commands": [_command(HotnessOperation.SELECT, *selection) for selection in selections],
        },
        {"hot_sets": len(selections)},
        stalls=stalls,
        after={"commands": ("events", len(events))},
    )
    assert seen["hot_sets"].payloads == [
        {"layer": layer, "members": _hot_set(params, events, layer, budget)} for layer, budget in selections
    ]


def test_saturation_by_hand():
    """A 2-bit counter stays at 3: experts 4 (7 events) and 1 (3 events) tie, so 1 goes first."""
    params = SIZES["odd"]
    events = [{"layer": 2, "expert": 4}] * 7 + [{"layer": 2, "expert": 1}] * 3 + [{"layer": 2, "expert": 0}] * 2
    seen = run_streams(
        Hotness(params),
        {"events": events, "commands": [_command(HotnessOperation.SELECT, 2, budget) for budget in (1, 2, 3)]},
        {"hot_sets": 3},
        after={"commands": ("events", len(events))},
    )
    assert [hot["members"] for hot in seen["hot_sets"].payloads] == [0b00010, 0b10010, 0b10011]


def test_clear_touches_one_layer():
    """CLEAR zeroes its layer only: afterwards its ties go by number, the other layer's counts still decide."""
    events = [{"layer": layer, "expert": 7} for layer in (0, 1)]
    commands = [
        _command(HotnessOperation.CLEAR, 0),
        _command(HotnessOperation.SELECT, 0, 1),
        _command(HotnessOperation.SELECT, 1, 1),
    ]
    seen = run_streams(
        Hotness(TINY), {"events": events, "commands": commands}, {"hot_sets": 2}, after={"commands": ("events", 2)}
    )
    assert [hot["members"] for hot in seen["hot_sets"].payloads] == [1, 1 << 7]


@pytest.mark.parametrize("size", SIZES)
def test_select_cycles(size):
    """SELECT takes the stated number of cycles, the same for an empty, a partial and a full budget."""
    params = SIZES[size]
    budgets = (0, 1, params.experts)
    seen = run_streams(
        Hotness(params),
        {"commands": [_command(HotnessOperation.SELECT, 0, budget) for budget in budgets]},
        {"hot_sets": len(budgets)},
    )
    waits = np.array(seen["hot_sets"].cycles) - np.array(seen["commands"].cycles)
    assert waits.tolist() == [select_cycles(params)] * len(budgets)
