"""The pieces of the decoder that PyTorch's own operators make slow on a CPU, and the type of matrix products."""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor


class Dispatch(torch.autograd.Function):
    """Rows of ``x`` (tokens, hidden) repeated ``k`` times and put in expert order; the gradient gathers back.

    index_select's own gradient would scatter-add row by row, which is several times slower on a CPU.
    """

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, inverse: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.k = k
        return x.index_select(0, order // k)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse).view(-1, ctx.k, grad.shape[1]).sum(1), None, None, None


class Combine(torch.autograd.Function):
    """The transpose of ``Dispatch``: rows in expert order summed per token, float32."""

    @staticmethod
    def forward(ctx, y: Tensor, order: Tensor, inverse: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(order)
        ctx.k, ctx.dtype = k, y.dtype
        return y.index_select(0, inverse).view(-1, k, y.shape[1]).sum(1, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (order,) = ctx.saved_tensors
        return grad.to(ctx.dtype).index_select(0, order // ctx.k), None, None, None


class _RmsNorm(torch.autograd.Function):
    """See ``rms_norm``; written out because autograd's chain of small steps costs three times as much."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, grad: Tensor):
        unit, scale, weight = ctx.saved_tensors
        product = grad * unit
        gain = product.flatten(0, -2).sum(0)
        lean = torch.mv(product.flatten(0, -2), weight).view(*product.shape[:-1], 1) / weight.numel()
        return (grad * weight).sub_(unit * lean).mul_(scale), gain, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32."""
    return _RmsNorm.apply(x, weight, eps)


_product_type = torch.bfloat16


@contextmanager
def products_in(dtype: torch.dtype):
    """Inside, matrix products run in ``dtype``: float32 to measure quality, bfloat16 (the default) to train."""
    global _product_type
    before, _product_type = _product_type, dtype
    try:
        yield
    finally:
        _product_type = before


def low(x: Tensor) -> Tensor:
    """To the type of the matrix products."""
    return x.to(_product_type)


def rope_tables(head_dim: int, theta: float, length: int, device) -> tuple[Tensor, Tensor]:
    """cos and sin (length, head_dim / 2) of position x theta^(-2 i / head_dim)."""
    exponent = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * theta**-exponent
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (batch, heads, length, head_dim): pairs are (i, i + head_dim / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class _BlockedAttention(torch.autograd.Function):
    """See ``causal_attention``: q (groups, rows a position, length, head_dim), k and v (groups, length, head_dim).

    Queries go in blocks of ``BLOCK`` positions against only the keys they may see, the query heads of a key head side
    by side as rows of one product. The gradient is written out: in-place masking under autograd copies every score.
    """

    BLOCK = 128

    @classmethod
    def blocks(cls, length: int) -> list[tuple[int, int]]:
        return [(start, min(start + cls.BLOCK, length)) for start in range(0, length, cls.BLOCK)]

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, weights = torch.empty_like(q), []
        for start, end in _BlockedAttention.blocks(q.shape[2]):
            rows = q[:, :, start:end]
            score = torch.bmm(rows.flatten(1, 2), k[:, :end].transpose(1, 2)).view(*rows.shape[:3], end)
            future = torch.full((end - start, end - start), -torch.inf, dtype=q.dtype).triu_(1)
            score[..., start:] += future
            weights.append(score.softmax(-1).flatten(1, 2))
            out[:, :, start:end] = torch.bmm(weights[-1], v[:, :end]).view_as(rows)
        ctx.save_for_backward(q, k, v, *weights)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        q, k, v, *weights = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (start, end), weight in zip(_BlockedAttention.blocks(q.shape[2]), weights, strict=True):
            wanted, rows = grad[:, :, start:end].flatten(1, 2), q[:, :, start:end].flatten(1, 2)
            grad_v[:, :end] += torch.bmm(weight.transpose(1, 2), wanted)
            grad_weight = torch.bmm(wanted, v[:, :end].transpose(1, 2))
            grad_score = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
            grad_q[:, :, start:end] = torch.bmm(grad_score, k[:, :end]).view(*grad_q.shape[:2], end - start, -1)
            grad_k[:, :end] += torch.bmm(grad_score.transpose(1, 2), rows)
        return grad_q, grad_k, grad_v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v over positions up to the query's own.

    On a GPU the library's fused kernel; on a CPU, where that kernel's gradient is slow at head_dim 32, our own.

    Parameters
    ----------
    q : (batch, heads, length, head_dim), already scaled
    k, v : (batch, kv_heads, length, head_dim)

    Returns
    -------
    (batch, heads, length, head_dim)
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=1.0)
    batch, heads, length, dim = q.shape
    groups = batch * k.shape[1]
    grouped = q.reshape(groups, heads // k.shape[1], length, dim)
    return _BlockedAttention.apply(grouped, k.reshape(groups, length, dim), v.reshape(groups, length, dim)).view_as(q)
