"""How long a pass takes: the interface that scheduling decisions use, and a roofline behind it.

An engine with command timing replaces the instance, not the interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hw.errors import UserError
from hw.lpddr5_config import Lpddr5Config
from hw.params import ChipParams


@dataclass(frozen=True)
class PassWork:
    """What one pass moves and computes.

    hb_bytes, lpddr_bytes  read from each memory
    slice_macs             4-bit by 8-bit multiply-adds (a full INT8 product takes two)
    """

    hb_bytes: float = 0.0
    lpddr_bytes: float = 0.0
    slice_macs: float = 0.0

    def __add__(self, other: PassWork) -> PassWork:
        return PassWork(
            self.hb_bytes + other.hb_bytes,
            self.lpddr_bytes + other.lpddr_bytes,
            self.slice_macs + other.slice_macs,
        )


class TimePredictor(Protocol):
    """Seconds that a pass takes on some machine."""

    name: str

    def seconds(self, work: PassWork) -> float: ...


@dataclass(frozen=True)
class Roofline:
    """The slowest of both memories and the array, each at its peak, all perfectly overlapped: a lower bound of time.

    hb_gb_per_s, lpddr_gb_per_s  1e9 bytes per second
    slice_macs_per_ns            of all PEs
    """

    name: str
    hb_gb_per_s: float
    lpddr_gb_per_s: float
    slice_macs_per_ns: float

    def __post_init__(self) -> None:
        for field in ("hb_gb_per_s", "lpddr_gb_per_s", "slice_macs_per_ns"):
            if not getattr(self, field) > 0:
                raise UserError(f"{field} must be above 0, not {getattr(self, field)!r}")

    @classmethod
    def of_chip(cls, chip: ChipParams, clock_ghz: float = 1.0) -> Roofline:
        """Peaks of a published chip with its LPDDR; 1 GHz is the published clock."""
        return cls(
            f"roofline of {chip.name}",
            chip.pes * chip.hb.peak_gb_per_s,
            Lpddr5Config().peak_gb_per_s,
            chip.pes * chip.array.slice_macs * clock_ghz,
        )

    def seconds(self, work: PassWork) -> float:
        """max(HB, LPDDR, array)."""
        return 1e-9 * max(
            work.hb_bytes / self.hb_gb_per_s,
            work.lpddr_bytes / self.lpddr_gb_per_s,
            work.slice_macs / self.slice_macs_per_ns,
        )
