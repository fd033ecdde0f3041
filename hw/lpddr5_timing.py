"""LPDDR5-6400 as data: organization, timing in ns with sources, and the one conversion to clocks.

Standard library only. Models and the command line read these tables; the legality checker in
``verification`` deliberately does not, it holds its own.

The numbers are JESD209-5B as tabulated by Ramulator 2 (June 2026 head) for one x16 channel of 16 Gb dies in
bank-group mode; the figures in brackets are table numbers of that standard. Names follow JEDEC: ``tRCD_ns`` is a
time, ``nRCD`` the same in clocks of CK (800 MHz; the data clock WCK runs four times faster).
"""

from dataclasses import dataclass, fields
from fractions import Fraction

from hw.errors import UserError

STANDARD = "standard"  # JESD209-5B, through Ramulator 2
DERIVED = "derived"


def clocks(time_ns: float | Fraction, tck_ns: float | Fraction, at_least: int = 0) -> int:
    """Clocks that cover ``time_ns``: rounded up, never fewer than ``at_least`` (the standard's "max(n ck, t)")."""
    exact = Fraction(str(time_ns)) / Fraction(str(tck_ns))
    return max(-(-exact.numerator // exact.denominator), at_least)


@dataclass(frozen=True)
class Source:
    """Where a number comes from: ``kind`` (standard, second-hand, derived, assumed) and a short reference."""

    kind: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Lpddr5Organization:
    """What is there: 8 x16 channels, each 4 ranks of one 16 Gb die, 16 banks in 4 groups, 2 KB rows: 64 GiB.

    channels     second-hand: ELMoE-3D, 64 GB LPDDR5-6400, 8 x16 channels, 102.4 GB/s
    ranks        assumed: 64 GiB over 8 channels = 4 ranks of 16 Gb (or 2 of 32 Gb)
    bank_groups, banks_per_group  standard: bank-group mode, 4 groups of 4 banks
    rows         standard: 16 Gb x16, 65,536 rows of 1,024 columns
    row_bytes    standard: 2 KB page
    burst_bytes  standard: BL16 on 16 data pins

    Raises UserError where a size is not a power of two (addresses are bit fields).
    """

    channels: int = 8
    ranks: int = 4
    bank_groups: int = 4
    banks_per_group: int = 4
    rows: int = 65536
    row_bytes: int = 2048
    burst_bytes: int = 32

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not int or value < 1 or value & (value - 1):
                raise UserError(f"organization {item.name} must be a power of two, not {value!r}")
        if self.burst_bytes != 32:
            raise UserError(f"organization burst_bytes must be 32 (BL16 on x16), not {self.burst_bytes!r}")
        if self.row_bytes < 2 * self.burst_bytes:
            raise UserError(f"organization row_bytes must be at least two bursts, not {self.row_bytes!r}")
        if self.bank_groups < 2:
            raise UserError(f"organization bank_groups must be at least 2, not {self.bank_groups!r}")

    @property
    def banks(self) -> int:
        """Banks of one rank."""
        return self.bank_groups * self.banks_per_group

    @property
    def bursts_per_row(self) -> int:
        """Reads of 32 bytes in one row."""
        return self.row_bytes // self.burst_bytes

    @property
    def capacity_bytes(self) -> int:
        """Bytes behind all channels."""
        return self.channels * self.ranks * self.banks * self.rows * self.row_bytes


@dataclass(frozen=True, kw_only=True)
class Lpddr5Clocks:
    """Every constraint in CK clocks, as the models use it. Built by ``Lpddr5Timing.clocks`` only."""

    nBL_min: int
    nBL_max: int
    nCL: int
    nCWL: int
    nRCD: int
    nRP: int
    nRPab: int
    nRAS: int
    nRC: int
    nWR: int
    nRTP: int
    nCCD_S: int
    nCCD_L: int
    nWTR_S: int
    nWTR_L: int
    nPPD: int
    nAAD: int
    nRRD: int
    nFAW: int
    nRFCab: int
    nRFCpb: int
    nREFI: int
    nREFIpb: int
    npbR2pbR: int
    npbR2act: int
    nCS: int

    @property
    def read_to_write(self) -> int:
        """RD to WR on one data bus: read data out, two clocks of turnaround, write data in [339, 342]."""
        return self.nCL + self.nBL_min + 2 - self.nCWL

    @property
    def write_to_read_s(self) -> int:
        """WR to RD of another bank group of the rank [333]."""
        return self.nCWL + self.nBL_min + self.nWTR_S

    @property
    def write_to_read_l(self) -> int:
        """WR to RD of the same bank group [331, 332]."""
        return self.nCWL + self.nBL_max + self.nWTR_L

    @property
    def write_to_precharge(self) -> int:
        """WR to PRE: write data in, then write recovery [331, 344]."""
        return self.nCWL + self.nBL_min + self.nWR

    @property
    def rank_switch(self) -> int:
        """Column command to column command of another rank: the burst and the gap."""
        return self.nBL_min + self.nCS

    @property
    def turnaround_other_rank(self) -> int:
        """WR to another rank's RD as tabulated, and RD to another rank's WR.

        The tables give only ``rank_switch`` for the second, under which the write's data (nCWL after its command)
        would fall on the read's (nCL after its command); the same gap as within a rank keeps nCS clocks between them.
        """
        return self.nCL + self.nBL_min + self.nCS - self.nCWL


@dataclass(frozen=True, kw_only=True)
class Lpddr5Timing:
    """Timing of one device. Times in ns, the fields beginning with ``n`` in clocks; ``SOURCES`` names each source.

    Raises UserError where the table contradicts itself: tRC below tRAS + tRP, a data rate that the clock ratio
    cannot make, a refresh longer than its interval, a group that is faster than its bank.
    """

    data_rate_mtps: int = 6400
    ckr: int = 4
    tCK_ns: float = 1.25
    burst_length: int = 16
    nCL: int = 17
    nCWL: int = 9
    nBL_max: int = 4
    tRCD_ns: float = 18.75
    tRPpb_ns: float = 18.75
    tRPab_ns: float = 21.25
    tRAS_ns: float = 42.5
    tRC_ns: float = 61.25
    tWR_ns: float = 35.0
    tRTP_ns: float = 10.0
    tCCD_S_ns: float = 2.5
    tCCD_L_ns: float = 5.0
    tWTR_S_ns: float = 6.25
    tWTR_L_ns: float = 12.5
    tRRD_ns: float = 5.0
    tFAW_ns: float = 20.0
    nPPD: int = 2
    nAAD: int = 8
    nCS: int = 2
    tRFCab_ns: float = 280.0
    tRFCpb_ns: float = 140.0
    tREFI_ns: float = 3906.0
    tREFIpb_ns: float = 488.0
    tpbR2pbR_ns: float = 90.0
    tpbR2act_ns: float = 7.5

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
                raise UserError(f"timing {item.name} must be a positive number, not {value!r}")
            if item.type is int and not isinstance(value, int):
                raise UserError(f"timing {item.name} must be a whole number of clocks, not {value!r}")
        if self.ckr not in (2, 4):
            raise UserError(f"timing ckr (WCK : CK) must be 2 or 4, not {self.ckr!r}")
        made = Fraction(2000 * self.ckr) / Fraction(str(self.tCK_ns))
        if made != self.data_rate_mtps:
            raise UserError(
                f"timing data_rate_mtps must be 2 x ckr / tCK = {float(made):g} at ckr {self.ckr} and "
                f"tCK {self.tCK_ns:g} ns, not {self.data_rate_mtps!r}"
            )
        if self.burst_length % (2 * self.ckr):
            raise UserError(
                f"timing burst_length must fill whole clocks ({2 * self.ckr} beats), not {self.burst_length!r}"
            )
        c = self.clocks
        _at_least("tRC_ns", self.tRC_ns, "tRAS_ns + tRPpb_ns", self.tRAS_ns + self.tRPpb_ns)
        _at_least("tRAS_ns", self.tRAS_ns, "tRCD_ns", self.tRCD_ns)
        _at_least("tRPab_ns", self.tRPab_ns, "tRPpb_ns", self.tRPpb_ns)
        _at_least("tCCD_L_ns", self.tCCD_L_ns, "tCCD_S_ns", self.tCCD_S_ns)
        _at_least("tWTR_L_ns", self.tWTR_L_ns, "tWTR_S_ns", self.tWTR_S_ns)
        _at_least("tRFCab_ns", self.tRFCab_ns, "tRFCpb_ns", self.tRFCpb_ns)
        _at_least("tFAW_ns", self.tFAW_ns, "tRRD_ns", self.tRRD_ns)
        _at_least("tREFI_ns", self.tREFI_ns, "tRFCab_ns + tRPab_ns", self.tRFCab_ns + self.tRPab_ns)
        _at_least("tREFIpb_ns", self.tREFIpb_ns, "tpbR2pbR_ns", self.tpbR2pbR_ns)
        _at_least("tREFI_ns", self.tREFI_ns, "tREFIpb_ns", self.tREFIpb_ns)
        _at_least("nBL_max", self.nBL_max, "burst_length / (2 x ckr)", c.nBL_min)
        _at_least("nCL", self.nCL, "nCWL", self.nCWL)
        _at_least("tCCD_S_ns (in clocks)", c.nCCD_S, "the burst's clocks", c.nBL_min)

    @property
    def clocks(self) -> Lpddr5Clocks:
        """The same constraints in clocks of CK."""

        def n(time_ns: float, at_least: int = 0) -> int:
            return clocks(time_ns, self.tCK_ns, at_least)

        return Lpddr5Clocks(
            nBL_min=self.burst_length // (2 * self.ckr),
            nBL_max=self.nBL_max,
            nCL=self.nCL,
            nCWL=self.nCWL,
            nRCD=n(self.tRCD_ns),
            nRP=n(self.tRPpb_ns),
            nRPab=n(self.tRPab_ns),
            nRAS=n(self.tRAS_ns),
            nRC=n(self.tRC_ns),
            nWR=n(self.tWR_ns),
            nRTP=n(self.tRTP_ns),
            nCCD_S=n(self.tCCD_S_ns),
            nCCD_L=n(self.tCCD_L_ns),
            nWTR_S=n(self.tWTR_S_ns),
            nWTR_L=n(self.tWTR_L_ns),
            nPPD=self.nPPD,
            nAAD=self.nAAD,
            nRRD=n(self.tRRD_ns, at_least=4),
            nFAW=n(self.tFAW_ns),
            nRFCab=n(self.tRFCab_ns),
            nRFCpb=n(self.tRFCpb_ns),
            nREFI=n(self.tREFI_ns),
            nREFIpb=n(self.tREFIpb_ns),
            npbR2pbR=n(self.tpbR2pbR_ns),
            npbR2act=n(self.tpbR2act_ns),
            nCS=self.nCS,
        )

    @property
    def peak_gb_per_s(self) -> float:
        """Data-bus peak of one x16 channel, GB/s."""
        return self.data_rate_mtps * 16 / 8 / 1000


def _at_least(name: str, value: float, bound_name: str, bound: float) -> None:
    if Fraction(str(value)) < Fraction(str(bound)):
        raise UserError(f"timing {name} must be at least {bound_name} = {bound:g}, not {value!r}")


_CK = Source(STANDARD, "core timing at 6400 Mb/s")
SOURCES: dict[str, Source] = {
    "data_rate_mtps": Source("second-hand", "ELMoE-3D: LPDDR5-6400"),
    "ckr": Source(STANDARD, "WCK : CK = 4 : 1 above 3200 Mb/s"),
    "tCK_ns": Source(DERIVED, "2 x 4 transfers per CK at 6400 Mb/s"),
    "burst_length": Source(STANDARD, "BL16 is the native burst in bank-group mode"),
    "nCL": Source(STANDARD, "read latency at 6400 Mb/s"),
    "nCWL": Source(STANDARD, "write latency at 6400 Mb/s"),
    "nBL_max": Source(STANDARD, "[331] BL/n_max in bank-group mode"),
    "tRCD_ns": _CK,
    "tRPpb_ns": _CK,
    "tRPab_ns": _CK,
    "tRAS_ns": _CK,
    "tRC_ns": _CK,
    "tWR_ns": Source(STANDARD, "[331, 344] write recovery"),
    "tRTP_ns": _CK,
    "tCCD_S_ns": Source(STANDARD, "[333] other bank group"),
    "tCCD_L_ns": Source(STANDARD, "[331, 332] same bank group"),
    "tWTR_S_ns": Source(STANDARD, "[333] other bank group"),
    "tWTR_L_ns": Source(STANDARD, "[331, 332] same bank group"),
    "tRRD_ns": Source(STANDARD, "[372] max(5 ns, 4 ck)"),
    "tFAW_ns": Source(STANDARD, "[372] four activates"),
    "nPPD": Source(STANDARD, "[372] precharge to precharge"),
    "nAAD": Source(STANDARD, "ACT-2 within 8 ck of ACT-1"),
    "nCS": Source("second-hand", "Ramulator 2: rank switch 2 ck"),
    "tRFCab_ns": Source(STANDARD, "16 Gb (210 at 8 Gb, 380 at 32 Gb)"),
    "tRFCpb_ns": Source(STANDARD, "16 Gb (120 at 8 Gb, 190 at 32 Gb)"),
    "tREFI_ns": Source(STANDARD, "8192 per 32 ms"),
    "tREFIpb_ns": Source(STANDARD, "tREFI / 8: one REFpb refreshes banks b and b + 8"),
    "tpbR2pbR_ns": Source(STANDARD, "[235]"),
    "tpbR2act_ns": Source(STANDARD, "[235]"),
}
