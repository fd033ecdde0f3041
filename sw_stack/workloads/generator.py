"""Synthetic routing traces: global popularity x per-sequence reweighting x short-memory stickiness.

In layer l, expert e has the weight

    base_s(e) = normalised( ((rank_l(e) + N rank_shift) ** -popularity  x  exp(reweighting x z_s,l(e))) ** locality_l )

in sequence s, with z normally distributed, and token t draws its k experts one after another without replacement from

    base_s(e)  +  stickiness x locality_l x sum_{j=1..8} decay^(j-1) (1 - decay) [e used by token t - j] / k,

decay = exp(-1 / memory_tokens). Ranks are a random permutation per layer. An alias table draws from the base in
constant time and the recent tokens are drawn by their age, so nothing is proportional to the number of experts per
token; drawing again where an expert was already taken is exactly drawing without replacement. The order of drawing
is the order of scores. Equal seeds give equal traces; a sequence does not depend on how many others are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cycle_model.kernel_cache import njit
from hw.errors import UserError
from sw_stack.workloads.trace import Trace, expert_dtype

MEMORY = 8
"""Tokens remembered; with a decay over 2 to 4 tokens what is older weighs under 14 % of the stickiness."""


@dataclass(frozen=True, kw_only=True)
class GeneratorParams:
    """Parameters of one synthetic model; `sw_stack.workloads.generator_presets` has those of real ones.

    popularity     exponent of the global popularity of experts
    rank_shift     Zipf-Mandelbrot shift of the ranks as a share of N: load balancing flattens the head
    reweighting    standard deviation of the log of a sequence's own weights
    stickiness     weight of the recently used experts relative to the whole base distribution
    memory_tokens  time constant of the stickiness in tokens
    locality       multiplier of popularity, reweighting and stickiness per layer [layers]
    """

    name: str
    num_experts: int
    top_k: int
    popularity: float
    rank_shift: float
    reweighting: float
    stickiness: float
    memory_tokens: float
    locality: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts <= 65536:
            raise UserError(f"generator top_k must be 1 to num_experts {self.num_experts}, not {self.top_k!r}")
        for name in ("popularity", "rank_shift", "reweighting", "stickiness"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"generator {name} must be a number of at least 0, not {value!r}")
        if not (math.isfinite(self.memory_tokens) and self.memory_tokens > 0):
            raise UserError(f"generator memory_tokens must be above 0, not {self.memory_tokens!r}")
        if not self.locality or min(self.locality) < 0:
            raise UserError(f"generator locality must be numbers of at least 0 per layer, not {self.locality!r}")

    @property
    def layers(self) -> int:
        """MoE layers."""
        return len(self.locality)


@njit(cache=True, inline="always")
def _next(state: np.ndarray) -> np.uint64:
    """SplitMix64 (Steele, Lea and Flood 2014): one generator per sequence and layer, so order does not matter."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, inline="always")
def _uniform(state: np.ndarray) -> float:
    return (_next(state) >> np.uint64(11)) * 2.0**-53


@njit(cache=True)
def _alias_table(base: np.ndarray, keep: np.ndarray, alias: np.ndarray, stack: np.ndarray) -> None:
    """Walker's alias table by Vose's construction; ``base`` sums to 1 and is overwritten."""
    n = len(base)
    small, large = 0, n  # two stacks in one array, growing towards each other
    for e in range(n):
        base[e] *= n
        if base[e] < 1:
            stack[small] = e
            small += 1
        else:
            large -= 1
            stack[large] = e
    while small > 0 and large < n:
        small -= 1
        lesser, greater = stack[small], stack[large]
        keep[lesser], alias[lesser] = base[lesser], greater
        base[greater] -= 1 - base[lesser]
        if base[greater] < 1:
            large += 1
            stack[small] = greater
            small += 1
    for i in range(small):
        keep[stack[i]] = 1.0
    for i in range(large, n):
        keep[stack[i]] = 1.0


