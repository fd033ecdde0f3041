"""Random programs and whole experts on RTL: in Amaranth's simulator with every memory seen, and as exported Verilog."""

import pytest

from hw.params import chip
from verification.bench.cocotb_runner import simulate
from verification.programs.coverage import OUT_OF_REACH, all_bins, covered
from verification.programs.equality import MODELS, Compared, assert_levels_equal, compare, run_level
from verification.programs.generator import random_program

EVERY = ("functional", "exact", "fast", "rtl")


@pytest.mark.parametrize(
    ("name", "lateness", "seed"), [("tiny", "none", 409), ("tiny", "heavy", 439), ("fpga-small", "light", 422)]
)
def test_random_program(name, lateness, seed, record_property):
    """Every memory entry, word sent, start, done, total and counter is equal at functional, exact, fast and RTL."""
    program = random_program(chip(name), seed, commands=14, lateness=lateness)
    assert covered(program)["MATMUL", "blocks", "several"], "the array's chains should be in use"
    compared = assert_levels_equal(program, EVERY)
    record_property("compared", str(compared))
    print(compared)
    assert min(compared.values, compared.times, compared.counters) > 60


def test_exported_verilog(monkeypatch):
    """Icarus, fpga-small: a random program, and a whole expert in draft mode, resident and streamed."""
    monkeypatch.setenv("PE_PROGRAMS", "1")
    outcome = simulate("pe", "fpga-small", "icarus")
    assert len(outcome.passed) == 5


def test_exported_verilog_of_the_hand_worked_chip():
    """Icarus, tiny: the programs encoded by hand, to the cycle."""
    assert simulate("pe", "tiny", "icarus", tests="golden_programs").passed == ["golden_programs"]


@pytest.mark.full
def test_exported_verilog_at_length(monkeypatch):
    """Verilator, tiny: 150 random programs, the hand-worked ones, and whole experts."""
    monkeypatch.setenv("PE_PROGRAMS", "150")
    assert len(simulate("pe", "tiny", "verilator").passed) == 5


@pytest.mark.full
@pytest.mark.parametrize(("name", "programs"), [("tiny", 240), ("4gb", 240)])
def test_compiled_verilog_reaches_every_bin(name, programs):
    """The PE of `tiny` and the published one, compiled: random programs equal to the models until every bin is hit."""
    from rtl_gen.compiled_pe import run_compiled

    missing, compared = all_bins() - set(OUT_OF_REACH), Compared()
    for seed in range(programs):
        program = random_program(chip(name), seed, commands=60, lateness=("none", "light", "heavy")[seed % 3])
        compared += compare([run_compiled(program), *(run_level(program, level) for level in MODELS)])
        missing -= set(covered(program))
    print(compared)
    assert not missing, f"not reached: {sorted(missing)[:8]}"
