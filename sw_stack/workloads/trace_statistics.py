"""Statistics of routing traces: how uneven, how local and how different between sequences the choice of experts is.

Estimators (the published numbers do not all come with theirs; these give the published values of the public
GPT-OSS-20B trace on that trace):

* Zipf exponent: least squares of log count on log rank over the upper three quarters of the ranks, experts with
  fewer than 8 uses left out; per layer, then averaged.
* Normalised entropy: entropy of the experts' share of uses over log N; per layer, then averaged.
* "within" averages over sequences of at least 100 tokens, each with the same weight; "pooled" counts all tokens.
* Reuse at lag d: probability that an expert of token t was also used by token t - d of its sequence and layer.
* Unique experts: mean over layers, of n consecutive tokens (disjoint windows), or of n tokens of n sequences drawn
  at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.kernel_cache import njit
from sw_stack.workloads.trace import Trace

LAGS = (1, 8, 64)
WINDOWS = (4, 8, 16)
TOP_SHARE = 0.125
WITHIN_TOKENS = 100
ZIPF_RANKS = 0.75
ZIPF_USES = 8
ACROSS_DRAWS = 2000


@njit(cache=True)
def _count(experts: np.ndarray, offsets: np.ndarray, num_experts: int) -> np.ndarray:
    layers, k = experts.shape[1:]
    counts = np.zeros((len(offsets) - 1, layers, num_experts), np.int32)
    for s in range(len(offsets) - 1):
        for t in range(offsets[s], offsets[s + 1]):
            for layer in range(layers):
                for slot in range(k):
                    counts[s, layer, experts[t, layer, slot]] += 1
    return counts


@njit(cache=True)
def _reuse(experts: np.ndarray, offsets: np.ndarray, lag: int) -> tuple[np.ndarray, int]:
    """Reused experts [layers, slots] and the number of token pairs."""
    layers, k = experts.shape[1:]
    hits = np.zeros((layers, k), np.int64)
    pairs = 0
    for s in range(len(offsets) - 1):
        for t in range(offsets[s] + lag, offsets[s + 1]):
            pairs += 1
            for layer in range(layers):
                for slot in range(k):
                    for other in range(k):
                        if experts[t, layer, slot] == experts[t - lag, layer, other]:
                            hits[layer, slot] += 1
                            break
    return hits, pairs


@njit(cache=True)
def _unique(experts: np.ndarray, rows: np.ndarray, num_experts: int) -> np.ndarray:
    """Distinct experts [groups, layers] of each group of token numbers ``rows`` [groups, n]."""
    layers, k = experts.shape[1:]
    seen = np.full(num_experts, -1, np.int64)
    unique = np.zeros((len(rows), layers), np.int32)
    mark = 0
    for g in range(len(rows)):
        for layer in range(layers):
            mark += 1
            for t in rows[g]:
                for slot in range(k):
                    expert = experts[t, layer, slot]
                    if seen[expert] != mark:
                        seen[expert] = mark
                        unique[g, layer] += 1
    return unique


def expert_counts(trace: Trace) -> np.ndarray:
    """Uses of every expert, int32 [sequences, layers, num_experts]."""
    return _count(trace.experts, trace.offsets, trace.num_experts)


def zipf_exponent(counts: np.ndarray) -> float:
    """Exponent of one layer's counts [num_experts]; NaN with fewer than three usable ranks."""
    ranked = np.sort(counts)[::-1][: max(3, round(ZIPF_RANKS * len(counts)))].astype(float)
    ranked = ranked[ranked >= ZIPF_USES]
    if len(ranked) < 3:
        return float("nan")
    x, y = np.log(np.arange(1, len(ranked) + 1)), np.log(ranked)
    x -= x.mean()
    return float(-(x * (y - y.mean())).sum() / (x * x).sum())


def normalised_entropy(counts: np.ndarray) -> np.ndarray:
    """Entropy over log N of the last axis."""
    share = counts / counts.sum(-1, keepdims=True)
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1) / np.log(counts.shape[-1])


def top_share(counts: np.ndarray) -> np.ndarray:
    """Share of the uses that falls on the most used 12.5 % of the experts, over the last axis."""
    top = max(1, round(TOP_SHARE * counts.shape[-1]))
    return np.sort(counts, -1)[..., -top:].sum(-1) / counts.sum(-1)


def uniform_unique(num_experts: int, top_k: int, tokens: int) -> float:
    """Expected distinct experts of so many independent uniform tokens: N (1 - (1 - k/N)^n)."""
    return num_experts * (1 - (1 - top_k / num_experts) ** tokens)


