"""The arithmetic of the array, functional and bit-exact: slices, group dot products, FP32 chains, boundary.

    dot_g   = sum over the group of operand x activation                     exact integer
    term_g  = rne(dot_g x 2^dot_shift x scale_g)                             FP32, one rounding
    chain   = rne(... rne(rne(+0 + term_0) + term_1) ... + term_last)        FP32, ascending groups, never fused
    y       = rne(rne(msb + lsb) x s_a), then rne(y + bias)                  at the projection boundary

Every rounding is to nearest even with subnormals, infinities and signed zeros as in IEEE 754; every NaN that
comes out is 0x7FC00000. No operation's result depends on how many tokens or outputs are computed together:
the only library matrix product is one of integers below 2^24 held in float32, which is exact in any order.
The formats are in ``cycle_model.formats``, the quantisers in ``cycle_model.quantization``; both are part of
this module's interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cycle_model.formats import (
    CANONICAL_NAN_BITS,
    canonicalize_nan,
    slice_operand,
    widen_e8m0_scale,
    widen_fp16_scale,
)
from cycle_model.quantization import (
    ABSMAX_LIMIT,
    GROUP_SIZE,
    QuantizedActivations,
    QuantizedWeights,
    quantize_activations,
    quantize_weights,
)
from hw.errors import UserError
from hw.isa import WeightMode

__all__ = [
    "ABSMAX_LIMIT",
    "CANONICAL_NAN_BITS",
    "GROUP_SIZE",
    "Mxfp4Weights",
    "QuantizedActivations",
    "QuantizedWeights",
    "accumulate_chain",
    "canonicalize_nan",
    "fp32_add",
    "group_dots",
    "merge_slices",
    "project",
    "project_chain",
    "quantize_activations",
    "quantize_weights",
    "scale_dots",
    "slice_operand",
    "widen_e8m0_scale",
    "widen_fp16_scale",
    "widen_scales",
]

_EXACT_INTEGER_LIMIT = 1 << 24  # float32 holds every integer up to here
_LARGEST_PRODUCT = 16 * 128  # |operand x activation|


@dataclass(frozen=True)
class Mxfp4Weights:
    """MXFP4 weights: E2M1 codes and one E8M0 exponent per group.

    codes      uint8 [outputs, inputs], 0 to 15
    exponents  uint8 [outputs, groups]; scale 2^(e - 127), 0xFF NaN
    """

    codes: np.ndarray
    exponents: np.ndarray


def _grouped_operands(
    codes: np.ndarray, activations: np.ndarray, mode: WeightMode, groups: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per group, ascending: activations [tokens, group_size] and operands [group_size, outputs], as float32.

    Their matrix product is exact in any order of summation, also with fused multiply-adds, since no partial
    sum reaches 2^24 in magnitude.
    """
    codes, activations = np.asarray(codes), np.asarray(activations)
    if codes.ndim != 2 or activations.ndim != 2 or activations.dtype != np.int8:
        raise UserError(
            "codes must be [outputs, inputs] and activations int8 [tokens, inputs], "
            f"not {codes.shape} and {activations.dtype} {activations.shape}"
        )
    if codes.shape[1] != activations.shape[1]:
        raise UserError(f"activations must have {codes.shape[1]} inputs, not {activations.shape[1]}")
    group_size = codes.shape[1] // groups
    if group_size * _LARGEST_PRODUCT >= _EXACT_INTEGER_LIMIT:
        limit = _EXACT_INTEGER_LIMIT // _LARGEST_PRODUCT
        raise UserError(f"group_size must be below {limit} for exact sums, not {group_size}")
    operands = slice_operand(codes, mode).astype(np.float32)
    values = activations.astype(np.float32)
    for start in range(0, codes.shape[1], group_size):
        stop = start + group_size
        yield values[:, start:stop], operands[:, start:stop].T


def group_dots(
    codes: np.ndarray, activations: np.ndarray, mode: WeightMode, group_size: int = GROUP_SIZE
) -> np.ndarray:
    """Integer dot product of every token, output and group, without the mode's factor 8.

    Parameters
    ----------
    codes : uint8 [outputs, inputs]
    activations : int8 [tokens, inputs]
    group_size : must divide the number of inputs

    Returns
    -------
    int32 [tokens, outputs, groups], |dot| <= group_size x 16 x 128.

    Raises
    ------
    UserError
        Shapes that do not fit, or a group size that does not divide.
    """
    inputs = np.shape(codes)[-1]
    if group_size < 1 or inputs % group_size:
        raise UserError(f"group_size must divide the number of inputs {inputs}, not {group_size}")
    groups = inputs // group_size
    dots = np.empty((len(activations), len(codes), groups), np.int32)
    for group, (values, operands) in enumerate(_grouped_operands(codes, activations, mode, groups)):
        dots[:, :, group] = values @ operands
    return dots


