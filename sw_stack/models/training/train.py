"""Train a shipped model: ``python -m sw_stack.models.training.train moe`` (then ``dense``, ``eagle``).

Resumable: state goes to ``build/train/<model>/checkpoint.safetensors`` every ``--save-every`` steps, whole
or not at all, and the next start continues from it; batches are a pure function of (seed, step). ``--steps``
may differ from run to run as long as the decay has not begun. Runs on a GPU where there is one. The log
has one JSON object per line; its figures are of the training's bfloat16 products, not the machine's.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.models.training.batches import Batches
from sw_stack.models.training.optimizer import learning_rate, optimisers
from sw_stack.models.training.recipes import BUILD, DATA, RECIPES, TASKS, corpus_streams


class Workers:
    """Threads that share a batch: each takes some of its rows through its own copy of the modules.

    The copies hold the same parameter objects; only what a forward pass leaves behind (loads, balance) is
    separate. One product at a time per thread: on a shared CPU that wastes far less than threads inside
    each small product, which wait for one another. Gradients are added in a fixed order, so a run's result
    depends on the number of workers but not on their timing.
    """

    def __init__(self, model: nn.Module, count: int, loss):
        self.pool, self.loss = ThreadPoolExecutor(count), loss
        self.models = [model] + [_twin(model) for _ in range(count - 1)]
        self.parameters = list(model.parameters())

    def backward(self, tokens: Tensor) -> dict:
        """Set ``grad`` of every parameter to the batch's mean gradient; returns the workers' mean figures."""
        parts = tokens.chunk(len(self.models))
        done = list(self.pool.map(self._gradients, self.models, parts))
        for i, parameter in enumerate(self.parameters):
            shares = [grads[i] * (len(part) / len(tokens)) for (_, grads), part in zip(done, parts, strict=True)]
            parameter.grad = sum(shares[1:], shares[0])
        return {key: sum(figures[key] for figures, _ in done) / len(done) for key in done[0][0]}

    def _gradients(self, model: nn.Module, tokens: Tensor) -> tuple[dict, tuple[Tensor, ...]]:
        loss, figures = self.loss(model, tokens)
        return figures, torch.autograd.grad(loss, list(model.parameters()))


def _twin(model: nn.Module) -> nn.Module:
    """Another model with the very same parameter objects."""
    twin = copy.deepcopy(model)
    for mine, theirs in zip(twin.modules(), model.modules(), strict=True):
        mine._parameters = theirs._parameters
    return twin


class Trainer:
    """State of one training run: model, optimisers, step, log.

    ``average`` follows the parameters with a memory of about 50 steps: while the rate is constant, it is as good as
    the parameters after a short decay, so it is what is exported before the run has ended.
    """

    AVERAGE_DECAY = 0.98

    def __init__(self, name: str, steps: int, workers: int, device: str):
        self.recipe, self.steps, self.device = RECIPES[name], steps or RECIPES[name].steps, device
        self.work = BUILD / "train" / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.streams = corpus_streams()
        torch.manual_seed(self.recipe.seed)
        self.task = TASKS[name](self.recipe, device)
        self.model = self.task.build().to(device)
        self.optimisers = optimisers(self.model, self.recipe.muon_lr, self.recipe.adam_lr)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.workers = Workers(self.model, workers, self.task.loss)
        train = {name: parts["train"] for name, parts in self.streams.items()}
        self.batches = Batches(train, self.recipe.schedule, self.steps, self.recipe.seed)
        self.step, self.seconds = 0, 0.0
        self.log_path, self.checkpoint = self.work / "log.jsonl", self.work / "checkpoint.safetensors"

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        state = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        for i, optimiser in enumerate(self.optimisers):
            for j, entry in optimiser.state_dict()["state"].items():
                state |= {f"optimiser.{i}.{j}.{key}": value for key, value in entry.items()}
        state |= {f"average.{n}": p for n, p in self.average.named_parameters()}
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
            for name, parameter in self.average.named_parameters():
                parameter.copy_(state[f"average.{name}"])
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
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = group["peak"] * factor
        figures = self.workers.backward(torch.from_numpy(self.batches.batch(self.step)).to(self.device))
        muon, adam = self.optimisers
        muon.step(self.workers.pool)
        adam.step()
        with torch.no_grad():
            for mean, parameter in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(parameter, 1 - self.AVERAGE_DECAY)
        self.step += 1
        if not math.isfinite(figures["loss"]):
            raise UserError(f"Training diverged at step {self.step}; lower the learning rate and start again")
        if "load" in figures:
            figures["smallest_share_of_fair"] = figures.pop("load").min().item() * self.recipe.shape.experts
        return figures | {"learning_rate_factor": factor}

    def write_log(self, figures: dict) -> None:
        entry = {
            "step": self.step,
            "tokens": self.recipe.schedule.tokens_before(self.step),
            "seconds": round(self.seconds, 1),
        }
        entry |= {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
        with self.log_path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)

    def run(self, log_every: int, validate_every: int, save_every: int) -> None:
        """Train from the checkpoint to the last step, then write the shipped files and the log."""
        self.resume()
        while self.step < self.steps:
            start = time.monotonic()
            figures = self.train_step()
            if self.step % validate_every == 0 or self.step == self.steps:
                figures |= self.task.validate(self.model, self.streams)
            self.seconds += time.monotonic() - start
            if self.step % log_every == 0 or self.step == self.steps:
                self.write_log(figures)
            if self.step % save_every == 0 or self.step == self.steps:
                self.save()
        self.export(self.model)

    def export(self, model: nn.Module) -> None:
        """Write the shipped files of ``model`` and the log."""
        folder = DATA / self.recipe.folder
        self.task.export(model, folder)
        write_atomic(folder / "training_log.jsonl", self.log_path.read_text())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--steps", type=int, default=0, help="instead of the recipe's")
    parser.add_argument("--workers", type=int, default=1, help="threads that share a batch, one per free CPU core")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--validate-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument(
        "--export", action="store_true", help="only write the running average of a run that has not ended"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trainer = Trainer(args.model, args.steps, args.workers, args.device)
    if args.export:
        trainer.resume()
        print(json.dumps(trainer.task.validate(trainer.average, trainer.streams)))
        trainer.export(trainer.average)
        return
    trainer.run(args.log_every, args.validate_every, args.save_every)


if __name__ == "__main__":
    main()
