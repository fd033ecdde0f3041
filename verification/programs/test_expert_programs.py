"""Experts as PE programs: the bits of the runtime's kernels, whatever mode, tier, batch, chip or share of a PE.

Each program also runs on the exact and the fast model, which must agree to the cycle for every command; and no two
units may use a place without an order between them, so that no other timing could change a bit.
"""

import dataclasses

import numpy as np
import pytest

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.params import chip
from sw_stack.commands.run_command import compare
from sw_stack.compiler.expert_program import Share, expert_ffn_program, read_rows
from verification.programs.expert_cases import random_case, with_hb_rows

TINY = with_hb_rows(chip("tiny"), 2048)


def run_rows(program, tokens: int, outputs: int) -> np.ndarray:
    """uint32 [tokens, outputs]: bits of the rows that ``program`` sends last; it runs at every level but RTL."""
    result = functional(program, find_races=True)
    assert result.error is None
    assert compare([result, *(dataclasses.replace(run(program), digest=result.digest) for run in (exact, fast))]) == []
    return read_rows(program.chip, result.state.out, tokens, outputs).view(np.uint32)


@pytest.mark.parametrize("hidden", [32, 96, 160, 224])
def test_ragged_k_blocks(hidden):
    """K of one block, of several, with a last one of odd length: from HB and from the stream link, on one PE."""
    case = random_case(9, outputs=96, hidden=hidden, experts=2)
    expected = case.expected("full").view(np.uint32)
    for tier in ("hb", "bank", "stream"):
        np.testing.assert_array_equal(run_rows(case.program(TINY, "full", tier), 3, hidden), expected)


def test_768_outputs_have_the_same_bits_from_every_tier():
    """A whole expert of 768 outputs on one PE: draft, full resident, full not resident and mixed equal the runtime."""
    case = random_case(1, outputs=768, hidden=64, experts=2, k=1)
    full = case.expected("full").view(np.uint32)
    for tiers in ("hb", "stream", {0: "stream", 7: "hb"}):
        np.testing.assert_array_equal(run_rows(case.program(TINY, "full", tiers), 3, 64), full)
    draft = run_rows(case.program(TINY, "draft", "hb"), 3, 64)
    np.testing.assert_array_equal(draft, case.expected("draft").view(np.uint32))
    assert (draft != full).any()


@pytest.mark.parametrize("tier", ["hb", "stream"])
def test_mxfp4_with_biases_and_the_clamped_form(tier):
    """GPT-OSS's experts, K in one block for gate and up, in several for down, from both tiers."""
    case = random_case(2, outputs=288, hidden=96, mxfp4=True)
    rows = run_rows(case.program(TINY, "mxfp4", tier), 3, 96)
    np.testing.assert_array_equal(rows, case.expected("mxfp4").view(np.uint32))


def test_a_token_has_the_same_bits_in_any_batch():
    """Six tokens at once (more than R, so experts come twice), each alone, and in another order."""
    case = random_case(3, outputs=64, hidden=64, tokens=6)
    expected = case.expected("full").view(np.uint32)
    np.testing.assert_array_equal(run_rows(case.program(TINY, "full", "hb"), 6, 64), expected)
    order = [4, 2, 5, 0, 1, 3]
    np.testing.assert_array_equal(run_rows(case.program(TINY, "full", "stream", order), 6, 64), expected[order])
    for token in (0, 5):
        np.testing.assert_array_equal(run_rows(case.program(TINY, "full", "hb", [token]), 1, 64), expected[[token]])


@pytest.mark.parametrize("mode", ["full", "mxfp4"])
def test_2880_outputs_over_pes(mode):
    """K = 2880 in gate, up and down, on PE 17 of 45, whose maxima and INT8 pieces the others complete.

    This PE's own outputs have the runtime's bits, so an exchange changes nothing.
    """
    case = random_case(4, outputs=2880, hidden=2880, experts=1, k=1, tokens=2, mxfp4=mode == "mxfp4")
    share = Share(17, 45)
    own = share.of(2880, 4)
    rows = run_rows(case.program(chip("tiny"), mode, "stream", share=share), 2, own.stop - own.start)
    np.testing.assert_array_equal(rows, case.expected(mode)[:, own].view(np.uint32))


@pytest.mark.parametrize(("mode", "tier"), [("full", "hb"), ("full", "stream"), ("draft", "hb"), ("mxfp4", "stream")])
def test_the_published_pe(mode, tier):
    """PE 5 of the 16 of `4gb`, 16 tokens: its share of a 768-output expert with K = 2048, more than AL can hold."""
    chosen, share = chip("4gb"), Share(5, 16)
    case = random_case(5, outputs=768, hidden=2048, experts=1, k=1, tokens=16, mxfp4=mode == "mxfp4")
    own = share.of(2048, chosen.array.columns)
    rows = run_rows(case.program(chosen, mode, tier, share=share), 16, own.stop - own.start)
    np.testing.assert_array_equal(rows, case.expected(mode)[:, own].view(np.uint32))


def test_the_smallest_chip():
    """`fpga-small` (R = C = 2) alone and as one of three."""
    case = random_case(8, outputs=96, hidden=96, experts=2, k=1)
    chosen = with_hb_rows(chip("fpga-small"), 512)
    expected = case.expected("full").view(np.uint32)
    np.testing.assert_array_equal(run_rows(case.program(chosen, "full", "hb"), 3, 96), expected)
    own = Share(1, 3).of(96, 2)
    rows = run_rows(case.program(chosen, "full", "stream", share=Share(1, 3)), 3, own.stop - own.start)
    np.testing.assert_array_equal(rows, expected[:, own])


def test_the_use_of_experts_is_counted():
    """A program reports every expert that it ran, with its layer, in ascending order."""
    case = random_case(10, outputs=32, hidden=32, experts=3, tokens=2)
    work = case.work(TINY, "stream", [0, 1])
    program = expert_ffn_program(TINY, work, case.x, case.residual, layer=3)
    assert functional(program).state.events == [(1, 3, item.number) for item in work]
    with pytest.raises(UserError, match="ascending order"):
        expert_ffn_program(TINY, work[::-1], case.x, case.residual)
    with pytest.raises(UserError, match="one or more"):
        expert_ffn_program(TINY, [], case.x, case.residual)


def test_shares_cover_all_outputs_once():
    """Whatever the number of PEs, every output has one PE, in whole units."""
    for outputs, unit, count in ((768, 32, 16), (2880, 32, 45), (2880, 4, 7), (96, 32, 3)):
        parts = [Share(i, count).of(outputs, unit) for i in range(count)]
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(outputs))
        assert all(part.start % unit == 0 for part in parts)


def test_what_does_not_fit_is_refused():
    """Sizes beyond the chip, ragged groups, weights of another mode: one line each."""
    case = random_case(6, outputs=64, hidden=64)
    with pytest.raises(UserError, match="mode 'mxfp4' must have MXFP4 weights"):
        case.program(TINY, "mxfp4", "hb")
    with pytest.raises(UserError, match="PEs must be at most 2"):
        case.program(TINY, "full", "hb", share=Share(0, 3))
    with pytest.raises(UserError, match="expert must fit 128 rows of VT"):
        random_case(6, outputs=256, hidden=64, experts=1, k=1).program(chip("4gb"), "full", "hb")
    with pytest.raises(UserError, match="HB image must lie in 1024 data columns"):
        random_case(6, outputs=256, hidden=64, experts=1, k=1).program(chip("tiny"), "full", "hb")
