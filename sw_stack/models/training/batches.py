"""Which text a training step sees: a pure function of the recipe, the number of steps and the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.models.training.sources import DOMAINS


@dataclass(frozen=True)
class Schedule:
    """How much text a step takes, in what lengths.

    Attributes
    ----------
    tokens, early_tokens, early : tokens per step; a smaller number in the first ``early`` steps.
    short, long, short_share : sequences of ``short`` tokens in the first ``short_share`` of the steps, then of
        ``long``; attention is a quarter of a step's time at 512 tokens. Domains have their ``weight`` while sequences
        are short, their ``late_weight`` afterwards.
    """

    tokens: int = 8192
    early_tokens: int = 4096
    early: int = 150
    short: int = 256
    long: int = 512
    short_share: float = 0.5

    def tokens_before(self, step: int) -> int:
        """Training tokens seen before ``step``."""
        return min(step, self.early) * self.early_tokens + max(0, step - self.early) * self.tokens

    def length(self, step: int, steps: int) -> int:
        """Tokens of a sequence at ``step`` of ``steps``."""
        return self.short if step < round(self.short_share * steps) else self.long


class Batches:
    """Training batches: domains interleaved in a fixed pattern with exactly their shares.

    Parameters
    ----------
    streams : training tokens by domain.
    schedule, steps, seed : what a batch depends on, besides the step.
    """

    PATTERN = 100

    def __init__(self, streams: dict[str, np.ndarray], schedule: Schedule, steps: int, seed: int):
        self.streams, self.schedule, self.steps, self.seed = streams, schedule, steps, seed
        self.names = [d.name for d in DOMAINS]
        self.short = self._pattern([d.weight for d in DOMAINS])
        self.long = self._pattern([d.late_weight for d in DOMAINS])

    def _pattern(self, weights: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Domain of each of ``PATTERN`` slots, its rank among that domain's slots, and slots per domain."""
        counts = np.array([round(weight * self.PATTERN) for weight in weights])
        pattern = np.repeat(np.arange(len(weights)), counts)
        np.random.default_rng(self.seed).shuffle(pattern)
        rank = np.array([np.count_nonzero(pattern[:i] == d) for i, d in enumerate(pattern)])
        return pattern, rank, counts

    def places(self, step: int) -> list[tuple[str, int, int]]:
        """Every sequence of a step as (domain, first token, length); it is fed length + 1 tokens."""
        length = self.schedule.length(step, self.steps)
        first, end = (self.schedule.tokens_before(s) // length for s in (step, step + 1))
        pattern, rank, counts = self.short if length == self.schedule.short else self.long
        rounds, slots = np.divmod(np.arange(first, end), self.PATTERN)
        found = []
        for d, r, p in zip(pattern[slots], rounds, slots, strict=True):
            name, index = self.names[d], int(r * counts[d] + rank[p])
            start = window_starts(len(self.streams[name]), length, index, 1, self.seed + int(d))[0]
            found.append((name, int(start), length))
        return found

    def batch(self, step: int) -> np.ndarray:
        """Tokens of a step, int64 (sequences, length + 1)."""
        rows = [self.streams[name][start : start + length + 1] for name, start, length in self.places(step)]
        return np.stack(rows).astype(np.int64)

    def seen(self) -> dict[str, np.ndarray]:
        """Which training tokens all steps together have fed: bool (T,) by domain."""
        masks = {name: np.zeros(len(stream), bool) for name, stream in self.streams.items()}
        for step in range(self.steps):
            for name, start, length in self.places(step):
                masks[name][start : start + length + 1] = True
        return masks


def window_starts(size: int, length: int, first: int, count: int, seed: int) -> np.ndarray:
    """Starts of windows ``first .. first + count - 1`` of an endless shuffled pass over ``size`` tokens.

    Every epoch cuts the stream at a new phase into windows of ``length`` tokens (and one more to predict) and visits
    each once in a random order. A pure function of its arguments, so a resumed run sees what an unbroken one would.
    """
    per_epoch = (size - length - 1) // length
    starts = np.empty(count, np.int64)
    order, phase, epoch_now = None, 0, -1
    for row, index in enumerate(range(first, first + count)):
        epoch, position = divmod(index, per_epoch)
        if epoch != epoch_now:
            generator = np.random.default_rng([seed, epoch])
            order, phase, epoch_now = generator.permutation(per_epoch), int(generator.integers(length)), epoch
        starts[row] = int(order[position]) * length + phase
    return starts
