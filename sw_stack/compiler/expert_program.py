"""Lowering: feed-forward networks on tokens, to kernels of one PE: experts of a layer, dense and shared networks.

The PE computes its share of every projection's outputs; K is never split. Alone (share 1 of 1) it requantises into AV;
with others it exchanges row maxima and INT8 pieces over the aggregation link, and what the others send is computed
here with `cycle_model.numerics`, as a host that knows the whole layer would.

    experts           clear, then for each expert gate_up, requantize or exchange, down; then finish or send
    dense and shared  gate_up, requantize or exchange, down_send, for R tokens at a time
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
from sw_stack.compiler.builder import Column, ProgramBuilder, Weights, kernel_for, tiles_of
from sw_stack.compiler.kernels.expert import ExpertLayout
from sw_stack.compiler.kernels.projection import TileKernel
from sw_stack.compiler.tiles import KBlocks, activation_words, scalar_word, tile_rows


@dataclass(frozen=True)
class Expert:
    """Weights of one expert, or of a dense or shared network.

    gate and up [outputs, hidden], down [hidden, outputs]; biases float32 or None
    """

    gate: Weights
    up: Weights
    down: Weights
    gate_bias: np.ndarray | None = None
    up_bias: np.ndarray | None = None
    down_bias: np.ndarray | None = None


@dataclass(frozen=True)
class ExpertWork:
    """``expert`` number ``number`` on ``tokens`` (at most R of them) with their combination weights, float32.

    tier  "hb": the MSB (or only) slice is in HB; "bank": both slices; "stream": everything comes over the stream link
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
    """A program of `add_experts` alone; x float32 [tokens, hidden] is quantised here per token."""
    build = ProgramBuilder(chip)
    add_experts(build, work, quantize_activations(x), residual, mode=mode, clamp=clamp, share=share, layer=layer)
    return build.program()


