"""The die: two PEs that contend for both links, at every level; two mappings of one expert give the same bits."""

import dataclasses

import numpy as np
import pytest

from cycle_model import links
from cycle_model.die import DieProgram, DieRun, Sent, run
from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams, chip
from sw_stack.compiler.expert_program import Share, read_rows
from verification.bench.die_bench import simulate
from verification.programs.expert_cases import ExpertCase, random_case

CHIP = dataclasses.replace(chip("fpga-small"), name="two-small", pes=2)
CREDITS = 1024


def die_program(chip: ChipParams, programs: list[PeProgram]) -> DieProgram:
    """The programs' link words as chunks: weights of each PE from a memory source, the others from the host."""
    memory, host, routes = [[], []], [], []
    parts = []
    for i, program in enumerate(programs):
        weights = [word for chunk in program.stream for word in chunk.words]
        memory[i] = [Sent(0, 1 << i, tuple(weights[start : start + 16])) for start in range(0, len(weights), 16)]
        rows = [word for chunk in program.aggregation for word in chunk.words]
        parts.append([Sent(0, 1 << i, tuple(rows[start : start + 8])) for start in range(0, len(rows), 8)])
        sent = len(functional(program).state.out)
        routes.append(tuple((1 << chip.pes, min(4, sent - start)) for start in range(0, sent, 4)))
    # A source's chunks go in order; those of the two PEs alternate, so that both wait for each other's.
    for pair in zip(*parts, strict=False):
        host += pair
    longest = max(parts, key=len)
    host += longest[min(map(len, parts)) :]
    return DieProgram(chip, CREDITS, tuple(programs), tuple(map(tuple, memory)), tuple(host), tuple(routes))


def case_and_programs(mapping: str) -> tuple[ExpertCase, list[PeProgram]]:
    """One expert on two tokens: each PE a token, or each PE half of the outputs for both."""
    case = random_case(8, outputs=64, hidden=32, experts=1, k=1, tokens=2)
    if mapping == "data-parallel":
        return case, [case.program(CHIP, "full", "stream", [token]) for token in range(2)]
    return case, [case.program(CHIP, "full", "stream", share=Share(i, 2)) for i in range(2)]


def rows_of(mapping: str, outs: list[list[int]]) -> np.ndarray:
    """uint32 [tokens, outputs] of what the PEs send last."""
    if mapping == "data-parallel":
        return np.concatenate([read_rows(CHIP, out, 1, 32) for out in outs]).view(np.uint32)
    return np.concatenate([read_rows(CHIP, out, 2, 16) for out in outs], axis=1).view(np.uint32)


def both_levels(program: DieProgram) -> DieRun:
    """Exact and fast models of the die, which must agree."""
    stepped = run(program, links.exact, exact, functional)
    recurrence = run(program, links.fast, fast, functional)
    assert stepped.stream == recurrence.stream
    assert stepped.aggregation == recurrence.aggregation
    assert stepped.to_host == recurrence.to_host
    for one, other in zip(stepped.pes, recurrence.pes, strict=True):
        assert one.error is None
        for name in ("cycles", "counters", "start", "done"):
            assert getattr(one, name) == getattr(other, name)
    return stepped


@pytest.mark.parametrize("mapping", ["data-parallel", "output-parallel"])
def test_models_agree_and_mappings_give_the_same_bits(mapping):
    """Exact and fast models of the die agree, and what the host gets are the runtime's bits, in both mappings."""
    case, programs = case_and_programs(mapping)
    model = both_levels(die_program(CHIP, programs))
    outs = [functional(program).state.out for program in programs]
    np.testing.assert_array_equal(rows_of(mapping, outs), case.expected("full").view(np.uint32))
    assert sorted(word for _, word in model.to_host) == sorted(word for out in outs for word in out)


@pytest.mark.parametrize("mapping", [pytest.param("data-parallel", marks=pytest.mark.full), "output-parallel"])
def test_levels_agree_and_mappings_give_the_same_bits(mapping):
    """RTL, exact, fast: every command, grant, counter, word to the host; both mappings give the runtime's bits."""
    case, programs = case_and_programs(mapping)
    program = die_program(CHIP, programs)
    model = both_levels(program)
    log = simulate(program)
    compared = 0
    for bench, result in zip(log.pes, model.pes, strict=True):
        assert bench.error is None
        assert bench.cycles == result.cycles
        assert bench.counters == result.counters
        assert [command[2] for command in bench.commands] == result.start
        assert [command[3] for command in bench.commands] == result.done
        compared += len(result.start)
    assert log.stream_grants == model.stream.grants
    assert log.aggregation_grants == model.aggregation.grants
    assert log.to_host == list(model.to_host)
    assert log.counters["stream_moved"] == len(model.stream.moves)
    assert log.counters["aggregate_moved"] == len(model.aggregation.moves)
    assert len({source for _, source in model.stream.grants}) == 2
    assert len({source for _, source in model.aggregation.grants}) == 3
    assert compared > 100
    outs = [bench.out for bench in log.pes]
    np.testing.assert_array_equal(rows_of(mapping, outs), case.expected("full").view(np.uint32))


def test_a_buffer_that_is_too_small():
    """Links' times do not depend on PEs only while buffers hold everything: the model says so instead of guessing."""
    _, programs = case_and_programs("data-parallel")
    program = dataclasses.replace(die_program(CHIP, programs), credit_words=64)
    with pytest.raises(UserError, match="words for target 0 must fit its buffer of 64"):
        run(program, links.fast, fast, functional)
