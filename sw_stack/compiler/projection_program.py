"""Lowering: one projection over blocks of tokens, to a program for one PE that sends every row of its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cycle_model.numerics import QuantizedActivations
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.builder import ProgramBuilder, Weights, kernel_for, slices_of, tiles_of
from sw_stack.compiler.kernels.matrix import project
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
    """All outputs of ``weights`` [outputs, K] for all tokens, ``blocks`` x R of them per pass over the weights.

    Words out: pass by pass, tile by tile, ``blocks`` x R rows of C outputs; `read_projection` puts them together.

    Raises
    ------
    UserError
        Outputs that are no whole tiles, K that AL cannot hold for so many tokens, more token blocks than chains.
    """
    rows, columns = chip.array.rows, chip.array.columns
    codes = slices_of(weights, mode)[0]
    outputs, groups = len(codes), codes.shape[1] // 32
    if outputs % columns:
        raise UserError(f"outputs must be a multiple of {columns} (chip {chip.name}), not {outputs}")
    if groups * blocks > chip.pe.al_groups:
        raise UserError(f"K must fit AL: {chip.pe.al_groups} groups (chip {chip.name}), not {groups} x {blocks}")
    kernel = kernel_for(chip, mode, tier, groups, "AL", blocks=blocks)
    k_blocks = KBlocks(groups, kernel.k_block)
    tiles = tiles_of(slice(0, outputs), columns)
    build = ProgramBuilder(chip)
    descriptor = build.describe() if tier == "hb" else 0
    text = project(kernel, biased=bias is not None)
    at_once = blocks * rows
    for start in range(0, len(activations.q), at_once):
        q = np.zeros((at_once, activations.q.shape[1]), np.int8)
        scales = np.zeros(at_once, np.float32)
        part = slice(start, start + at_once)
        here = len(activations.q[part])
        q[:here], scales[:here] = activations.q[part], activations.scales[part]
        words = activation_words(chip, q, kernel.k_block)
        build.aggregation += words + [scalar_word(chip, s) for s in scales.reshape(blocks, rows)]
        for tile in tiles:
            build.tiles(kernel, k_blocks, [(weights, tile)], stored=start > 0)
            if bias is not None:
                build.aggregation.append(scalar_word(chip, bias[tile].astype(np.float32)))
        registers = [len(tiles), descriptor, *k_blocks.registers, len(words)]
        build.call(f"project_{kernel.name}", text, registers)
    return build.program()


def read_projection(chip: ChipParams, words: Sequence[int], tokens: int, outputs: int, blocks: int) -> np.ndarray:
    """float32 [tokens, outputs] of the words that a `projection_program` sends."""
    at_once, columns = blocks * chip.array.rows, chip.array.columns
    data = b"".join(word.to_bytes(chip.hb.column_bytes, "little") for word in words)
    passes = np.frombuffer(data, "<f4").reshape(-1, outputs // columns, at_once, columns)
    return passes.transpose(0, 2, 1, 3).reshape(-1, outputs)[:tokens]
