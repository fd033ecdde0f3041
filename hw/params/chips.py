"""The named configurations of the machine."""

from dataclasses import dataclass, field

from hw.errors import UserError, nearest
from hw.params.array import ArrayParams
from hw.params.checks import require
from hw.params.hb import HbParams
from hw.params.routing import RoutingParams


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
        require(
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
