"""A PE's share of experts of a real model, as a program: weights from the checkpoint, tokens from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cycle_model.numerics import Mxfp4Weights, quantize_weights
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.builder import Weights
from sw_stack.compiler.expert_program import Expert, ExpertWork, Share, expert_ffn_program
from sw_stack.models.tensor_source import TensorSource


def load_expert(source: TensorSource, layer: int, number: int) -> Expert:
    """Expert ``number`` of ``layer``, quantised; UserError where the model has none."""
    prefix = f"layers.{layer}.experts.{number}"
    if f"{prefix}.gate" not in source.shapes:
        raise UserError(f"model must have expert {number} in layer {layer}")

    def weights(name: str) -> Weights:
        tensor = source.load(f"{prefix}.{name}")
        return tensor if isinstance(tensor, Mxfp4Weights) else quantize_weights(np.asarray(tensor, np.float32))

    def bias(name: str) -> np.ndarray | None:
        full = f"{prefix}.{name}_bias"
        return np.asarray(source.load(full), np.float32) if full in source.shapes else None

    parts = ("gate", "up", "down")
    return Expert(*(weights(part) for part in parts), *(bias(part) for part in parts))


def model_expert_program(
    chip: ChipParams,
    source: TensorSource,
    numbers: Sequence[int],
    *,
    layer: int = 0,
    mode: str = "full",
    tier: str = "hb",
    tokens: int = 2,
    share: Share,
    seed: int = 0,
) -> PeProgram:
    """Every token uses all of ``numbers``, with weights that add up to one; rows are standard normal.

    ``tier`` "mixed" puts every other expert into HB.
    """
    moe = source.config.moe
    if moe is None:
        raise UserError("model must have experts")
    rng = np.random.default_rng(seed)
    x, residual = (rng.standard_normal((tokens, source.config.hidden), np.float32) for _ in range(2))
    weights = rng.random((tokens, len(numbers)), np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    work = []
    for place, number in enumerate(sorted(numbers)):
        expert = load_expert(source, layer, number)
        where = ("hb", "stream")[place % 2] if tier == "mixed" else tier
        for start in range(0, tokens, chip.array.rows):
            part = list(range(start, min(start + chip.array.rows, tokens)))
            work.append(ExpertWork(number, expert, where, part, weights[part, place]))
    clamp = (moe.swiglu_limit, moe.swiglu_alpha) if moe.swiglu_limit is not None else None
    return expert_ffn_program(chip, work, x, residual, mode=mode, clamp=clamp, share=share, layer=layer)
