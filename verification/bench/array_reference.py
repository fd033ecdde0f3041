"""What each block of the array must deliver, computed from what a monitor saw enter it.

Each function takes the unpacked payloads of a block's input streams, in the order of their transfers, and returns the
payloads of its output stream, from the functional numerics.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cycle_model.formats import slice_operand
from cycle_model.numerics import fp32_add, scale_dots, widen_scales
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.bench.array_program import result_beats


def fed_operands(params: ArrayParams, tiles: Sequence[dict], keeps: Sequence[int]) -> list[dict]:
    """OperandBeats of a weight feed; ``keeps[i]`` is ``keep`` at output transfer i."""
    groups = _tile_groups(params, tiles)
    beats: list[dict] = []
    group = next(groups, None)
    for keep in keeps[params.beats - 1 :: params.beats]:  # counts with a group's last beat
        codes, scales, mode = group
        beats += [{"operands": slice_operand(beat, mode).tolist(), "scales": scales, "mode": mode} for beat in codes]
        group = group if keep else next(groups, None)
    return beats


def _tile_groups(params: ArrayParams, tiles: Sequence[dict]) -> Iterator[tuple[np.ndarray, list[int], WeightMode]]:
    """Per group: codes uint8 [beats, columns, depth], scales and mode (those of the first tile count)."""
    for start in range(0, len(tiles), params.beats):
        group = tiles[start : start + params.beats]
        yield np.array([tile["codes"] for tile in group], np.uint8), group[0]["scales"], group[0]["mode"]


def joined_dots(weights: Sequence[dict], activations: Sequence[dict]) -> list[dict]:
    """DotBeats of a MAC array: exact integer dot products in plain NumPy int64."""
    beats = []
    for weight, activation in zip(weights, activations, strict=True):
        dots = np.array(weight["operands"], np.int64) @ np.array(activation["values"], np.int64).T
        tags = {tag: activation[tag] for tag in ("chain", "first", "last")}
        beats.append({"dots": dots.tolist(), "scales": weight["scales"], "mode": weight["mode"], **tags})
    return beats


def accumulated_results(params: ArrayParams, dots: Sequence[dict]) -> list[dict]:
    """ResultBeats of a group accumulator: groups summed as integers, scaled, rounded, added to their chain."""
    chains: dict[int, np.ndarray] = {}
    results: list[dict] = []
    for end in range(params.beats, len(dots) + 1, params.beats):
        total = sum(np.array(beat["dots"], np.int64) for beat in dots[end - params.beats : end])  # [columns, rows]
        tags = dots[end - 1]  # scales, mode and tags count on the last beat
        mode, chain = WeightMode(tags["mode"]), tags["chain"]
        raw = np.array(tags["scales"], np.uint16)
        scales = widen_scales(raw.astype(np.uint8) if mode is WeightMode.MXFP4 else raw.view(np.float16))
        term = scale_dots(total, scales[:, None], mode.dot_shift)
        chains[chain] = fp32_add(np.zeros_like(term) if tags["first"] else chains[chain], term)
        if tags["last"]:
            results += result_beats(params, chain, chains[chain])
    return results


def array_results(params: ArrayParams, tiles: Sequence[dict], activations: Sequence[dict]) -> list[dict]:
    """ResultBeats of a whole PE array."""
    keeps = [activation["keep"] for activation in activations]
    return accumulated_results(params, joined_dots(fed_operands(params, tiles, keeps), activations))
