"""Projections as fast kernels with the bits of ``cycle_model.numerics.project``.

Weights are kept output-minor, int8 [groups, 32, outputs], so that the exact integer sums and the FP32 chains
both run over outputs in SIMD registers while groups stay in ascending order. Nothing is ever split or
reordered over the inputs except inside a group, whose sum is an exact integer.

Both slices of an INT8 weight take one integer multiplication: with h = q >> 4 and l' = (q & 15) - 8,
the sum of a (2^16 h + l') over a group holds both group sums, because |sum a l'| <= 32 x 127 x 8 = 32512 fits in
16 signed bits, and with the sum of h in the upper half the whole is below 2^31. Then sum a l = sum a l' + 8 sum a.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cycle_model.functional.elementary import f32

GROUP = 32
TILE = 64
"""Outputs computed together; a size for the CPU's cache, without influence on any result."""

BOTH_SLICES, AUGMENTED, TRUNCATED, CODES = 0, 1, 2, 3
"""What a stored int8 means: q with both slices; q of which the operand 2h + 1 or 2h is used; the operand itself."""


@njit(nogil=True, cache=True)
def _unpack(codes, first, width, mode, tile):
    """Multiplier operands of one group: codes int8 [32, outputs] to tile int32 [32, TILE]."""
    for k in range(GROUP):
        code = codes[k, first : first + width]  # plain loops over slices are what the compiler vectorises
        operand = tile[k]
        if mode == BOTH_SLICES:
            for o in range(width):
                operand[o] = np.int32(code[o] >> 4) * 65536 + (np.int32(code[o] & 15) - 8)
        elif mode == CODES:
            for o in range(width):
                operand[o] = code[o]
        else:
            extra = 1 if mode == AUGMENTED else 0
            for o in range(width):
                operand[o] = np.int32(code[o] >> 4) * 2 + extra


@njit(nogil=True, cache=True)
def _dots(tile, x, width, sums):
    """Exact integer sums over a group: x int8 [32], tile int32 [32, TILE], sums int32 [TILE]; eight inputs at once."""
    sums[:width] = np.int32(0)
    for k in range(0, GROUP, 8):
        a, b, c, d = np.int32(x[k]), np.int32(x[k + 1]), np.int32(x[k + 2]), np.int32(x[k + 3])
        e, f, g, h = np.int32(x[k + 4]), np.int32(x[k + 5]), np.int32(x[k + 6]), np.int32(x[k + 7])
        t0, t1, t2, t3 = tile[k], tile[k + 1], tile[k + 2], tile[k + 3]
        t4, t5, t6, t7 = tile[k + 4], tile[k + 5], tile[k + 6], tile[k + 7]
        for o in range(width):
            sums[o] += (
                (a * t0[o] + b * t1[o]) + (c * t2[o] + d * t3[o]) + (e * t4[o] + f * t5[o]) + (g * t6[o] + h * t7[o])
            )


@njit(nogil=True, cache=True)
def project_rows(codes, scales, bias, factor, mode, x, x_scales, rows, first, last, out):
    """Outputs [first, last) of a projection for the given rows.

    Parameters
    ----------
    codes : int8 [groups, 32, outputs]
    scales : float32 [groups, outputs], widened
    bias : float32 [outputs], or empty
    factor : float32, 8 or 1: what a dot product of the single-slice modes weighs
    mode : BOTH_SLICES, AUGMENTED, TRUNCATED or CODES
    x : int8 [tokens, 32 groups]
    x_scales : float32 [tokens]
    rows : int32 [n], tokens to compute
    out : float32 [n, outputs], row i for token rows[i]
    """
    groups = codes.shape[0]
    n = rows.shape[0]
    tile = np.empty((GROUP, TILE), np.int32)
    sums = np.empty(TILE, np.int32)
    upper = np.empty((n, TILE), np.float32)  # the chain of the MSB slice, or the only one
    lower = np.empty((n, TILE), np.float32)
    for start in range(first, last, TILE):
        width = min(TILE, last - start)
        upper[:] = f32(0)
        lower[:] = f32(0)
        for g in range(groups):
            _unpack(codes[g], start, width, mode, tile)
            scale = scales[g, start : start + width]
            for i in range(n):
                part = x[rows[i], g * GROUP : (g + 1) * GROUP]
                _dots(tile, part, width, sums)
                if mode == BOTH_SLICES:
                    total = np.int32(0)
                    for k in range(GROUP):
                        total += np.int32(part[k])
                    offset = np.int32(total * np.int32(8))
                    msb, lsb = upper[i], lower[i]
                    for o in range(width):
                        low = np.int32(np.int16(sums[o]))  # the lower 16 bits, signed
                        high = np.int32(sums[o] - low) >> 12  # the upper 16, times 16
                        msb[o] += f32(np.int32(high)) * scale[o]
                        lsb[o] += f32(np.int32(low + offset)) * scale[o]
                else:
                    msb = upper[i]
                    for o in range(width):
                        msb[o] += (f32(sums[o]) * factor) * scale[o]
        for i in range(n):
            s = x_scales[rows[i]]
            msb, lsb, y = upper[i], lower[i], out[i, start : start + width]
            for o in range(width):
                y[o] = (msb[o] + lsb[o]) * s
            if bias.shape[0]:
                b = bias[start : start + width]
                for o in range(width):
                    y[o] += b[o]


@njit(nogil=True, cache=True)
def project_float_rows(weights, bias, x, rows, first, last, out):
    """The float comparison: y = sum of rne(x_k w_k) in ascending k from +0, then bias; nothing quantised.

    weights float32 [inputs, outputs], x float32 [tokens, inputs]; the rest as in ``project_rows``.
    """
    for i in range(rows.shape[0]):
        row = x[rows[i]]
        for start in range(first, last, TILE):
            width = min(TILE, last - start)
            y = out[i, start : start + width]
            y[:] = f32(0)
            for k in range(weights.shape[0]):
                w = weights[k, start : start + width]
                for o in range(width):
                    y[o] += row[k] * w[o]
            if bias.shape[0]:
                b = bias[start : start + width]
                for o in range(width):
                    y[o] += b[o]
