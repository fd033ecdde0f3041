"""Choosing the next token: greedy, or temperature and top-p with random numbers that depend on nothing but a name.

Weights are integers, so that a distribution is exact and sums in any order: w_i = floor(2^32 exp(l_i - max)), the
exponent e = rne(rne(l - max) rne(1 / T)) in FP32 and exp the contract's. top-p keeps the smallest set of the
highest weights (ties: lower id) that holds at least ceil(2^32 p) / 2^32 of the sum. A draw r (64 bits) picks the
first token whose running sum in ascending id exceeds floor(r x sum / 2^64).

Random numbers are Philox4x32-10 (Salmon et al., SC 2011) of key (seed, sequence) and counter (position, draw): a
sequence's samples do not depend on which others run beside it, nor on how many were drawn before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cycle_model.functional.elementary import exp_f32, f32
from cycle_model.kernel_cache import njit
from hw.errors import UserError

_MASK = (1 << 32) - 1
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10: four 32-bit numbers from two 32-bit key words and four counter words."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & _MASK, (a >> 32) ^ c3 ^ k1, a & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True)
class RandomStream:
    """Random numbers of one sequence.

    seed      0 to 2^32 - 1
    sequence  0 to 2^32 - 1, the sequence's own number
    """

    seed: int
    sequence: int

    def __post_init__(self) -> None:
        for name in ("seed", "sequence"):
            if not 0 <= getattr(self, name) <= _MASK:
                raise UserError(f"{name} must be 0 to 2^32 - 1, not {getattr(self, name)}")

    def bits(self, position: int, draw: int = 0) -> int:
        """64 random bits for the ``draw``-th use at a position of the sequence."""
        low, high, _, _ = philox((self.seed, self.sequence), (position & _MASK, position >> 32, draw, 0))
        return high << 32 | low


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """temperature 0 is greedy; top_p 1 keeps all tokens."""

    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 100):
            raise UserError(f"temperature must be 0 to 100, not {self.temperature!r}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, not {self.top_p!r}")

    @property
    def greedy(self) -> bool:
        """Whether the highest logit is always taken."""
        return self.temperature == 0


def greedy(logits: np.ndarray) -> np.ndarray:
    """Highest logit of each row, ties to the lower id; float32 [n, vocabulary] to int64 [n]."""
    return np.argmax(logits, axis=-1)


@njit(nogil=True, cache=True)
def _exponentials(logits, inverse_temperature, out):
    highest = logits[0]
    for i in range(logits.shape[0]):
        highest = max(highest, logits[i])
    for i in range(logits.shape[0]):
        out[i] = np.int64(exp_f32((logits[i] - highest) * inverse_temperature) * f32(4294967296.0))


def token_weights(logits: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Sampling weights of one row of logits: int64 [vocabulary], at most 2^32 each, zero where never drawn.

    Probabilities are these divided by their sum. A greedy configuration gives one non-zero weight.
    """
    logits = np.ascontiguousarray(logits, np.float32)
    weights = np.zeros(len(logits), np.int64)
    if config.greedy:
        weights[greedy(logits)] = 1
        return weights
    _exponentials(logits, f32(1 / config.temperature), weights)
    if config.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        reached = np.cumsum(weights[order])
        share = math.ceil(config.top_p * 2**32)
        need = -(-int(reached[-1]) * share >> 32)  # ceil(sum x share / 2^32)
        weights[order[int(np.searchsorted(reached, need)) + 1 :]] = 0
    return weights


def pick(weights: np.ndarray, bits: int) -> int:
    """The token that 64 random bits choose under integer weights."""
    running = np.cumsum(weights)
    return int(np.searchsorted(running, bits * int(running[-1]) >> 64, side="right"))


def sample(logits: np.ndarray, config: SamplingConfig, stream: RandomStream, position: int) -> int:
    """Next token from one row of logits, for ``position`` of the stream's sequence."""
    if config.greedy:
        return int(greedy(logits))
    return pick(token_weights(logits, config), stream.bits(position))
