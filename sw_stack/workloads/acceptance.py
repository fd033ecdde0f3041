"""Acceptance of drafted tokens as a function a(router-mass coverage, bits, depth), with a band and its source.

For Elastic-SD and the 4-bit copy the function is the one fitted to the shipped model (`sw_stack.elastic.study.fit`),
carried over to the model at hand: an assumption whose least width is the band of the fit, widened by what the form
misses. An EAGLE head's is derived from a published accept length where the model *and* the data set have one;
otherwise, and for small models, the shipped model's own drafters stand in. Width: with w nodes on a level,

    -ln a(w) = -ln a(1) x w^-g,

g fitted to the shipped model's trees, apart for the first level (siblings of one root) and the later ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.methods import check_method
from sw_stack.elastic.study.fit import AcceptanceFit
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.sourced import CORNERS, Sourced
from sw_stack.workloads.datasets import EAGLE_LENGTHS, chain_acceptance

FILE = Path(__file__).parent.parent / "data" / "acceptance" / "elmoe-8m.json"
"""Made by ``python -m sw_stack.workloads.acceptance_export``."""
PAPER_RANGE = (0.33, 0.91)
"""Acceptance per token of Elastic-SD that the paper states, by model and condition; shown beside, never used."""
SHIPPED = "elmoe-8m"


@dataclass(frozen=True)
class Measured:
    """What the study of the shipped model gives.

    fit          of Elastic-SD
    chains       method -> acceptance by position of a chain
    width        method -> exponent g at the first level, at later ones
    deviation    weighted RMS of cells from the fitted form
    provenance   of the study
    """

    fit: AcceptanceFit
    chains: dict[str, tuple[float, ...]]
    width: dict[str, tuple[float, float]]
    provenance: dict


@cache
def measured() -> Measured:
    """The shipped file."""
    document = json.loads(FILE.read_text())
    fit = document["fit"]
    return Measured(
        AcceptanceFit(
            tuple(fit["schemes"]),
            np.array(fit["coefficients"]),
            np.array(fit["resampled_coefficients"]),
            fit["rows"],
            fit["deviation_rms"],
        ),
        {name: tuple(values) for name, values in document["chains"].items()},
        {name: tuple(values) for name, values in document["width"].items()},
        document["provenance"],
    )


class Acceptance:
    """Acceptance of one method on one model and data set.

    Parameters
    ----------
    method : drafting method
    kind : of its source; ``assumed`` where it was not measured or published for this model and data set
    source : in words
    scheme : of the fit where acceptance depends on coverage; None otherwise
    chain : acceptance by position of a chain where it does not, (low, nominal, high) [3, positions]; the last
        position stands for all later ones
    restricted : drafts route among resident experts only, so that coverage matters
    """

    def __init__(
        self,
        method: str,
        kind: str,
        source: str,
        *,
        scheme: str | None = None,
        chain: np.ndarray | None = None,
        restricted: bool = False,
    ) -> None:
        if (scheme is None) == (chain is None):
            raise UserError("acceptance must be given by a scheme or by a chain")
        self.method, self.kind, self.source, self.scheme, self.chain = method, kind, source, scheme, chain
        self.restricted = restricted

    @property
    def assumed(self) -> bool:
        """Whether a cell that rests on it is marked."""
        return self.kind == "assumed"

    def by_position(self, shape: TreeShape, coverage: float = 1.0, corner: str = "nominal") -> np.ndarray:
        """Probability that a level's right token is drafted, given that all before it were [depth]."""
        if corner not in CORNERS:
            raise UserError(f"unknown corner {corner!r}; {nearest(corner, list(CORNERS))}")
        if not 0 <= coverage <= 1:
            raise UserError(f"router mass covered must be 0 to 1, not {coverage!r}")
        index = CORNERS.index(corner)
        coverage = coverage if self.restricted else 1.0
        if self.chain is not None:
            at = np.minimum(np.arange(shape.depth), self.chain.shape[1] - 1)
            a = self.chain[index, at]
        else:
            a = np.array([self._fitted(coverage, position)[index] for position in range(1, shape.depth + 1)])
        first, later = measured().width.get(self.method, (0.0, 0.0))
        power = float(shape.width) ** -np.where(np.arange(shape.depth) == 0, first, later)
        return np.clip(a, 0, 1) ** power

    def tokens_per_round(self, shape: TreeShape, coverage: float = 1.0, corner: str = "nominal") -> float:
        """Expected accept length, bonus token included."""
        return 1.0 + float(np.cumprod(self.by_position(shape, coverage, corner)).sum())

    def _fitted(self, coverage: float, position: int) -> tuple[float, float, float]:
        fit = measured().fit
        nominal, low, high = (float(x[0]) for x in fit.predict(self.scheme, np.array([coverage]), position))
        return max(0.0, low - fit.deviation), nominal, min(1.0, high + fit.deviation)


def constant(method: str, value: float, source: str = "given by the user") -> Acceptance:
    """A user's acceptance, the same at every position; no band."""
    if not 0 <= value <= 1:
        raise UserError(f"acceptance must be 0 to 1, not {value!r}")
    return Acceptance(check_method(method), "assumed", source, chain=np.full((3, 1), float(value)))


def acceptance_of(method: str, model: str, dataset: str) -> Acceptance:
    """The best known acceptance of a method on a model and data set, and how well it is known.

    Raises UserError for a method that drafts nothing.
    """
    if check_method(method) == "none":
        raise UserError("acceptance must be asked of a method that drafts, not 'none'")
    kind = "measured" if model == SHIPPED else "assumed"
    carried = "" if model == SHIPPED else f", carried over to {model}: assumed"
    if method == "elastic":
        return Acceptance(method, kind, f"fit to {SHIPPED}{carried}", scheme="augmented", restricted=True)
    if method == "quant":
        return Acceptance(method, kind, f"fit to {SHIPPED}, 4-bit copy, all experts{carried}", scheme="copy4")
    published = EAGLE_LENGTHS.get((model, dataset))
    if method == "eagle" and published is not None:
        return Acceptance(method, "paper", published.tokens.source, chain=_of_length(published.tokens, published.depth))
    chain = np.array(measured().chains[method])
    deviation = measured().fit.deviation
    band = np.clip(np.stack([chain - deviation, chain, chain + deviation]), 0, 1)
    return Acceptance(method, kind, f"drafter of {SHIPPED}{carried}", chain=band)


def _of_length(tokens: Sourced, depth: int) -> np.ndarray:
    return np.array([[chain_acceptance(tokens.at(corner), depth)] for corner in CORNERS])
