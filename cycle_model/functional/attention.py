"""Attention of single tokens over cached positions, in blocks of 256 merged in ascending order.

    q'      = rne(q softmax_scale), once per query element
    score_p = rne(sum over d ascending of rne(q'_d k_pd) x s_p)          k_p INT8 with scale s_p, or FP32 with s = 1
    block   m = max score, e_p = exp(rne(score_p - m)), l = sum of e_p and o = sum of rne(rne(e_p t_p) v_p),
            positions ascending from +0                                  v_p INT8 with scale t_p, or FP32 with t = 1
    merge   M = max(m1, m2), a = exp(m1 - M), b = exp(m2 - M), l = rne(rne(l1 a) + rne(l2 b)), o likewise
    sink    merged last, as a block with m = sink, l = 1, o = 0
    y       = rne(o / l)

Blocks are cut at multiples of 256 of the absolute position; a sliding window of w sees the positions
p - w + 1 to p and empties or shortens the first blocks. Every position is found through the token's own path, so
that a node of a token tree computes exactly what it would as the only sequence.

Storage: keys [blocks, heads, d, 256] (so that scores run over positions in SIMD registers), values
[blocks, heads, 256, d], scales [blocks, heads, 256]. Slot i is position i for committed tokens; a token's own
path gives the slots of what comes behind them.
"""

from __future__ import annotations

import numpy as np

from cycle_model.functional.elementary import exp_f32, f32
from cycle_model.functional.rows import quantize_row
from cycle_model.kernel_cache import njit

BLOCK = 256


@njit(nogil=True, cache=True)
def store_quantized(x, first_slot, transposed, store, scales):
    """Append heads as INT8 with one scale per position and head, quantised as activations are.

    x float32 [n, heads, d]; ``store`` int8 keys (transposed) or values; scales float32 [blocks, heads, 256].
    Returns False where a head is not finite.
    """
    heads, d = x.shape[1], x.shape[2]
    q = np.empty(d, np.int8)
    finite = True
    for i in range(x.shape[0]):
        block, at = divmod(first_slot + i, BLOCK)
        for h in range(heads):
            scale = quantize_row(x[i, h], q)
            finite &= not np.isnan(scale)
            scales[block, h, at] = scale
            if transposed:
                for j in range(d):
                    store[block, h, j, at] = q[j]
            else:
                for j in range(d):
                    store[block, h, at, j] = q[j]
    return finite


@njit(nogil=True, cache=True)
def store_float(x, first_slot, transposed, store):
    """Append heads unchanged: x float32 [n, heads, d], ``store`` float32."""
    heads, d = x.shape[1], x.shape[2]
    for i in range(x.shape[0]):
        block, at = divmod(first_slot + i, BLOCK)
        for h in range(heads):
            if transposed:
                for j in range(d):
                    store[block, h, j, at] = x[i, h, j]
            else:
                for j in range(d):
                    store[block, h, at, j] = x[i, h, j]


@njit(nogil=True, cache=True)
def _scores(query, keys, scales, head, block, begin, end, committed, path, out):
    """Scores of positions [begin, end) of one block; out float32 [256], indexed by position mod 256."""
    d = query.shape[0]
    base = block * BLOCK
    straight = min(end, committed)  # slots equal positions up to here
    if straight > begin:
        low, high = begin - base, straight - base
        row = out[low:high]
        row[:] = f32(0)
        stored = keys[block, head]
        for j in range(d):
            key = stored[j, low:high]
            a = query[j]
            for p in range(high - low):
                row[p] += a * f32(key[p])
        scale = scales[block, head, low:high]
        for p in range(high - low):
            row[p] = row[p] * scale[p]
    for position in range(max(begin, straight), end):
        slot_block, at = divmod(path[position - committed], BLOCK)
        total = f32(0)
        for j in range(d):
            total += query[j] * f32(keys[slot_block, head, j, at])
        out[position - base] = total * scales[slot_block, head, at]


@njit(nogil=True, cache=True)
def _block_sum(scores, values, scales, head, block, begin, end, committed, path, out):
    """(max, sum) of a block and its weighted values, unnormalised, in ``out`` float32 [d]."""
    base = block * BLOCK
    row = scores[begin - base : end - base]
    highest = row[0]
    for p in range(row.shape[0]):
        highest = max(highest, row[p])
    for p in range(row.shape[0]):
        row[p] = exp_f32(row[p] - highest)
    total = f32(0)
    out[:] = f32(0)
    straight = min(end, committed)
    if straight > begin:
        low, high = begin - base, straight - base
        stored, scale = values[block, head, low:high], scales[block, head, low:high]
        for p in range(high - low):
            total += row[p]
            weight = row[p] * scale[p]
            for j in range(out.shape[0]):
                out[j] += weight * f32(stored[p, j])
    for position in range(max(begin, straight), end):
        e = row[position - begin]
        total += e
        slot_block, at = divmod(path[position - committed], BLOCK)
        weight = e * scales[slot_block, head, at]
        for j in range(out.shape[0]):
            out[j] += weight * f32(values[slot_block, head, at, j])
    return highest, total


@njit(nogil=True, cache=True)
def attend(
    queries, softmax_scale, keys, key_scales, values, value_scales, committed, paths, lengths, window, sinks,
    first, last, out,
):  # fmt: skip
    """Attention of new tokens of one sequence, each at the end of its own path.

    Parameters
    ----------
    queries : float32 [n, heads, d]
    keys, values : as stored; kv heads divide ``heads``, consecutive query heads share one
    committed : positions whose slot is the position itself
    paths : int64 [n, depth], slots of the positions committed, committed + 1, ... on each token's path
    lengths : int64 [n], positions a token sees, itself included
    window : positions of the sliding window, 0 = all
    sinks : float32 [heads], or empty
    out : float32 [n, heads, value d]; rows [first, last) are computed
    """
    heads, d = queries.shape[1], queries.shape[2]
    group = heads // keys.shape[1]
    query = np.empty(d, np.float32)
    scores = np.empty(BLOCK, np.float32)
    part = np.empty(values.shape[3], np.float32)
    for i in range(first, last):
        end = lengths[i]
        start = max(0, end - window) if window else 0
        for h in range(heads):
            head = h // group
            for j in range(d):
                query[j] = queries[i, h, j] * softmax_scale
            result = out[i, h]
            highest, total = f32(0), f32(0)
            for block in range(start // BLOCK, (end - 1) // BLOCK + 1):
                begin, stop = max(start, block * BLOCK), min(end, (block + 1) * BLOCK)
                _scores(query, keys, key_scales, head, block, begin, stop, committed, paths[i], scores)
                fresh = begin == start
                target = result if fresh else part
                top, weight = _block_sum(
                    scores, values, value_scales, head, block, begin, stop, committed, paths[i], target
                )
                if fresh:
                    highest, total = top, weight
                    continue
                merged = max(highest, top)
                a, b = exp_f32(highest - merged), exp_f32(top - merged)
                highest, total = merged, total * a + weight * b
                for j in range(result.shape[0]):
                    result[j] = result[j] * a + part[j] * b
            if sinks.shape[0]:
                merged = max(highest, sinks[h])
                a, b = exp_f32(highest - merged), exp_f32(sinks[h] - merged)
                total = total * a + b
                for j in range(result.shape[0]):
                    result[j] = result[j] * a
            for j in range(result.shape[0]):
                result[j] = result[j] / total
