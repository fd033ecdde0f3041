"""Train a shipped model: ``python -m sw_stack.models.training.train moe`` (or ``dense``).

Resumable: state goes to ``build/train/<model>/checkpoint.safetensors`` every ``--save-every`` steps, whole
or not at all, and the next start continues from it; batches are a pure function of (seed, step). Runs on a
GPU where there is one. The log has one JSON object per line; figures in it are float32/bfloat16 training
numerics, not the machine's.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.models.training import corpus
from sw_stack.models.training.model import Decoder, ModelShape, named_weights
from sw_stack.models.training.optimizer import learning_rate, optimisers

DATA = Path(__file__).resolve().parents[2] / "data"
BUILD = Path("build")


@dataclass(frozen=True)
class Recipe:
    """One model and how it is trained; all choices are ours.

    Attributes
    ----------
    folder : where the result is shipped, below ``sw_stack/data``.
    batch : sequences a step, each ``shape.context`` tokens.
    balance : weight of the load-balancing loss (Switch Transformer uses 0.01).
    warmup, decay : see ``learning_rate``.
    """

    folder: str
    shape: ModelShape
    steps: int
    batch: int = 12
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    balance: float = 0.01
    warmup: int = 40
    decay: float = 0.45
    seed: int = 2604


RECIPES = {
    "moe": Recipe("elmoe-11m", ModelShape(), steps=1700),
    "dense": Recipe(
        "elmoe-11m-draft-dense",
        ModelShape(hidden=128, layers=3, heads=4, kv_heads=2, experts=0, top_k=0, intermediate=352),
        steps=1200,
    ),
}


class Batches:
    """Training batches: domains interleaved in a fixed pattern with exactly the stated shares.

    ``batch(step)`` depends on nothing but the seed and the step.
    """

    PATTERN = 100

    def __init__(self, streams: dict[str, np.ndarray], recipe: Recipe):
        self.streams, self.recipe = streams, recipe
        names = [d.name for d in corpus.DOMAINS]
        counts = [round(d.weight * self.PATTERN) for d in corpus.DOMAINS]
        pattern = np.repeat(np.arange(len(names)), counts)
        np.random.default_rng(recipe.seed).shuffle(pattern)
        self.names, self.pattern = names, pattern
        self.rank = np.array([np.count_nonzero(pattern[:i] == d) for i, d in enumerate(pattern)])
        self.per_pattern = counts

    def batch(self, step: int) -> torch.Tensor:
        """Tokens of a step, int64 (batch, context + 1)."""
        size = self.recipe.batch
        rounds, places = np.divmod(np.arange(step * size, (step + 1) * size), len(self.pattern))
        domain = self.pattern[places]
        rows = []
        for d, r, p in zip(domain, rounds, places, strict=True):
            index = int(r * self.per_pattern[d] + self.rank[p])
            stream, seed = self.streams[self.names[d]], self.recipe.seed + int(d)
            rows.append(corpus.windows(stream, self.recipe.shape.context, index, 1, seed))
        return torch.from_numpy(np.concatenate(rows))


def bytes_per_token(tokenizer) -> np.ndarray:
    """Length in bytes of every vocabulary entry; 0 for the end-of-text mark (it stands for no text)."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return np.array([0 if entry == corpus.END_OF_TEXT else len(entry) for entry, _ in entries])


@torch.no_grad()
def bits_per_byte(model: Decoder, stream: np.ndarray, lengths: np.ndarray, rows: int, device) -> float:
    """Mean bits per byte over the first ``rows`` full windows of a held-out stream."""
    context = model.shape.context
    data = np.stack([stream[i * context : (i + 1) * context + 1] for i in range(rows)]).astype(np.int64)
    tokens = torch.from_numpy(data).to(device)
    loss = 0.0
    for part in tokens.split(16):
        loss += F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
    return loss / math.log(2) / lengths[data[:, 1:]].sum()


