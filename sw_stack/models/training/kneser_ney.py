"""Interpolated modified Kneser-Ney n-gram model: the baseline that the trained model has to beat.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999), section 3:

    p_n(w | h) = max(c(h w) - D(c), 0) / sum_v c(h v) + gamma(h) p_{n-1}(w | h without its first symbol)

c is the count at the highest order and the number of different left neighbours below it; D has three
values per order, for counts 1, 2 and 3 or more; gamma(h) hands on exactly the mass that was discounted. The
recursion ends in the uniform distribution over the vocabulary. As is usual, an n-gram that begins with
the start symbol keeps its plain count, for nothing can precede it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError


@dataclass
class _Order:
    """Tables of one order: n-grams and histories as sorted int64 keys.

    ``key`` (N,), ``count`` (N,) adjusted counts; ``history`` (M,), ``total`` (M,) sum of counts after the history,
    ``freed`` (M,) mass taken off by discounting, in counts; ``discount`` (4,) indexed by min(count, 3).
    """

    key: np.ndarray
    count: np.ndarray
    history: np.ndarray
    total: np.ndarray
    freed: np.ndarray
    discount: np.ndarray


_FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # what KenLM uses where the data gives no estimate


def estimate_discounts(counts: np.ndarray) -> np.ndarray:
    """(0, D1, D2, D3+) from the numbers of n-grams seen once to four times (Chen and Goodman, eq. 17).

    Where the counts allow no estimate (a number is zero, a discount below 0 or above its count; usual for
    single symbols, of which there are few), KenLM's fallback values.
    """
    n1, n2, n3, n4 = (np.count_nonzero(counts == i) for i in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    possible = (discounts >= 0).all() and (discounts <= np.arange(4)).all()
    return discounts if possible else _FALLBACK


class KneserNey:
    """An n-gram model of a stream of symbols.

    Parameters
    ----------
    stream : (T,) integers in [0, vocabulary), texts one after the other, each preceded by ``start``.
    vocabulary : number of symbols; ``start`` counts as one, though it is never predicted.
    order : n; order x bits of a symbol must fit in 62 bits.
    start : the symbol that begins every text; no n-gram crosses it.
    discounts : (4,) for every order, instead of the estimate from the data.
    """

    def __init__(self, stream, vocabulary: int, order: int = 5, start: int = 0, discounts=None):
        self.order, self.start = order, start
        self.predicted = vocabulary - 1
        self.bits = int(vocabulary - 1).bit_length()
        if order * self.bits > 62:
            raise UserError(f"Order must be at most {62 // self.bits} for {vocabulary} symbols, not {order}")
        self.orders: list[_Order] = []
        key, count = np.unique(self._grams(stream, order)[1], return_counts=True)
        for n in range(order, 0, -1):
            used = discounts if discounts is not None else estimate_discounts(count)
            self.orders.insert(0, self._tables(key, count, np.asarray(used, dtype=float)))
            if n > 1:
                key, count = self._shorter(stream, key, n)

    def _grams(self, stream, n: int) -> tuple[np.ndarray, np.ndarray]:
        """End positions and keys of all n-grams in which ``start`` can only be the first symbol."""
        stream = np.asarray(stream, dtype=np.int64)
        age = self._age(stream)
        ends = np.flatnonzero(age >= max(n - 1, 1))
        key = np.zeros(ends.size, dtype=np.int64)
        for back in range(n - 1, -1, -1):
            key = key << self.bits | stream[ends - back]
        return ends, key

    def _age(self, stream: np.ndarray) -> np.ndarray:
        """Symbols since the start of the text; 0 at the start symbol itself."""
        index = np.arange(stream.size)
        last = np.maximum.accumulate(np.where(stream == self.start, index, -1))
        if stream.size and stream[0] != self.start:
            raise UserError("Stream must begin with the start symbol")
        return index - last

    def _shorter(self, stream, key: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Adjusted counts of order n - 1 from the different n-grams ``key``; plain ones at a text's start."""
        inner, left = np.unique(key & ((1 << self.bits * (n - 1)) - 1), return_counts=True)
        if n == 2:
            return inner, left
        first = self._grams(stream, n - 1)[1]
        first = first[first >> self.bits * (n - 2) == self.start]
        opening, plain = np.unique(first, return_counts=True)
        keys, counts = np.concatenate((inner, opening)), np.concatenate((left, plain))
        order = keys.argsort()
        return keys[order], counts[order]

    def _tables(self, key: np.ndarray, count: np.ndarray, discount: np.ndarray) -> _Order:
        histories, first = np.unique(key >> self.bits, return_index=True)
        freed = np.add.reduceat(discount[np.minimum(count, 3)], first)
        return _Order(key, count, histories, np.add.reduceat(count, first), freed, discount)

    def probabilities(self, stream) -> tuple[np.ndarray, np.ndarray]:
        """Positions of all symbols but ``start``, and the probability of each given what precedes it.

        Returns
        -------
        positions : (P,) int64, ascending
        probability : (P,) float64
        """
        stream = np.asarray(stream, dtype=np.int64)
        positions = np.flatnonzero(self._age(stream) > 0)
        probability = np.full(positions.size, 1.0 / self.predicted)
        for n, table in enumerate(self.orders, start=1):
            ends, key = self._grams(stream, n)
            place = np.searchsorted(positions, ends)
            count = _lookup(table.key, table.count, key)
            total = _lookup(table.history, table.total, key >> self.bits)
            freed = _lookup(table.history, table.freed, key >> self.bits)
            kept = np.maximum(count - table.discount[np.minimum(count, 3).astype(int)], 0)
            known = total > 0
            place, kept, freed, total = place[known], kept[known], freed[known], total[known]
            probability[place] = (kept + freed * probability[place]) / total
        return positions, probability


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Value of each wanted key in a sorted table; 0 where it is not there."""
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, values[place], 0)
