"""Sizes of the bit-sliced PE array."""

from dataclasses import dataclass

from hw.params.checks import is_power_of_two, require


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
            require(isinstance(value, int) and 1 <= value <= 64, f"array {name}", "an integer from 1 to 64", value)
        for name in ("depth", "group_size"):
            value = getattr(self, name)
            require(
                is_power_of_two(value) and 2 <= value <= 64,
                f"array {name}",
                "a power of two from 2 to 64",
                value,
            )
        require(
            self.group_size % self.depth == 0,
            "array group_size",
            f"a multiple of depth {self.depth}",
            self.group_size,
        )
        require(
            isinstance(self.activation_bits, int) and 2 <= self.activation_bits <= 8,
            "array activation_bits",
            "an integer from 2 to 8",
            self.activation_bits,
        )
        require(self.slice_bits == 4, "array slice_bits", "4 (half an INT8 weight, one E2M1 code)", self.slice_bits)
        require(
            isinstance(self.dots_per_fp32, int) and self.dots_per_fp32 >= 1 and self.rows % self.dots_per_fp32 == 0,
            "array dots_per_fp32",
            f"a divisor of rows {self.rows}",
            self.dots_per_fp32,
        )
        require(
            isinstance(self.chains, int) and 1 <= self.chains <= 64,
            "array chains",
            "an integer from 1 to 64",
            self.chains,
        )
        for name, last in (("tree_levels_per_stage", 6), ("scale_stages", 3), ("add_stages", 5)):
            value = getattr(self, name)
            require(isinstance(value, int) and 1 <= value <= last, f"array {name}", f"1 to {last}", value)

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
