"""Drafting methods by name, made ready from files: one place for the command line, the studies and the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import UserError, nearest
from hw.params import chip
from sw_stack.elastic.drafters.eagle import EagleDrafter, open_head
from sw_stack.elastic.drafters.protocol import Drafter
from sw_stack.elastic.drafters.self_drafter import elastic_drafter, quant_drafter
from sw_stack.elastic.drafters.small_model import SmallModelDrafter
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, capacity_of_fraction
from sw_stack.elastic.rounds import Speculation, SpeculativeDecoder
from sw_stack.elastic.time_predictor import Roofline
from sw_stack.elastic.traffic import matrix_weights, resident_bytes
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.precision import DRAFT, Precision
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime

METHODS = ("none", "elastic", "quant", "slm", "eagle")
DRAFT_FOLDERS = {"slm": "dense", "eagle": "eagle"}
"""A model in ``NAME`` has its small dense model in ``NAME-draft-dense`` and its EAGLE head in ``NAME-draft-eagle``."""


@dataclass(frozen=True, kw_only=True)
class HotSetChoice:
    """How much of the experts is resident, and which.

    fraction     of each layer's MSB slices that fit
    hb_bytes     instead: all of HB, from which dense weights and keys and values are taken first
    policy, allocation, seed   see `HotSet`
    """

    fraction: float = 0.5
    hb_bytes: int | None = None
    policy: str = "hot"
    allocation: str = "msb-only"
    seed: int = 0


def check_method(method: str) -> str:
    """``method`` itself; UserError with the nearest known name otherwise."""
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; {nearest(method, list(METHODS))}")
    return method


def draft_folder(model: Path, method: str) -> Path:
    """Where the draft model of a method lies by default."""
    return model.parent / f"{model.name}-draft-{DRAFT_FOLDERS[method]}"


def available_methods(model: Path) -> list[str]:
    """Methods whose draft models lie beside ``model``; the first three need none."""
    return [m for m in METHODS if m not in DRAFT_FOLDERS or (draft_folder(model, m) / "model.safetensors").exists()]


def make_drafter(
    method: str,
    runtime: Runtime,
    mask: Callable[[], np.ndarray],
    folder: Path | None,
    threads: int,
    precision: Precision = DRAFT,
) -> Drafter | None:
    """The drafter of a method; ``mask`` gives the resident experts, ``folder`` holds the draft model of slm and eagle,
    ``precision`` is Elastic-SD's."""
    check_method(method)
    if method == "none":
        return None
    if method == "elastic":
        return elastic_drafter(runtime, mask, precision)
    if method == "quant":
        return quant_drafter(runtime, matrix_weights(runtime.config))
    if folder is None:
        raise UserError(f"method {method} must be given the folder of its draft model")
    if method == "eagle":
        return EagleDrafter(runtime, open_head(folder, runtime.model.source), threads)
    small = Runtime(QuantizedModel(open_checkpoint(folder)), kv_format=runtime.kv_format, threads=threads)
    return SmallModelDrafter(small, runtime.config.vocab, matrix_weights(small.config))


def hb_share(runtime: Runtime, drafter: Drafter | None, choice: HotSetChoice, positions: int) -> HbShare:
    """Shares of HB for a request that reaches so many ``positions``, all sequences together."""
    config = runtime.config
    own = (drafter.reads, drafter.own_weights) if drafter else (None, 0)
    dense = resident_bytes(config, *own)
    if choice.hb_bytes is None:
        return HbShare(dense, None, capacity_of_fraction(config, choice.fraction))
    kv = positions * runtime.new_cache().bytes_per_position
    return HbShare.of_capacity(choice.hb_bytes, dense, kv, sum(config.moe_layers))


def make_decoder(
    runtime: Runtime,
    method: str,
    speculation: Speculation,
    choice: HotSetChoice,
    *,
    batch: int,
    positions: int = 0,
    folder: Path | None = None,
    threads: int = 1,
    chip_name: str = "4gb",
    precision: Precision = DRAFT,
) -> SpeculativeDecoder:
    """A decoder for batches of ``batch`` sequences that reach ``positions`` together, its time predicted by the
    roofline of a chip."""
    shape = speculation.shape
    # what the drafter has of its own takes room from the hot set, which the drafter asks for its mask later
    drafter = make_drafter(method, runtime, lambda: hot_set.mask(), folder, threads, precision)
    share = hb_share(runtime, drafter, choice, positions)
    hot_set = HotSet(
        runtime.config,
        share.expert,
        policy=choice.policy,
        allocation=choice.allocation,
        seed=choice.seed,
        batch_tokens=batch * (1 + shape.nodes),
        draft_weight=0.0 if method == "none" else shape.depth,
    )
    return SpeculativeDecoder(runtime, drafter, speculation, hot_set, Roofline.of_chip(chip(chip_name)), share)
