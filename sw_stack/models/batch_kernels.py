"""The functional kernels on whole batches: allocation, weight schemes, threads."""

from __future__ import annotations

import numpy as np

from cycle_model.functional import experts as expert_kernels
from cycle_model.functional import projection as kernels
from cycle_model.functional import rows
from hw.errors import UserError
from sw_stack.models.architectures import MoeConfig
from sw_stack.models.precision import WeightScheme
from sw_stack.models.quantized_model import FfnWeights
from sw_stack.models.threads import WorkerThreads
from sw_stack.models.weights import ProjectionStack


class BatchKernels:
    """Norms, projections and feed-forward networks of float32 rows, on ``threads``."""

    def __init__(self, threads: WorkerThreads) -> None:
        self.threads = threads

    def norm(self, x: np.ndarray, weight: np.ndarray, eps: np.float32) -> np.ndarray:
        """RMS norm of each row."""
        out = np.empty_like(x)
        rows.rms_norm(x, weight, eps, 0, len(x), out)
        return out

    def quantized(self, x: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows as INT8 with a scale each; UserError naming ``where`` if a value is not finite."""
        q, scales = np.empty(x.shape, np.int8), np.empty(len(x), np.float32)
        if not rows.quantize_rows(x, 0, len(x), q, scales):
            raise UserError(f"activations must be finite; they are not in {where}")
        return q, scales

    def project(self, stack: ProjectionStack, scheme: WeightScheme, x: np.ndarray, where: str) -> np.ndarray:
        """The (only) matrix of a stack on float32 rows, quantised first unless the scheme is FLOAT."""
        if scheme is not WeightScheme.FLOAT:
            return self.project_quantized(stack, scheme, *self.quantized(x, where))
        out = np.empty((len(x), stack.outputs), np.float32)
        weights, every = stack.float_weights[0], np.arange(len(x), dtype=np.int32)

        def run(first: int, last: int) -> None:
            kernels.project_float_rows(weights, stack.bias[0], x, every, first, last, out)

        self.threads.split(run, stack.outputs, len(x) * stack.outputs * stack.inputs, kernels.GRAIN)
        return out

    def project_quantized(
        self, stack: ProjectionStack, scheme: WeightScheme, q: np.ndarray, scales: np.ndarray
    ) -> np.ndarray:
        """The (only) matrix of a stack on INT8 rows with their scales."""
        out = np.empty((len(q), stack.outputs), np.float32)
        operands, every = stack.operands(scheme), np.arange(len(q), dtype=np.int32)

        def run(first: int, last: int) -> None:
            kernels.project_rows(
                operands.codes[0], operands.scales[0], stack.bias[0], operands.factor, operands.mode,
                q, scales, every, first, last, out,
            )  # fmt: skip

        self.threads.split(run, stack.outputs, len(q) * stack.outputs * stack.inputs, kernels.GRAIN)
        return out

    def networks(
        self,
        ffn: FfnWeights,
        scheme: WeightScheme,
        normed: np.ndarray,
        where: str,
        chosen: np.ndarray | None = None,
        clamp: MoeConfig | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the chosen experts, float32 [pairs, hidden], and the pair of each slot, int32 [n, k].

        ``chosen`` None: every token through the only network; pairs are tokens. ``clamp`` gives the limits of a
        clamped SwiGLU, where the model has one.
        """
        n = len(normed)
        if chosen is None:
            bounds = np.linspace(0, n, min(self.threads.count, n) + 1).astype(np.int32)
            experts, starts = np.zeros(len(bounds) - 1, np.int32), bounds
            tokens = pair_of = np.arange(n, dtype=np.int32)
        else:
            flat = chosen.ravel()
            order = np.argsort(flat, kind="stable")[np.count_nonzero(flat < 0) :]
            tokens = (order // chosen.shape[1]).astype(np.int32)
            uses = np.bincount(flat[order])
            experts = np.flatnonzero(uses).astype(np.int32)
            starts = np.zeros(len(experts) + 1, np.int32)
            np.cumsum(uses[experts], out=starts[1:])
            pair_of = np.full(flat.shape, -1, np.int32)
            pair_of[order] = np.arange(len(order), dtype=np.int32)
            pair_of = pair_of.reshape(chosen.shape)
        out = np.empty((len(tokens), normed.shape[1]), np.float32)
        limit = np.float32(clamp.swiglu_limit or 0) if clamp else np.float32(0)
        alpha = np.float32(clamp.swiglu_alpha) if clamp else np.float32(0)
        if scheme is WeightScheme.FLOAT:

            def run(first: int, last: int) -> None:
                expert_kernels.run_float_experts(
                    ffn.up.float_weights, ffn.up.bias, ffn.down.float_weights, ffn.down.bias, limit, alpha,
                    normed, experts, starts, tokens, first, last, out,
                )  # fmt: skip
        else:
            q, scales = self.quantized(normed, where)
            up, down = ffn.up.operands(scheme), ffn.down.operands(scheme)

            def run(first: int, last: int) -> None:
                expert_kernels.run_experts(
                    up.codes, up.scales, ffn.up.bias, down.codes, down.scales, ffn.down.bias, up.factor, up.mode,
                    limit, alpha, q, scales, experts, starts, tokens, first, last, out,
                )  # fmt: skip

        products = len(tokens) * (ffn.up.outputs * ffn.up.inputs + ffn.down.outputs * ffn.down.inputs)
        self.threads.split(run, len(experts), products)
        return out, pair_of
