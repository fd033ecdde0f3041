"""Lowering: experts of a layer on the tokens that chose them, to a program for one PE.

The PE computes its share of every projection's outputs; K is never split. Alone (share 1 of 1) it requantises into AV;
with others it exchanges row maxima and INT8 pieces over the aggregation link, and what the others send is computed
here with `cycle_model.numerics`, as a host that knows the whole layer would.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cycle_model.functional.rows import clamped_swiglu_row, silu_up_row
from cycle_model.numerics import Mxfp4Weights, QuantizedActivations, project, quantize_activations
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.builder import ProgramBuilder, Weights, kernel_for, tiles_of
from sw_stack.compiler.kernels.expert import ExpertLayout
from sw_stack.compiler.tiles import KBlocks, activation_words, scalar_word, tile_rows


@dataclass(frozen=True)
class Expert:
    """Weights of one expert: gate and up [outputs, hidden], down [hidden, outputs]; biases float32 or None."""

    gate: Weights
    up: Weights
    down: Weights
    gate_bias: np.ndarray | None = None
    up_bias: np.ndarray | None = None
    down_bias: np.ndarray | None = None


@dataclass(frozen=True)
class ExpertWork:
    """``expert`` number ``number`` on ``tokens`` (at most R of them) with their combination weights, float32.

    tier  "hb": the MSB (or only) slice is in HB; "stream": everything comes over the stream link
    """

    number: int
    expert: Expert
    tier: str
    tokens: Sequence[int]
    weights: np.ndarray


@dataclass(frozen=True)
class Share:
    """PE ``index`` of ``count``: outputs are dealt to PEs in runs of whole 32-input groups, of tiles for down."""

    index: int = 0
    count: int = 1

    def of(self, outputs: int, unit: int) -> slice:
        """This PE's outputs, in whole units; the first PEs have one unit more where they do not divide."""
        units = outputs // unit
        begin, end = (units * i // self.count for i in (self.index, self.index + 1))
        return slice(begin * unit, end * unit)


ALONE = Share()
"""All outputs on one PE."""


def expert_ffn_program(
    chip: ChipParams,
    work: Sequence[ExpertWork],
    x: np.ndarray,
    residual: np.ndarray,
    *,
    mode: str = "full",
    clamp: tuple[float, float] | None = None,
    share: Share = ALONE,
    layer: int = 0,
) -> PeProgram:
    """Experts of one layer and their combination, with residual, on one PE.

    Parameters
    ----------
    work : in ascending expert number; an expert with more than R tokens comes several times
    x : float32 [tokens, hidden], quantised here per token
    residual : float32 [tokens, hidden]
    mode : full, draft or mxfp4
    clamp : (limit, alpha) of the clamped SwiGLU

    Returns
    -------
    A program whose last words out are the rows of residual + combination, tile by tile of this PE's outputs, in each
    R tokens by R tokens; `read_rows` undoes that.

    Raises
    ------
    UserError
        No experts, or not in ascending order; sizes that are not whole groups or tiles or do not fit the chip.
    """
    numbers = [item.number for item in work]
    if not work or numbers != sorted(numbers):
        raise UserError(f"experts must be one or more in ascending order, not {numbers}")
    rows, columns = chip.array.rows, chip.array.columns
    tokens, hidden = x.shape
    first = work[0].expert
    outputs = (first.gate.codes if isinstance(first.gate, Mxfp4Weights) else first.gate.msb_codes).shape[0]
    if hidden % 32 or outputs % 32:
        raise UserError(f"expert sizes must be multiples of 32, not {hidden} and {outputs}")
    activations = quantize_activations(x)
    token_rows = -(-tokens // rows) * rows
    inner, outer = share.of(outputs, 32), share.of(hidden, columns)
    if share.count > min(outputs // 32, hidden // columns):
        raise UserError(
            f"PEs must be at most {min(outputs // 32, hidden // columns)} for this expert, not {share.count}"
        )
    layout = ExpertLayout(
        chip,
        (inner.stop - inner.start) // columns,
        (outer.stop - outer.start) // columns,
        token_rows,
        first.gate_bias is not None,
        clamp,
    )
    build = ProgramBuilder(chip)
    build.call("clear", layout.clear(), [layout.hidden_tiles * token_rows // rows])
    build.aggregation += [0] * rows
    for item in work:
        _expert(build, layout, item, activations, mode, share, (inner, outer), layer)
    build.call("finish", layout.finish(), [layout.hidden_tiles * token_rows // rows])
    padded = np.zeros((token_rows, hidden), np.float32)
    padded[:tokens] = residual
    build.aggregation += tile_rows(chip, padded[:, outer])
    return build.program()


def _expert(
    build: ProgramBuilder,
    layout: ExpertLayout,
    item: ExpertWork,
    activations: QuantizedActivations,
    mode: str,
    share: Share,
    outputs: tuple[slice, slice],
    layer: int,
) -> None:
    chip, expert = build.chip, item.expert
    rows, columns = chip.array.rows, chip.array.columns
    inner, outer = outputs
    chosen = list(item.tokens)
    if not 1 <= len(chosen) <= rows:
        raise UserError(f"tokens of an expert must be 1 to {rows} (chip {chip.name}), not {len(chosen)}")
    q = np.zeros((rows, activations.q.shape[1]), np.int8)
    q[: len(chosen)] = activations.q[chosen]
    scales = np.zeros(rows, np.float32)
    scales[: len(chosen)] = activations.scales[chosen]
    weights = np.zeros(rows, np.float32)
    weights[: len(chosen)] = item.weights
    places = np.zeros(rows, np.uint32)
    places[: len(chosen)] = chosen

    # Gate and up.
    groups = q.shape[1] // 32
    wide = groups > chip.pe.al_groups
    kernel = kernel_for(chip, mode, item.tier, groups, "AL", chip.pe.al_groups // 2 if wide else None)
    blocks = KBlocks(groups, kernel.k_block)
    descriptor = build.describe() if item.tier == "hb" else 0
    words = activation_words(chip, q, kernel.k_block)
    scalars = [scalar_word(chip, s) for s in (scales, np.zeros(rows, np.float32), weights, places)]
    build.aggregation += scalars if wide else words + scalars
    name, text, at_once = f"gate_up_{kernel.name}", layout.gate_up, 1
    if wide:
        at_once = kernel.tiles_at_once(layout.product_tiles)
        name = f"gate_up_wide_{kernel.name}_{at_once}"
        text = functools.partial(layout.gate_up_wide, tiles=at_once)
    tiles = tiles_of(inner, columns)
    for start in range(0, len(tiles), at_once):
        part = tiles[start : start + at_once]
        if wide:
            build.aggregation += words
        members = [(matrix, tile) for tile in part for matrix in (expert.gate, expert.up)]
        for side_by_side in [members] if wide else [[member] for member in members]:
            build.tiles(kernel, blocks, side_by_side)
        for tile in part:
            for bias in (expert.gate_bias, expert.up_bias):
                if bias is not None:
                    build.aggregation.append(scalar_word(chip, bias[tile].astype(np.float32)))
    build.call(
        name,
        text(kernel),
        [layout.product_tiles // at_once, descriptor, *blocks.registers, len(words), item.number, layer],
    )

    # Requantise, alone or with the other PEs.
    if share.count == 1:
        build.call("requantize", layout.requantize(), [layout.product_tiles * rows])
        space = "AV"
    else:
        product = _products(expert, QuantizedActivations(q, scales), mode, layout.clamp)
        others = [Share(i, share.count).of(product.shape[1], 32) for i in range(share.count) if i != share.index]
        maxima = [np.abs(product[:, part]).max(axis=1, initial=0).astype(np.float32) for part in others]
        whole = quantize_activations(product).q
        own = (inner.stop - inner.start) // 32
        group_words = 8 * rows // columns
        if own * group_words > chip.pe.xm_words:
            raise UserError(f"share must fit XM, {chip.pe.xm_words} words (chip {chip.name}), not {own * group_words}")
        build.aggregation += [scalar_word(chip, maximum) for maximum in maxima]
        gathered = activation_words(chip, whole, whole.shape[1] // 32)
        build.aggregation += gathered
        registers = [layout.product_tiles * rows, len(others), own * group_words, len(gathered)]
        build.call("exchange", layout.exchange(), registers)
        space = "AL"

    # Down and combination.
    groups = len(expert.down.exponents[0] if isinstance(expert.down, Mxfp4Weights) else expert.down.scales[0])
    kernel = kernel_for(chip, mode, item.tier, groups, space)
    blocks = KBlocks(groups, kernel.k_block)
    descriptor = build.describe() if item.tier == "hb" else 0
    for tile in tiles_of(outer, columns):
        build.tiles(kernel, blocks, [(expert.down, tile)])
        if expert.down_bias is not None:
            build.aggregation.append(scalar_word(chip, expert.down_bias[tile].astype(np.float32)))
    build.call(
        f"down_{kernel.name}",
        layout.down(kernel),
        [layout.hidden_tiles, descriptor, *blocks.registers, len(chosen)],
    )


def _products(
    expert: Expert, activations: QuantizedActivations, mode: str, clamp: tuple[float, float] | None
) -> np.ndarray:
    """float32 [R, outputs]: what all PEs together put into their products."""
    draft = mode == "draft"
    gate = project(expert.gate, activations, draft=draft, bias=expert.gate_bias)
    up = project(expert.up, activations, draft=draft, bias=expert.up_bias)
    both = np.concatenate([gate, up], axis=1)
    product = np.empty_like(gate)
    for row, out in zip(both, product, strict=True):
        if clamp is None:
            silu_up_row(row, out)
        else:
            clamped_swiglu_row(row, np.float32(clamp[1]), np.float32(clamp[0]), out)
    return product


def read_rows(chip: ChipParams, words: Sequence[int], tokens: int, outputs: int) -> np.ndarray:
    """float32 [tokens, outputs] of the last words out of an `expert_ffn_program` with ``outputs`` of its own."""
    rows, columns = chip.array.rows, chip.array.columns
    token_rows = -(-tokens // rows) * rows
    last = list(words)[len(words) - token_rows * outputs // columns :]
    data = b"".join(word.to_bytes(chip.hb.column_bytes, "little") for word in last)
    tiles = np.frombuffer(data, "<f4").reshape(outputs // columns, token_rows, columns)
    return tiles.transpose(1, 0, 2).reshape(token_rows, outputs)[:tokens]
