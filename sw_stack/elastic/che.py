"""The Che approximation of an LRU cache's hit rate (Che, Tung and Wang 2002; why it works: arXiv 1202.3974).

Under independent references an item stays in an LRU cache of C entries for a nearly constant time T after its last
use, the root of  sum over items of P(used within T) = C. A step of a language model uses each expert with a
probability p, so P(used within T steps) = 1 - (1 - p)^T, and the hit rate is the p-weighted mean of it.
"""

from __future__ import annotations

import math

import numpy as np

from hw.errors import UserError


def characteristic_time(probability: np.ndarray, capacity: int) -> float:
    """Steps T that an unused item survives; infinite where everything fits, 0 without capacity.

    ``probability`` [items], each in [0, 1), is that of being used in a step.
    """
    probability = np.asarray(probability, np.float64)
    if probability.ndim != 1 or not ((probability >= 0) & (probability <= 1)).all():
        raise UserError("probabilities of use must be a row of numbers from 0 to 1")
    if capacity <= 0:
        return 0.0
    if capacity >= np.count_nonzero(probability):
        return math.inf
    if np.count_nonzero(probability == 1) >= capacity:
        return 0.0  # items used in every step fill the cache by themselves
    low, high = 0.0, 1.0
    while _occupied(probability, high) < capacity:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if _occupied(probability, middle) < capacity:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _occupied(probability: np.ndarray, time: float) -> float:
    return float((1 - (1 - probability) ** time).sum())


def lru_hit_rate(probability: np.ndarray, capacity: int) -> float:
    """Share of the uses that find their item resident."""
    probability = np.asarray(probability, np.float64)
    if not probability.sum() > 0:
        raise UserError("probabilities of use must not all be 0")
    time = characteristic_time(probability, capacity)
    if time == math.inf:
        return 1.0
    if time == 0:  # nothing fits, or the items of every step fill the cache and stay
        return max(capacity, 0) / float(probability.sum())
    return float((probability * (1 - (1 - probability) ** time)).sum() / probability.sum())
