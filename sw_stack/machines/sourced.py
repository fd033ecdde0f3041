"""A number with its unit, where it comes from, and its band."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hw.errors import UserError, nearest

KINDS = ("paper", "second-hand", "datasheet", "standard", "derived", "measured", "assumed")
"""How well a number is known. ``assumed``: nothing better was found; every result that rests on one lists it."""


CORNERS = ("low", "nominal", "high")


@dataclass(frozen=True)
class Sourced:
    """A number that is not derived in the code.

    value      nominal
    unit       as printed, "GB/s" or "pJ/bit"
    kind       in ``KINDS``
    source     citation, or why it was assumed
    low, high  band that reports and sensitivity studies use; None where the number is taken as exact

    Raises UserError where the value is negative or not finite, the kind unknown, the source empty or the band does
    not hold the value.
    """

    value: float
    unit: str
    kind: str
    source: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"unknown source kind {self.kind!r}; {nearest(self.kind, list(KINDS))}")
        if not self.source:
            raise UserError(f"a number with the unit {self.unit!r} must have a source")
        for number in (self.value, *self.band):
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
                raise UserError(f"a number in {self.unit} must be at least 0 and finite, not {number!r}")
        if not self.band[0] <= self.value <= self.band[1]:
            raise UserError(
                f"a band in {self.unit} must hold its value {self.value:g}, not {self.low!r} to {self.high!r}"
            )

    @property
    def band(self) -> tuple[float, float]:
        """(low, high); the value itself on a side without one."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)

    @property
    def assumed(self) -> bool:
        """Whether results that rest on it must say so."""
        return self.kind == "assumed"

    def at(self, corner: str) -> float:
        """The value at a corner: ``low``, ``nominal`` or ``high``."""
        if corner not in CORNERS:
            raise UserError(f"unknown corner {corner!r}; {nearest(corner, list(CORNERS))}")
        return {"low": self.band[0], "nominal": self.value, "high": self.band[1]}[corner]

    def with_value(self, value: float, source: str) -> Sourced:
        """A user's number in place of this one: kind ``assumed``, no band."""
        return replace(self, value=value, kind="assumed", source=source, low=None, high=None)

    def __str__(self) -> str:
        band = "" if self.low is None and self.high is None else " ({:g} to {:g})".format(*self.band)
        return f"{self.value:g} {self.unit}{band}"
