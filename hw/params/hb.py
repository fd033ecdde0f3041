"""Sizes of one hybrid-bonded DRAM bank and its controller."""

from dataclasses import dataclass

from hw.params.checks import is_power_of_two, require
from hw.timing import MAX_POSTPONED, HbClocks, HbTiming, hb_timing

ECC_MODES = ("none", "sideband", "inline")
ECC_WORD_BITS = 64
ECC_CHECK_BITS = 8
ECC_GROUP = ECC_WORD_BITS // ECC_CHECK_BITS
"""Data columns that share one check column in-line."""


@dataclass(frozen=True, kw_only=True)
class HbParams:
    """One hybrid-bonded DRAM bank and its controller.

    data_bits         bits of a column: one beat, one DRAM clock on as many pins (paper: 1024)
    columns_per_row   physical columns of a row (chosen: 512, the 64 KB logical row that ATLAS suggests)
    rows              rows of the bank (paper: 256 MiB per PE, so 4096 of 64 KB)
    part              speed grade of `hw.timing.HB_PARTS` (paper: hb400)
    temperature_c     decides the refresh interval (chosen: 85, the hottest with the full interval)
    refresh_postpone  refreshes that may stay owed at a row boundary (chosen: 0); a transfer's stalled row is
                      closed before more than 8 are owed, whatever this says
    requesters        ports of the controller: weight stream, refill, key-value cache (chosen: 3)
    tag_bits          width of the tag that a requester gives a transfer (chosen)
    length_bits       width of a transfer's length in columns (chosen)
    read_buffer       beats of the read buffer; a column is read only when its place is reserved (chosen)
    write_buffer      beats of the write buffer (chosen)
    ecc               none, sideband (72,64) on extra pins, or inline: every ninth column holds check bits
    logic_ghz         clock of the logic (paper: 1.0)
    """

    data_bits: int = 1024
    columns_per_row: int = 512
    rows: int = 4096
    part: str = "hb400"
    temperature_c: float = 85
    refresh_postpone: int = 0
    requesters: int = 3
    tag_bits: int = 8
    length_bits: int = 16
    read_buffer: int = 8
    write_buffer: int = 8
    ecc: str = "none"
    logic_ghz: float = 1.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("requesters", 1, 8),
            ("tag_bits", 1, 16),
            ("length_bits", 1, 24),
            ("read_buffer", 1, 64),
            ("write_buffer", 1, 64),
            ("rows", 2, 1 << 20),
            ("refresh_postpone", 0, MAX_POSTPONED - 1),
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and least <= value <= most,
                f"HB {name}",
                f"an integer from {least} to {most}",
                value,
            )
        require(
            is_power_of_two(self.data_bits) and 64 <= self.data_bits <= 1024,
            "HB data_bits",
            "a power of two from 64 to 1024",
            self.data_bits,
        )
        require(
            is_power_of_two(self.columns_per_row) and 2 <= self.columns_per_row <= 4096,
            "HB columns_per_row",
            "a power of two from 2 to 4096",
            self.columns_per_row,
        )
        require(self.ecc in ECC_MODES, "HB ecc", f"one of {', '.join(ECC_MODES)}", self.ecc)
        require(self.data_columns >= 1, "HB columns_per_row", "at least 9 with in-line ECC", self.columns_per_row)
        require(0.01 <= self.logic_ghz <= 10, "HB logic_ghz", "0.01 to 10", self.logic_ghz)
        due = -(-self.row_clocks(self.data_columns) // self.clocks.nREFI)
        require(
            self.refresh_postpone + due <= MAX_POSTPONED,
            "HB refresh_postpone",
            f"at most {MAX_POSTPONED - due} ({due} more come due within one row, {MAX_POSTPONED} may be owed)",
            self.refresh_postpone,
        )

    @property
    def timing(self) -> HbTiming:
        """The bank's timing in nanoseconds."""
        return hb_timing(self.part, self.density_gib, self.temperature_c, 1 / self.logic_ghz)

    @property
    def clocks(self) -> HbClocks:
        """The bank's timing in DRAM clocks."""
        return self.timing.clocks

    @property
    def column_bytes(self) -> int:
        """Bytes of one column, one beat."""
        return self.data_bits // 8

    @property
    def row_bytes(self) -> int:
        """Physical bytes of a row."""
        return self.columns_per_row * self.column_bytes

    @property
    def density_gib(self) -> float:
        """Density of the bank in Gib, which decides tRFC and tREFI; side-band check cells are not counted."""
        return self.rows * self.row_bytes * 8 / 2**30

    @property
    def data_columns(self) -> int:
        """Columns of a row that hold data: all, or eight ninths (whole groups) with in-line ECC."""
        if self.ecc == "inline":
            return self.columns_per_row // (ECC_GROUP + 1) * ECC_GROUP
        return self.columns_per_row

    @property
    def capacity_bytes(self) -> int:
        """Bytes of data that the bank holds; in-line check bits are paid for here."""
        return self.rows * self.data_columns * self.column_bytes

    @property
    def check_bits(self) -> int:
        """Check bits of one column: (72,64) over its 64-bit words."""
        return self.data_bits // ECC_WORD_BITS * ECC_CHECK_BITS

    @property
    def peak_gb_per_s(self) -> float:
        """Bandwidth with a column in every burst and no row or refresh overhead."""
        return self.column_bytes / (self.clocks.nBL * self.timing.tCK_ns)

    @property
    def capture_stages(self) -> int:
        """Logic cycles from the tick that ends a burst until its beat can leave the read buffer."""
        return 1 if self.ecc == "none" else 2

    def commands(self, first_column: int, columns: int) -> int:
        """Column commands that move ``columns`` data columns of one row, check columns included."""
        if self.ecc != "inline" or columns == 0:
            return columns
        return columns + (first_column + columns - 1) // ECC_GROUP - first_column // ECC_GROUP + 1

    def row_clocks(self, columns: int) -> int:
        """DRAM clocks from the activation of a row to the next, ``columns`` data columns read from column 0."""
        c = self.clocks
        last = c.nRCD + (self.commands(0, columns) - 1) * c.nBL
        return max(max(c.nRAS, last + c.nRTP) + c.nRP, c.nRC)
