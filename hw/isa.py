"""Encodings shared by RTL, models, assembler and compiler. Standard library only."""

from enum import IntEnum


class WeightMode(IntEnum):
    """How a stored 4-bit weight code becomes a multiplier operand and what its dot product weighs.

    MSB    full-precision upper slice: code h (signed) -> {h, 0} = 2h, dot product x 8
    LSB    full-precision lower slice: code l (unsigned) -> {0, l} = l, dot product x 1
    DRAFT  LSB-augmented upper slice: code h (signed) -> {h, 1} = 2h + 1, dot product x 8
    MXFP4  E2M1 code -> 2 x its value, an integer in [-12, 12], dot product x 1, scale E8M0 with the 1/2 folded in
    """

    MSB = 0
    LSB = 1
    DRAFT = 2
    MXFP4 = 3

    @property
    def dot_shift(self) -> int:
        """log2 of the factor on the dot product (0 or 3)."""
        return 3 if self in (WeightMode.MSB, WeightMode.DRAFT) else 0
