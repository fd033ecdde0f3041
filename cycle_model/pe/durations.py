"""Closed forms of the PE's time table (docs/pe.md): how long a command takes once it has started.

All results are cycles relative to a command's start, so that done = start + duration. Waiting (semaphores, queues,
links that are late, a busy HB bank) is what the exact and the fast model add. Every number comes from `ChipParams`.
"""

from typing import NamedTuple

from hw.isa.encoding import Opcode
from hw.isa.vector_timing import vector_interval, vector_latency
from hw.params import ArrayParams, ChipParams, HbParams
from hw.timing import tick_at_or_after, tick_cycle


class Matmul(NamedTuple):
    """``free`` and ``done`` are cycles from the start; a slot begins every ``interval`` cycles from ``lead`` on."""

    lead: int
    interval: int
    free: int
    done: int


def array_latency(array: ArrayParams) -> int:
    """Cycles from a group's last beat to its slot-0 result: operands, products, adder tree, hold, scale, fetch, add."""
    tree = -(-(array.depth - 1).bit_length() // array.tree_levels_per_stage)
    return 1 + (1 + tree) + 1 + array.scale_stages + 1 + array.add_stages


def slot_interval(chip: ChipParams, blocks: int) -> int:
    """Cycles from a slot (one group of one token block) to the next, for ``blocks`` token blocks."""
    return max(chip.array.beats, chip.array.dots_per_fp32, -(-chip.pe.fetch // blocks))


def matmul(chip: ChipParams, groups: int, blocks: int) -> Matmul:
    """MATMUL of ``groups`` x ``blocks`` slots."""
    interval, lead, slots = slot_interval(chip, blocks), chip.pe.fetch, groups * blocks
    drain = (chip.array.beats - 1) + array_latency(chip.array) + (chip.array.dots_per_fp32 - 1)
    return Matmul(lead, interval, lead + slots * interval - 1, lead + (slots - 1) * interval + drain)


def vector(chip: ChipParams, opcode: Opcode, rows: int) -> int:
    """VECTOR command on ``rows`` rows: done - start."""
    return rows * vector_interval(chip, opcode) + vector_latency(chip, opcode) - 1


def store(words: int) -> int:
    """STORE whose words are taken at once: done - start."""
    return words + 1


def host(latency: int) -> int:
    """HOST with an answer ``latency`` cycles after the request's first cycle on the port: done - start."""
    return 1 + latency


def hb_load(hb: HbParams, columns: int, first_column: int = 0, start: int = 0) -> int:
    """HB LOAD from an idle bank whose timing gates are open, no refresh between: done - start.

    ``start`` counts from reset, since edges of the DRAM clock fall on fixed cycles; ``first_column`` within its row.
    Rows that follow each other pay `HbParams.row_clocks`; ECC none.
    """
    c = hb.clocks
    tick = tick_at_or_after(start + 2, c)
    done = last_beat = 0
    while columns > 0:
        here = min(columns, hb.data_columns - first_column)
        last_read = tick + c.nRCD + (here - 1) * c.nBL
        precharge = max(tick + c.nRAS, last_read + c.nRTP)
        done = tick_cycle(precharge, c) + 1
        last_beat = tick_cycle(last_read + c.nCL + c.nBL, c) + hb.capture_stages
        tick = max(precharge + c.nRP, tick + c.nRC)
        columns, first_column = columns - here, 0
    return max(done, last_beat) - start
