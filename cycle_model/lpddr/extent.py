"""Long aligned reads of the external memory in O(1): rows x clocks per row + a switch per extent. No RTL twin.

Both numbers are measured on stream mode, which equals the exact model to the cycle, for the configuration at hand; row
turns, refresh, bank-group and command-bus effects are in them as averages. What the averages miss is measured too
(`ExtentTiming.error`) and printed wherever the whole-model engine's figures are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cycle_model.lpddr.stream_memory import Lpddr5Stream
from hw.lpddr5_config import Lpddr5Config

ALIGN_BYTES = 32 * 1024
"""Extents begin at multiples of it: two rows in each of 8 channels (`sw_stack.compiler.layout`)."""
_SAMPLES = 48


@dataclass(frozen=True)
class ExtentTiming:
    """Times of one external memory.

    ns_per_byte     of a stream, all channels together
    switch_ns       from the last read of an extent to the first of the next
    first_ns        from a request to idle memory to its first data
    error           largest relative error of the time of a run of extents against stream mode
    extent_error    the same of single extents
    checked         extents compared
    """

    ns_per_byte: float
    switch_ns: float
    first_ns: float
    error: float
    extent_error: float
    checked: int

    def ns(self, size: float, extents: int = 1) -> float:
        """Nanoseconds that ``size`` bytes in ``extents`` extents occupy the memory."""
        return size * self.ns_per_byte + extents * self.switch_ns if size > 0 else 0.0


def _run(config: Lpddr5Config, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random extents read back to back: bytes, and clocks of each."""
    rng = np.random.default_rng(seed)
    memory = Lpddr5Stream(config)
    capacity = config.organization.capacity_bytes
    sizes = rng.integers(2, 150, _SAMPLES) * ALIGN_BYTES
    places = rng.integers(0, (capacity - sizes.max()) // ALIGN_BYTES, _SAMPLES) * ALIGN_BYTES
    ends = [memory.read(int(place), int(size)).done for place, size in zip(places, sizes, strict=True)]
    return sizes.astype(np.float64), np.diff([0, *ends]).astype(np.float64)


@lru_cache(maxsize=8)
def extent_timing(config: Lpddr5Config) -> ExtentTiming:
    """Fit on one set of random extents, measure the error on another."""
    clock = config.timing.tCK_ns
    sizes, clocks = _run(config, 0)
    matrix = np.stack([sizes, np.ones(len(sizes))], axis=1)
    per_byte, switch = np.linalg.lstsq(matrix[1:], clocks[1:], rcond=None)[0]
    first = config.timing.clocks.nRCD + config.timing.clocks.nCL + config.timing.clocks.nBL_min
    sizes, clocks = _run(config, 1)
    predicted = sizes * per_byte + switch
    whole = abs(np.cumsum(predicted) / np.cumsum(clocks) - 1)[8:].max()
    single = abs(predicted[1:] / clocks[1:] - 1).max()
    return ExtentTiming(
        float(per_byte * clock),
        float(switch * clock),
        float(first * clock),
        float(whole),
        float(single),
        len(sizes) - 1,
    )