def scale_dots(dots: np.ndarray, scales: np.ndarray, dot_shift: int) -> np.ndarray:
    """rne(dot x 2^dot_shift x scale): one rounding to FP32.

    dot x 2^dot_shift is exact in float32, so the one rounding is that of the multiplication. IEEE rules hold:
    overflow to infinity, exact or correctly rounded subnormals, infinity x 0 = NaN (0x7FC00000). A zero dot
    product counts as +0, so its term carries the sign of the scale.

    Parameters
    ----------
    dots : integers, |dot| <= 2^24, broadcastable with ``scales``
    scales : float32, widened FP16 or E8M0
    dot_shift : 0 or 3, ``WeightMode.dot_shift``

    Raises
    ------
    UserError
        A dot product beyond 2^24 (no group of the machine reaches it).
    """
    dots = np.asarray(dots)
    if dots.size and max(int(dots.max()), -int(dots.min())) > _EXACT_INTEGER_LIMIT:
        raise UserError("dot products must not exceed 2^24 in magnitude")
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = dots.astype(np.float32) * np.float32(1 << dot_shift)
        return canonicalize_nan(shifted * np.asarray(scales, np.float32))


def fp32_add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """rne(a + b), elementwise with broadcasting; float32, canonical NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return canonicalize_nan(np.add(a, b, dtype=np.float32))


def accumulate_chain(terms: np.ndarray, start: np.ndarray | float = 0.0) -> np.ndarray:
    """Sum of float32 ``terms`` [..., groups] over the last axis, in ascending order, one rounding per addition.

    ``start`` (scalar or [...]) is the chain's value before the first term, +0 for a new chain. A chain that
    starts at +0 never holds -0: no sum of +0 and a term, and no cancellation, gives -0.

    Returns
    -------
    float32 [...], canonical NaN.
    """
    terms = np.asarray(terms, np.float32)
    total = np.broadcast_to(np.asarray(start, np.float32), terms.shape[:-1]).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for group in range(terms.shape[-1]):
            np.add(total, terms[..., group], out=total)
    return canonicalize_nan(total)  # once is enough: a NaN stays one to the end of the chain


def widen_scales(scales: np.ndarray) -> np.ndarray:
    """The accumulator's scale operand as float32: float16 values, or uint8 E8M0 exponents (1/2 folded in)."""
    scales = np.asarray(scales)
    if scales.dtype == np.float16:
        return widen_fp16_scale(scales.view(np.uint16))
    if scales.dtype == np.uint8:
        return widen_e8m0_scale(scales)
    raise UserError(f"scales must be float16, or uint8 for E8M0, not {scales.dtype}")


def project_chain(codes: np.ndarray, scales: np.ndarray, activations: np.ndarray, mode: WeightMode) -> np.ndarray:
    """One FP32 chain per token and output: the same bits as dots -> scale_dots -> accumulate_chain.

    Parameters
    ----------
    codes : uint8 [outputs, inputs]
    scales : float16 [outputs, groups], or uint8 E8M0 exponents
    activations : int8 [tokens, inputs]

    Returns
    -------
    float32 [tokens, outputs].

    Raises
    ------
    UserError
        Shapes that do not fit.
    """
    wide = widen_scales(scales)
    if wide.ndim != 2 or len(wide) != len(codes) or not wide.shape[1] or np.shape(codes)[1] % wide.shape[1]:
        raise UserError(f"scales must be [outputs, groups] of codes {np.shape(codes)}, not {wide.shape}")
    factor = np.float32(1 << mode.dot_shift)
    chain = np.zeros((len(activations), len(codes)), np.float32)
    term = np.empty_like(chain)
    with np.errstate(over="ignore", invalid="ignore"):
        for group, (values, operands) in enumerate(_grouped_operands(codes, activations, mode, wide.shape[1])):
            np.matmul(values, operands, out=term)  # exact; a zero may be -0 here, which no chain shows
            np.multiply(term, factor, out=term)  # exact
            np.multiply(term, wide[:, group], out=term)  # first rounding
            np.add(chain, term, out=chain)  # second rounding
    return canonicalize_nan(chain)


def merge_slices(
    msb: np.ndarray, lsb: np.ndarray, activation_scale: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """The projection boundary: rne(rne(msb + lsb) x s_a), then rne(. + bias).

    Parameters
    ----------
    msb, lsb : float32 [tokens, outputs]
        Chains of the two slices; a draft or MXFP4 chain comes alone, with lsb = +0, which changes no bit.
    activation_scale : float32 [tokens]
    bias : float32 [outputs], optional

    Returns
    -------
    float32 [tokens, outputs], canonical NaN.
    """
    total = fp32_add(msb, lsb)
    with np.errstate(over="ignore", invalid="ignore"):
        y = canonicalize_nan(total * np.asarray(activation_scale, np.float32)[:, None])
    return y if bias is None else fp32_add(y, np.asarray(bias, np.float32))


def project(
    weights: QuantizedWeights | Mxfp4Weights,
    activations: QuantizedActivations,
    *,
    draft: bool = False,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """A whole projection, float32 [tokens, outputs]: full (both slices), draft (MSB slice, augmented), or MXFP4.

    MXFP4 weights have no second slice: ``draft`` changes nothing for them.
    """
    zero = np.float32(0)
    if isinstance(weights, Mxfp4Weights):
        chain = project_chain(weights.codes, weights.exponents, activations.q, WeightMode.MXFP4)
        return merge_slices(chain, zero, activations.scales, bias)
    if draft:
        chain = project_chain(weights.msb_codes, weights.scales, activations.q, WeightMode.DRAFT)
        return merge_slices(chain, zero, activations.scales, bias)
    msb = project_chain(weights.msb_codes, weights.scales, activations.q, WeightMode.MSB)
    lsb = project_chain(weights.lsb_codes, weights.scales, activations.q, WeightMode.LSB)
    return merge_slices(msb, lsb, activations.scales, bias)
