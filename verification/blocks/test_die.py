"""The die: PEs that contend for both links, at every level; two mappings of one expert give the same bits."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from cycle_model import links
from cycle_model.die import DieProgram, DieRun, run
from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from hw.errors import UserError
from hw.isa.encoding import PeError
from hw.params import chip
from verification.bench.cocotb_runner import simulate as simulate_verilog
from verification.bench.die_bench import simulate
from verification.programs.die_programs import MAPPINGS, expert_on_die, link_tour

TWO = dataclasses.replace(chip("fpga-small"), name="two-small", pes=2)
THREE = dataclasses.replace(chip("fpga-small"), name="three-small", pes=3)


def both_levels(program: DieProgram) -> DieRun:
    """Exact and fast models of the die, which must agree."""
    stepped, recurrence = run(program, links.exact, exact), run(program, links.fast, fast)
    assert stepped.stream == recurrence.stream
    assert stepped.aggregation == recurrence.aggregation
    assert stepped.to_host == recurrence.to_host
    for one, other in zip(stepped.pes, recurrence.pes, strict=True):
        assert one.error is None
        for name in ("cycles", "counters", "start", "done"):
            assert getattr(one, name) == getattr(other, name)
    return stepped


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_models_agree_and_mappings_give_the_same_bits(mapping):
    """Exact and fast agree, and the host gets the runtime's bits, in both mappings of one expert.

    Output-parallel the PEs exchange maxima and INT8 pieces; data-parallel they share every broadcast weight.
    """
    expert = expert_on_die(TWO, mapping)
    model = both_levels(expert.program)
    np.testing.assert_array_equal(expert.rows(model), expert.case.expected("full").view(np.uint32))
    assert len({source for _, source in model.stream.grants}) == 2
    assert len({source for _, source in model.aggregation.grants}) == 3


@pytest.mark.full
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_levels_agree_and_mappings_give_the_same_bits(mapping):
    """RTL, exact, fast: every command, grant, counter, word to the host; both mappings give the runtime's bits."""
    expert = expert_on_die(TWO, mapping)
    model = both_levels(expert.program)
    assert simulate(expert.program).compare(model) > 300
    np.testing.assert_array_equal(expert.rows(model), expert.case.expected("full").view(np.uint32))


def test_models_agree_on_every_link_operation():
    """Unicast, multicast, broadcast; reduction, all-gather, chain merge, gather: exact = fast, the runtime's bits."""
    for seed in range(8):
        tour = link_tour(THREE, seed)
        model = both_levels(tour.program)
        for got, expected in zip(tour.rows(model), tour.expected, strict=True):
            np.testing.assert_array_equal(got, expected)
        memory = [sent.targets for source in tour.program.memory for sent in source]
        assert {bin(targets).count("1") for targets in memory} == {1, 2, 3}
        assert any(one != other for (_, one), (_, other) in pairwise(model.stream.grants))
        assert model.aggregation.waits > 0


def test_exported_verilog(monkeypatch):
    """Icarus, three PEs of fpga-small: a program with every link operation, to the cycle."""
    monkeypatch.setenv("DIE_PROGRAMS", "1")
    assert simulate_verilog("die", "fpga-small").passed == ["every_link_operation"]


@pytest.mark.full
def test_exported_verilog_at_length(monkeypatch):
    """Verilator, three PEs of tiny: 40 such programs."""
    monkeypatch.setenv("DIE_PROGRAMS", "40")
    assert simulate_verilog("die", "tiny", "verilator").passed == ["every_link_operation"]


@pytest.mark.full
def test_every_link_operation_in_the_simulator():
    """The same in Amaranth's simulator, where a failure's signals have their names."""
    tour = link_tour(THREE, 5)
    assert simulate(tour.program).compare(both_levels(tour.program)) > 250


def test_a_partner_that_never_sends():
    """A PE that has no part in a reduction: the others wait for it, and both levels end with the watchdog's error."""
    program = link_tour(THREE, 1).program
    silent = dataclasses.replace(program.programs[1], dispatch=[])
    alone = dataclasses.replace(program, programs=(program.programs[0], silent, program.programs[2]))
    for model in (run(alone, links.exact, exact), run(alone, links.fast, fast)):
        assert [pe.error and pe.error.code for pe in model.pes] == [PeError.WATCHDOG, None, PeError.WATCHDOG]
        assert model.to_host == ()


def test_a_buffer_that_is_too_small():
    """Links' times do not depend on PEs only while buffers hold everything: the model says so instead of guessing."""
    program = dataclasses.replace(expert_on_die(TWO, "data-parallel").program, credit_words=64)
    with pytest.raises(UserError, match="words for target 0 must fit its buffer of 64"):
        run(program, links.fast, fast)
