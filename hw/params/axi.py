"""Sizes of a PE's AXI4 port to a memory that stands in place of its HB bank."""

from dataclasses import dataclass

from hw.params.checks import require

MEMORIES = ("hb", "axi")
"""What a PE's bank can be: an HB bank behind its controller's pins, or a memory behind AXI4."""


@dataclass(frozen=True, kw_only=True)
class AxiMasterParams:
    """The AXI4 manager port of a PE with ``ChipParams.memory`` "axi": one pseudo-channel of an FPGA's HBM, its own.

    Data are as wide as an HB column.

    address_bits  of a byte's address (chosen: 34, twice the 8 GiB that such FPGAs carry)
    id_bits       width of the identifiers; all are 0 (chosen: 1)
    burst_beats   longest burst (standard: 16, the most that AXI3 memories such as HBM take)
    """

    address_bits: int = 34
    id_bits: int = 1
    burst_beats: int = 16

    def __post_init__(self) -> None:
        for name, least, most in (("address_bits", 16, 44), ("id_bits", 1, 16), ("burst_beats", 1, 256)):
            value = getattr(self, name)
            require(
                isinstance(value, int) and least <= value <= most,
                f"AXI {name}",
                f"an integer from {least} to {most}",
                value,
            )
