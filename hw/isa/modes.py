"""Weight modes and HB commands and errors. Standard library only."""

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


class HbCommand(IntEnum):
    """Commands on the pins of the HB bank, one per DRAM clock at most."""

    NOP = 0
    ACTIVATE = 1
    READ = 2
    WRITE = 3
    PRECHARGE = 4
    REFRESH = 5


class HbError(IntEnum):
    """Why the HB controller refused a transfer; a refused transfer moves no data and touches no bank.

    ZERO_LENGTH  no columns asked for
    BAD_COLUMN   the first column is none of the row's data columns
    BEYOND_BANK  the last column lies behind the last row
    UNALIGNED    a write with in-line ECC starts or ends inside a group of eight columns
    BUS          never from the controller: an AXI memory in its place answered a write with an error
    """

    NONE = 0
    ZERO_LENGTH = 1
    BAD_COLUMN = 2
    BEYOND_BANK = 3
    UNALIGNED = 4
    BUS = 5
