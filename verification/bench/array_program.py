"""Random work for the PE array, and what the functional numerics say must come out.

A program is a list of weight groups; each group is used by one or more token blocks; each use belongs to a chain.
The same program drives every level: the Amaranth simulator, the exported Verilog, later the cycle models.
"""

from dataclasses import dataclass

import numpy as np

from cycle_model.numerics import fp32_add, group_dots, scale_dots, widen_scales
from hw.isa import WeightMode
from hw.params import ArrayParams


@dataclass(frozen=True)
class TokenBlock:
    """One use of a weight group: ``activations`` int8 [rows, group_size], and its chain tags."""

    activations: np.ndarray
    chain: int
    first: bool
    last: bool


@dataclass(frozen=True)
class WeightGroup:
    """``codes`` uint8 [columns, group_size], raw ``scales`` uint16 [columns], a mode, and the blocks using them."""

    codes: np.ndarray
    scales: np.ndarray
    mode: WeightMode
    blocks: tuple[TokenBlock, ...]


def random_program(
    params: ArrayParams, groups: int, rng: np.random.Generator, *, any_scale: bool = False
) -> list[WeightGroup]:
    """``groups`` random weight groups in mixed modes with 1 to 3 token blocks each, every chain closed at the end.

    Scales are ordinary positive values, or with ``any_scale`` any bit pattern (NaN, infinity, subnormal, negative).
    A quarter of the groups drive extremes: every code and activation at an end of its range.
    """
    closed = set(range(params.chains))
    top = 1 << (params.activation_bits - 1)
    program = []
    for index in range(groups):
        mode = WeightMode(rng.integers(4))
        extreme = rng.random() < 0.25
        codes = rng.choice([0, 7, 8, 15], (params.columns, params.group_size)) if extreme else None
        if codes is None:
            codes = rng.integers(0, 16, (params.columns, params.group_size))
        blocks = []
        for _ in range(rng.integers(1, 4)):
            chain = int(rng.integers(params.chains))
            first = chain in closed
            last = bool(rng.random() < 0.4)
            (closed.add if last else closed.discard)(chain)
            shape = (params.rows, params.group_size)
            values = rng.choice([-top, 1 - top, 0, top - 1], shape) if extreme else rng.integers(-top, top, shape)
            blocks.append(TokenBlock(values.astype(np.int8), chain, first, last))
        if index == groups - 1:  # a last group for every chain still open, so that all results are seen
            for chain in sorted(set(range(params.chains)) - closed):
                values = rng.integers(-top, top, (params.rows, params.group_size))
                blocks.append(TokenBlock(values.astype(np.int8), chain, False, True))
        program.append(
            WeightGroup(codes.astype(np.uint8), _random_scales(params, mode, rng, any_scale), mode, tuple(blocks))
        )
    return program


def _random_scales(params: ArrayParams, mode: WeightMode, rng: np.random.Generator, any_scale: bool) -> np.ndarray:
    if mode is WeightMode.MXFP4:
        low, high = (0, 256) if any_scale else (118, 138)
        return rng.integers(low, high, params.columns).astype(np.uint16)
    if any_scale:
        return rng.integers(0, 1 << 16, params.columns).astype(np.uint16)
    return rng.lognormal(-4, 1, params.columns).astype(np.float16).view(np.uint16)


def tile_payloads(params: ArrayParams, program: list[WeightGroup]) -> list[dict]:
    """TileBeat payloads of a program, in order."""
    return [
        {"codes": beat, "scales": group.scales, "mode": group.mode}
        for group in program
        for beat in _beats(params, group.codes)
    ]


def activation_payloads(params: ArrayParams, program: list[WeightGroup]) -> list[dict]:
    """ActivationBeat payloads of a program, in order."""
    return [
        {
            "values": beat,
            "chain": block.chain,
            "first": block.first,
            "last": block.last,
            "keep": n < len(group.blocks) - 1,
        }
        for group in program
        for n, block in enumerate(group.blocks)
        for beat in _beats(params, block.activations)
    ]


def _beats(params: ArrayParams, values: np.ndarray) -> np.ndarray:
    """[units, group_size] -> [beats, units, depth]."""
    return np.swapaxes(values.reshape(len(values), params.beats, params.depth), 0, 1)


def block_dots(params: ArrayParams, group: WeightGroup, block: TokenBlock) -> np.ndarray:
    """Integer dot products of a block's beats, int32 [beats, columns, rows]."""
    dots = group_dots(group.codes, block.activations, group.mode, params.depth)  # [rows, columns, beats]
    return np.transpose(dots, (2, 1, 0))


def expected_results(params: ArrayParams, program: list[WeightGroup]) -> list[dict]:
    """ResultBeat payloads that the program must produce, in order, from the functional numerics."""
    chains: dict[int, np.ndarray] = {}
    results = []
    for group in program:
        raw = group.scales.astype(np.uint8) if group.mode is WeightMode.MXFP4 else group.scales.view(np.float16)
        scales = widen_scales(raw)
        for block in group.blocks:
            dots = block_dots(params, group, block).sum(axis=0)  # [columns, rows]
            term = scale_dots(dots, scales[:, None], group.mode.dot_shift)
            start = np.zeros_like(term) if block.first else chains[block.chain]
            chains[block.chain] = fp32_add(start, term)
            if block.last:
                results += result_beats(params, block.chain, chains[block.chain])
    return results


def result_beats(params: ArrayParams, chain: int, values: np.ndarray) -> list[dict]:
    """The slots of one complete chain; ``values`` float32 [columns, rows]."""
    shares = values.view(np.uint32).reshape(params.columns, params.fp32_units_per_column, params.dots_per_fp32)
    return [
        {"values": shares[:, :, slot].tolist(), "slot": slot, "chain": chain} for slot in range(params.dots_per_fp32)
    ]
