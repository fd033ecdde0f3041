"""A machine to simulate: one class for the proposed one, every baseline and a user's own; instances in `catalogue`.

Numbers that follow from bank timing or sizes are properties; every other number is a `Sourced`. A machine is either a
*processor* (``chip`` and ``lpddr``, perhaps with hybrid-bonded DRAM and units in the external memory), which the
whole-model engine times, or a *GPU* (``gpu``), which a roofline with stated efficiencies times.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum

from hw.errors import UserError, nearest
from hw.lpddr5_config import Lpddr5Config
from hw.params import ChipParams
from sw_stack.machines.near_memory import NearMemory
from sw_stack.machines.sourced import Sourced

METHODS = ("none", "elastic", "quant", "slm", "eagle")
"""Drafting methods, as `sw_stack.elastic.methods` names them."""
MAPPINGS = ("output-parallel", "split")
"""Parallel mappings. output-parallel: both slices of an output in the PE that holds its MSB tile, LSB tiles unicast.
split: HB tensor-parallel, LPDDR data-parallel, chains merged over the aggregation link."""


class HbUse(Enum):
    """What the hybrid-bonded DRAM holds of the routed experts; dense weights and KV lie there in either case."""

    NONE = "no HB"
    WHOLE_EXPERTS = "whole experts"
    MSB_SLICES = "MSB slices"


@dataclass(frozen=True, kw_only=True)
class Links:
    """On-die links.

    stream_gb_per_s       injection of LPDDR data towards the PEs; unicast, multicast, broadcast
    aggregation_gb_per_s  gathers activations, maxima and chains
    hop_ns                from a grant to the first byte at the PE
    """

    stream_gb_per_s: Sourced
    aggregation_gb_per_s: Sourced
    hop_ns: Sourced


@dataclass(frozen=True, kw_only=True)
class HostCosts:
    """Cost of HOST operations (embedding, norms, RoPE, attention core, router normalisation, sampling).

    attention_macs_per_ns  multiply-adds of scores and values, all sequences together; KV bytes cost bandwidth besides
    elements_per_ns        elements of elementwise and row operations
    command_ns             fixed cost of one operation
    """

    attention_macs_per_ns: Sourced
    elements_per_ns: Sourced
    command_ns: Sourced


@dataclass(frozen=True, kw_only=True)
class StaticPower:
    """Power that flows whatever the machine does, W: energy is this times the simulated time.

    Reports give a dynamic-only figure beside it, since none of these is published for such a machine.
    """

    logic_w: Sourced
    hb_w: Sourced
    lpddr_w: Sourced

    @property
    def parts(self) -> dict[str, Sourced]:
        """By component."""
        return {"logic": self.logic_w, "HB": self.hb_w, "LPDDR": self.lpddr_w}


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Roofline of a GPU.

    memory_gb             capacity, 1e9 bytes, as sold
    reserved_gb           of it not for weights and KV (context, workspace)
    gb_per_s              data-sheet bandwidth
    memory_efficiency     share of it that large copies reach
    int8_tops             dense peak, two operations per multiply-add
    compute_efficiency    share of it that grouped GEMMs of many tokens reach
    tile_tokens           tokens per expert up to which arithmetic costs the same: a tensor-core tile is that high
    kernel_us             launch and tail of one kernel, in a recorded graph
    kernels_per_layer     kernels of one decoder layer, fused as serving engines do
    board_w, idle_w       power limit, and what a loaded but idle context draws
    busy_share            share of the board power drawn while decoding
    """

    memory_gb: Sourced
    reserved_gb: Sourced
    gb_per_s: Sourced
    memory_efficiency: Sourced
    int8_tops: Sourced
    compute_efficiency: Sourced
    tile_tokens: Sourced
    kernel_us: Sourced
    kernels_per_layer: Sourced
    board_w: Sourced
    idle_w: Sourced
    busy_share: Sourced


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine.

    name, note   as ``--machine`` takes it, and what it is in a sentence
    chip         PEs and HB banks; None for a GPU. Machines with ``HbUse.NONE`` have the PEs, not the banks
    lpddr        external memory; None for a GPU
    hb_use       what HB holds of the experts
    near_memory  units in the external memory
    links, host, static  None for a GPU
    methods      drafting methods that it can run
    mappings     parallel mappings that the compiler may choose from
    gpu          roofline of a GPU; None otherwise
    energy       (entry, number) pairs put in place of `energy.ENTRIES`
    precision    of a GPU's weights, int8 or int4 (8.5 or 4.5 bits with scales); processors have their own numerics
    definition   the kind of source of the whole, and what stands behind it

    Raises UserError where the parts do not make one machine.
    """

    name: str
    note: str
    chip: ChipParams | None = None
    lpddr: Lpddr5Config | None = None
    hb_use: HbUse = HbUse.NONE
    near_memory: NearMemory | None = None
    links: Links | None = None
    host: HostCosts | None = None
    static: StaticPower | None = None
    methods: tuple[str, ...] = ("none",)
    mappings: tuple[str, ...] = ()
    gpu: Gpu | None = None
    energy: tuple[tuple[str, Sourced], ...] = ()
    precision: str = "int8"
    definition: str = "assumed"

    def __post_init__(self) -> None:
        parts = {"chip": self.chip, "lpddr": self.lpddr, "links": self.links, "host": self.host, "static": self.static}
        absent = [name for name, part in parts.items() if part is None]
        if self.gpu is None and absent:
            raise UserError(f"machine {self.name} must have {', '.join(absent)}")
        if self.gpu is not None and (len(absent) < len(parts) or self.near_memory or self.hb_use is not HbUse.NONE):
            raise UserError(f"machine {self.name} must be a GPU or a processor, not both")
        for kind, names, known in (("method", self.methods, METHODS), ("mapping", self.mappings, MAPPINGS)):
            for name in names:
                if name not in known:
                    raise UserError(f"machine {self.name}: unknown {kind} {name!r}; {nearest(name, list(known))}")
        if self.precision not in ("int8", "int4") or (self.precision == "int4" and self.gpu is None):
            raise UserError(f"machine {self.name} precision must be int8, or int4 on a GPU, not {self.precision!r}")
        if "none" not in self.methods:
            raise UserError(f"machine {self.name} methods must hold 'none': plain decoding is always legal")
        if "elastic" in self.methods and self.hb_use is not HbUse.MSB_SLICES:
            raise UserError(f"machine {self.name}: method elastic needs MSB slices in HB, not {self.hb_use.value}")
        if self.gpu is None and not self.mappings:
            raise UserError(f"machine {self.name} must have at least one mapping of {', '.join(MAPPINGS)}")
        if self.near_memory is not None:
            self.near_memory.check(self.lpddr)

    @property
    def numbers(self) -> dict[str, Sourced]:
        """Every number that is not derived, by its dotted name (``near_memory.ranks``)."""
        found: dict[str, Sourced] = {}
        for part in ("near_memory", "links", "host", "static", "gpu"):
            holder = getattr(self, part)
            if is_dataclass(holder):
                values = {f.name: getattr(holder, f.name) for f in fields(holder)}
                found |= {f"{part}.{name}": value for name, value in values.items() if isinstance(value, Sourced)}
        return found | {f"energy.{name}": value for name, value in self.energy}

    @property
    def is_gpu(self) -> bool:
        """Whether a roofline times it instead of the engine."""
        return self.gpu is not None

    @property
    def has_hb(self) -> bool:
        """Whether hybrid-bonded DRAM is on the die."""
        return self.hb_use is not HbUse.NONE

    @property
    def hb_capacity_bytes(self) -> int:
        """Bytes of hybrid-bonded DRAM, 0 without it."""
        return self.chip.pes * self.chip.hb.capacity_bytes if self.has_hb else 0

    @property
    def hb_gb_per_s(self) -> float:
        """Peak of all HB banks, 0 without it."""
        return self.chip.pes * self.chip.hb.peak_gb_per_s if self.has_hb else 0.0

    @property
    def lpddr_gb_per_s(self) -> float:
        """Peak of the external memory's data bus; raises for a GPU."""
        return self.lpddr.peak_gb_per_s

    @property
    def memory_bytes(self) -> int:
        """Where the model must fit: the external memory, or what a GPU leaves for weights and KV."""
        if self.gpu is not None:
            return int(1e9 * (self.gpu.memory_gb.value - self.gpu.reserved_gb.value))
        return self.lpddr.organization.capacity_bytes

    @property
    def slice_macs_per_ns(self) -> float:
        """Slice MACs of all PEs per nanosecond; a full INT8 product takes two."""
        return self.chip.pes * self.chip.array.slice_macs * self.chip.hb.logic_ghz
