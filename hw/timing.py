"""Timing of the hybrid-bonded (HB) DRAM and of the tick enable that marks its clock. Standard library only.

Names follow JEDEC: ``tRCD_ns`` is a time, ``nRCD`` the DRAM clocks that cover it. Times live here with their
source; `HbTiming.clocks` is the one place where they become clocks.

Source of every number of `HB_PARTS`, `HB_TRFC_NS` and `HB_TREFI_NS`: the released configuration of ATLAS
(MICRO 2026, arXiv 2604.08044), kind ``paper``; its authors anonymised the values. Cross-check: Tasa publishes
tRC 45.3 ns. The read-to-write gap (3 clocks) is read here as the distance of the two commands.
"""

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from hw.errors import UserError, nearest

MAX_POSTPONED = 8
"""Refreshes that may be owed at any time (JEDEC's rule for DRAM of this family; kind ``standard``)."""

HB_PARTS: dict[str, dict[str, float]] = {
    "hb400": {
        "tCK_ns": 2.5,
        "nBL": 1,
        "nCL": 1,
        "nCWL": 1,
        "nRTW": 3,
        "tRCD_ns": 17.5,
        "tRP_ns": 12.5,
        "tRAS_ns": 35.0,
        "tRC_ns": 47.5,
        "tWR_ns": 17.5,
        "tRTP_ns": 5.0,
        "tWTR_ns": 7.5,
    },
    "hb500": {
        "tCK_ns": 2.0,
        "nBL": 1,
        "nCL": 1,
        "nCWL": 1,
        "nRTW": 3,
        "tRCD_ns": 16.0,
        "tRP_ns": 12.0,
        "tRAS_ns": 34.0,
        "tRC_ns": 46.0,
        "tWR_ns": 16.0,
        "tRTP_ns": 4.0,
        "tWTR_ns": 6.0,
    },
}
"""Speed grades: 400 Mb/s and 500 Mb/s per pin."""

HB_TRFC_NS = {0.5: 15.0, 1: 40.0, 2: 65.0, 4: 90.0, 8: 115.0, 16: 140.0, 32: 170.0}
"""Density in Gib -> refresh cycle time; a density between two entries takes the larger one's."""

HB_TREFI_NS = {2: 7800.0, 8: 3900.0, 32: 1950.0}
"""Largest density in Gib -> average refresh interval up to 85 C."""

HB_TREFI_HALVES_ABOVE_C = (85, 95, 105)
"""The refresh interval halves above each of these temperatures."""


def ps(time_ns: float) -> int:
    """``time_ns`` in whole picoseconds."""
    return round(time_ns * 1000)


class HbClocks(NamedTuple):
    """The gates of the HB bank in DRAM clocks, and the tick ratio. What RTL and models are built to.

    nBL is also the column-to-column distance. Between commands: ACT-ACT nRC, ACT-RD/WR nRCD, ACT-PRE nRAS,
    PRE-ACT and PRE-REF nRP, RD-PRE nRTP, RD-WR nRTW, WR-PRE nCWL + nBL + nWR, WR-RD nCWL + nBL + nWTR,
    REF-ACT and REF-REF nRFC, ACT-REF nRC. Tick k lies at logic cycle ceil(k x tick_num / tick_den).
    """

    nBL: int
    nCL: int
    nCWL: int
    nRTW: int
    nRCD: int
    nRP: int
    nRAS: int
    nRC: int
    nWR: int
    nRTP: int
    nWTR: int
    nRFC: int
    nREFI: int
    tick_num: int
    tick_den: int

    @property
    def nWRtoPRE(self) -> int:
        """Write command to precharge: write latency, burst, write recovery."""
        return self.nCWL + self.nBL + self.nWR

    @property
    def nWRtoRD(self) -> int:
        """Write command to read command: write latency, burst, turnaround."""
        return self.nCWL + self.nBL + self.nWTR

    @property
    def close_clocks(self) -> int:
        """Most clocks from the decision to close a row until a refresh can be issued.

        One clock to decide, the longest wait for the precharge, then tRP or the rest of tRC.
        """
        return 1 + max(max(self.nRAS, self.nRTP, self.nWRtoPRE) + self.nRP, self.nRC)


