"""Acceptance as a function a(coverage, bits, depth), fitted to the cells, with a band.

    -ln a = k_scheme + m log2(position) + u (c + d u + e log2(position)),   u = 1 - router mass covered

Two independent causes of rejection: the draft's precision (k and m, zero for INT8, whose unrestricted draft is the
target itself) and the experts it lacks (c, d, e). ``bits`` enters as the draft's weight scheme, one k for each way to
have 4 bits. Fitted by maximum likelihood (binomial, accepted of tried per sequence and position; Fisher scoring).
The band is the 5th to 95th percentile of fits to texts drawn again with replacement: what text varies. What the form
misses is stated as the weighted RMS deviation of the cells' means from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.elastic.study.cells import CellResult

RESAMPLES = 200
EXACT = "int8"
"""The scheme whose unrestricted draft is the target."""
_RIDGE = 1e-3
"""Weight of the penalty on squared coefficients, in trials: keeps the fit finite where all was accepted."""
_LOWEST = 1e-4
"""Of -ln a while fitting, so that the likelihood stays finite."""


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
    """Coefficients [schemes + 4] (k by scheme, m, c, d, e), and those of the resamples.

    rows       observations fitted to
    deviation  weighted RMS of (cell's mean acceptance at a position - fit)
    """

    schemes: tuple[str, ...]
    coefficients: np.ndarray
    resampled: np.ndarray
    rows: int
    deviation: float

    def predict(self, scheme: str, coverage: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Acceptance and its band (low, high) at router mass ``coverage`` [n]."""
        coverage = np.asarray(coverage, np.float64)
        index = np.full(len(coverage), self.schemes.index(scheme))
        x = _design(self.schemes, index, 1 - coverage, np.full(len(coverage), position))
        low, high = np.quantile(_acceptance(self.resampled @ x.T), [0.05, 0.95], axis=0)
        return _acceptance(x @ self.coefficients), low, high


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
    x = _design(schemes, seen.scheme, seen.uncovered, seen.position)
    coefficients = _fit(x, seen.tried, seen.accepted, np.full(x.shape[1], 0.1))
    groups = int(seen.group.max()) + 1
    rng = np.random.Generator(np.random.PCG64(seed))
    resampled = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)[seen.group]
        resampled.append(_fit(x, times * seen.tried, times * seen.accepted, coefficients))
    return AcceptanceFit(
        schemes, coefficients, np.stack(resampled), len(x), _deviation(seen, _acceptance(x @ coefficients))
    )


def _deviation(seen: Observations, fitted: np.ndarray) -> float:
    """Cells are told apart by scheme, coverage and position; sequences of one batch belong together."""
    keys = np.column_stack([seen.scheme, seen.uncovered, seen.position])
    cell = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    tried, accepted, expected = (np.bincount(cell, v) for v in (seen.tried, seen.accepted, seen.tried * fitted))
    return float(np.sqrt(np.average(((accepted - expected) / tried) ** 2, weights=tried)))


def _design(schemes: tuple[str, ...], scheme: np.ndarray, uncovered: np.ndarray, position: np.ndarray) -> np.ndarray:
    coarse = np.array([name != EXACT for name in schemes], np.float64)
    own = (np.eye(len(schemes)) * coarse)[scheme]
    depth = np.log2(position)
    return np.column_stack([own, coarse[scheme] * depth, uncovered, uncovered**2, uncovered * depth])


def _acceptance(hazard: np.ndarray) -> np.ndarray:
    return np.exp(-np.maximum(hazard, 0))


def _log_likelihood(x: np.ndarray, tried: np.ndarray, accepted: np.ndarray, b: np.ndarray) -> float:
    hazard = np.maximum(x @ b, _LOWEST)
    return float((-accepted * hazard + (tried - accepted) * np.log(-np.expm1(-hazard))).sum() - _RIDGE / 2 * b @ b)


def _fit(x: np.ndarray, tried: np.ndarray, accepted: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Coefficients of largest penalised likelihood, by Fisher scoring with halved steps."""
    b = start.copy()
    reached = _log_likelihood(x, tried, accepted, b)
    for _ in range(100):
        hazard = np.maximum(x @ b, _LOWEST)
        odds = 1 / np.expm1(hazard)
        gradient = x.T @ (-accepted + (tried - accepted) * odds) - _RIDGE * b
        information = (x * (tried * odds)[:, None]).T @ x + _RIDGE * np.eye(len(b))
        step = np.linalg.solve(information, gradient)
        scale = 1.0
        while scale > 1e-6 and (after := _log_likelihood(x, tried, accepted, b + scale * step)) < reached:
            scale /= 2
        if scale <= 1e-6:
            break
        b = b + scale * step
        done, reached = after - reached < 1e-10 * abs(reached), after
        if done:
            break
    return b
