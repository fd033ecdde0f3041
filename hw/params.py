"""Sizes of the machine: what RTL is built to and what the models count.

Standard library only; RTL, models, compiler and reports all read these values here. Sources are named per
field: "paper" is ELMoE-3D (arXiv 2604.14626) read through a public summary, "chosen" is a decision of this
project where nothing is published.
"""

from dataclasses import dataclass, field

from hw.errors import UserError, nearest


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
    activation_bits  width of a signed activation (paper: 8)
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
            self.activation_bits == 8,
            "array activation_bits",
            "8 (the numeric contract)",
            self.activation_bits,
        )
        _require(self.slice_bits == 4, "array slice_bits", "4 (the numeric contract)", self.slice_bits)
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


@dataclass(frozen=True, kw_only=True)
class ChipParams:
    """One named configuration of the machine (``--chip``)."""

    name: str
    note: str
    pes: int
    array: ArrayParams = field()

    def __post_init__(self) -> None:
        _require(
            isinstance(self.pes, int) and 1 <= self.pes <= 256,
            "chip pes",
            "an integer from 1 to 256",
            self.pes,
        )


_PUBLISHED_ARRAY = ArrayParams(rows=16, columns=32, depth=32, dots_per_fp32=8, chains=8)

CHIPS: dict[str, ChipParams] = {
    chip.name: chip
    for chip in (
        ChipParams(
            name="tiny",
            note="smallest that exercises every mechanism; for simulation in CI",
            pes=2,
            array=ArrayParams(rows=4, columns=4, depth=8, dots_per_fp32=2, chains=4),
        ),
        ChipParams(
            name="fpga-small",
            note="fits an ECP5-85F",
            pes=1,
            array=ArrayParams(rows=2, columns=2, depth=8, dots_per_fp32=2, chains=4),
        ),
        ChipParams(name="4gb", note="published: 4 GiB HB, 16 PEs", pes=16, array=_PUBLISHED_ARRAY),
        ChipParams(name="8gb", note="published: 8 GiB HB, 32 PEs", pes=32, array=_PUBLISHED_ARRAY),
    )
}


def chip(name: str) -> ChipParams:
    """The preset called ``name``; raises UserError with the nearest known name."""
    if name not in CHIPS:
        raise UserError(f"unknown chip {name!r}; {nearest(name, list(CHIPS))}")
    return CHIPS[name]
