"""Rotary position embedding with angles kept as exact fractions of a turn.

A pair's frequency is a 64-bit fraction of a turn per position, rounded once from 50 decimal digits; the angle
of position p is (p x fraction) mod 2^64, an integer, so there is no range reduction and no error that grows
with float32 positions (at most p 2^-65 turns). YaRN's ramp (arXiv 2309.00071) is applied to the frequencies in
the same decimal arithmetic; its attention factor multiplies cos and sin, one rounding each.

    (a, b) -> (rne(rne(a cos) - rne(b sin)), rne(rne(b cos) + rne(a sin)))
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np

from cycle_model.functional.elementary import rsqrt_f32, sin_cos_f32
from cycle_model.functional.rows import LANES, mean_square
from cycle_model.kernel_cache import njit

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def pair_phases(
    dims: int,
    theta: float,
    *,
    factor: float = 1.0,
    original_positions: int = 0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> np.ndarray:
    """Turns per position of each pair, times 2^64.

    Pair i turns theta^(-2i / dims) radians per position. ``factor`` other than 1 is YaRN's context extension
    over ``original_positions``: pairs that make fewer than ``beta_slow`` rotations over them are slowed by
    ``factor``, those with more than ``beta_fast`` are kept, with a linear ramp between (its ends rounded
    outward to whole pairs where ``truncate``).

    Returns
    -------
    uint64 [dims / 2].
    """
    pairs = dims // 2
    phases = np.empty(pairs, np.uint64)
    with localcontext() as context:
        context.prec = 50
        log_theta = Decimal(theta).ln()

        def pair_with(rotations: float) -> Decimal:
            return dims * (original_positions / (Decimal(rotations) * 2 * PI)).ln() / (2 * log_theta)

        low, high = Decimal(0), Decimal(1)
        if factor != 1.0:
            low, high = pair_with(beta_fast), pair_with(beta_slow)
            if truncate:
                low, high = low.to_integral_value(ROUND_FLOOR), high.to_integral_value(ROUND_CEILING)
            low, high = max(low, Decimal(0)), min(high, Decimal(dims - 1))
            if low == high:
                high += Decimal("0.001")
        for i in range(pairs):
            frequency = (-(Decimal(2 * i) / dims) * log_theta).exp()
            if factor != 1.0:
                slowed = min(max((i - low) / (high - low), Decimal(0)), Decimal(1))
                frequency = frequency / Decimal(factor) * slowed + frequency * (1 - slowed)
            turns = frequency / (2 * PI) * (1 << 64)
            phases[i] = int(turns.to_integral_value(ROUND_HALF_EVEN))
    return phases


@njit(nogil=True, cache=True)
def rotation_table(phases, positions, factor, cosines, sines):
    """cos and sin of every position and pair, times ``factor`` (float32): cosines, sines float32 [n, pairs]."""
    for row in range(positions.shape[0]):
        for i in range(phases.shape[0]):
            sine, cosine = sin_cos_f32(np.uint64(positions[row]) * phases[i])
            cosines[row, i] = cosine * factor
            sines[row, i] = sine * factor


@njit(nogil=True, cache=True)
def rotate(x, cosine, sine, interleaved):
    """Rotate one head in place: x float32 [>= 2 pairs]; pairs (2i, 2i + 1) or (i, i + pairs)."""
    pairs = cosine.shape[0]
    for i in range(pairs):
        at, to = (2 * i, 2 * i + 1) if interleaved else (i, i + pairs)
        a, b = x[at], x[to]
        x[at] = a * cosine[i] - b * sine[i]
        x[to] = b * cosine[i] + a * sine[i]


@njit(nogil=True, cache=True)
def norm_and_rotate(x, weight, eps, cosines, sines, offset, interleaved):
    """Queries or keys before attention, in place: RMS norm of each head where there is a weight, then RoPE.

    x float32 [n, heads, d]; weight float32 [d] or empty; cosines, sines float32 [n, pairs]; the rotated part
    of a head starts at ``offset``.
    """
    lanes = np.empty(LANES, np.float32)
    for row in range(x.shape[0]):
        for head in range(x.shape[1]):
            values = x[row, head]
            if weight.shape[0]:
                scale = rsqrt_f32(mean_square(values, lanes) + eps)
                for i in range(values.shape[0]):
                    values[i] = (values[i] * scale) * weight[i]
            rotate(values[offset:], cosines[row], sines[row], interleaved)