@dataclass(frozen=True, kw_only=True)
class HbTiming:
    """One HB bank's timing in nanoseconds (``nXX`` fields: DRAM clocks), as a data sheet gives it.

    logic_period_ns  period of the one clock that the logic has; the DRAM clock is an enable on it

    Raises UserError for a time that is not positive, for a table that contradicts itself (tRC < tRAS + tRP,
    tRAS < tRCD, refresh that leaves no time) and for a DRAM clock that the logic clock cannot mark.
    """

    tCK_ns: float
    nBL: int
    nCL: int
    nCWL: int
    nRTW: int
    tRCD_ns: float
    tRP_ns: float
    tRAS_ns: float
    tRC_ns: float
    tWR_ns: float
    tRTP_ns: float
    tWTR_ns: float
    tRFC_ns: float
    tREFI_ns: float
    logic_period_ns: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("n"):
                if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 64:
                    raise UserError(f"HB timing {field.name} must be 1 to 64 clocks, not {value!r}")
            elif not isinstance(value, int | float) or not 0.001 <= value <= 1e6:
                raise UserError(f"HB timing {field.name} must be 0.001 to 1e6 ns, not {value!r}")
        self._require_consistent()

    def _require_consistent(self) -> None:
        if ps(self.tRC_ns) < ps(self.tRAS_ns) + ps(self.tRP_ns):
            least = self.tRAS_ns + self.tRP_ns
            raise UserError(f"HB timing tRC_ns must be at least tRAS_ns + tRP_ns = {least:g}, not {self.tRC_ns!r}")
        if ps(self.tRAS_ns) < ps(self.tRCD_ns):
            raise UserError(f"HB timing tRAS_ns must be at least tRCD_ns = {self.tRCD_ns:g}, not {self.tRAS_ns!r}")
        ratio = Fraction(ps(self.tCK_ns), ps(self.logic_period_ns))
        if not 1 <= ratio <= 64 or ratio.denominator > 64:
            raise UserError(
                f"HB timing tCK_ns must be 1 to 64 logic periods of {self.logic_period_ns:g} ns, "
                f"in parts of at most 1/64, not {self.tCK_ns!r}"
            )
        clocks = self.clocks
        if clocks.nREFI < clocks.nRFC + clocks.close_clocks + 1:
            raise UserError(
                f"HB timing tREFI_ns must leave time for a refresh and a row "
                f"({(clocks.nRFC + clocks.close_clocks + 1) * self.tCK_ns:g} ns), not {self.tREFI_ns!r}"
            )

    @property
    def clocks(self) -> HbClocks:
        """Every time in DRAM clocks: a minimum is rounded up, the refresh interval (a maximum) down."""
        tck = ps(self.tCK_ns)
        at_least = {
            f"n{name[1:-3]}": -(-ps(getattr(self, name)) // tck)
            for name in ("tRCD_ns", "tRP_ns", "tRAS_ns", "tRC_ns", "tWR_ns", "tRTP_ns", "tWTR_ns", "tRFC_ns")
        }
        ratio = Fraction(tck, ps(self.logic_period_ns))
        return HbClocks(
            nBL=self.nBL,
            nCL=self.nCL,
            nCWL=self.nCWL,
            nRTW=self.nRTW,
            nREFI=ps(self.tREFI_ns) // tck,
            tick_num=ratio.numerator,
            tick_den=ratio.denominator,
            **at_least,
        )


def refresh_divisor(temperature_c: float) -> int:
    """How many times shorter the refresh interval is at ``temperature_c``: 1, 2, 4 or 8."""
    if not -40 <= temperature_c <= 125:
        raise UserError(f"HB temperature must be -40 to 125 C, not {temperature_c!r}")
    return 2 ** sum(temperature_c > limit for limit in HB_TREFI_HALVES_ABOVE_C)


@lru_cache(maxsize=64)
def hb_timing(part: str, density_gib: float, temperature_c: float = 85, logic_period_ns: float = 1.0) -> HbTiming:
    """Timing of one bank of ``density_gib`` Gib (gibibit) of a speed grade at a temperature.

    Raises UserError for an unknown part, a density above the largest listed, or a temperature outside -40 to 125 C.
    """
    if part not in HB_PARTS:
        raise UserError(f"unknown HB part {part!r}; {nearest(part, list(HB_PARTS))}")
    largest = max(HB_TRFC_NS)
    if not 0 < density_gib <= largest:
        raise UserError(f"HB bank density must be above 0 and at most {largest} Gib, not {density_gib!r}")
    trfc = next(time for density, time in HB_TRFC_NS.items() if density_gib <= density)
    trefi = next(time for density, time in HB_TREFI_NS.items() if density_gib <= density)
    return HbTiming(
        **HB_PARTS[part],
        tRFC_ns=trfc,
        tREFI_ns=trefi / refresh_divisor(temperature_c),
        logic_period_ns=logic_period_ns,
    )


def with_times(timing: HbTiming, **changes: float) -> HbTiming:
    """``timing`` with some times replaced (an experiment, a user's table), checked again."""
    unknown = set(changes) - {field.name for field in fields(HbTiming)}
    if unknown:
        name = min(unknown)
        raise UserError(f"unknown HB time {name!r}; {nearest(name, [f.name for f in fields(HbTiming)])}")
    return replace(timing, **changes)


def tick_cycle(k: int, clocks: HbClocks) -> int:
    """Logic cycle of DRAM clock edge ``k``: ceil(k x num / den), edge 0 at cycle 0."""
    return -(-k * clocks.tick_num // clocks.tick_den)


def tick_at_or_after(cycle: int, clocks: HbClocks) -> int:
    """Number of the first DRAM clock edge at logic cycle ``cycle`` or later."""
    return 0 if cycle <= 0 else (cycle - 1) * clocks.tick_den // clocks.tick_num + 1
