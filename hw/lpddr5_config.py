"""LPDDR5 controller decisions, the whole external memory as one object, and overrides from a TOML file.

Standard library only. Timing and organization are in ``hw.lpddr5_timing``.
"""

from dataclasses import dataclass, field, fields
from fractions import Fraction

from hw.errors import UserError, nearest
from hw.lpddr5_timing import Lpddr5Organization, Lpddr5Timing

REFRESH_MODES = ("none", "all-bank", "per-bank")
PAGE_POLICIES = ("open", "closed")


@dataclass(frozen=True, kw_only=True)
class Lpddr5Controller:
    """Decisions of the memory controller (all chosen here; nothing is published for this machine).

    read_queue, write_queue  requests held per channel
    write_high, write_low    write drain starts at ``write_high`` queued writes (or when no read is queued) and ends
                             at ``write_low`` (or when none is left)
    refresh                  none, all-bank (REFab) or per-bank (REFpb)
    postponed                refreshes owed at which a rank refreshes before it serves requests, 1 to 8; a rank that
                             owes fewer refreshes only while it has no request
    page                     open: a row stays open until a conflict or a refresh; closed: auto-precharge with the last
                             queued hit
    age_limit                clocks for which younger row hits may pass an older conflict in the same bank
    refresh_phase            clocks by which the first refresh comes earlier; to test every phase
    """

    read_queue: int = 32
    write_queue: int = 32
    write_high: int = 24
    write_low: int = 8
    refresh: str = "per-bank"
    postponed: int = 8
    page: str = "open"
    age_limit: int = 4000
    refresh_phase: int = 0

    def __post_init__(self) -> None:
        for name, first, last in (
            ("read_queue", 1, 256),
            ("write_queue", 1, 256),
            ("write_high", 1, self.write_queue),
            ("write_low", 0, self.write_high),
            ("postponed", 1, 8),
            ("age_limit", 1, 1 << 40),
            ("refresh_phase", 0, 1 << 40),
        ):
            value = getattr(self, name)
            if type(value) is not int or not first <= value <= last:
                raise UserError(f"controller {name} must be an integer from {first} to {last}, not {value!r}")
        if self.refresh not in REFRESH_MODES:
            raise UserError(
                f"controller refresh {self.refresh!r} is unknown; {nearest(self.refresh, list(REFRESH_MODES))}"
            )
        if self.page not in PAGE_POLICIES:
            raise UserError(f"controller page {self.page!r} is unknown; {nearest(self.page, list(PAGE_POLICIES))}")


@dataclass(frozen=True, kw_only=True)
class Lpddr5Config:
    """One external memory: what is there, how fast it is, how it is driven."""

    organization: Lpddr5Organization = field(default_factory=Lpddr5Organization)
    timing: Lpddr5Timing = field(default_factory=Lpddr5Timing)
    controller: Lpddr5Controller = field(default_factory=Lpddr5Controller)

    def __post_init__(self) -> None:
        per_round = self.organization.banks // 2
        made = Fraction(str(self.timing.tREFI_ns)) / per_round
        if Fraction(str(self.timing.tREFIpb_ns)) > made:
            raise UserError(
                f"timing tREFIpb_ns must be at most tREFI_ns / {per_round} = {float(made):g} (REFpb refreshes a pair "
                f"of the {self.organization.banks} banks), not {self.timing.tREFIpb_ns!r}"
            )

    @property
    def peak_gb_per_s(self) -> float:
        """Data-bus peak of all channels, GB/s (1e9 bytes per second)."""
        return self.organization.channels * self.timing.peak_gb_per_s


def config_from_tables(tables: dict[str, dict[str, object]], origin: str) -> Lpddr5Config:
    """The preset with the values of ``tables`` ([organization], [timing], [controller]) put over it.

    Raises UserError naming ``origin`` where a table or key is unknown or a value breaks a rule.
    """
    parts = {"organization": Lpddr5Organization, "timing": Lpddr5Timing, "controller": Lpddr5Controller}
    made: dict[str, object] = {}
    for table, values in tables.items():
        if table not in parts:
            raise UserError(f"{origin}: unknown table {table!r}; {nearest(table, list(parts))}")
        if not isinstance(values, dict):
            raise UserError(f"{origin}: {table} must be a table of values, not {values!r}")
        known = [item.name for item in fields(parts[table])]
        for key in values:
            if key not in known:
                raise UserError(f"{origin}: unknown key {key!r} in [{table}]; {nearest(key, known)}")
        try:
            made[table] = parts[table](**values)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from error
    try:
        return Lpddr5Config(**made)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
