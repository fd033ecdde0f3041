"""Measure weight and output error of every scheme, over seeds.

Errors are signal-to-quantisation-noise ratios in dB: 10 log10(sum of squares of the exact value / of the error).
Weight error compares a scheme's levels with the weights. Output error compares products in float64: exact
weights x exact activations against levels x the INT8 activations that the machine would use, so it includes the
activations' quantisation; the row "int8" is its floor. ``pipeline_deviation`` tells how far the machine's own
FP32 arithmetic is from those float64 products.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from cycle_model.numerics import GROUP_SIZE, QuantizedWeights, project, quantize_activations, quantize_weights
from hw.errors import UserError
from sw_stack.quantizers.matrices import ACTIVATIONS, DISTRIBUTIONS, Generator, TensorSample, sparse, student_t
from sw_stack.quantizers.schemes import Scheme, augmented, rounded_shared, schemes

SQNR_CAP_DB = 300.0
"""Reported where a scheme is exact (JSON has no infinity)."""
DOF_SWEEP = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)
ZERO_SWEEP = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
GIVEN = "given"


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Sizes of the study.

    seed       first entropy of every generator
    repeats    independent repetitions; standard errors are over these
    outputs, inputs, tokens   of the generated matrices and activations
    base_bits  of the matryoshka base
    """

    seed: int = 0
    repeats: int = 6
    outputs: int = 64
    inputs: int = 1024
    tokens: int = 32
    base_bits: int = 2

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more, not {self.seed}")
        if not 2 <= self.repeats <= 1000:
            raise UserError(f"repeats must be 2 to 1000 (standard errors need two), not {self.repeats}")


@dataclass(frozen=True)
class Estimate:
    """Values over the repetitions, with mean and standard error of the mean (0 where nothing varies)."""

    values: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        return float(self.values.std(ddof=1) / np.sqrt(len(self.values)))

    def minus(self, other: Estimate) -> Estimate:
        """Paired difference: both schemes saw the same matrices."""
        return Estimate(self.values - other.values)


@dataclass
class Study:
    """Everything measured.

    weight_db        (matrix, scheme) -> SQNR of the weights, dB
    output_db        (matrix, activations, scheme) -> SQNR of the products, dB
    dof_gain_db      Student-t degrees of freedom -> augmented minus rounded-shared, dB of weight SQNR
    zero_gain_db     fraction of zeros -> the same, for Gaussian weights otherwise
    isolated_zero    level of a zero weight beside one large weight, in coarse steps (16 s), per scheme
    activation_bias  activations -> mean / RMS
    pipeline_deviation  largest RMS difference of bit-exact and float64 products, relative to the outputs' RMS
    tensor           the given matrix, where there is one
    """

    config: StudyConfig
    schemes: tuple[Scheme, ...]
    matrices: tuple[str, ...]
    weight_db: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    output_db: dict[tuple[str, str, str], Estimate] = field(default_factory=dict)
    dof_gain_db: dict[float, Estimate] = field(default_factory=dict)
    zero_gain_db: dict[float, Estimate] = field(default_factory=dict)
    isolated_zero: dict[str, float] = field(default_factory=dict)
    activation_bias: dict[str, float] = field(default_factory=dict)
    pipeline_deviation: float = 0.0
    tensor: TensorSample | None = None


def sqnr_db(exact: np.ndarray, approximate: np.ndarray) -> float:
    """10 log10(sum exact^2 / sum (approximate - exact)^2), at most ``SQNR_CAP_DB``."""
    exact = exact.astype(np.float64)
    noise = np.square(approximate - exact).sum()
    signal = np.square(exact).sum()
    return float(10 * np.log10(signal / noise)) if noise > signal * 10 ** (-SQNR_CAP_DB / 10) else SQNR_CAP_DB


def run_study(config: StudyConfig, tensor: TensorSample | None = None) -> Study:
    """Measure all schemes on the generated distributions and on ``tensor``, where given."""
    compared = schemes(config.base_bits)
    matrices = (*DISTRIBUTIONS, *([GIVEN] if tensor else []))
    study = Study(config, compared, matrices, tensor=tensor)
    with threadpool_limits(1, user_api="blas"):
        for index, matrix in enumerate(matrices):
            _measure_matrix(study, matrix, index)
        study.dof_gain_db = {dof: _gain(config, student_t(dof), (100, i)) for i, dof in enumerate(DOF_SWEEP)}
        study.zero_gain_db = {zeros: _gain(config, sparse(zeros), (200, i)) for i, zeros in enumerate(ZERO_SWEEP)}
        study.isolated_zero = _isolated_zero(compared)
    return study