def add_experts(
    build: ProgramBuilder,
    work: Sequence[ExpertWork],
    activations: QuantizedActivations,
    residual: np.ndarray | None,
    *,
    mode: str,
    clamp: tuple[float, float] | None,
    share: Share,
    layer: int,
) -> None:
    """Experts of one layer and their combination on one PE.

    Parameters
    ----------
    work : in ascending expert number; an expert with more than R tokens comes several times
    residual : float32 [tokens, hidden] that is added to the combination; None: nothing is
    mode : full, draft or mxfp4
    clamp : (limit, alpha) of the clamped SwiGLU

    The last words out are the rows of the combination, tile by tile of this PE's outputs, in each R tokens by R tokens;
    `read_rows` undoes that.

    Raises
    ------
    UserError
        No experts, or not in ascending order; sizes that are not whole groups or tiles or do not fit the chip.
    """
    numbers = [item.number for item in work]
    if not work or numbers != sorted(numbers):
        raise UserError(f"experts must be one or more in ascending order, not {numbers}")
    chip = build.chip
    rows, columns = chip.array.rows, chip.array.columns
    tokens, hidden = activations.q.shape
    first = work[0].expert
    inner, outer = _shares(chip, first, share)
    token_rows = -(-tokens // rows) * rows
    layout = ExpertLayout(
        chip,
        (inner.stop - inner.start) // columns,
        (outer.stop - outer.start) // columns,
        token_rows,
        first.gate_bias is not None,
        clamp,
    )
    registers = [layout.hidden_tiles * token_rows // rows]
    build.call("clear", layout.clear(), registers)
    build.aggregation += [0] * rows
    for item in work:
        q = _gathered(chip, activations, item.tokens)
        kernel, blocks = _inner(build, layout, item, q, mode, share, inner, layer)
        descriptor = _down_weights(build, item.expert, kernel, blocks, outer)
        build.call(
            f"down_{kernel.name}",
            layout.down(kernel),
            [layout.hidden_tiles, descriptor, *blocks.registers, len(item.tokens)],
        )
    if residual is None:
        build.call("send", layout.send(), registers)
        return
    build.call("finish", layout.finish(), registers)
    padded = np.zeros((token_rows, hidden), np.float32)
    padded[:tokens] = residual
    build.aggregation += tile_rows(chip, padded[:, outer])


def add_network(
    build: ProgramBuilder,
    network: Expert,
    activations: QuantizedActivations,
    *,
    mode: str,
    tier: str,
    share: Share,
    layer: int,
) -> None:
    """A dense or shared network on all tokens, R at a time, on one PE.

    Words out: of every R tokens first the maxima and pieces that the PE sends where it is not alone, then tile by tile
    of its outputs R rows of C; `read_network` takes the rows.
    """
    chip = build.chip
    rows, columns = chip.array.rows, chip.array.columns
    inner, outer = _shares(chip, network, share)
    biased = network.gate_bias is not None
    layout = ExpertLayout(chip, (inner.stop - inner.start) // columns, 0, rows, biased, None)
    for start in range(0, len(activations.q), rows):
        tokens = list(range(start, min(start + rows, len(activations.q))))
        item = ExpertWork(0, network, tier, range(len(tokens)), np.ones(len(tokens), np.float32))
        q = _gathered(chip, activations, tokens)
        kernel, blocks = _inner(build, layout, item, q, mode, share, inner, layer)
        descriptor = _down_weights(build, network, kernel, blocks, outer)
        tiles = (outer.stop - outer.start) // columns
        build.call(f"down_send_{kernel.name}", layout.down_send(kernel), [tiles, descriptor, *blocks.registers])


def _shares(chip: ChipParams, expert: Expert, share: Share) -> tuple[slice, slice]:
    """This PE's outputs of gate and up, and of down."""
    outputs, hidden = _outputs(expert.gate), _outputs(expert.down)
    if hidden % 32 or outputs % 32:
        raise UserError(f"expert sizes must be multiples of 32, not {hidden} and {outputs}")
    most = min(outputs // 32, hidden // chip.array.columns)
    if share.count > most:
        raise UserError(f"PEs must be at most {most} for this expert, not {share.count}")
    return share.of(outputs, 32), share.of(hidden, chip.array.columns)


def _outputs(weights: Weights) -> int:
    return len(weights.codes if isinstance(weights, Mxfp4Weights) else weights.msb_codes)


def _gathered(chip: ChipParams, activations: QuantizedActivations, tokens: Sequence[int]) -> QuantizedActivations:
    """R rows: those of ``tokens``, then zeros."""
    rows, chosen = chip.array.rows, list(tokens)
    if not 1 <= len(chosen) <= rows:
        raise UserError(f"tokens of an expert must be 1 to {rows} (chip {chip.name}), not {len(chosen)}")
    q = np.zeros((rows, activations.q.shape[1]), np.int8)
    scales = np.zeros(rows, np.float32)
    q[: len(chosen)], scales[: len(chosen)] = activations.q[chosen], activations.scales[chosen]
    return QuantizedActivations(q, scales)


def _padded(chip: ChipParams, values: Sequence, dtype: type) -> np.ndarray:
    row = np.zeros(chip.array.rows, dtype)
    row[: len(values)] = values
    return row


def _inner(
    build: ProgramBuilder,
    layout: ExpertLayout,
    item: ExpertWork,
    activations: QuantizedActivations,
    mode: str,
    share: Share,
    inner: slice,
    layer: int,
) -> tuple[TileKernel, KBlocks]:
    """Gate and up of R tokens, and their product requantised; the kernel of the down projection and its K blocks."""
    chip, expert = build.chip, item.expert
    rows, columns = chip.array.rows, chip.array.columns
    groups = activations.q.shape[1] // 32
    wide = groups > chip.pe.al_groups
    kernel = kernel_for(chip, mode, item.tier, groups, "AL", chip.pe.al_groups // 2 if wide else None)
    blocks = KBlocks(groups, kernel.k_block)
    words = activation_words(chip, activations.q, kernel.k_block)
    rows_in = (
        activations.scales,
        np.zeros(rows, np.float32),
        _padded(chip, item.weights, np.float32),
        _padded(chip, item.tokens, np.uint32),
    )
    scalars = [scalar_word(chip, row) for row in rows_in]
    build.aggregation += scalars if wide else words + scalars
    name, text, at_once = f"gate_up_{kernel.name}", layout.gate_up, 1
    if wide:
        at_once = kernel.tiles_at_once(layout.product_tiles)
        name = f"gate_up_wide_{kernel.name}_{at_once}"
        text = functools.partial(layout.gate_up_wide, tiles=at_once)
    tiles, calls = tiles_of(inner, columns), []
    for start in range(0, len(tiles), at_once):
        part = tiles[start : start + at_once]
        if wide:
            build.aggregation += words
        members = [(matrix, tile) for tile in part for matrix in (expert.gate, expert.up)]
        calls += [members] if wide else [[member] for member in members]
        for tile in part:
            for bias in (expert.gate_bias, expert.up_bias):
                if bias is not None:
                    build.aggregation.append(scalar_word(chip, bias[tile].astype(np.float32)))
    descriptor = build.weights(kernel, blocks, calls)
    build.call(
        name,
        text(kernel),
        [layout.product_tiles // at_once, descriptor, *blocks.registers, len(words), item.number, layer],
    )
    space = "AV"
    if share.count == 1:
        build.call("requantize", layout.requantize(), [layout.product_tiles * rows])
    else:
        _exchange(build, layout, expert, activations, mode, share, inner)
        space = "AL"
    groups = -(-_outputs(expert.gate) // 32)
    kernel = kernel_for(chip, mode, item.tier, groups, space)
    return kernel, KBlocks(groups, kernel.k_block)


def _exchange(
    build: ProgramBuilder,
    layout: ExpertLayout,
    expert: Expert,
    activations: QuantizedActivations,
    mode: str,
    share: Share,
    inner: slice,
) -> None:
    """Requantise with the other PEs: own maxima and pieces out, the others' maxima and the whole rows in."""
    chip = build.chip
    product = _products(expert, activations, mode, layout.clamp)
    others = [Share(i, share.count).of(product.shape[1], 32) for i in range(share.count) if i != share.index]
    maxima = [np.abs(product[:, part]).max(axis=1, initial=0).astype(np.float32) for part in others]
    whole = quantize_activations(product).q
    pieces = _piece_words(chip, inner)
    if pieces > chip.pe.xm_words:
        raise UserError(f"share must fit XM, {chip.pe.xm_words} words (chip {chip.name}), not {pieces}")
    build.aggregation += [scalar_word(chip, maximum) for maximum in maxima]
    gathered = activation_words(chip, whole, whole.shape[1] // 32)
    build.aggregation += gathered
    registers = [layout.product_tiles * chip.array.rows, len(others), pieces, len(gathered)]
    build.call("exchange", layout.exchange(), registers)


def _piece_words(chip: ChipParams, inner: slice) -> int:
    """Words of a PE's INT8 pieces of R rows."""
    return (inner.stop - inner.start) // 32 * (8 * chip.array.rows // chip.array.columns)


def _down_weights(
    build: ProgramBuilder, expert: Expert, kernel: TileKernel, blocks: KBlocks, outer: slice
) -> Column | int:
    """Weights and biases of this PE's down tiles; what the descriptor register is to hold."""
    chip = build.chip
    tiles = tiles_of(outer, chip.array.columns)
    if expert.down_bias is not None:
        build.aggregation += [scalar_word(chip, expert.down_bias[tile].astype(np.float32)) for tile in tiles]
    return build.weights(kernel, blocks, [[(expert.down, tile)] for tile in tiles])


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


def read_network(chip: ChipParams, words: Sequence[int], network: Expert, tokens: int, share: Share) -> np.ndarray:
    """float32 [tokens, outputs of this PE] of the words that `add_network` makes a PE send."""
    rows = chip.array.rows
    inner, outer = _shares(chip, network, share)
    outputs = outer.stop - outer.start
    before = 0 if share.count == 1 else 1 + _piece_words(chip, inner)
    after = rows * outputs // chip.array.columns
    out = np.empty((tokens, outputs), np.float32)
    for start in range(0, tokens, rows):
        at = start // rows * (before + after) + before
        here = min(rows, tokens - start)
        out[start : start + here] = read_rows(chip, words[at : at + after], here, outputs)
    return out


def read_rows(chip: ChipParams, words: Sequence[int], tokens: int, outputs: int) -> np.ndarray:
    """float32 [tokens, outputs] of the last words out of an `expert_ffn_program` with ``outputs`` of its own."""
    rows, columns = chip.array.rows, chip.array.columns
    token_rows = -(-tokens // rows) * rows
    last = list(words)[len(words) - token_rows * outputs // columns :]
    data = b"".join(word.to_bytes(chip.hb.column_bytes, "little") for word in last)
    tiles = np.frombuffer(data, "<f4").reshape(outputs // columns, token_rows, columns)
    return tiles.transpose(1, 0, 2).reshape(token_rows, outputs)[:tokens]
