"""Sizes of the machine: what RTL is built to and what the models count.

Standard library only; RTL, models, compiler and reports all read these values here. Sources are named per
field: "paper" is ELMoE-3D (arXiv 2604.14626) read through a public summary, "chosen" is a decision of this
project where nothing is published.
"""

from dataclasses import dataclass, field

from hw.errors import UserError, nearest
from hw.timing import MAX_POSTPONED, HbClocks, HbTiming, hb_timing


def _require(condition: bool, thing: str, rule: str, value: object) -> None:
    if not condition:
        raise UserError(f"{thing} must be {rule}, not {value!r}")


def _is_power_of_two(value: int) -> bool:
    return isinstance(value, int) and value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class ArrayParams:
    """The bit-sliced PE array: rows x columns dot units, each ``depth`` slice MACs deep.

    rows             tokens computed at once (paper: 16)
    columns          outputs computed at once (paper: 32)
    depth            slice MACs per dot unit, inputs consumed per beat (paper: 32)
    group_size       consecutive inputs that share one weight scale (paper: 32); a multiple of ``depth``
    activation_bits  width of a signed activation (paper: 8, as the numeric contract says; fewer bits make a smaller
                     array with the same exact sums)
    slice_bits       stored bits per weight slice (paper: 4); the multiplier operand is one bit wider
    dots_per_fp32    dot units (rows of one column) that take turns on one FP32 unit (chosen: 8 keeps up with
                     the HB stream at 16 tokens, 1 sustains the array's peak)
    chains           FP32 chains held per dot unit, so that independent chains can interleave (chosen)
    tree_levels_per_stage  adder-tree levels between two registers of a dot unit (chosen, for 1 GHz)
    scale_stages     registers of the integer x scale multiplier, 1 to 3 (chosen)
    add_stages       registers of the FP32 adder, 1 to 5 (chosen)
    """

    rows: int
    columns: int
    depth: int
    group_size: int = 32
    activation_bits: int = 8
    slice_bits: int = 4
    dots_per_fp32: int = 1
    chains: int = 8
    tree_levels_per_stage: int = 2
    scale_stages: int = 3
    add_stages: int = 5

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            value = getattr(self, name)
            _require(isinstance(value, int) and 1 <= value <= 64, f"array {name}", "an integer from 1 to 64", value)
        for name in ("depth", "group_size"):
            value = getattr(self, name)
            _require(
                _is_power_of_two(value) and 2 <= value <= 64,
                f"array {name}",
                "a power of two from 2 to 64",
                value,
            )
        _require(
            self.group_size % self.depth == 0,
            "array group_size",
            f"a multiple of depth {self.depth}",
            self.group_size,
        )
        _require(
            isinstance(self.activation_bits, int) and 2 <= self.activation_bits <= 8,
            "array activation_bits",
            "an integer from 2 to 8",
            self.activation_bits,
        )
        _require(self.slice_bits == 4, "array slice_bits", "4 (half an INT8 weight, one E2M1 code)", self.slice_bits)
        _require(
            isinstance(self.dots_per_fp32, int) and self.dots_per_fp32 >= 1 and self.rows % self.dots_per_fp32 == 0,
            "array dots_per_fp32",
            f"a divisor of rows {self.rows}",
            self.dots_per_fp32,
        )
        _require(
            isinstance(self.chains, int) and 1 <= self.chains <= 64,
            "array chains",
            "an integer from 1 to 64",
            self.chains,
        )
        for name, last in (("tree_levels_per_stage", 6), ("scale_stages", 3), ("add_stages", 5)):
            value = getattr(self, name)
            _require(isinstance(value, int) and 1 <= value <= last, f"array {name}", f"1 to {last}", value)

    @property
    def beats(self) -> int:
        """Beats that make one group: group_size / depth."""
        return self.group_size // self.depth

    @property
    def operand_bits(self) -> int:
        """Signed multiplier operand: the slice and the augmentation bit."""
        return self.slice_bits + 1

    @property
    def product_bits(self) -> int:
        """Signed slice product; -16 x -128 = 2048 needs all of them."""
        return self.operand_bits + self.activation_bits

    @property
    def dot_bits(self) -> int:
        """Signed sum of ``depth`` products, never overflowing."""
        return self.product_bits + (self.depth - 1).bit_length()

    @property
    def group_bits(self) -> int:
        """Signed sum of ``group_size`` products, never overflowing."""
        return self.product_bits + (self.group_size - 1).bit_length()

    @property
    def slice_macs(self) -> int:
        """Slice MACs of the array."""
        return self.rows * self.columns * self.depth

    @property
    def fp32_units_per_column(self) -> int:
        """FP32 units serving one column's dot units."""
        return self.rows // self.dots_per_fp32


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
            _require(
                isinstance(value, int) and least <= value <= most,
                f"HB {name}",
                f"an integer from {least} to {most}",
                value,
            )
        _require(
            _is_power_of_two(self.data_bits) and 64 <= self.data_bits <= 1024,
            "HB data_bits",
            "a power of two from 64 to 1024",
            self.data_bits,
        )
        _require(
            _is_power_of_two(self.columns_per_row) and 2 <= self.columns_per_row <= 4096,
            "HB columns_per_row",
            "a power of two from 2 to 4096",
            self.columns_per_row,
        )
        _require(self.ecc in ECC_MODES, "HB ecc", f"one of {', '.join(ECC_MODES)}", self.ecc)
        _require(self.data_columns >= 1, "HB columns_per_row", "at least 9 with in-line ECC", self.columns_per_row)
        _require(0.01 <= self.logic_ghz <= 10, "HB logic_ghz", "0.01 to 10", self.logic_ghz)
        due = -(-self.row_clocks(self.data_columns) // self.clocks.nREFI)
        _require(
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


@dataclass(frozen=True, kw_only=True)
class RoutingParams:
    """Expert selection and hotness counting.

    experts       routed experts per layer, at most
    top_k         experts per token, at most
    layers        MoE layers with counters of their own, at most
    counter_bits  width of a saturating hotness counter (chosen: a count per drafted token and layer stays below
                  2^16 for 64 sequences and 1,000 drafted tokens each)
    """

    experts: int
    top_k: int
    layers: int
    counter_bits: int = 16

    def __post_init__(self) -> None:
        for name, last in (("experts", 1024), ("layers", 256), ("counter_bits", 32)):
            value = getattr(self, name)
            _require(
                isinstance(value, int) and 1 <= value <= last, f"routing {name}", f"an integer from 1 to {last}", value
            )
        _require(
            isinstance(self.top_k, int) and 1 <= self.top_k <= min(self.experts, 64),
            "routing top_k",
            f"an integer from 1 to {min(self.experts, 64)}",
            self.top_k,
        )


@dataclass(frozen=True, kw_only=True)
class ChipParams:
    """One named configuration of the machine (``--chip``)."""

    name: str
    note: str
    pes: int
    array: ArrayParams
    routing: RoutingParams
    hb: HbParams = field(default_factory=HbParams)

    def __post_init__(self) -> None:
        _require(
            isinstance(self.pes, int) and 1 <= self.pes <= 256,
            "chip pes",
            "an integer from 1 to 256",
            self.pes,
        )


# Qwen3-30B-A3B has the most of all three among the models of the paper.
_LARGEST_ROUTING = RoutingParams(experts=128, top_k=8, layers=48)
_SMALL_ROUTING = RoutingParams(experts=8, top_k=2, layers=2, counter_bits=4)
_PUBLISHED_ARRAY = ArrayParams(rows=16, columns=32, depth=32, dots_per_fp32=8, chains=8)

CHIPS: dict[str, ChipParams] = {
    chip.name: chip
    for chip in (
        ChipParams(
            name="tiny",
            note="smallest with every mechanism, for simulation",
            pes=2,
            array=ArrayParams(rows=4, columns=4, depth=8, dots_per_fp32=2, chains=4),
            routing=_SMALL_ROUTING,
            hb=HbParams(data_bits=128, columns_per_row=16, rows=64, length_bits=10),
        ),
        ChipParams(
            name="fpga-small",
            note="fits an ECP5-85F",
            pes=1,
            array=ArrayParams(rows=2, columns=2, depth=8, dots_per_fp32=2, chains=4),
            routing=_SMALL_ROUTING,
            hb=HbParams(data_bits=64, columns_per_row=16, rows=64, length_bits=10, tag_bits=4),
        ),
        ChipParams(
            name="4gb", note="published: 4 GiB HB, 16 PEs", pes=16, array=_PUBLISHED_ARRAY, routing=_LARGEST_ROUTING
        ),
        ChipParams(
            name="8gb", note="published: 8 GiB HB, 32 PEs", pes=32, array=_PUBLISHED_ARRAY, routing=_LARGEST_ROUTING
        ),
    )
}


def chip(name: str) -> ChipParams:
    """The preset called ``name``; raises UserError with the nearest known name."""
    if name not in CHIPS:
        raise UserError(f"unknown chip {name!r}; {nearest(name, list(CHIPS))}")
    return CHIPS[name]
