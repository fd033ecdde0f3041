"""The quick part of ``make formal``: what holds is proved, what is false is refuted, and covers are reached."""

import pytest
from amaranth.hdl import Signal

from verification.formal.catalogue import PROPERTIES
from verification.formal.property import Answer, Harness, bounded, induction


@pytest.mark.parametrize("prop", [prop for prop in PROPERTIES if prop.quick], ids=lambda prop: prop.name)
def test_quick_properties(prop, tmp_path):
    """The solver answers as expected."""
    outcome = prop.decide(tmp_path / "trace.vcd")
    assert outcome.answer is prop.expect, outcome.detail


def _counter() -> tuple[Harness, Signal]:
    """Counts 0 1 2 3 0 ...; the values 4 .. 7 are never reached."""
    h = Harness()
    count = Signal(3)
    with h.m.If(count == 3):
        h.m.d.sync += count.eq(0)
    with h.m.Else():
        h.m.d.sync += count.eq(count + 1)
    return h, count


def test_claims_too_weak_for_induction_are_not_proofs(tmp_path):
    """count != 6 holds from reset, but 5 precedes 6: not inductive; count < 4 is."""
    h, count = _counter()
    h.claim("never_six", count != 6)
    assert induction(h, 1, 10, tmp_path / "t.vcd").answer is Answer.NOT_INDUCTIVE
    h, count = _counter()
    h.claim("below_four", count < 4)
    assert induction(h, 1, 10, tmp_path / "t.vcd").answer is Answer.PROVED


def test_a_violation_is_found_in_its_step_with_a_trace(tmp_path):
    """count reaches 3 in step 3: three steps show nothing, four do, and the trace names the wire."""
    h, count = _counter()
    h.claim("never_three", count != 3)
    trace = tmp_path / "t.vcd"
    assert bounded(h, 3, trace).answer is Answer.PROVED
    outcome = bounded(h, 4, trace)
    assert outcome.answer is Answer.REFUTED
    assert "never_three fails in step 3" in outcome.detail
    assert "never_three" in trace.read_text()


def test_an_unreachable_cover_is_not_a_proof(tmp_path):
    """A claim whose cover cannot be reached is not counted as proved."""
    h, count = _counter()
    h.claim("below_four", count < 4)
    h.cover("five", count == 5)
    assert bounded(h, 8, tmp_path / "t.vcd").answer is Answer.UNREACHED


def test_contradictory_assumptions_show_in_the_covers(tmp_path):
    """Assuming the impossible proves anything, except a cover."""
    h, count = _counter()
    h.assume("impossible", count == 7)
    h.claim("anything", count == 5)
    h.cover("something", count >= 0)
    assert bounded(h, 4, tmp_path / "t.vcd").answer is Answer.UNREACHED
