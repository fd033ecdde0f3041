"""Random experts and routings, what they must give, and the programs that compute them."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from cycle_model.functional import projection as kernels
from cycle_model.functional.experts import run_experts
from cycle_model.functional.rows import add_rows, combine_experts
from cycle_model.numerics import (
    Mxfp4Weights,
    QuantizedActivations,
    QuantizedWeights,
    quantize_activations,
    slice_operand,
    widen_scales,
)
from hw.isa import WeightMode
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.expert_program import ALONE, Expert, ExpertWork, Share, expert_ffn_program

CLAMP = (7.0, 1.702)  # GPT-OSS's limit and alpha


def with_hb_rows(chip: ChipParams, rows: int) -> ChipParams:
    """``chip`` with a larger bank: for experts that do not fit a small one."""
    return dataclasses.replace(chip, hb=dataclasses.replace(chip.hb, rows=rows))


@dataclass(frozen=True)
class ExpertCase:
    """A layer's experts, tokens and their routing.

    experts : number -> weights
    x, residual : float32 [tokens, hidden]
    chosen : int32 [tokens, k], expert numbers in ascending order
    weights : float32 [tokens, k]
    clamp : of the clamped SwiGLU, None for SiLU x up
    """

    experts: dict[int, Expert]
    x: np.ndarray
    residual: np.ndarray
    chosen: np.ndarray
    weights: np.ndarray
    clamp: tuple[float, float] | None

    def work(self, chip: ChipParams, tiers: dict[int, str] | str, tokens: list[int]) -> list[ExpertWork]:
        """What the PE does for ``tokens``, in ascending expert number, at most R tokens at once."""
        items = []
        for number, expert in sorted(self.experts.items()):
            pairs = [(place, token) for place, token in enumerate(tokens) if number in self.chosen[token]]
            for start in range(0, len(pairs), chip.array.rows):
                part = pairs[start : start + chip.array.rows]
                weights = [self.weights[token][list(self.chosen[token]).index(number)] for _, token in part]
                tier = tiers if isinstance(tiers, str) else tiers[number]
                places = [place for place, _ in part]
                items.append(ExpertWork(number, expert, tier, places, np.array(weights, np.float32)))
        return items

    def program(
        self,
        chip: ChipParams,
        mode: str,
        tiers: dict[int, str] | str,
        tokens: list[int] | None = None,
        share: Share = ALONE,
    ) -> PeProgram:
        """The program for ``tokens`` (default: all)."""
        tokens = list(range(len(self.x))) if tokens is None else tokens
        work = self.work(chip, tiers, tokens)
        x, residual = self.x[tokens], self.residual[tokens]
        return expert_ffn_program(chip, work, x, residual, mode=mode, clamp=self.clamp, share=share)

    def expected(self, mode: str) -> np.ndarray:
        """float32 [tokens, hidden] by the runtime's kernels: run_experts, combine_experts, add_rows."""
        numbers = sorted(self.experts)
        stacks = [_stack([self.experts[n] for n in numbers], part, mode) for part in ("up", "down")]
        (up, up_scales, up_bias), (down, down_scales, down_bias) = stacks
        factor = np.float32(1 if mode == "mxfp4" else 8)
        kind = {"full": kernels.BOTH_SLICES, "draft": kernels.AUGMENTED, "mxfp4": kernels.CODES}[mode]
        pairs = [(token, slot) for n in numbers for token, slot in zip(*np.nonzero(self.chosen == n), strict=True)]
        rows = np.array([token for token, _ in pairs], np.int32)
        counts = [int((self.chosen == n).sum()) for n in numbers]
        active = [i for i, count in enumerate(counts) if count]
        starts = np.cumsum([0] + [counts[i] for i in active]).astype(np.int32)
        limit, alpha = (np.float32(v) for v in self.clamp or (0, 0))
        quantized: QuantizedActivations = quantize_activations(self.x)
        out = np.empty((len(pairs), self.x.shape[1]), np.float32)
        run_experts(
            up, up_scales, up_bias, down, down_scales, down_bias, factor, kind, limit, alpha,
            quantized.q, quantized.scales, np.array(active, np.int32), starts, rows, 0, len(active), out,
        )  # fmt: skip
        pair_of = np.full(self.chosen.shape, -1, np.int32)
        for i, (token, slot) in enumerate(pairs):
            pair_of[token, slot] = i
        combined = np.empty_like(self.x)
        combine_experts(out, self.weights, pair_of, combined)
        total = self.residual.copy()
        add_rows(total, combined)
        return total


def _stack(experts: list[Expert], part: str, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and biases of ``experts`` as `run_experts` wants them; ``up`` is [gate; up]."""
    codes, scales, biases = [], [], []
    for expert in experts:
        matrices = [expert.gate, expert.up] if part == "up" else [expert.down]
        bias = [expert.gate_bias, expert.up_bias] if part == "up" else [expert.down_bias]
        of_codes = [slice_operand(m.codes, WeightMode.MXFP4) if mode == "mxfp4" else m.q for m in matrices]
        of_scales = [widen_scales(m.exponents if mode == "mxfp4" else m.scales) for m in matrices]
        both = np.concatenate(of_codes).astype(np.int8)
        codes.append(both.reshape(len(both), -1, 32).transpose(1, 2, 0))
        scales.append(np.concatenate(of_scales).T)
        biases.append(np.concatenate(bias) if bias[0] is not None else np.empty(0, np.float32))
    return tuple(np.ascontiguousarray(np.stack(values)) for values in (codes, scales, biases))


def random_case(
    seed: int, *, outputs: int, hidden: int, experts: int = 3, k: int = 2, tokens: int = 3, mxfp4: bool = False
) -> ExpertCase:
    """Experts of INT8 weights with SiLU x up, or of MXFP4 with biases and the clamped form."""
    rng = np.random.default_rng(seed)

    def weights(rows: int, columns: int) -> QuantizedWeights | Mxfp4Weights:
        if mxfp4:
            exponents = rng.integers(118, 124, (rows, columns // 32)).astype(np.uint8)
            return Mxfp4Weights(rng.integers(0, 16, (rows, columns), np.uint8), exponents)
        q = rng.integers(-127, 128, (rows, columns), np.int8)
        return QuantizedWeights(q, (rng.random((rows, columns // 32), np.float32) / 1024).astype(np.float16))

    def bias(n: int) -> np.ndarray | None:
        return rng.standard_normal(n, np.float32) if mxfp4 else None

    made = {
        7 * i: Expert(
            weights(outputs, hidden), weights(outputs, hidden), weights(hidden, outputs),
            bias(outputs), bias(outputs), bias(hidden),
        )
        for i in range(experts)
    }  # fmt: skip
    chosen = np.array([sorted(rng.choice(sorted(made), k, replace=False)) for _ in range(tokens)], np.int32)
    x, residual = (rng.standard_normal((tokens, hidden), np.float32) for _ in range(2))
    weight = rng.random((tokens, k), np.float32)
    return ExpertCase(made, x, residual, chosen, weight, CLAMP if mxfp4 else None)
