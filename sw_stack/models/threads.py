"""Work on several CPU threads: split over tokens, sequences, experts or outputs, never over a sum."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

WORTH_A_THREAD = 1 << 21
"""Multiplications from which splitting work pays; below, handing it over costs more."""


class WorkerThreads:
    """A pool that work is handed to where it is large enough; kernels release Python's lock.

    Work must not hand on work of its own: a thread that waits for its own pool would wait for ever.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count) if count > 1 else None

    def each(self, work: Callable[[int], None], count: int, products: int) -> None:
        """``work(i)`` for i in range(count), ``products`` multiplications in all."""
        if self._pool is None or count == 1 or products < WORTH_A_THREAD:
            for i in range(count):
                work(i)
        else:
            list(self._pool.map(work, range(count)))

    def split(self, work: Callable[[int, int], None], count: int, products: int, grain: int = 1) -> None:
        """``work(first, last)`` over contiguous parts of range(count), cut at multiples of ``grain``."""
        grains = -(-count // grain)
        if self._pool is None or grains < 2 or products < WORTH_A_THREAD:
            work(0, count)
            return
        bounds = np.linspace(0, grains, min(self.count, grains) + 1).astype(int) * grain
        list(self._pool.map(work, bounds[:-1], np.minimum(bounds[1:], count)))