@dataclass(frozen=True)
class TraceStatistics:
    """What `compute` finds: ``scalars`` by name (NaN where the trace is too short), and the per-layer profiles.

    reuse_by_layer      lag-1 reuse [layers]
    reuse_by_slot       lag-1 reuse [k], the first slot being the highest score
    entropy_by_layer    pooled normalised entropy [layers]
    probs_by_slot       mean combination weight [k], or None
    rank_share_pooled, rank_share_within   share of uses by rank [num_experts], averaged over layers (and sequences)
    domain_overlap      shared mass of expert use between kinds of text [domains, domains], averaged over layers
    """

    scalars: dict[str, float]
    reuse_by_layer: np.ndarray
    reuse_by_slot: np.ndarray
    entropy_by_layer: np.ndarray
    probs_by_slot: np.ndarray | None
    rank_share_pooled: np.ndarray
    rank_share_within: np.ndarray
    domain_overlap: np.ndarray


def _ranked_share(counts: np.ndarray) -> np.ndarray:
    share = np.sort(counts, -1)[..., ::-1] / counts.sum(-1, keepdims=True)
    return share.reshape(-1, share.shape[-1]).mean(0)


def _windows(trace: Trace, length: int) -> np.ndarray:
    """Token numbers [windows, length] of disjoint windows inside sequences."""
    starts = [
        np.arange(first, last - length + 1, length)
        for first, last in zip(trace.offsets[:-1], trace.offsets[1:], strict=True)
    ]
    return np.concatenate(starts)[:, None] + np.arange(length)


def _across(trace: Trace, length: int, rng: np.random.Generator) -> np.ndarray:
    """Token numbers [draws, length], each row from ``length`` different sequences."""
    sequences = rng.random((ACROSS_DRAWS, trace.sequences)).argpartition(length - 1, axis=1)[:, :length]
    lengths = np.diff(trace.offsets)[sequences]
    return trace.offsets[:-1][sequences] + (rng.random(sequences.shape) * lengths).astype(np.int64)


def _overlap(trace: Trace, counts: np.ndarray) -> np.ndarray:
    by_domain = np.zeros((len(trace.domains), *counts.shape[1:]))
    np.add.at(by_domain, trace.domain_of_sequence, counts)
    total = by_domain.sum(-1, keepdims=True)
    share = np.divide(by_domain, total, out=np.full_like(by_domain, np.nan), where=total > 0)
    return np.minimum(share[:, None], share[None]).sum(-1).mean(-1)


def compute(trace: Trace, seed: int = 0) -> TraceStatistics:
    """All statistics of a trace; ``seed`` draws the tokens of different sequences."""
    rng = np.random.default_rng(seed)
    counts = expert_counts(trace)
    pooled = counts.sum(0, dtype=np.int64)
    long = counts[np.diff(trace.offsets) >= WITHIN_TOKENS]
    scalars = {
        "zipf_pooled": float(np.mean([zipf_exponent(layer) for layer in pooled])),
        "entropy_pooled": float(normalised_entropy(pooled).mean()),
        "top_share_pooled": float(top_share(pooled).mean()),
    }
    if len(long):
        exponents = [zipf_exponent(layer) for sequence in long for layer in sequence]
        scalars["zipf_within"] = float(np.nanmean(exponents)) if np.isfinite(exponents).any() else float("nan")
        scalars["entropy_within"] = float(normalised_entropy(long).mean())
        scalars["top_share_within"] = float(top_share(long).mean())
    else:
        scalars |= dict.fromkeys(("zipf_within", "entropy_within", "top_share_within"), float("nan"))
    reuse = {lag: _reuse(trace.experts, trace.offsets, lag) for lag in LAGS}
    for lag, (hits, pairs) in reuse.items():
        scalars[f"reuse_lag_{lag}"] = float(hits.mean() / pairs) if pairs else float("nan")
    scalars["reuse_chance"] = trace.top_k / trace.num_experts
    for n in WINDOWS:
        rows = _windows(trace, n)
        found = _unique(trace.experts, rows, trace.num_experts).mean() if len(rows) else float("nan")
        scalars[f"unique_consecutive_{n}"] = float(found)
    for n in WINDOWS:
        enough = trace.sequences >= n
        found = _unique(trace.experts, _across(trace, n, rng), trace.num_experts).mean() if enough else float("nan")
        scalars[f"unique_across_{n}"] = float(found)
        scalars[f"unique_uniform_{n}"] = uniform_unique(trace.num_experts, trace.top_k, n)
    hits, pairs = reuse[1]
    by_layer = hits.mean(1) / pairs if pairs else np.full(trace.layers, np.nan)
    scalars["reuse_first_layer"] = float(by_layer[0])
    scalars["reuse_best_layer"] = float(by_layer.max())
    return TraceStatistics(
        scalars=scalars,
        reuse_by_layer=by_layer,
        reuse_by_slot=hits.mean(0) / pairs if pairs else np.full(trace.top_k, np.nan),
        entropy_by_layer=normalised_entropy(pooled),
        probs_by_slot=None if trace.probs is None else trace.probs.astype(np.float64).mean((0, 1)),
        rank_share_pooled=_ranked_share(pooled),
        rank_share_within=_ranked_share(long) if len(long) else np.full(trace.num_experts, np.nan),
        domain_overlap=_overlap(trace, counts),
    )
