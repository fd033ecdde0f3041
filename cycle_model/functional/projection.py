"""Projections as fast kernels with the bits of ``cycle_model.numerics.project``.

Weights are kept output-minor, int8 [groups, 32, outputs], so that the exact integer sums and the FP32 chains
both run over outputs in SIMD registers while groups stay in ascending order. Nothing is ever split or
reordered over the inputs except inside a group, whose sum is an exact integer.

Both slices of an INT8 weight take one integer multiplication: with h = q >> 4 and l' = (q & 15) - 8, both in [-8, 7],
the sum of a (2^16 h + l') over a group holds both group sums, because |sum a l'| <= 32 x 127 x 8 = 32512 fits in
16 signed bits, and with the sum of h in the upper half the whole is below 2^31. Then sum a l = sum a l' + 8 sum a.
A draft's sums stay exact in 16 bits altogether, of which a SIMD register holds twice as many:
sum a (2h + 1) = 2 sum a h + sum a. Ready operands are at most 16, so half a group fits. Tokens are taken in pairs,
which read the operands once.
"""

from __future__ import annotations

import numpy as np

from cycle_model.functional.elementary import f32
from cycle_model.kernel_cache import njit

GROUP = 32
TILE = 256
"""Outputs computed together; a size for the CPU's cache, without influence on any result."""
GRAIN = 64
"""Outputs that are worth a thread's while, likewise."""

BOTH_SLICES, AUGMENTED, TRUNCATED, CODES = 0, 1, 2, 3
"""What a stored int8 means: q with both slices; q of which the operand 2h + 1 or 2h is used; the operand itself."""


@njit(nogil=True, cache=True)
def _unpack_both(codes, first, width, tile):
    """Both slices of a group's weights: codes int8 [32, outputs] to tile int32 [32, TILE]."""
    for k in range(GROUP):
        code = codes[k, first : first + width]  # plain loops over slices are what the compiler vectorises
        operand = tile[k]
        for o in range(width):
            operand[o] = np.int32(code[o] >> 4) * 65536 + (np.int32(code[o] & 15) - 8)


@njit(nogil=True, cache=True)
def _unpack_one(codes, first, width, mode, tile):
    """The upper slice of a group's weights, or their operands: codes int8 [32, outputs] to tile int16 [32, TILE]."""
    for k in range(GROUP):
        code = codes[k, first : first + width]
        operand = tile[k]
        if mode == CODES:
            for o in range(width):
                operand[o] = code[o]
        else:
            for o in range(width):
                operand[o] = code[o] >> 4


@njit(nogil=True, cache=True)
def _dots(tile, first, last, x, y, pair, width, sums):
    """Exact sums over inputs [first, last), a multiple of four, for token x and, in a pair, token y.

    tile [32, TILE] and sums [2, TILE] both int16 or both int32; x, y int8 [32]. The products are wider, but are added
    modulo 2^16 or 2^32, which is exact where the sum fits.
    """
    of_x, of_y = sums[0], sums[1]
    of_x[:width] = 0
    if pair:
        of_y[:width] = 0
    for k in range(first, last, 4):
        a, b, c, d = x[k], x[k + 1], x[k + 2], x[k + 3]
        t0, t1, t2, t3 = tile[k], tile[k + 1], tile[k + 2], tile[k + 3]
        if not pair:
            for o in range(width):
                of_x[o] += (a * t0[o] + b * t1[o]) + (c * t2[o] + d * t3[o])
            continue
        e, f, g, h = y[k], y[k + 1], y[k + 2], y[k + 3]
        for o in range(width):
            of_x[o] += (a * t0[o] + b * t1[o]) + (c * t2[o] + d * t3[o])
            of_y[o] += (e * t0[o] + f * t1[o]) + (g * t2[o] + h * t3[o])


@njit(nogil=True, cache=True)
def _total(x):
    """Sum of int8 [32]."""
    total = np.int32(0)
    for k in range(GROUP):
        total += np.int32(x[k])
    return np.int32(total)


