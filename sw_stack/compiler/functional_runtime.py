"""The runtime with every product as a compiled PE program, executed at the functional level.

Projections (query, key, value, output, router, output matrix) and the routed experts of a layer, combination and
residual included, are lowered to commands and run on the functional PE; norms, RoPE, the attention core and the choice
of experts are HOST operations and stay the runtime's. Logits have the runtime's bits: that is the contract between
the two, and this class exists to test it on whole models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cycle_model.numerics import QuantizedActivations, QuantizedWeights
from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.expert_program import Expert, ExpertWork, Share, expert_ffn_program, read_rows
from sw_stack.compiler.projection_program import projection_program, read_projection
from sw_stack.models.batch import LayerRouting
from sw_stack.models.batch_kernels import BatchKernels
from sw_stack.models.precision import Precision, WeightScheme
from sw_stack.models.quantized_model import LayerWeights, QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.weights import ProjectionStack

MODES = {WeightScheme.INT8: "full", WeightScheme.AUGMENTED: "draft"}


def matrix_of(stack: ProjectionStack, index: int = 0, outputs: slice = slice(None)) -> QuantizedWeights:
    """Matrix ``index`` of a stack as the compiler takes it: INT8 [outputs, K] and FP16 scales."""
    if stack.mxfp4:
        raise UserError("weights must be INT8 to run compiled here, not MXFP4")
    operands = stack.operands(WeightScheme.INT8)
    codes = operands.codes[index].reshape(stack.inputs, stack.outputs).T[outputs]
    return QuantizedWeights(np.ascontiguousarray(codes), operands.scales[index].T[outputs].astype(np.float16))


@dataclass
class Executed:
    """Programs and PE commands run so far."""

    programs: int = 0
    commands: int = 0


def _run(program: PeProgram, executed: Executed):
    result = functional(program)
    if result.error is not None:
        raise RuntimeError(f"compiled program stopped: {result.error}")
    executed.programs += 1
    executed.commands += len(result.instruction)
    return result.state.out


@dataclass
class CompiledKernels:
    """`BatchKernels` whose projections are PE programs; everything else is handed on.

    tier       of MSB slices: "hb" or "stream"
    _matrices  by the identity of their stack, which is kept with them so that no other gets it
    """

    host: BatchKernels
    chip: ChipParams
    tier: str = "hb"
    executed: Executed = field(default_factory=Executed)
    _matrices: dict[int, tuple[ProjectionStack, QuantizedWeights]] = field(default_factory=dict)

    def __getattr__(self, name: str):
        return getattr(self.host, name)

    def project(self, stack: ProjectionStack, scheme: WeightScheme, x: np.ndarray, where: str) -> np.ndarray:
        """As `BatchKernels.project`."""
        return self.project_quantized(stack, scheme, *self.host.quantized(x, where))

    def project_quantized(
        self, stack: ProjectionStack, scheme: WeightScheme, q: np.ndarray, scales: np.ndarray
    ) -> np.ndarray:
        """As `BatchKernels.project_quantized`; raises UserError for a scheme that the PE has no mode for."""
        if scheme not in MODES:
            raise UserError(f"weights must be INT8 or augmented to run compiled, not {scheme.value}")
        if id(stack) not in self._matrices:
            self._matrices[id(stack)] = (stack, matrix_of(stack))
        weights = self._matrices[id(stack)][1]
        bias = stack.bias[0] if stack.bias.shape[1] else None
        program = projection_program(
            self.chip, weights, QuantizedActivations(q, scales), mode=MODES[scheme], tier=self.tier, bias=bias
        )
        return read_projection(self.chip, _run(program, self.executed), len(q), stack.outputs, 1).copy()


class CompiledRuntime(Runtime):
    """A `Runtime` for models with INT8 experts and no dense or shared networks.

    Parameters
    ----------
    chip : its PE
    pes : PEs that share the outputs of experts; each runs a program of its own
    tier : where MSB slices are, "hb" or "stream"
    """

    def __init__(self, model: QuantizedModel, chip: ChipParams, *, pes: int = 2, tier: str = "hb") -> None:
        super().__init__(model)
        self.chip, self.pes, self.tier = chip, pes, tier
        self._kernels = CompiledKernels(self._kernels, chip, tier)
        self._experts: dict[tuple[int, int], Expert] = {}

    @cached_property
    def executed(self) -> Executed:
        """Programs and commands run so far."""
        return self._kernels.executed

    def _feed_forward(
        self,
        index: int,
        weights: LayerWeights,
        x: np.ndarray,
        precision: Precision,
        resident: np.ndarray,
        records: list[LayerRouting],
    ) -> None:
        """x += experts(norm(x)), one program per layer."""
        if weights.experts is None or weights.shared is not None:
            raise UserError("compiled layers must have routed experts only")
        if precision.experts not in MODES:
            raise UserError(f"experts must be INT8 or augmented to run compiled, not {precision.experts.value}")
        normed = self._kernels.norm(x, weights.ffn_norm, self._eps)
        record = self._route(index, weights, normed, precision, resident)
        records.append(record)
        work = []
        for number in np.unique(record.chosen[record.chosen >= 0]).tolist():
            tokens, slots = np.nonzero(record.chosen == number)
            shares = record.weights[tokens, slots]
            for start in range(0, len(tokens), self.chip.array.rows):
                part = slice(start, start + self.chip.array.rows)
                expert = self._expert(index, number, weights)
                work.append(ExpertWork(number, expert, self.tier, tokens[part].tolist(), shares[part]))
        if not work:
            return
        residual = x.copy()
        for share in (Share(pe, self.pes) for pe in range(self.pes)):
            program = expert_ffn_program(
                self.chip, work, normed, residual, mode=MODES[precision.experts], share=share, layer=index
            )
            part = share.of(x.shape[1], self.chip.array.columns)
            x[:, part] = read_rows(self.chip, _run(program, self.executed), len(x), part.stop - part.start)

    def _expert(self, layer: int, number: int, weights: LayerWeights) -> Expert:
        if (layer, number) not in self._experts:
            up, down = weights.experts.up, weights.experts.down
            half = up.outputs // 2
            self._experts[layer, number] = Expert(
                matrix_of(up, number, slice(0, half)),
                matrix_of(up, number, slice(half, None)),
                matrix_of(down, number),
            )
        return self._experts[layer, number]
