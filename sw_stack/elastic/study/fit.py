"""Acceptance as a function a(coverage, bits, depth), fitted to the cells, with a band.

    logit a = b_scheme + c u + d u^2 + e log2(position),   u = 1 - router mass covered

A binomial fit (logistic regression by Newton's method) to accepted of tried, per sequence and position. ``bits`` enters
as the draft's weight scheme: one intercept for INT8 (8 bits) and for each way to have 4. The band is the 5th to 95th
percentile of fits to sequences drawn again with replacement, so it holds what texts of these domains vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.elastic.study.cells import CellResult

RESAMPLES = 200
_RIDGE = 1e-3
"""Weight of the penalty on squared coefficients, in trials: keeps the fit finite where all was accepted."""


@dataclass(frozen=True)
class Observations:
    """One row per sequence and position that was tried.

    scheme     index into the fit's schemes
    uncovered  router mass not resident in its batch
    position   1 for the first drafted token
    group      which sequence (for resampling): the same prompt in all cells
    """

    scheme: np.ndarray
    uncovered: np.ndarray
    position: np.ndarray
    tried: np.ndarray
    accepted: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class AcceptanceFit:
    """Coefficients [schemes + 3], and those of the resamples [resamples, schemes + 3]."""

    schemes: tuple[str, ...]
    coefficients: np.ndarray
    resampled: np.ndarray
    rows: int

    def predict(self, scheme: str, coverage: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Acceptance and its band (low, high) at router mass ``coverage`` [n]."""
        coverage = np.asarray(coverage, np.float64)
        index = np.full(len(coverage), self.schemes.index(scheme))
        x = _design(index, 1 - coverage, np.full(len(coverage), position), len(self.schemes))
        band = _logistic(self.resampled @ x.T)
        low, high = np.quantile(band, [0.05, 0.95], axis=0)
        return _logistic(x @ self.coefficients), low, high


def observations(results: list[CellResult], schemes: tuple[str, ...]) -> Observations:
    """Rows of all chain cells of Elastic-SD with one of ``schemes``."""
    rows = []
    for result in results:
        cell = result.cell
        if cell.method != "elastic" or "x" in cell.tree or cell.scheme not in schemes:
            continue
        group = 0
        for batch in result.batches:
            for tried, accepted in zip(batch.tried, batch.accepted, strict=True):
                for position, (n, y) in enumerate(zip(tried, accepted, strict=True), 1):
                    if n:
                        rows.append((schemes.index(cell.scheme), 1 - batch.coverage, position, n, y, group))
                group += 1
    columns = np.array(rows, np.float64).T
    whole = (0, 2, 5)
    return Observations(*(c.astype(np.int64) if i in whole else c for i, c in enumerate(columns)))


def fit_acceptance(results: list[CellResult], schemes: tuple[str, ...], seed: int) -> AcceptanceFit:
    """Fit and resample; the same results and seed give the same numbers."""
    seen = observations(results, schemes)
    x = _design(seen.scheme, seen.uncovered, seen.position, len(schemes))
    coefficients = _fit(x, seen.tried, seen.accepted, np.zeros(x.shape[1]))
    groups = int(seen.group.max()) + 1
    rng = np.random.Generator(np.random.PCG64(seed))
    resampled = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)[seen.group]
        resampled.append(_fit(x, times * seen.tried, times * seen.accepted, coefficients))
    return AcceptanceFit(schemes, coefficients, np.stack(resampled), len(x))


def _design(scheme: np.ndarray, uncovered: np.ndarray, position: np.ndarray, schemes: int) -> np.ndarray:
    return np.column_stack([np.eye(schemes)[scheme], uncovered, uncovered**2, np.log2(position)])


def _logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -40, 40)))


def _fit(x: np.ndarray, tried: np.ndarray, accepted: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Coefficients of largest penalised likelihood, by Newton's method."""
    b = start.copy()
    for _ in range(50):
        p = _logistic(x @ b)
        gradient = x.T @ (accepted - tried * p) - _RIDGE * b
        hessian = (x * (tried * p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(len(b))
        step = np.linalg.solve(hessian, gradient)
        b += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return b