@njit(nogil=True, cache=True)
def _pair(x, rows, i, g):
    """Group ``g`` of tokens ``rows[i]`` and, where there is one, ``rows[i + 1]``; and whether there is."""
    pair = i + 1 < rows.shape[0]
    a = x[rows[i], g * GROUP : (g + 1) * GROUP]
    b = x[rows[i + 1 if pair else i], g * GROUP : (g + 1) * GROUP]
    return a, b, pair


@njit(nogil=True, cache=True)
def _add_both(tile, x, rows, scale, g, width, sums, upper, lower):
    """Add group ``g`` to both chains of every token, float32 [tokens, TILE] each."""
    for i in range(0, rows.shape[0], 2):
        a, b, pair = _pair(x, rows, i, g)
        _dots(tile, 0, GROUP, a, b, pair, width, sums)
        for j in range(2 if pair else 1):
            dots, msb, lsb = sums[j], upper[i + j], lower[i + j]
            offset = np.int32(8 * _total(b if j else a))
            for o in range(width):
                low = np.int32(np.int16(dots[o]))  # the lower 16 bits, signed
                high = np.int32(dots[o] - low) >> 12  # the upper 16, times 16
                msb[o] += f32(np.int32(high)) * scale[o]
                lsb[o] += f32(np.int32(low + offset)) * scale[o]


@njit(nogil=True, cache=True)
def _add_one(tile, x, rows, scale, g, width, mode, factor, sums, chains):
    """Add group ``g`` to the only chain of every token, float32 [tokens, TILE]; ``sums`` int16 [2, 2, TILE]."""
    parts = 2 if mode == CODES else 1
    size = GROUP // parts
    for i in range(0, rows.shape[0], 2):
        a, b, pair = _pair(x, rows, i, g)
        for part in range(parts):
            _dots(tile, part * size, (part + 1) * size, a, b, pair, width, sums[part])
        for j in range(2 if pair else 1):
            chain, dots, rest = chains[i + j], sums[0, j], sums[1, j]
            if mode == CODES:
                for o in range(width):
                    chain[o] += (f32(np.int32(np.int32(dots[o]) + np.int32(rest[o]))) * factor) * scale[o]
            else:
                extra = _total(b if j else a) if mode == AUGMENTED else np.int32(0)
                for o in range(width):
                    chain[o] += (f32(np.int32(np.int32(dots[o]) * 2 + extra)) * factor) * scale[o]


@njit(nogil=True, cache=True)
def project_rows(codes, scales, bias, factor, mode, x, x_scales, rows, first, last, out):
    """Outputs [first, last) of a projection for the given rows.

    Parameters
    ----------
    codes : int8 [groups, 32, outputs]; in mode CODES at most 16 in magnitude
    scales : float32 [groups, outputs], widened
    bias : float32 [outputs], or empty
    factor : float32, 8 or 1: what a dot product of the single-slice modes weighs
    mode : BOTH_SLICES, AUGMENTED, TRUNCATED or CODES
    x : int8 [tokens, 32 groups], at most 127 in magnitude
    x_scales : float32 [tokens]
    rows : int32 [n], tokens to compute
    out : float32 [n, outputs], row i for token rows[i]
    """
    n = rows.shape[0]
    wide_tile, wide_sums = np.empty((GROUP, TILE), np.int32), np.empty((2, TILE), np.int32)
    tile, sums = np.empty((GROUP, TILE), np.int16), np.empty((2, 2, TILE), np.int16)
    upper = np.empty((n, TILE), np.float32)  # the chain of the MSB slice, or the only one
    lower = np.empty((n, TILE), np.float32)
    for start in range(first, last, TILE):
        width = min(TILE, last - start)
        upper[:, :width] = f32(0)
        lower[:, :width] = f32(0)
        for g in range(codes.shape[0]):
            scale = scales[g, start : start + width]
            if mode == BOTH_SLICES:
                _unpack_both(codes[g], start, width, wide_tile)
                _add_both(wide_tile, x, rows, scale, g, width, wide_sums, upper, lower)
            else:
                _unpack_one(codes[g], start, width, mode, tile)
                _add_one(tile, x, rows, scale, g, width, mode, factor, sums, upper)
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
