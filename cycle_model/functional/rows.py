"""Operations on the rows of a batch: RMS norm, requantisation, SiLU x up, clamped SwiGLU, residual, combination.

    RMS norm      S = sum of x_i^2 in 16 lanes (lane i mod 16, ascending), lanes folded 8, 4, 2, 1;
                  y_i = rne(rne(x_i rsqrt(rne(rne(S / n) + eps))) w_i)
    requantise    as ``quantize_activations``: s = rne(absmax / 127), r = rne(127 / absmax), q = rne(rne(x r))
    SiLU x up     rne(rne(g sigmoid(g)) u)
    clamped       g = min(g, limit), u = clamp(u, limit); rne(rne(u + 1) rne(g sigmoid(rne(alpha g))))
    combination   experts in ascending id: acc = rne(acc + rne(w y)) from +0; then shared, then residual

All kernels take C-contiguous float32 rows and work on rows [first, last), so that callers can split a batch
over threads; a row's result depends on that row alone.
"""

from __future__ import annotations

import numpy as np

from cycle_model.functional.elementary import f32, rsqrt_f32, sigmoid_f32
from cycle_model.kernel_cache import njit

LANES = 16
_ROUND = f32(1.5 * 2.0**23)


@njit(nogil=True, cache=True)
def mean_square(x, lanes):
    """mean of x^2 in the stated order; ``lanes`` is scratch, float32 [16]."""
    n = x.shape[0]
    lanes[:] = f32(0)
    whole = n - n % LANES
    for start in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += x[start + j] * x[start + j]
    for j in range(n - whole):
        lanes[j] += x[whole + j] * x[whole + j]
    width = LANES // 2
    while width:
        for j in range(width):
            lanes[j] += lanes[j + width]
        width //= 2
    return lanes[0] / f32(n)


@njit(nogil=True, cache=True)
def rms_norm(x, weight, eps, first, last, out):
    """RMS norm of rows [first, last): x, out float32 [rows, n], weight float32 [n], eps float32."""
    lanes = np.empty(LANES, np.float32)
    for row in range(first, last):
        scale = rsqrt_f32(mean_square(x[row], lanes) + eps)
        for i in range(x.shape[1]):
            out[row, i] = (x[row, i] * scale) * weight[i]


@njit(nogil=True, cache=True)
def quantize_row(x, q):
    """Quantise one row, float32 [n] to int8 [n]; returns its scale, NaN where the row is not finite."""
    absmax = f32(0)
    total = f32(0)
    for i in range(x.shape[0]):
        absmax = max(absmax, abs(x[i]))
        total += x[i] - x[i]  # NaN from any value that is not finite, else zero
    if total != f32(0):
        return f32(np.nan)
    reciprocal = f32(127) / absmax if absmax > f32(0) else f32(0)
    if reciprocal == f32(np.inf):
        reciprocal = f32(0)
    for i in range(x.shape[0]):
        q[i] = np.int8((x[i] * reciprocal + _ROUND) - _ROUND)  # |x r| <= 127.00002, so no clip is needed
    return absmax / f32(127)


@njit(nogil=True, cache=True)
def quantize_rows(x, first, last, q, scales):
    """Quantise rows [first, last): x float32 [rows, n], q int8 [rows, n], scales float32 [rows].

    Returns False where a row is not finite.
    """
    finite = True
    for row in range(first, last):
        scales[row] = quantize_row(x[row], q[row])
        finite &= not np.isnan(scales[row])
    return finite


@njit(nogil=True, cache=True)
def silu_up_row(gate_up, out):
    """SiLU x up of one row: gate_up float32 [2n] holds gate then up, out float32 [n]."""
    n = out.shape[0]
    for i in range(n):
        g = gate_up[i]
        out[i] = (g * sigmoid_f32(g)) * gate_up[n + i]


@njit(nogil=True, cache=True)
def clamped_swiglu_row(gate_up, alpha, limit, out):
    """GPT-OSS's clamped SwiGLU of one row: gate_up float32 [2n] holds gate then up, out float32 [n]."""
    n = out.shape[0]
    for i in range(n):
        g = min(gate_up[i], limit)
        u = min(max(gate_up[n + i], -limit), limit)
        out[i] = (u + f32(1)) * (g * sigmoid_f32(alpha * g))


@njit(nogil=True, cache=True)
def add_rows(x, y):
    """x = rne(x + y), float32 [rows, n] both: the residual connection."""
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] += y[row, i]


@njit(nogil=True, cache=True)
def combine_experts(values, weights, pair_of, out):
    """Weighted sum of expert outputs, in ascending id.

    Parameters
    ----------
    values : float32 [pairs, n], one row per (token, expert)
    weights : float32 [tokens, k]
    pair_of : int32 [tokens, k], row in ``values`` of each slot, slots in ascending expert id; -1 = no expert
    out : float32 [tokens, n]
    """
    out[:] = f32(0)
    for token in range(out.shape[0]):
        for slot in range(pair_of.shape[1]):
            pair = pair_of[token, slot]
            if pair >= 0:
                w = weights[token, slot]
                for i in range(out.shape[1]):
                    out[token, i] += w * values[pair, i]