@njit(cache=True)
def _draw_layer(
    experts: np.ndarray,
    layer: int,
    base: np.ndarray,
    stickiness: float,
    decay: float,
    state: np.ndarray,
) -> None:
    """Fill experts[:, layer] of one sequence; ``base`` [num_experts] sums to 1."""
    n, k = len(base), experts.shape[2]
    keep, alias, stack = np.empty(n), np.zeros(n, np.int64), np.empty(n, np.int64)
    weights = base.copy()
    _alias_table(base, keep, alias, stack)
    age = np.empty(MEMORY)  # cumulative weight of the tokens up to so many tokens ago
    mass = 0.0
    for j in range(MEMORY):
        mass += stickiness * decay**j * (1 - decay)
        age[j] = mass
    taken = np.full(n, -1, np.int64)
    for t in range(len(experts)):
        recent = min(t, MEMORY)
        total = 1.0 + (age[recent - 1] if recent else 0.0)
        slot = 0
        misses = 0
        while slot < k:
            u = _uniform(state) * total
            if u < 1.0:
                x = u * n
                e = int(x)
                if x - e >= keep[e]:
                    e = alias[e]
            else:
                j = 0
                while j < recent - 1 and u - 1.0 >= age[j]:
                    j += 1
                e = int(experts[t - 1 - j, layer, int(_uniform(state) * k)])
            if taken[e] == t:
                misses += 1
                if misses < 64:
                    continue
                # What is left has almost no weight: sum over it once instead of drawing in vain.
                e = _draw_rest(experts, layer, t, weights, age, recent, taken, _uniform(state))
            taken[e] = t
            experts[t, layer, slot] = e
            slot += 1
            misses = 0


@njit(cache=True)
def _draw_rest(
    experts: np.ndarray,
    layer: int,
    t: int,
    weights: np.ndarray,
    age: np.ndarray,
    recent: int,
    taken: np.ndarray,
    u: float,
) -> int:
    """One expert that token t has not taken yet, by inversion of the exact weights."""
    k = experts.shape[2]
    left = weights.copy()
    for j in range(recent):
        for other in range(k):
            left[experts[t - 1 - j, layer, other]] += (age[j] - (age[j - 1] if j else 0.0)) / k
    total = 0.0
    for e in range(len(left)):
        if taken[e] == t:
            left[e] = 0.0
        total += left[e]
    threshold = u * total
    last = 0
    for e in range(len(left)):
        if taken[e] != t:
            last = e
            threshold -= left[e]
            if threshold < 0:
                break
    return last


@njit(cache=True)
def _draw(
    experts: np.ndarray,
    offsets: np.ndarray,
    log_popularity: np.ndarray,
    z: np.ndarray,
    reweighting: np.ndarray,
    stickiness: np.ndarray,
    decay: float,
    seed: np.uint64,
    first_sequence: int,
) -> None:
    """All sequences; ``z`` and ``log_popularity`` are [sequences, layers, N] and [layers, N]."""
    state = np.empty(1, np.uint64)
    layers = experts.shape[1]
    base = np.empty(log_popularity.shape[1])
    for s in range(len(offsets) - 1):
        for layer in range(layers):
            state[0] = seed
            state[0] = _next(state) ^ np.uint64(first_sequence + s)
            state[0] = _next(state) ^ np.uint64(layer)
            total = 0.0
            for e in range(len(base)):
                base[e] = math.exp(log_popularity[layer, e] + reweighting[layer] * z[s, layer, e])
                total += base[e]
            for e in range(len(base)):
                base[e] /= total
            _draw_layer(experts[offsets[s] : offsets[s + 1]], layer, base, stickiness[layer], decay, state)


def generate(params: GeneratorParams, sequences: int, tokens: int, seed: int = 0) -> Trace:
    """A synthetic trace of ``sequences`` sequences of ``tokens`` tokens each."""
    if seed < 0:
        raise UserError(f"generator seed must be at least 0, not {seed!r}")
    if sequences < 1 or tokens < 1:
        raise UserError(f"generator sequences and tokens must be at least 1, not {sequences!r} and {tokens!r}")
    layers, n = params.layers, params.num_experts
    ranks = np.random.default_rng([seed, 0]).permuted(np.tile(np.arange(1, n + 1), (layers, 1)), axis=1)
    locality = np.array(params.locality)
    log_popularity = -params.popularity * locality[:, None] * np.log(ranks + n * params.rank_shift)
    offsets = np.arange(sequences + 1, dtype=np.int64) * tokens
    experts = np.empty((sequences * tokens, layers, params.top_k), expert_dtype(n))
    decay = math.exp(-1 / params.memory_tokens)
    for s in range(sequences):  # one sequence at a time: its normals are all that is held
        z = np.random.default_rng([seed, 1, s]).standard_normal((1, layers, n))
        _draw(
            experts[offsets[s] : offsets[s + 1]],
            np.array([0, tokens]),
            log_popularity,
            z,
            params.reweighting * locality,
            params.stickiness * locality,
            decay,
            np.uint64(seed),
            s,
        )
    return Trace(
        experts=experts,
        offsets=offsets,
        num_experts=n,
        model=params.name,
        source="elmoe3d trace generate",
        licence="none: synthetic",
        phase="generated",
        note=f"{params}, seed {seed}",
    )
