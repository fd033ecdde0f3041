"""Whole experts on the compiled Verilog, every memory seen: equal at functional, exact, fast and RTL, to the cycle."""

import pytest

from hw.params import chip
from rtl_gen.compiled_pe import run_compiled
from rtl_gen.simulate import simulate_pe
from sw_stack.commands.run_command import compare, run_level
from sw_stack.compiler.expert_program import Share
from verification.programs.expert_cases import random_case, with_hb_rows
from verification.programs.generator import random_program

pytestmark = pytest.mark.full
PATHS = [("draft", "hb"), ("full", "hb"), ("full", "stream")]


def _assert_equal(program):
    levels = [run_compiled(program), *(run_level(program, level) for level in ("functional", "exact", "fast"))]
    assert compare(levels) == []
    assert levels[0].error is None
    assert levels[0].digest
    print(f"{levels[0].cycles:,} cycles, {len(levels[0].start):,} commands")


@pytest.mark.parametrize(("mode", "tier"), PATHS)
def test_expert_of_768_outputs(mode, tier):
    """A whole expert on one tiny PE: draft, resident (MSB from HB, LSB over the link), not resident."""
    case = random_case(1, outputs=768, hidden=64, experts=1, k=1, tokens=2)
    _assert_equal(case.program(with_hb_rows(chip("tiny"), 4096), mode, tier))


@pytest.mark.parametrize(("mode", "tier"), PATHS)
def test_expert_of_2880_outputs(mode, tier):
    """K = 2880 in gate, up and down on one of 45 tiny PEs."""
    case = random_case(4, outputs=2880, hidden=2880, experts=1, k=1, tokens=2)
    _assert_equal(case.program(with_hb_rows(chip("tiny"), 4096), mode, tier, share=Share(17, 45)))


@pytest.mark.parametrize(("mode", "tier"), PATHS)
def test_published_pe(mode, tier):
    """PE 5 of the 16 of `4gb`: its share of an expert of 768 outputs with K = 2048, for 16 tokens."""
    case = random_case(5, outputs=768, hidden=2048, experts=1, k=1, tokens=16)
    _assert_equal(case.program(chip("4gb"), mode, tier, share=Share(5, 16)))


def test_compiled_and_simulated_results_are_one():
    """The C++ bench sees what the Python bench sees: results of 12 random programs are equal in every field."""
    for seed in range(12):
        program = random_program(chip("tiny"), seed, commands=14, lateness=("none", "light", "heavy")[seed % 3])
        assert run_compiled(program) == simulate_pe(program)
