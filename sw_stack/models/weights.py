"""A model's weights as the runtime multiplies with them: quantised once, layer by layer, output-minor.

The layout is that of ``cycle_model.functional.projection``. The INT8 target and its drafts (augmented,
truncated) share one array; other schemes are derived when first asked for and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cycle_model.functional import projection as kernels
from cycle_model.numerics import (
    GROUP_SIZE,
    Mxfp4Weights,
    QuantizedWeights,
    quantize_weights,
    slice_operand,
    widen_scales,
)
from hw.errors import UserError
from hw.isa import WeightMode
from sw_stack.models.precision import WeightScheme
from sw_stack.models.tensor_source import TensorSource

_COPY_LIMIT = 7


@dataclass(frozen=True)
class Operands:
    """What ``project_rows`` takes: codes int8 [stack, groups, 32, outputs], scales float32 [stack, groups, outputs]."""

    codes: np.ndarray
    scales: np.ndarray
    factor: np.float32
    mode: int


class ProjectionStack:
    """Matrices of equal shape (one, or one per expert), each several tensors side by side along the outputs.

    outputs, inputs  of one matrix
    bias             float32 [stack, outputs], or [stack, 0]
    mxfp4            stored as MXFP4
    """

    def __init__(
        self, source: TensorSource, members: list[list[str]], biases: list[list[str | None]] | None = None
    ) -> None:
        """``members`` holds, per matrix, the names of its tensors; ``biases`` likewise, None for one without.

        Raises
        ------
        UserError
            Weights that are not finite, or beyond what an FP16 scale can hold; names the tensor.
        """
        self._source, self._members = source, members
        self._derived: dict[WeightScheme, Operands] = {}
        self._float: np.ndarray | None = None
        biased = biases is not None and any(any(names) for names in biases)
        self.mxfp4 = False
        codes = scales = bias = None
        for i, names in enumerate(members):
            parts = [self._quantized(name) for name in names]
            widths = [part[1].shape[1] for part in parts]
            if codes is None:  # allocated once: a stack of experts may be most of a layer
                groups, outputs = len(parts[0][0]), sum(widths)
                codes = np.empty((len(members), groups, GROUP_SIZE, outputs), np.int8)
                scales = np.empty((len(members), groups, outputs), np.float32)
                bias = np.zeros((len(members), outputs if biased else 0), np.float32)
            np.concatenate([part[0] for part in parts], axis=2, out=codes[i])
            np.concatenate([part[1] for part in parts], axis=1, out=scales[i])
            if biased:  # parts without one get +0, which changes no value (a -0 becomes +0)
                ends = np.cumsum(widths)
                for name, end, width in zip(biases[i], ends, widths, strict=True):
                    if name is not None:
                        bias[i, end - width : end] = _vector(source, name)
        self._widths = widths
        self.outputs, self.inputs, self.bias = codes.shape[3], codes.shape[1] * GROUP_SIZE, bias
        factor, mode = (1, kernels.CODES) if self.mxfp4 else (8, kernels.BOTH_SLICES)
        self._stored = Operands(codes, scales, np.float32(factor), mode)

    def _quantized(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes int8 [groups, 32, outputs] and widened scales float32 [groups, outputs] of one tensor."""
        tensor = self._source.load(name)
        try:
            if isinstance(tensor, Mxfp4Weights):
                self.mxfp4 = True
                scales = widen_scales(tensor.exponents)
                if np.isnan(scales).any():
                    raise UserError("exponents must not be 255 (NaN)")
                return _output_minor(slice_operand(tensor.codes, WeightMode.MXFP4)), _transposed(scales)
            quantized = quantize_weights(np.asarray(tensor, np.float32))
        except UserError as error:
            raise UserError(f"tensor {name!r}: {error}") from error
        return _output_minor(quantized.q), _transposed(widen_scales(quantized.scales))

    def operands(self, scheme: WeightScheme) -> Operands:
        """Codes and scales of an integer scheme (any but FLOAT)."""
        stored = self._stored
        if self.mxfp4 or scheme is WeightScheme.INT8:
            return stored
        if scheme is WeightScheme.AUGMENTED:
            return Operands(stored.codes, stored.scales, stored.factor, kernels.AUGMENTED)
        if scheme is WeightScheme.TRUNCATED:
            return Operands(stored.codes, stored.scales, stored.factor, kernels.TRUNCATED)
        if scheme not in self._derived:
            derive: dict[WeightScheme, Callable[[], Operands]] = {
                WeightScheme.ROUNDED: self._rounded,
                WeightScheme.COPY4: self._copy,
            }
            self._derived[scheme] = derive[scheme]()
        return self._derived[scheme]

    def stored(self, index: int = 0, parts: slice = slice(None)) -> QuantizedWeights | Mxfp4Weights:
        """Tensors ``parts`` of matrix ``index`` side by side as they are stored: codes [outputs, K] and scales."""
        if self.mxfp4:
            tensors = [self._source.load(name) for name in self._members[index][parts]]
            codes, exponents = ([getattr(each, name) for each in tensors] for name in ("codes", "exponents"))
            return Mxfp4Weights(np.concatenate(codes), np.concatenate(exponents))
        ends = np.cumsum([0, *self._widths])
        outputs = slice(ends[:-1][parts][0], ends[1:][parts][-1])
        codes = self._stored.codes[index].reshape(self.inputs, self.outputs).T[outputs]
        scales = self._stored.scales[index].T[outputs].astype(np.float16)
        return QuantizedWeights(np.ascontiguousarray(codes), scales)

    def _rounded(self) -> Operands:
        rounded = np.clip(np.rint(self._stored.codes / np.float32(16)), -8, 7).astype(np.int8)
        return Operands(2 * rounded, self._stored.scales, np.float32(8), kernels.CODES)

    def _copy(self) -> Operands:
        codes, scales = [], []
        for matrix in self._matrices():
            copy = quantize_copy(matrix)
            codes.append(_output_minor(copy.q))
            scales.append(_transposed(widen_scales(copy.scales)))
        return Operands(np.stack(codes), np.stack(scales), np.float32(1), kernels.CODES)

    def _matrices(self) -> list[np.ndarray]:
        """The original matrices, float32 [outputs, inputs]."""
        return [np.concatenate([dequantized(self._source.load(name)) for name in names]) for names in self._members]

    @property
    def float_weights(self) -> np.ndarray:
        """The original weights, float32 [stack, inputs, outputs]; loaded when first asked for and kept."""
        if self._float is None:
            self._float = np.stack([_transposed(matrix) for matrix in self._matrices()])
        return self._float