@dataclass(frozen=True)
class _Prepared:
    """One weight matrix with its INT8 form and every scheme's levels."""

    exact: np.ndarray
    quantized: QuantizedWeights
    levels: dict[str, np.ndarray]


def _prepare(w: np.ndarray, compared: tuple[Scheme, ...]) -> _Prepared:
    quantized = quantize_weights(w)
    return _Prepared(w, quantized, {s.name: s.reconstruct(w, quantized) for s in compared})


def _measure_matrix(study: Study, matrix: str, index: int) -> None:
    """Fill in weight and output errors of one matrix; a given one is the same in every repetition."""
    config = study.config
    weight: dict[str, list[float]] = {scheme.name: [] for scheme in study.schemes}
    output: dict[tuple[str, str], list[float]] = {(a, s): [] for a in ACTIVATIONS for s in weight}
    given = _prepare(study.tensor.values, study.schemes) if matrix == GIVEN else None
    for repeat in range(config.repeats):
        rng = np.random.default_rng([config.seed, index, repeat])
        prepared = given or _prepare(DISTRIBUTIONS[matrix](rng, (config.outputs, config.inputs)), study.schemes)
        for scheme, levels in prepared.levels.items():
            weight[scheme].append(sqnr_db(prepared.exact, levels))
        for kind, make in ACTIVATIONS.items():
            x = make(rng, (config.tokens, prepared.exact.shape[1]))
            study.activation_bias.setdefault(kind, float(x.mean() / np.sqrt(np.square(x).mean())))
            for scheme, db in _output_errors(study, prepared, x).items():
                output[kind, scheme].append(db)
    for scheme, values in weight.items():
        study.weight_db[matrix, scheme] = Estimate(np.array(values))
    for (kind, scheme), values in output.items():
        study.output_db[matrix, kind, scheme] = Estimate(np.array(values))


def _output_errors(study: Study, prepared: _Prepared, x: np.ndarray) -> dict[str, float]:
    """SQNR of each scheme's products with activations ``x``, dB; keeps the largest pipeline deviation."""
    activations = quantize_activations(x)
    seen = activations.q * activations.scales.astype(np.float64)[:, None]
    exact = x.astype(np.float64) @ prepared.exact.T.astype(np.float64)
    errors = {}
    for scheme, levels in prepared.levels.items():
        product = seen @ levels.T.astype(np.float64)
        errors[scheme] = sqnr_db(exact, product)
        if scheme in ("int8", "augmented"):
            machine = project(prepared.quantized, activations, draft=scheme == "augmented")
            deviation = 10 ** (-sqnr_db(product, machine) / 20)
            study.pipeline_deviation = max(study.pipeline_deviation, deviation)
    return errors


def _gain(config: StudyConfig, generate: Generator, stream: tuple[int, int]) -> Estimate:
    """Augmented minus rounded-shared weight SQNR in dB, on matrices from ``generate``."""
    gains = []
    for repeat in range(config.repeats):
        rng = np.random.default_rng([config.seed, *stream, repeat])
        w = generate(rng, (config.outputs, config.inputs))
        quantized = quantize_weights(w)
        gains.append(sqnr_db(w, augmented(w, quantized)) - sqnr_db(w, rounded_shared(w, quantized)))
    return Estimate(np.array(gains))


def _isolated_zero(compared: tuple[Scheme, ...]) -> dict[str, float]:
    """What a zero beside one weight of 1 becomes under each scheme, in coarse steps of the target (16 s)."""
    w = np.zeros((1, GROUP_SIZE), np.float32)
    w[0, 0] = 1
    quantized = quantize_weights(w)
    coarse_step = 16 * float(quantized.scales[0, 0])
    return {s.name: float(s.reconstruct(w, quantized)[0, 1]) / coarse_step for s in compared}


def crossing(gains: dict[float, Estimate]) -> float | None:
    """Where the gain first changes sign, by linear interpolation between measured points; None if it does not."""
    points = [(x, estimate.mean) for x, estimate in gains.items()]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if (y0 < 0) != (y1 < 0):
            return x0 + (x1 - x0) * y0 / (y0 - y1)
    return None
