"""The named configurations of the machine."""

from dataclasses import dataclass, field, replace

from hw.errors import UserError, nearest
from hw.params.array import ArrayParams
from hw.params.axi import MEMORIES, AxiMasterParams
from hw.params.checks import is_power_of_two, require
from hw.params.hb import HbParams
from hw.params.pe import GROUP_FETCH_CYCLES, GROUP_WORDS, PeParams
from hw.params.routing import RoutingParams


@dataclass(frozen=True, kw_only=True)
class ChipParams:
    """One named configuration of the machine (``--chip``).

    memory  what a PE's bank is: "hb", or "axi": each PE has an AXI4 manager port of the sizes ``axi`` in place of the
            HB pins, for FPGAs with HBM. Programs and bits are the same, cycles are the memory's.
    """

    name: str
    note: str
    pes: int
    array: ArrayParams
    routing: RoutingParams
    hb: HbParams = field(default_factory=HbParams)
    pe: PeParams = field(default_factory=PeParams)
    memory: str = "hb"
    axi: AxiMasterParams = field(default_factory=AxiMasterParams)

    def __post_init__(self) -> None:
        require(
            isinstance(self.pes, int) and 1 <= self.pes <= 256,
            "chip pes",
            "an integer from 1 to 256",
            self.pes,
        )
        require(self.memory in MEMORIES, "chip memory", f"one of {', '.join(MEMORIES)}", self.memory)
        require(self.memory == "hb" or self.hb.ecc == "none", "HB ecc", "none behind AXI4", self.hb.ecc)
        array, pe = self.array, self.pe
        require(
            array.group_size == 32 and 32 % array.columns == 0,
            "array columns",
            "a divisor of the 32 inputs of a group",
            array.columns,
        )
        require(
            is_power_of_two(array.rows) and array.rows <= array.columns and 8 * array.rows % array.columns == 0,
            "array rows",
            f"a power of two, at most columns {array.columns} and at least an eighth of it",
            array.rows,
        )
        require(self.hb.data_bits == 32 * array.columns, "HB data_bits", f"{32 * array.columns}", self.hb.data_bits)
        require(array.beats <= GROUP_WORDS, "array depth", "8, 16 or 32 (a word or more a beat)", array.depth)
        least_fetch = max(array.add_stages + 2, GROUP_FETCH_CYCLES)
        require(pe.fetch >= least_fetch, "PE fetch", f"at least {least_fetch} (adder, words of a group)", pe.fetch)
        require(
            array.columns % pe.sigmoid_units == 0,
            "PE sigmoid_units",
            f"a divisor of columns {array.columns}",
            pe.sigmoid_units,
        )


# Qwen3-30B-A3B has the most of all three among the models of the paper.
_LARGEST_ROUTING = RoutingParams(experts=128, top_k=8, layers=48)
_SMALL_ROUTING = RoutingParams(experts=8, top_k=2, layers=2, counter_bits=4)
_PUBLISHED_ARRAY = ArrayParams(rows=16, columns=32, depth=32, dots_per_fp32=8, chains=8)
# Whole experts on one PE: 90 groups are K = 2880, 768 rows of VT hold 768 outputs of R = C tokens; the rest is small.
_SMALL_PE = PeParams(
    wh_words=64,
    wl_words=64,
    al_groups=128,
    av_groups=128,
    rt_rows=32,
    vt_rows=1024,
    lt_rows=32,
    xm_words=64,
    descriptors=64,
    queue_depth=4,
    watchdog_cycles=4096,
    sigmoid_units=2,
    vector_divide_stages=8,
)

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
            pe=_SMALL_PE,
        ),
        ChipParams(
            name="fpga-small",
            note="fits an ECP5-85F",
            pes=1,
            array=ArrayParams(rows=2, columns=2, depth=8, dots_per_fp32=2, chains=4),
            routing=_SMALL_ROUTING,
            hb=HbParams(data_bits=64, columns_per_row=16, rows=64, length_bits=10, tag_bits=4),
            pe=replace(_SMALL_PE, sigmoid_units=1),  # a unit is a tenth of the whole on an FPGA
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
