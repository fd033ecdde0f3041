"""Projections as PE programs: the bits of `cycle_model.numerics.project`, over blocks of tokens and of K."""

import numpy as np
import pytest

from cycle_model.numerics import Mxfp4Weights, project, quantize_activations, quantize_weights
from cycle_model.pe.exact import exact
from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.params import chip
from sw_stack.compiler.builder import Bank, ProgramBuilder
from sw_stack.compiler.projection_program import add_projection, projection_program, read_projection


def random_projection(seed: int, outputs: int, inputs: int, tokens: int, *, mxfp4: bool = False):
    """Weights, activations, bias."""
    rng = np.random.default_rng(seed)
    if mxfp4:
        exponents = rng.integers(110, 130, (outputs, inputs // 32)).astype(np.uint8)
        weights = Mxfp4Weights(rng.integers(0, 16, (outputs, inputs), np.uint8), exponents)
    else:
        weights = quantize_weights(rng.standard_normal((outputs, inputs), np.float32))
    activations = quantize_activations(rng.standard_normal((tokens, inputs), np.float32))
    return weights, activations, rng.standard_normal(outputs, np.float32)


@pytest.mark.parametrize(
    ("mode", "blocks", "tier"),
    [
        *((mode, blocks, "hb") for mode, blocks in (("full", 1), ("full", 2), ("draft", 4), ("mxfp4", 3))),
        *((mode, blocks, "stream") for mode, blocks in (("full", 1), ("full", 2), ("draft", 4), ("mxfp4", 3))),
        *((mode, blocks, "bank") for mode, blocks in (("full", 1), ("full", 2), ("draft", 4))),
    ],
)
@pytest.mark.parametrize("biased", [False, True])
def test_every_mode_over_token_and_k_blocks(mode, blocks, tier, biased):
    """18 tokens in passes of 1 to 4 token blocks, K = 416 in ragged blocks: equal bits, whatever the cut."""
    weights, activations, bias = random_projection(1, 12, 416, 18, mxfp4=mode == "mxfp4")
    bias = bias if biased else None
    program = projection_program(chip("tiny"), weights, activations, mode=mode, tier=tier, blocks=blocks, bias=bias)
    result = functional(program, find_races=True)
    assert result.error is None
    rows = read_projection(program.chip, result.state.out, 18, 12, blocks)
    expected = project(weights, activations, draft=mode == "draft", bias=bias)
    np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))


def test_one_stored_weight_is_draft_and_target():
    """Programs of both modes on one bank read the same columns; the draft fewer bytes, where both slices lie there."""
    weights, activations, _ = random_projection(4, 12, 384, 4)
    sizes, programs = chip("tiny"), {}
    for tier in ("hb", "bank"):
        bank = Bank()
        for mode in ("full", "draft"):
            build = ProgramBuilder(sizes, bank)
            add_projection(build, weights, activations, mode=mode, tier=tier)
            programs[tier, mode] = build.program()
        assert programs[tier, "full"].hb == programs[tier, "draft"].hb
        assert len(bank.columns) == 12 * 384 * (36 if tier == "hb" else 68) // 64 // sizes.hb.column_bytes
    read = {key: exact(program).counters["hb_reads"] for key, program in programs.items()}
    assert programs["bank", "full"].stream == [] != programs["hb", "full"].stream
    assert read["bank", "draft"] < read["bank", "full"]


@pytest.mark.parametrize(("name", "outputs", "inputs", "blocks"), [("4gb", 96, 480, 2), ("fpga-small", 6, 128, 2)])
def test_other_chips(name, outputs, inputs, blocks):
    """The published PE and the smallest one."""
    weights, activations, bias = random_projection(2, outputs, inputs, 40)
    program = projection_program(chip(name), weights, activations, blocks=blocks, bias=bias)
    result = functional(program, find_races=True)
    rows = read_projection(program.chip, result.state.out, 40, outputs, blocks)
    expected = project(weights, activations, bias=bias)
    np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))


def test_what_does_not_fit_is_refused():
    """Ragged tiles, K beyond AL, more token blocks than chains."""
    weights, activations, _ = random_projection(3, 6, 64, 4)
    with pytest.raises(UserError, match="outputs must be a multiple of 4"):
        projection_program(chip("tiny"), weights, activations)
    weights, activations, _ = random_projection(3, 8, 64, 4)
    with pytest.raises(UserError, match="token blocks must be 1 to 2"):
        projection_program(chip("tiny"), weights, activations, blocks=3)
    weights, activations, _ = random_projection(3, 32, 1024, 4)
    with pytest.raises(UserError, match="K must fit AL: 32 groups"):
        projection_program(chip("4gb"), weights, activations, blocks=2)
