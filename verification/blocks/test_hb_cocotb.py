"""The exported HB controller under cocotb: a short run in CI, 10^5 commands on demand."""

import pytest

from verification.bench.cocotb_runner import simulate


def test_exported_controller():
    """Icarus: random mixes with every kind of stall, zero violations, equal to the models."""
    outcome = simulate("hb_controller", "tiny", "icarus", tests="random_mixes")
    assert len(outcome.passed) == 3


@pytest.mark.full
def test_exported_controller_at_length(monkeypatch):
    """Verilator: at least 10^5 commands over the mixes, and refreshes under load; zero violations."""
    monkeypatch.setenv("HB_COMMANDS", "40000")
    outcome = simulate("hb_controller", "tiny", "verilator")
    assert len(outcome.passed) == 4