def quantize_copy(w: np.ndarray) -> QuantizedWeights:
    """A separate 4-bit copy: s = fp16_rne(absmax / 7), q = clip(rne(w / s), -7, 7); float32 [outputs, inputs]."""
    grouped = w.reshape(len(w), -1, GROUP_SIZE).astype(np.float64)
    scales = (np.abs(grouped).max(axis=2) / _COPY_LIMIT).astype(np.float16)
    divisor = np.where(scales == 0, np.float16(1), scales).astype(np.float64)
    q = np.clip(np.rint(grouped / divisor[:, :, None]), -_COPY_LIMIT, _COPY_LIMIT).astype(np.int8)
    return QuantizedWeights(q.reshape(w.shape), scales)


def dequantized(tensor: np.ndarray | Mxfp4Weights) -> np.ndarray:
    """Float32 values of a tensor; MXFP4: operand x scale, exact."""
    if not isinstance(tensor, Mxfp4Weights):
        return np.asarray(tensor, np.float32)
    operands = slice_operand(tensor.codes, WeightMode.MXFP4).astype(np.float32)
    return operands * np.repeat(widen_scales(tensor.exponents), GROUP_SIZE, axis=1)


def _output_minor(codes: np.ndarray) -> np.ndarray:
    outputs, inputs = codes.shape
    return np.ascontiguousarray(codes.reshape(outputs, inputs // GROUP_SIZE, GROUP_SIZE).transpose(1, 2, 0))


def _transposed(matrix: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(matrix.T)


def _vector(source: TensorSource, name: str) -> np.ndarray:
    values = np.ascontiguousarray(source.load(name), np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"tensor {name!r} must be finite")
    return values
