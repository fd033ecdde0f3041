"""The models that are trained: their shapes, training settings and losses. All choices here are ours."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.models.training import corpus
from sw_stack.models.training.batches import Schedule
from sw_stack.models.training.eagle import EagleHead, head_loss, head_weights
from sw_stack.models.training.model import Decoder, ModelShape, load_named_weights, named_weights

DATA = Path(__file__).resolve().parents[2] / "data"
BUILD = Path("build")
TARGET = "elmoe-8m"


@dataclass(frozen=True)
class Recipe:
    """One model and how it is trained.

    Attributes
    ----------
    folder : where the result is shipped, below ``sw_stack/data``.
    schedule : text per step.
    muon_lr, adam_lr : peak rates, see ``optimisers``.
    warmup, decay : see ``learning_rate``.
    balance : weight of the load-balancing loss (the Switch Transformer has 0.01; at 0.01 loads drifted here).
    noise : on a draft head's input features, in units of their RMS.
    """

    folder: str
    shape: ModelShape
    steps: int
    schedule: Schedule = field(default_factory=Schedule)
    muon_lr: float = 0.015
    adam_lr: float = 0.003
    warmup: int = 40
    decay: float = 0.45
    balance: float = 0.03
    noise: float = 0.1
    seed: int = 2604


RECIPES = {
    "moe": Recipe(TARGET, ModelShape(), steps=1300),
    "dense": Recipe(
        f"{TARGET}-draft-dense",
        ModelShape(hidden=96, layers=3, heads=3, kv_heads=1, experts=0, top_k=0, intermediate=256),
        steps=1300,
    ),
    "eagle": Recipe(f"{TARGET}-draft-eagle", ModelShape(layers=1, experts=0, top_k=0, intermediate=384), steps=1200),
}


def corpus_streams() -> dict[str, dict[str, np.ndarray]]:
    """Token streams by domain and split; see ``corpus.prepare``."""
    return corpus.prepare(BUILD / "corpus", DATA / TARGET)


def load_decoder(name: str) -> Decoder:
    """A shipped decoder, for training or evaluation."""
    recipe = RECIPES[name]
    path = DATA / recipe.folder / "model.safetensors"
    if not path.exists():
        raise UserError(f"{path} must exist; train it with: python -m sw_stack.models.training.train {name}")
    model = Decoder(recipe.shape)
    load_named_weights(model, load_file(path))
    return model.requires_grad_(False)


def held_out(stream: np.ndarray, context: int, rows: int) -> Tensor:
    """``rows`` windows of ``context`` + 1 tokens, spread evenly over a stream; int64 (rows, context + 1)."""
    starts = np.linspace(0, len(stream) - context - 1, rows).astype(int)
    return torch.from_numpy(np.stack([stream[s : s + context + 1] for s in starts]).astype(np.int64))


class LanguageModel:
    """Next-token prediction, with the load-balancing loss where there are experts."""

    def __init__(self, recipe: Recipe, device: str):
        self.recipe, self.device = recipe, device

    def build(self) -> nn.Module:
        return Decoder(self.recipe.shape)

    def loss(self, model: Decoder, tokens: Tensor) -> tuple[Tensor, dict]:
        """Loss of tokens (batch, context + 1), and figures for the log."""
        entropy = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        balance = model.balance()
        figures = {"loss": entropy.item()}
        if model.shape.experts:
            figures["balance_loss"] = balance.item()
            figures["load"] = torch.stack([layer.mlp.load for layer in model.layers])
        return entropy + self.recipe.balance * balance, figures

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(text) for text in corpus.token_texts(corpus.shipped_tokenizer(DATA / TARGET))])

    @torch.no_grad()
    def validate(self, model: Decoder, streams: dict) -> dict:
        """Bits per byte on 16 windows of each domain's validation files."""
        found = {}
        for name, parts in streams.items():
            tokens = held_out(parts["valid"], self.recipe.shape.context, 16)
            logits = model(tokens[:, :-1].to(self.device))
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten().to(self.device), reduction="sum")
            found[name] = round(loss.item() / math.log(2) / int(self._lengths[tokens[:, 1:]].sum()), 4)
        return {"valid_bits_per_byte": found}

    def export(self, model: Decoder, folder: Path) -> None:
        """Hugging Face files: ``model.safetensors`` (float16) and ``config.json``."""
        _write(named_weights(model), model.shape.config(), folder)


class DraftHead:
    """The EAGLE-style head of the shipped target."""

    def __init__(self, recipe: Recipe, device: str):
        self.recipe, self.device = recipe, device
        self.target = load_decoder("moe").to(device)

    def build(self) -> nn.Module:
        return EagleHead(self.recipe.shape)

    def loss(self, model: EagleHead, tokens: Tensor) -> tuple[Tensor, dict]:
        return head_loss(model, self.target, tokens, self.recipe.noise)

    @torch.no_grad()
    def validate(self, model: EagleHead, streams: dict) -> dict:
        """Share of validation positions where head and target prefer the same token, by domain."""
        context = self.recipe.shape.context
        tokens = {name: held_out(parts["valid"], context, 8).to(self.device) for name, parts in streams.items()}
        agreement = {name: head_loss(model, self.target, part, 0.0)[1] for name, part in tokens.items()}
        return {"valid_agreement": {name: round(figures["agreement"], 4) for name, figures in agreement.items()}}

    def export(self, model: EagleHead, folder: Path) -> None:
        config = ModelShape.config(self.recipe.shape) | {
            "architectures": ["EagleHead"],
            "model_type": "elmoe_eagle",
            "target": TARGET,
        }
        _write(head_weights(model), config, folder)


TASKS = {"moe": LanguageModel, "dense": LanguageModel, "eagle": DraftHead}


def _write(weights: dict[str, Tensor], config: dict, folder: Path) -> None:
    half = {name: tensor.cpu().half().contiguous() for name, tensor in weights.items()}
    for name, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} must be finite in float16")
    write_atomic(folder / "model.safetensors", save(half, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config | {"torch_dtype": "float16"}, indent=2) + "\n")