class Trainer:
    """State of one training run: model, optimisers, step, log."""

    def __init__(self, name: str, steps: int, device: str):
        if name not in RECIPES:
            raise UserError(f"Model must be one of {', '.join(RECIPES)}, not {name!r}")
        self.recipe, self.steps, self.device = RECIPES[name], steps or RECIPES[name].steps, device
        self.folder = DATA / self.recipe.folder
        self.work = BUILD / "train" / name
        self.work.mkdir(parents=True, exist_ok=True)
        shipped = DATA / RECIPES["moe"].folder  # one corpus record and one tokenizer for all models
        self.streams = corpus.prepare(BUILD / "corpus", shipped)
        from tokenizers import Tokenizer

        self.lengths = bytes_per_token(Tokenizer.from_file(str(shipped / "tokenizer.json")))
        torch.manual_seed(self.recipe.seed)
        self.model = Decoder(self.recipe.shape).to(device)
        self.optimisers = optimisers(self.model, self.recipe.muon_lr, self.recipe.adam_lr)
        self.batches = Batches({n: parts["train"] for n, parts in self.streams.items()}, self.recipe)
        self.step, self.seconds = 0, 0.0
        self.log_path, self.checkpoint = self.work / "log.jsonl", self.work / "checkpoint.safetensors"

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs, by name."""
        state = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        for i, optimiser in enumerate(self.optimisers):
            for j, entry in optimiser.state_dict()["state"].items():
                state |= {f"optimiser.{i}.{j}.{key}": value for key, value in entry.items()}
        return state | {"progress": torch.tensor([self.step, self.seconds], dtype=torch.float64)}

    def save(self) -> None:
        write_atomic(self.checkpoint, save({n: t.cpu().contiguous() for n, t in self.tensors().items()}))

    def resume(self) -> None:
        """Continue from the checkpoint where there is one; log lines after it are dropped."""
        if not self.checkpoint.exists():
            return
        state = load_file(self.checkpoint)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state[f"model.{name}"])
        for i, optimiser in enumerate(self.optimisers):
            whole = optimiser.state_dict()
            for name, value in state.items():
                if name.startswith(f"optimiser.{i}."):
                    _, _, j, key = name.split(".")
                    whole["state"].setdefault(int(j), {})[key] = value
            optimiser.load_state_dict(whole)
        self.step, self.seconds = int(state["progress"][0]), float(state["progress"][1])
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines()]
        kept = [json.dumps(line) for line in lines if line["step"] <= self.step]
        write_atomic(self.log_path, "".join(f"{line}\n" for line in kept))

    def train_step(self) -> dict:
        """One update; returns the figures for the log."""
        factor = learning_rate(self.step, self.steps, self.recipe.warmup, self.recipe.decay)
        for optimiser, peak in zip(self.optimisers, (self.recipe.muon_lr, self.recipe.adam_lr), strict=True):
            optimiser.param_groups[0]["lr"] = peak * factor
        tokens = self.batches.batch(self.step).to(self.device)
        logits = self.model(tokens[:, :-1])
        each = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
        loss = each.mean() + self.recipe.balance * self.model.balance()
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        figures = {"loss": each.mean().item(), "learning_rate_factor": factor}
        if self.recipe.shape.experts:
            load = torch.stack([layer.mlp.load for layer in self.model.layers])
            figures["smallest_share_of_fair"] = load.min().item() * self.recipe.shape.experts
            figures["balance_loss"] = self.model.balance().item()
        if not math.isfinite(figures["loss"]):
            raise UserError(f"Training diverged at step {self.step}; lower the learning rate and start again")
        return figures

    def validate(self, rows: int) -> dict[str, float]:
        return {
            name: round(bits_per_byte(self.model, parts["valid"], self.lengths, rows, self.device), 4)
            for name, parts in self.streams.items()
        }

    def write_log(self, figures: dict) -> None:
        shape = self.recipe.shape
        entry = {"step": self.step, "tokens": self.step * self.recipe.batch * shape.context,
                 "seconds": round(self.seconds, 1)}  # fmt: skip
        entry |= {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
        with self.log_path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)

    def export(self) -> None:
        """Write the shipped form: float16 safetensors, config.json, training log."""
        export(self.model, self.folder)
        write_atomic(self.folder / "training_log.jsonl", self.log_path.read_text())

    def run(self, log_every: int, validate_every: int, save_every: int) -> None:
        self.resume()
        while self.step < self.steps:
            start = time.monotonic()
            figures = self.train_step()
            if self.step % validate_every == 0 or self.step == self.steps:
                figures["valid_bits_per_byte"] = self.validate(rows=16)
            self.seconds += time.monotonic() - start
            if self.step % log_every == 0 or "valid_bits_per_byte" in figures:
                self.write_log(figures)
            if self.step % save_every == 0 or self.step == self.steps:
                self.save()
        self.export()


def export(model: Decoder, folder: Path) -> None:
    """Write ``model`` as Hugging Face files: ``model.safetensors`` (float16) and ``config.json``."""
    weights = {name: tensor.cpu().half().contiguous() for name, tensor in named_weights(model).items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} must be finite in float16")
    config = model.shape.config() | {"torch_dtype": "float16"}
    write_atomic(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--steps", type=int, default=0, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--validate-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=50)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    trainer = Trainer(args.model, args.steps, args.device)
    trainer.run(args.log_every, args.validate_every, args.save_every)


if __name__ == "__main__":
    main()
