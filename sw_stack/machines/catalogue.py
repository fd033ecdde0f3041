"""The machines by name, with the source of every number.

Sources in short: *ELMoE-3D* arXiv 2604.14626, read through a public summary; *Duplex-sim* and *AttAcc-sim* the
simulators of the authors of the MICRO 2024 and ASPLOS 2024 papers; *H2-LLM* the ISCA 2025 artifact; *JESD209-5B*
through Ramulator 2. Every processor has the same PEs (the larger published die, so that no baseline lacks arithmetic),
the same links and the same 64 GiB of LPDDR5-6400; they differ in HB, in units in the memory and in what is legal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hw.errors import UserError, nearest
from hw.lpddr5_config import Lpddr5Config
from hw.params import chip
from sw_stack.machines.gpu_catalogue import GPUS
from sw_stack.machines.machine import MAPPINGS, HbUse, HostCosts, Links, Machine, StaticPower
from sw_stack.machines.near_memory import NearMemory, UnitLevel
from sw_stack.machines.sourced import Sourced

_ELMOE = "ELMoE-3D, arXiv 2604.14626, public summary"
_DUPLEX = "Duplex-sim (MICRO 2024 authors)"
_H2 = "H2-LLM artifact (ISCA 2025)"
_JEDEC = "JESD209-5B through Ramulator 2"

_LINKS = Links(
    stream_gb_per_s=Sourced(128, "GB/s", "second-hand", _ELMOE),
    aggregation_gb_per_s=Sourced(32, "GB/s", "second-hand", _ELMOE),
    hop_ns=Sourced(10, "ns", "assumed", "a few registered hops over a 40 mm2 die", 4, 40),
)


def _host(pes: int) -> HostCosts:
    return HostCosts(
        attention_macs_per_ns=Sourced(
            64 * pes,
            "MAC/ns",
            "assumed",
            "64 FP32 lanes per PE, as many as its array has FP32 units",
            16 * pes,
            256 * pes,
        ),
        elements_per_ns=Sourced(
            16 * pes, "element/ns", "assumed", "16 FP32 elements per PE and cycle", 4 * pes, 64 * pes
        ),
        command_ns=Sourced(100, "ns", "assumed", "hand-over between sequencer and host, per operation", 20, 1000),
    )


def _static(pes: int, hb_gib: float) -> StaticPower:
    logic = "0.85 mW leakage per PE array at 25 C (ASAP7 synthesis), memories, clock tree and heat on top"
    hb = "nothing citable; 0.1 W per GiB, a stacked DRAM at idle"
    return StaticPower(
        logic_w=Sourced(pes / 32, "W", "assumed", logic, pes / 160, pes / 8),
        hb_w=Sourced(hb_gib / 10, "W", "assumed", hb, hb_gib / 40, hb_gib / 4)
        if hb_gib
        else Sourced(0, "W", "derived", "there is no HB"),
        lpddr_w=Sourced(0.5, "W", "assumed", "nothing citable; 32 dies at some 15 mW", 0.2, 1.5),
    )


_MAC_PJ = Sourced(0.46, "pJ/MAC", "paper", _DUPLEX)
_POWER_LIMIT = Sourced(
    16, "W", "assumed", "does not bind at nominal; AttAcc-sim's ratio (9x of 16x) would be about 4.4 W here", 4.4, 32
)
_RANKS = "chosen: two of four ranks compute at once"

_BANK_PIM = NearMemory(
    level=UnitLevel.BANK,
    channels=8,
    ranks=Sourced(2, "ranks", "assumed", f"{_RANKS}: 16x the external peak, HBM's ratio; sweep 1 to 4", 1, 4),
    access_bytes=Sourced(32, "B", "standard", f"{_JEDEC}: BL16 on x16"),
    row_bytes=Sourced(2048, "B", "standard", f"{_JEDEC}: 2 KB page"),
    macs_per_byte=Sourced(1, "MAC/B", "paper", f"{_DUPLEX}: bank PIM 1 op/B, doubled where weights are 1 byte"),
    blocks_external=True,
    input_bytes=Sourced(2048, "B", "assumed", "one row of a global buffer, as published for in-DRAM GEMV parts"),
    read_pj_per_bit=Sourced(0.81, "pJ/bit", "assumed", f"{_DUPLEX}: 0.73 of 3.48 scaled to 3.88 external", 0.55, 1.5),
    mac_pj=_MAC_PJ,
    power_limit_w=_POWER_LIMIT,
)
_LOGIC_PIM = NearMemory(
    level=UnitLevel.BANK_GROUP,
    channels=8,
    ranks=Sourced(2, "ranks", "assumed", f"{_RANKS}: 4x the external peak, as Logic-PIM has", 1, 4),
    access_bytes=Sourced(32, "B", "standard", f"{_JEDEC}: BL16 on x16"),
    row_bytes=Sourced(2048, "B", "standard", f"{_JEDEC}: 2 KB page"),
    macs_per_byte=Sourced(8, "MAC/B", "paper", f"{_DUPLEX}: 8 op/B, doubled where weights are 1 byte"),
    blocks_external=False,
    input_bytes=Sourced(65536, "B", "assumed", "32 rows of 2,048 INT8 values", 16384, 262144),
    read_pj_per_bit=Sourced(2.02, "pJ/bit", "assumed", f"{_DUPLEX}: 1.81 of 3.48 scaled to 3.88 external", 1.56, 3.29),
    mac_pj=_MAC_PJ,
    power_limit_w=_POWER_LIMIT,
)
_NMP = NearMemory(
    level=UnitLevel.BANK,
    channels=6,
    ranks=Sourced(1, "ranks", "paper", f"{_H2}: 16 banks per channel"),
    access_bytes=Sourced(128, "B", "paper", f"{_H2}: 25.6 GB/s per bank, at the bank's column time of 5 ns"),
    row_bytes=Sourced(8192, "B", "assumed", "64 accesses per row, as in the external part", 2048, 16384),
    macs_per_byte=Sourced(3, "MAC/B", "paper", f"{_H2}: 8 x 16 MACs at 600 MHz per 25.6 GB/s"),
    blocks_external=True,
    input_bytes=Sourced(32768, "B", "paper", f"{_H2}: 32 KB input buffer per PE"),
    read_pj_per_bit=Sourced(0.81, "pJ/bit", "assumed", "as bank PIM: bank to a unit beside it", 0.43, 1.5),
    mac_pj=_MAC_PJ,
    power_limit_w=Sourced(32, "W", "assumed", "does not bind at nominal", 4.4, 64),
)

_ANY_DRAFT = ("none", "quant", "slm", "eagle")


def _processor(
    name: str,
    note: str,
    chip_name: str = "8gb",
    hb_use: HbUse = HbUse.NONE,
    near_memory: NearMemory | None = None,
    definition: str = "assumed",
) -> Machine:
    sizes = chip(chip_name)
    has_hb = hb_use is not HbUse.NONE
    hb_gib = sizes.pes * sizes.hb.capacity_bytes / 2**30 if has_hb else 0
    return Machine(
        name=name,
        note=note,
        chip=sizes,
        lpddr=Lpddr5Config(),
        hb_use=hb_use,
        near_memory=near_memory,
        links=_LINKS,
        host=_host(sizes.pes),
        static=_static(sizes.pes, hb_gib),
        methods=("none", "elastic", *_ANY_DRAFT[1:]) if hb_use is HbUse.MSB_SLICES else _ANY_DRAFT,
        mappings=MAPPINGS if has_hb else MAPPINGS[:1],
        definition=definition,
    )


@cache
def machines() -> dict[str, Machine]:
    """All presets by name."""
    processors = [
        _processor(
            f"elmoe3d-{size}",
            f"proposed: {size[0]} GiB HB with MSB slices of hot experts, self-drafting",
            size,
            HbUse.MSB_SLICES,
            definition=f"second-hand: {_ELMOE}",
        )
        for size in ("4gb", "8gb")
    ] + [
        _processor(
            f"hb-xpu-{size}",
            f"the same {size[0]} GiB HB as a plain cache of whole INT8 experts",
            size,
            HbUse.WHOLE_EXPERTS,
            definition="assumed: from its name in the paper",
        )
        for size in ("4gb", "8gb")
    ]
    processors += [
        _processor("xpu", "same PEs, LPDDR5 only", definition=f"second-hand: {_ELMOE}"),
        _processor(
            "xpu-pim",
            "xpu with a unit per DRAM bank",
            near_memory=_BANK_PIM,
            definition=f"derived: {_DUPLEX} and AttAcc-sim, carried to LPDDR5 timing",
        ),
        _processor(
            "xpu-logicpim",
            "xpu with units on a logic die under the DRAM, one per bank group (Duplex style)",
            near_memory=_LOGIC_PIM,
            definition=f"derived: {_DUPLEX}, carried to LPDDR5 timing",
        ),
        _processor(
            "xpu-nmp",
            "xpu with PEs bonded to the banks of 6 of 8 channels (H2-LLM style)",
            near_memory=_NMP,
            definition=f"assumed: the paper's xPU-NMP was not found, {_H2} stands in",
        ),
    ]
    gpus = [
        Machine(name=name, note=note, gpu=gpu, methods=_ANY_DRAFT, definition="datasheet, efficiencies assumed")
        for name, (note, gpu) in GPUS.items()
    ]
    return {machine.name: machine for machine in (*processors, *gpus)}


FOUR_BIT = "-int4"


def four_bit(gpu: Machine) -> Machine:
    """The GPU with weights in 4 bits: a row beside those of equal numerics, named with `FOUR_BIT` behind."""
    return replace(
        gpu,
        name=gpu.name + FOUR_BIT,
        note=f"{gpu.note}, 4-bit weights: other numerics",
        precision="int4",
        methods=tuple(method for method in gpu.methods if method != "quant"),  # it is its own 4-bit copy
    )


def machine(name: str) -> Machine:
    """The preset called ``name``, or ``GPU-int4``; raises UserError with the nearest known name."""
    if name.endswith(FOUR_BIT) and name.removesuffix(FOUR_BIT) in GPUS:
        return four_bit(machines()[name.removesuffix(FOUR_BIT)])
    if name not in machines():
        raise UserError(f"unknown machine {name!r}; {nearest(name, list(machines()))}")
    return machines()[name]
