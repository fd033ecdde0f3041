"""The whole-model engine: passes of one model on one machine, timed with DRAM command timing, counted, attributed.

DRAM state (refresh phase, when banks are free) is carried from pass to pass; nothing else is. No time
of a transfer, a layer or a pass is kept, only durations of a kind of product (`lowering.forget` drops them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cycle_model.counts import Counts
from cycle_model.hb.transfer import REFRESHES, ROWS, bank_shape, new_banks
from cycle_model.lpddr.extent import extent_timing
from hw.errors import UserError
from sw_stack.compiler.compile import Compiler
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier, is_product
from sw_stack.compiler.mapping import PER_PROJECTION
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.engine.lowering import Work, lower
from sw_stack.machines.engine.resources import FIELDS, NAMES, RESOURCES, Resource, critical_path
from sw_stack.machines.engine.schedule import run
from sw_stack.machines.engine.streams import Rates
from sw_stack.machines.engine.workload import Pass
from sw_stack.machines.machine import Machine
from sw_stack.models.architectures import ModelConfig


@dataclass(frozen=True, eq=False)
class PassResult:
    """One pass.

    start_ns, end_ns  on the engine's clock
    critical_ns   resource -> ns on the critical path; they sum to ``ns``
    busy_ns       resource -> ns of use (HB, array, vector unit: mean over PEs)
    counts        of all actions
    bytes_by      memory -> bytes read and written
    dispatch, acts, work  the stream and its activities, for timelines
    dispatch, acts, work  the stream and its activities, for timelines
    """

    start_ns: float
    end_ns: float
    critical_ns: dict[str, float]
    busy_ns: dict[str, float]
    counts: Counts
    bytes_by: dict[str, float]
    dispatch: Dispatch
    acts: np.ndarray = field(repr=False)
    work: Work = field(repr=False)

    @property
    def ns(self) -> float:
        """Duration."""
        return self.end_ns - self.start_ns

    @property
    def slice_macs(self) -> float:
        """4-bit by 8-bit multiply-adds; a product in the memory counts two for each of its INT8 ones."""
        c = self.counts
        return c.array_macs_full + c.array_macs_draft + c.array_macs_mxfp4 + 2 * c.near_memory_macs


class Engine:
    """Times passes of ``config`` on ``machine``.

    Parameters
    ----------
    machine : a processor (GPUs have a roofline of their own)
    config : the model
    share : of HB between dense weights, KV and experts; None = enough room for all KV
    mapping : parallel mapping of all projections; None = of the machine's legal ones the faster for each projection

    Attributes
    ----------
    mapping_ns : time under every mapping of the first pass in which they differ
    """

    def __init__(
        self, machine: Machine, config: ModelConfig, share: HbShare | None = None, mapping: str | None = None
    ) -> None:
        if machine.is_gpu:
            raise UserError(f"machine {machine.name} is a GPU, which a roofline times, not the engine")
        self.machine, self.config = machine, config
        self.compiler = Compiler(machine, config, share, mapping)
        self.mapping_ns: dict[str, float] = {}
        self.clock_ns = 0.0
        self.lpddr = extent_timing(machine.lpddr)
        hb = machine.chip.hb
        self._banks = new_banks(machine.chip.pes)
        self._shape = bank_shape(hb)
        links, lpddr = machine.links, machine.lpddr.timing.clocks
        self._rates = Rates(
            machine.chip.pes,
            self.lpddr.ns_per_byte,
            self.lpddr.switch_ns,
            self.lpddr.first_ns,
            (lpddr.read_to_write + lpddr.write_to_read_l) * machine.lpddr.timing.tCK_ns,
            1 / links.stream_gb_per_s.value,
            1 / links.aggregation_gb_per_s.value,
            links.hop_ns.value,
            hb.column_bytes,
            1 / hb.logic_ghz,
            machine.near_memory is not None and machine.near_memory.blocks_external,
        )

    @property
    def mapping(self) -> str:
        """How the compiler maps projections: one mapping for all, or per projection."""
        return self.compiler.mapping

    def run(self, one: Pass, scale: dict[Resource, float] | None = None) -> PassResult:
        """Time ``one`` from now on. ``scale``: factors on the durations of resources, for slack studies."""
        return self.replay(self.compiler.compile(one).dispatch, scale)

    def replay(self, dispatch: Dispatch, scale: dict[Resource, float] | None = None) -> PassResult:
        """Time a stream from now on: one just compiled, recorded, or executed by the compiled runtime."""
        if not self.mapping_ns and self.mapping == PER_PROJECTION:
            self._compare_mappings(dispatch)
        return self._time(dispatch, scale, self._banks)

    def _compare_mappings(self, dispatch: Dispatch) -> None:
        r = dispatch.records
        if not ((r["msb_tier"] == Tier.LPDDR) | (r["lsb_tier"] == Tier.LPDDR)).any():
            return
        clock = self.clock_ns
        for mapping in (*self.machine.mappings, PER_PROJECTION):
            remapped = self.compiler.remapped(dispatch, mapping)
            self.mapping_ns[mapping] = self._time(remapped, None, self._banks.copy()).ns
            self.clock_ns = clock

    def _time(self, dispatch: Dispatch, scale: dict | None, banks: np.ndarray) -> PassResult:
        work = lower(dispatch, self.machine)
        factors = np.ones(RESOURCES)
        for resource, factor in (scale or {}).items():
            factors[resource] = factor
        acts = np.empty((len(dispatch), RESOURCES, FIELDS))
        busy, near = np.zeros(RESOURCES), np.zeros(len(dispatch), np.bool_)
        before = banks[:, (REFRESHES, ROWS)].sum(axis=0)
        start = self.clock_ns
        end = run(
            dispatch.records,
            tuple(vars(work).values()),
            self._rates,
            self.machine.chip.hb.clocks,
            self._shape,
            banks,
            factors,
            start,
            acts,
            busy,
            near,
        )
        self.clock_ns = end
        after = banks[:, (REFRESHES, ROWS)].sum(axis=0)
        spent = critical_path(acts, start, end)
        counts = self._counts(dispatch, work, near, busy, end - start, *(after - before))
        return PassResult(
            start,
            end,
            _by_name(spent),
            _by_name(busy),
            counts,
            self._bytes(dispatch, work, near),
            dispatch,
            acts,
            work,
        )

    def _bytes(self, dispatch: Dispatch, work: Work, near: np.ndarray) -> dict[str, float]:
        r = dispatch.records
        far = work.lpddr_bytes[~near].sum() + work.near_bus_bytes[near].sum() + r["lpddr_written"].sum()
        found = {"LPDDR": float(far)}
        if self.machine.has_hb:
            found["HB"] = float(work.hb_bytes.sum() + r["hb_written"].sum())
        if self.machine.near_memory is not None:
            found["near memory"] = float(work.near_bytes[near].sum())
        return found

    def _counts(
        self,
        dispatch: Dispatch,
        work: Work,
        near: np.ndarray,
        busy: np.ndarray,
        ns: float,
        refreshes: int,
        activates: int,
    ) -> Counts:
        r, chip, lpddr = dispatch.records, self.machine.chip, self.machine.lpddr
        product = is_product(r) & ~near
        refill = r["kernel"] == Kernel.REFILL
        tokens, macs = r["tokens"].astype(np.int64), r["outputs"].astype(np.int64) * r["inputs"]
        here = np.where(product, tokens * macs, 0)
        slices = np.where(r["precision"] == Precision.FULL, 2, 1)
        group, column = chip.array.group_size, chip.hb.column_bytes
        groups = int((here * slices).sum()) // group
        results = int((np.where(product, tokens * r["outputs"], 0)).sum())
        activated = product & (r["activated"] == 1)
        weights = work.hb_bytes * product + work.lpddr_bytes * product
        hb_read = int(np.ceil(work.hb_bytes[~refill] / column).sum())
        hb_write = int(np.ceil(work.hb_bytes[refill] / column).sum() + np.ceil(r["hb_written"] / column).sum())
        far = float(work.lpddr_bytes[~near].sum() + work.near_bus_bytes[near].sum())
        far_written = float(r["lpddr_written"].sum())
        org = lpddr.organization
        per_round = org.banks // 2
        delivered = float(work.lpddr_bytes[~near].sum())
        # Activations are read once per output tile; results are written, read by the vector unit and written again.
        tiles = -(-r["outputs"].astype(np.int64) // chip.array.columns)
        activations = np.where(product, tokens * r["inputs"] * tiles * slices, 0).sum()
        return Counts(
            hb_activates=int(activates),
            hb_precharges=int(activates),
            hb_refreshes=int(refreshes) if self.machine.has_hb else 0,
            hb_reads=hb_read,
            hb_writes=hb_write,
            hb_read_bytes=hb_read * column,
            hb_write_bytes=hb_write * column,
            hb_transfers=int((work.hb_bytes > 0).sum() + (r["hb_written"] > 0).sum()),
            lpddr_activates=int((far + far_written) / org.row_bytes),
            lpddr_precharges=int((far + far_written) / org.row_bytes),
            lpddr_reads=int(far / org.burst_bytes),
            lpddr_writes=int(far_written / org.burst_bytes),
            lpddr_read_bytes=int(far),
            lpddr_write_bytes=int(far_written),
            lpddr_refreshes_per_bank=int(ns / lpddr.timing.tREFI_ns * per_round * org.ranks * org.channels),
            array_macs_full=int(here[(r["precision"] == Precision.FULL) & product].sum()) * 2,
            array_macs_draft=int(here[(r["precision"] == Precision.DRAFT) & product].sum()),
            array_macs_mxfp4=int(here[(r["precision"] == Precision.MXFP4) & product].sum()),
            array_scale_products=groups,
            array_chain_adds=groups,
            array_busy_cycles=int(busy[Resource.ARRAY] * chip.pes * chip.hb.logic_ghz),
            sram_read_bytes=int(weights.sum() + activations + 12 * results),
            sram_write_bytes=int(weights.sum() + work.in_bytes.sum() * chip.pes + 8 * results),
            vector_operations=3 * results + 6 * int((np.where(activated, tokens * r["outputs"], 0)).sum()),
            vector_busy_cycles=int(busy[Resource.VECTOR] * chip.pes * chip.hb.logic_ghz),
            stream_link_bytes=int(delivered),
            stream_link_delivered_bytes=int(delivered),
            aggregation_link_bytes=int(work.in_bytes.sum() + work.out_bytes.sum()),
            stream_link_busy_cycles=int(busy[Resource.STREAM_LINK] * chip.hb.logic_ghz),
            aggregation_link_busy_cycles=int(busy[Resource.AGGREGATION_LINK] * chip.hb.logic_ghz),
            host_attention_macs=int(r["macs"].sum()),
            host_elements=int(r["elements"].sum()),
            host_commands=int(((r["kernel"] == Kernel.HOST) | (r["kernel"] == Kernel.ATTENTION)).sum()),
            near_memory_read_bytes=int(work.near_bytes[near].sum()),
            near_memory_macs=int((tokens * macs)[near].sum()),
        )


def _by_name(values: np.ndarray) -> dict[str, float]:
    """Sums under the names of `NAMES`, resources without any left out."""
    found: dict[str, float] = {}
    for resource, name in NAMES.items():
        if values[resource]:
            found[name] = found.get(name, 0.0) + float(values[resource])
    return found
