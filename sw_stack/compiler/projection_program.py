"""Lowering: one projection over blocks of tokens, to a program for one PE that sends every row of its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cycle_model.numerics import QuantizedActivations
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.builder import ProgramBuilder, Weights, kernel_for, slices_of, tiles_of
from sw_stack.compiler.kernels.matrix import project, project_name
from sw_stack.compiler.tiles import KBlocks, activation_words, scalar_word


def projection_program(
    chip: ChipParams,
    weights: Weights,
    activations: QuantizedActivations,
    *,
    mode: str = "full",
    tier: str = "hb",
    blocks: int = 1,
    bias: np.ndarray | None = None,
) -> PeProgram:
    """A program of `add_projection` alone, all outputs on one PE."""
    build = ProgramBuilder(chip)
    add_projection(build, weights, activations, mode=mode, tier=tier, blocks=blocks, bias=bias)
    return build.program()


def add_projection(
    build: ProgramBuilder,
    weights: Weights,
    activations: QuantizedActivations,
    *,
    mode: str,
    tier: str,
    blocks: int = 1,
    bias: np.ndarray | None = None,
    part: slice | None = None,
) -> None:
    """Outputs ``part`` (None: all) of ``weights`` [outputs, K] for all tokens, ``blocks`` x R of them per pass.

    Words out: pass by pass, tile by tile, ``blocks`` x R rows of C outputs; `read_projection` puts them together.

    Raises
    ------
    UserError
        Outputs that are no whole tiles, K that AL cannot hold for so many tokens, more token blocks than chains.
    """
    chip = build.chip
    rows, columns = chip.array.rows, chip.array.columns
    codes = slices_of(weights, mode)[0]
    outputs, groups = len(codes), codes.shape[1] // 32
    if outputs % columns:
        raise UserError(f"outputs must be a multiple of {columns} (chip {chip.name}), not {outputs}")
    if groups * blocks > chip.pe.al_groups:
        raise UserError(f"K must fit AL: {chip.pe.al_groups} groups (chip {chip.name}), not {groups} x {blocks}")
    kernel = kernel_for(chip, mode, tier, groups, "AL", blocks=blocks)
    k_blocks = KBlocks(groups, kernel.k_block)
    tiles = tiles_of(part or slice(0, outputs), columns)
    biased = bias is not None
    text = project(kernel, biased=biased)
    at_once = blocks * rows
    for start in range(0, len(activations.q), at_once):
        q = np.zeros((at_once, activations.q.shape[1]), np.int8)
        scales = np.zeros(at_once, np.float32)
        tokens = slice(start, start + at_once)
        here = len(activations.q[tokens])
        q[:here], scales[:here] = activations.q[tokens], activations.scales[tokens]
        words = activation_words(chip, q, kernel.k_block)
        build.aggregation += words + [scalar_word(chip, s) for s in scales.reshape(blocks, rows)]
        descriptor = build.weights(kernel, k_blocks, [[(weights, tile)] for tile in tiles])
        if biased:
            build.aggregation += [scalar_word(chip, bias[tile].astype(np.float32)) for tile in tiles]
        registers = [len(tiles), descriptor, *k_blocks.registers, len(words)]
        build.call(project_name(kernel, biased=biased), text, registers)


def read_projection(chip: ChipParams, words: Sequence[int], tokens: int, outputs: int, blocks: int) -> np.ndarray:
    """float32 [tokens, outputs] of the words that a `projection_program` sends."""
    at_once, columns = blocks * chip.array.rows, chip.array.columns
    data = b"".join(word.to_bytes(chip.hb.column_bytes, "little") for word in words)
    passes = np.frombuffer(data, "<f4").reshape(-1, outputs // columns, at_once, columns)
    return passes.transpose(0, 2, 1, 3).reshape(-1, outputs)[:tokens]
