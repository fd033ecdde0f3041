"""Quantisation of the numeric contract: G32 INT8 weights and per-token INT8 activations, rounding by rounding.

    weights       s = fp16_rne(absmax / 127), at least 2^-24 where absmax > 0;  q = clip(rne(w / s), -127, 127)
    activations   s_a = rne(absmax / 127), r = rne(127 / absmax), q = clip(rne(rne(x r)), -127, 127)   (FP32)

Weights are quantised once, offline: each quotient is rounded once, from its exact value. Activations are
quantised by the machine: each step is one FP32 operation, rounded to nearest even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.formats import widen_fp16_scale
from hw.errors import UserError

GROUP_SIZE = 32
_FP16_SMALLEST_SUBNORMAL = np.float16(2.0**-24)
ABSMAX_LIMIT = 127 * 65520
"""The least absmax whose scale rounds to FP16 infinity."""


@dataclass(frozen=True)
class QuantizedWeights:
    """INT8 weights with one FP16 scale per group of consecutive inputs; w ~ q x scale.

    q       int8 [outputs, inputs], -127 to 127
    scales  float16 [outputs, groups], groups = inputs / group_size
    """

    q: np.ndarray
    scales: np.ndarray

    @property
    def group_size(self) -> int:
        """Consecutive inputs that share one scale."""
        return self.q.shape[1] // self.scales.shape[1]

    @property
    def msb_codes(self) -> np.ndarray:
        """Upper slice h = q >> 4 as a two's-complement nibble h & 15; uint8 [outputs, inputs]."""
        return self.q.view(np.uint8) >> 4

    @property
    def lsb_codes(self) -> np.ndarray:
        """Lower slice l = q & 15; uint8 [outputs, inputs]."""
        return self.q.view(np.uint8) & 15

    @property
    def scale_bits(self) -> np.ndarray:
        """FP16 patterns of the scales, as stored with the MSB slice; uint16 [outputs, groups]."""
        return self.scales.view(np.uint16)

    def dequantized(self) -> np.ndarray:
        """q x scale, exact in float32 (7 + 11 significant bits); [outputs, inputs]."""
        wide = np.repeat(widen_fp16_scale(self.scale_bits), self.group_size, axis=1)
        return self.q.astype(np.float32) * wide


@dataclass(frozen=True)
class QuantizedActivations:
    """INT8 activations with one FP32 scale per token; x ~ q x scale.

    q       int8 [tokens, inputs], -127 to 127
    scales  float32 [tokens]
    """

    q: np.ndarray
    scales: np.ndarray


def _require_finite_matrix(values: np.ndarray, kind: str, row: str) -> np.ndarray:
    """``values`` as a C-contiguous float32 matrix, or one line that names the first offender."""
    values = np.asarray(values)
    if values.ndim != 2:
        raise UserError(f"{kind} must be a matrix [{row}s, inputs], not of shape {values.shape}")
    values = np.ascontiguousarray(values, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        at = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise UserError(f"{kind} must be finite, not {values[at]} at {row} {at[0]} input {at[1]}")
    return values


def quantize_weights(w: np.ndarray, group_size: int = GROUP_SIZE) -> QuantizedWeights:
    """Quantise a weight matrix to INT8 with one FP16 scale per group.

    Both quotients are taken in float64 and then rounded. That is a single rounding of the exact quotient:
    a float32 numerator over an 8-bit or FP16 denominator differs from any rounding boundary by at least
    2^-32 relative, unless it lies on it, and float64 resolves 2^-53.

    Parameters
    ----------
    w : float32 [outputs, inputs]
    group_size : consecutive inputs that share a scale; must divide the number of inputs

    Raises
    ------
    UserError
        Not a matrix, a NaN or an infinity, a group size that does not divide, or an absmax of
        8 321 040 (127 x 65520) or more, whose scale would be infinite in FP16; names row and group.
    """
    w = _require_finite_matrix(w, "weights", "row")
    outputs, inputs = w.shape
    if group_size < 1 or inputs == 0 or inputs % group_size:
        raise UserError(f"group_size must divide the number of inputs {inputs}, not {group_size}")
    grouped = w.reshape(outputs, inputs // group_size, group_size).astype(np.float64)
    absmax = np.abs(grouped).max(axis=2)
    if (absmax >= ABSMAX_LIMIT).any():
        row, group = (int(i) for i in np.argwhere(absmax >= ABSMAX_LIMIT)[0])
        raise UserError(
            f"weight absmax must be below {ABSMAX_LIMIT} (its scale is FP16), "
            f"not {absmax[row, group]:g} in row {row} group {group}"
        )
    scales = (absmax / 127.0).astype(np.float16)
    scales = np.where((scales == 0) & (absmax > 0), _FP16_SMALLEST_SUBNORMAL, scales)
    divisor = np.where(scales == 0, np.float16(1), scales).astype(np.float64)  # an all-zero group gives q = 0
    q = np.clip(np.rint(grouped / divisor[:, :, None]), -127, 127).astype(np.int8)
    return QuantizedWeights(q.reshape(outputs, inputs), scales)


def quantize_activations(x: np.ndarray) -> QuantizedActivations:
    """Quantise activations to INT8, one FP32 scale per token over its whole vector.

    A row of zeros gives zeros with scale 0. Where absmax is so small that r = rne(127 / absmax) overflows to
    infinity (absmax below about 127 x 2^-128 = 3.7e-37), the row quantises to zeros as well, and s_a still
    follows its formula: x r has no value there (0 x infinity), the decision depends on the row maximum
    alone, so PEs that hold parts of the row agree on it, and the error is at most the row maximum, 3.7e-37.

    Parameters
    ----------
    x : float32 [tokens, inputs]

    Raises
    ------
    UserError
        Not a matrix, or a NaN or an infinity; names the token.
    """
    x = _require_finite_matrix(x, "activations", "token")
    absmax = np.abs(x).max(axis=1, initial=np.float32(0))
    scales = absmax / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = np.float32(127) / absmax
    reciprocal = np.where(np.isinf(reciprocal), np.float32(0), reciprocal)
    scaled = x * reciprocal[:, None]
    return QuantizedActivations(np.clip(np.rint(scaled), -127, 127).astype(np.int8), scales)
