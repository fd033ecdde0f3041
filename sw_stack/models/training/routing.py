"""Statistics of routing: how even, how local and how domain-bound the choice of experts is.

All functions take ``picked``: integer array (sequences, positions, layers, top_k), the experts of each
token, most probable first; ``experts`` is their number per layer. Results are means over layers unless
stated. ``PUBLISHED`` holds the same figures of large models, for reading beside ours; nothing is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PublishedRouting:
    """Routing figures of a large model; ``None`` = not published.

    ``kind`` says where they come from: "measured" on a public trace by us, or "paper".
    """

    model: str
    kind: str
    chance: float
    entropy_pooled: str
    entropy_within: str
    top_eighth_share: str
    reuse: tuple[str | None, str | None, str | None]
    unique_consecutive: tuple[float, float, float] | None
    unique_separate: tuple[float, float, float] | None


PUBLISHED = (
    PublishedRouting(
        "GPT-OSS-20B", "measured on a public trace", 4 / 32, ".917", ".814", ".431", (".440", ".348", ".322"),
        (9.4, 13.0, 16.5), (12.1, 17.9, 23.1),
    ),
    PublishedRouting(
        "DeepSeek-V2-Lite", "measured on a public trace", 6 / 64, ".994", ".939", ".307", (".260", ".163", ".141"),
        (17.3, 27.5, 39.6), (20.6, 34.1, 49.7),
    ),
    PublishedRouting(
        "Qwen3-30B-A3B", "paper", 8 / 128, ".85-.89", ".62-.81", ".545-.62", (".427", None, None), None, None
    ),
)  # fmt: skip

LAGS = (1, 8, 64)
GROUPS = (4, 8, 16)


def usage(picked: np.ndarray, experts: int) -> np.ndarray:
    """Share of each expert in the assignments of its layer: (layers, experts), rows sum to 1."""
    layers = picked.shape[2]
    counts = np.stack([np.bincount(picked[:, :, layer].ravel(), minlength=experts) for layer in range(layers)])
    return counts / counts.sum(1, keepdims=True)


def normalised_entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy of the last axis over log(its length): 1 = uniform, 0 = always the same expert."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(-1) / np.log(shares.shape[-1])


def usage_within(picked: np.ndarray, experts: int) -> np.ndarray:
    """``usage`` of every sequence by itself: (sequences, layers, experts)."""
    return np.stack([usage(sequence[None], experts) for sequence in picked])


def reuse(picked: np.ndarray, lag: int) -> np.ndarray:
    """Share of a token's experts that the token ``lag`` positions before used too: (layers,)."""
    now, before = picked[:, lag:], picked[:, :-lag]
    hit = (now[..., :, None] == before[..., None, :]).any(-1)
    return hit.mean((0, 1, 3))


def unique_experts(picked: np.ndarray, tokens: int, separate: bool, seed: int = 0) -> float:
    """Mean number of different experts that ``tokens`` tokens touch in a layer.

    Tokens are consecutive in one sequence, or (``separate``) drawn from different sequences at random.
    """
    sequences, positions, layers, _ = picked.shape
    generator, found = np.random.default_rng(seed), []
    for _ in range(400):
        if separate:
            which = generator.permutation(sequences)[:tokens]
            group = picked[which, generator.integers(positions, size=which.size)]
        else:
            start = generator.integers(positions - tokens + 1)
            group = picked[generator.integers(sequences), start : start + tokens]
        found.append(np.mean([np.unique(group[:, layer]).size for layer in range(layers)]))
    return float(np.mean(found))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Common mass of two usage tables (layers, experts): sum of minima, 1 = same use, 0 = disjoint."""
    return float(np.minimum(first, second).sum(1).mean())


def figures(picked: np.ndarray, experts: int) -> dict:
    """Every figure that ``PUBLISHED`` has, for ``picked``, and lag-1 reuse by layer."""
    shares, within = usage(picked, experts), usage_within(picked, experts)
    top = np.sort(within, axis=-1)[..., -experts // 8 :].sum(-1)
    return {
        "chance": picked.shape[3] / experts,
        "entropy_pooled": float(normalised_entropy(shares).mean()),
        "entropy_within": float(normalised_entropy(within).mean()),
        "top_eighth_share": float(top.mean()),
        "reuse": [float(reuse(picked, lag).mean()) for lag in LAGS],
        "reuse_lag1_by_layer": reuse(picked, 1).round(4).tolist(),
        "unique_consecutive": [unique_experts(picked, n, separate=False) for n in GROUPS],
        "unique_separate": [unique_experts(picked, n, separate=True) for n in GROUPS],
        "smallest_share_of_fair": float(shares.min() * experts),
        "largest_share_of_fair": float(shares.max() * experts),
    }
