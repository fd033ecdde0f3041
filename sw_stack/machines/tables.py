"""What the machines are, as rows of text: for the command line and for the documents, which a test compares."""

from __future__ import annotations

from hw.params import chip
from sw_stack.machines.area import die_area
from sw_stack.machines.catalogue import machines
from sw_stack.machines.energy_entries import ENTRIES
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import Sourced
from sw_stack.workloads.datasets import EAGLE_LENGTHS, chain_acceptance

PROCESSOR_COLUMNS = ("machine", "HB GiB", "GB/s", "DRAM GiB", "GB/s", "near memory GB/s", "MAC/ns", "PEs", "what")
GPU_COLUMNS = ("GPU", "GB", "GB/s", "x copy", "INT8 TOPS", "x GEMM", "board W", "idle W", "what")
NUMBER_COLUMNS = ("machine", "number", "value (band)", "kind", "source")
LENGTH_COLUMNS = ("model", "dataset", "tokens per round", "drafted", "per token", "kind", "source")
AREA_COLUMNS = ("part", "4gb mm2", "8gb mm2")
ENERGY_COLUMNS = ("entry", "component", "value (band)", "kind", "source")


def processor_row(machine: Machine) -> tuple[str, ...]:
    """One processor in the order of `PROCESSOR_COLUMNS`."""
    hb = (f"{machine.hb_capacity_bytes / 2**30:g}", f"{machine.hb_gb_per_s:g}") if machine.has_hb else ("-", "-")
    near = ("-", "-")
    if machine.near_memory is not None:
        unit, lpddr = machine.near_memory, machine.lpddr
        rates = f"{unit.peak_gb_per_s(lpddr):,.1f}, sustained {unit.sustained_gb_per_s(lpddr):,.1f}"
        near = (rates, f"{unit.macs_per_ns(lpddr):,.0f}")
    external = (f"{machine.lpddr.organization.capacity_bytes / 2**30:g}", f"{machine.lpddr_gb_per_s:g}")
    return (machine.name, *hb, *external, *near, str(machine.chip.pes), machine.note)


def gpu_row(machine: Machine) -> tuple[str, ...]:
    """One GPU in the order of `GPU_COLUMNS`."""
    g = machine.gpu
    numbers = (
        g.memory_gb,
        g.gb_per_s,
        g.memory_efficiency,
        g.int8_tops,
        g.compute_efficiency,
        g.board_w,
        g.idle_w,
    )
    return (machine.name, *(f"{round(number.value, 3):,g}" for number in numbers), machine.note)


def processor_rows() -> list[tuple[str, ...]]:
    """All processors."""
    return [processor_row(each) for each in machines().values() if not each.is_gpu]


def gpu_rows() -> list[tuple[str, ...]]:
    """All GPUs."""
    return [gpu_row(each) for each in machines().values() if each.is_gpu]


def number_rows() -> list[tuple[str, ...]]:
    """Every number of every machine that is not derived, once for machines that share it."""
    shared: dict[tuple[str, Sourced], list[str]] = {}
    for each in machines().values():
        for name, number in each.numbers.items():
            shared.setdefault((name, number), []).append(each.name)
    return [
        (", ".join(names), name, str(number), number.kind, number.source) for (name, number), names in shared.items()
    ]


def energy_rows() -> list[tuple[str, ...]]:
    """The energy table."""
    return [(entry, part, str(number), number.kind, number.source) for entry, (part, number) in ENTRIES.items()]


def length_rows() -> list[tuple[str, ...]]:
    """Published accept lengths of EAGLE heads, and the acceptance per drafted token that follows."""
    rows = []
    for (model, data), length in EAGLE_LENGTHS.items():
        a = chain_acceptance(length.tokens.value, length.depth)
        known = length.tokens
        rows.append((model, data, str(known), str(length.depth), f"{a:.3f}", known.kind, known.source))
    return rows


def area_rows() -> list[tuple[str, ...]]:
    """Die area of both published chips by part, and the sum."""
    small, large = (die_area(chip(name)) for name in ("4gb", "8gb"))
    rows = [(part, f"{small.parts[part]:.3f}", f"{large.parts[part]:.3f}") for part in small.parts]
    return [*rows, ("sum, a lower bound", f"{small.total_mm2:.1f}", f"{large.total_mm2:.1f}")]


def markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
