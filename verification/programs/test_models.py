"""Random programs on functional, exact and fast model: equal starts, ends, waits and counters; coverage complete."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cycle_model.pe.decoder import decode
from cycle_model.pe.exact import run_exact
from cycle_model.pe.fast import run_fast
from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.isa.encoding import Unit, pack, unpack
from hw.params import chip
from verification.programs.coverage import OUT_OF_REACH, all_bins, covered
from verification.programs.equality import Compared, assert_levels_equal
from verification.programs.generator import random_program

LATENESS = ("none", "light", "heavy")
COVERAGE_PROGRAMS = 240


@pytest.mark.parametrize("name", ["tiny", "fpga-small", "4gb"])
def test_levels_agree(name, record_property):
    """Results, times and counters of random programs are equal on all models, links on time, late and very late."""
    compared = sum(
        (assert_levels_equal(random_program(chip(name), seed, lateness=LATENESS[seed % 3])) for seed in range(9)),
        Compared(),
    )
    record_property("compared", str(compared))
    print(f"{name}: {compared}")
    assert compared.times > 9 * 2 * 30


def test_a_seed_is_one_program():
    """The same seed makes the same program in every process, whatever the order of sets of strings in it."""
    code = """from hw.params import chip
from verification.programs.generator import random_program
print([random_program(chip("tiny"), seed, commands=60).instructions for seed in range(6)])"""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    )
    assert first == second


def test_random_programs_are_free_of_races():
    """What the schedule orders by tokens is ordered for the functional level's own race detector too."""
    for seed in range(24):
        program = random_program(chip(("tiny", "4gb")[seed % 2]), seed, commands=25, lateness=LATENESS[seed % 3])
        assert functional(program, find_races=True).error is None


def test_a_race_would_be_found():
    """The same programs without the tokens of one vector command: the detector objects to some of them."""
    refused = 0
    for seed in range(12):
        program = random_program(chip("tiny"), seed, commands=25)
        commands = [unpack(bits) for bits in program.instructions]
        waiting = [i for i, c in enumerate(commands) if c.spec.unit is Unit.VECTOR and c.waits]
        program.instructions[waiting[0]] = pack(replace(commands[waiting[0]], waits=()))
        try:
            functional(program, find_races=True)
        except UserError:
            refused += 1
    assert refused > 6


def test_fast_equals_exact_in_what_commands_wait_for():
    """Cycles that every command lost to a full queue, semaphores, the HB controller and links, not only the sums."""
    compared = 0
    for seed in range(60):
        program = random_program(chip("tiny"), seed, commands=60, lateness=LATENESS[seed % 3])
        steps = decode(program)
        stepped, cycles = run_exact(program, steps)
        jumped, other_cycles = run_fast(program, steps)
        assert cycles == other_cycles
        for name in ("start", "done", "waits"):
            differ = np.flatnonzero(np.atleast_1d(getattr(stepped, name) != getattr(jumped, name)))
            assert not len(differ), f"seed {seed}: {name} differ first at {differ[0]}"
        compared += stepped.waits.size + 2 * stepped.start.size
    print(f"{compared} items compared")
    assert compared > 10_000


def test_coverage_is_complete(record_property):
    """Random programs hit every bin (command x form x stalled or not) that is not listed as out of reach."""
    hits: Counter = Counter()
    for seed in range(COVERAGE_PROGRAMS):
        hits += covered(random_program(chip("tiny"), seed, commands=60, lateness=LATENESS[seed % 3]))
    bins = all_bins() - set(OUT_OF_REACH)
    record_property("bins", len(bins))
    missing = sorted(bins - set(hits))
    assert not missing, f"{len(missing)} of {len(bins)} bins not hit: {missing[:8]}"
    unknown = set(hits) - bins
    assert not unknown, f"hit but not listed: {sorted(unknown)[:8]}"
