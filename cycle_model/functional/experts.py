"""Feed-forward networks on gathered tokens: gate and up, activation, requantisation, down.

One kernel serves routed experts, shared experts and dense layers: a stack of networks and, for each network
that has work, the list of tokens it computes. Gate and up are one matrix [gate; up], which changes no bit
since projections are split over outputs only.
"""

from __future__ import annotations

import numpy as np

from cycle_model.functional.projection import project_float_rows, project_rows
from cycle_model.functional.rows import clamped_swiglu_row, quantize_row, silu_up_row
from cycle_model.kernel_cache import njit


@njit(nogil=True, cache=True)
def run_experts(
    up_codes, up_scales, up_bias, down_codes, down_scales, down_bias, factor, mode, limit, alpha,
    x, x_scales, experts, starts, rows, first, last, out,
):  # fmt: skip
    """Networks ``experts[first:last]`` over their tokens.

    Parameters
    ----------
    up_codes, up_scales : int8 [networks, groups, 32, 2n], float32 [networks, groups, 2n]; gate then up
    down_codes, down_scales : int8 [networks, groups, 32, hidden], float32 [networks, groups, hidden]
    up_bias, down_bias : float32 [networks, 2n] and [networks, hidden], or [networks, 0]
    factor, mode : as in ``project_rows``
    limit, alpha : float32, clamped SwiGLU where limit > 0, else SiLU x up
    x, x_scales : int8 [tokens, hidden], float32 [tokens]
    experts : int32 [active], networks with work
    starts : int32 [active + 1], where their tokens begin in ``rows``
    rows : int32 [pairs], tokens, network by network
    out : float32 [pairs, hidden]
    """
    n = down_codes.shape[1] * 32
    for i in range(first, last):
        e = experts[i]
        begin, end = starts[i], starts[i + 1]
        tokens = end - begin
        inner = np.empty((tokens, 2 * n), np.float32)
        project_rows(up_codes[e], up_scales[e], up_bias[e], factor, mode, x, x_scales, rows[begin:end], 0, 2 * n, inner)
        product = np.empty(n, np.float32)
        q = np.empty((tokens, n), np.int8)
        q_scales = np.empty(tokens, np.float32)
        for t in range(tokens):
            if limit > np.float32(0):
                clamped_swiglu_row(inner[t], alpha, limit, product)
            else:
                silu_up_row(inner[t], product)
            q_scales[t] = quantize_row(product, q[t])
        here = np.arange(tokens).astype(np.int32)
        hidden = down_codes.shape[3]
        project_rows(
            down_codes[e], down_scales[e], down_bias[e], factor, mode, q, q_scales, here, 0, hidden, out[begin:end]
        )


@njit(nogil=True, cache=True)
def run_float_experts(
    up, up_bias, down, down_bias, limit, alpha, x, experts, starts, rows, first, last, out
):  # fmt: skip
    """The float comparison of ``run_experts``: nothing quantised; up float32 [networks, hidden, 2n], x float32."""
    n = down.shape[1]
    for i in range(first, last):
        e = experts[i]
        begin, end = starts[i], starts[i + 1]
        tokens = end - begin
        inner = np.empty((tokens, 2 * n), np.float32)
        project_float_rows(up[e], up_bias[e], x, rows[begin:end], 0, 2 * n, inner)
        product = np.empty((tokens, n), np.float32)
        for t in range(tokens):
            if limit > np.float32(0):
                clamped_swiglu_row(inner[t], alpha, limit, product[t])
            else:
                silu_up_row(inner[t], product[t])
        here = np.arange(tokens).astype(np.int32)
        project_float_rows(down[e], down_bias[e], product, here, 0, down.shape[2], out[begin:end])
