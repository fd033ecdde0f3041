"""What the shipped PE kernels take for a product: loads, MATMULs and vector commands of a tile, in cycles.

Everything is a closed form of `cycle_model.pe.durations` for the commands that `sw_stack.compiler.kernels` issue;
`KERNEL_START` and the constants of `exchange_cycles` count instructions and are measured on the PE's fast model
(`verification/stack/test_engine_kernels.py`).
"""

from __future__ import annotations

from functools import lru_cache

from cycle_model.pe.durations import matmul, vector
from hw.isa.encoding import Opcode
from hw.params import ChipParams

KERNEL_START, DOWN_START = 34, 21
"""Cycles until a kernel's first load: from its activations, which scalars follow into row registers; of a down
projection, whose activations the exchange left in AL, from the end of that."""
EXCHANGE_START = 28
"""Cycles of an exchange of row maxima in which the vector unit waits: dispatch record, links, queues."""

(PASSES, REST, TILES, BLOCKS, COLUMNS, COLUMNS_LAST, MORE_COLUMNS, MORE_LAST, SLICES, EXTRA, WIDE, ARRAY, VECTOR,
 FREE, DONE, FREE_LAST, DONE_LAST, FIRST, TILE, UNIT) = range(20)  # fmt: skip
REST_OFFSET = 20 - FREE
ROW_FIELDS = 20 + REST_OFFSET
"""Fields of a row of `kernel_row`:

PASSES      over the weights; REST: the last of them has fewer token blocks
TILES       of a unit: 1, or gate and up; BLOCKS: K blocks of a tile
COLUMNS, MORE_COLUMNS  that the first and the second LOAD from HB of a K block take; ..._LAST: of the last block
SLICES      MATMULs of a K block that the PE does for itself
EXTRA       array cycles of a unit for slices that all PEs share out by tokens
WIDE        K does not fit AL: activations come with the K blocks, the vector unit follows all tiles
ARRAY, VECTOR  cycles of a unit, all passes
FREE, DONE  of a MATMUL of a K block, from its start until the array is free, and until its results are there
FIRST, TILE, UNIT  vector cycles until a tile's results are read, of a tile, and more for each unit
then FREE ... UNIT of the last pass
"""


def _vector(chip: ChipParams, *opcodes: Opcode) -> int:
    return sum(vector(chip, opcode, chip.array.rows) + 1 for opcode in opcodes)


def kernel_row(
    chip: ChipParams,
    inputs: int,
    tokens: int,
    most: int,
    k_block: int,
    slices: int,
    shared: int,
    activated: bool,
    expert: bool,
    near: tuple[bool, bool],
) -> tuple[float, ...]:
    """Fields of a product of K = ``inputs`` by ``tokens``.

    Parameters
    ----------
    most, k_block : token blocks of a pass, groups of a K block
    slices, shared : of the weights; those that every PE works through for its own share of the tokens
    near : whether the MSB and the LSB slice come from HB
    """
    array, groups = chip.array, -(-inputs // chip.array.group_size)
    blocks, tiles = -(-tokens // array.rows), 2 if activated else 1
    count = -(-groups // k_block)
    last = groups - (count - 1) * k_block
    whole, rest = divmod(blocks, most)
    own = slices - shared

    def columns(size: int) -> list[int]:
        found = [n for n, there in ((4 * size + -(-size // 2), near[0]), (4 * size, near[1])) if there]
        return found + [0] * (2 - len(found))

    def durations(m: int) -> list[float]:
        block, end = matmul(chip, k_block, m), matmul(chip, last, m)
        merge = [Opcode.ADD] * (slices - 1) + [Opcode.MUL]
        first = m * _vector(chip, *merge) - (_vector(chip, Opcode.MUL) if slices == 2 else 0)
        tile = m * _vector(chip, *merge, *([Opcode.MUL, Opcode.ADD] if expert and not activated else []))
        unit = m * _vector(chip, Opcode.SIGMOID, Opcode.MUL, Opcode.MUL, Opcode.ROW_ABSMAX) if activated else 0
        return [block.free, block.done, end.free, end.done, first, tile, unit]

    def busy(m: int) -> int:
        """Array cycles of a unit's tiles for one slice and pass."""
        return tiles * ((count - 1) * (matmul(chip, k_block, m).free + 1) + matmul(chip, last, m).free + 1) if m else 0

    full, short = durations(most if whole else rest), durations(rest or most)
    alone = -(-tokens // chip.pes)  # of a shared slice, on each PE
    far_whole, far_rest = divmod(-(-alone // array.rows), most)
    extra = chip.pes * shared * (far_whole * busy(most) + busy(far_rest))
    array_cycles = own * (whole * busy(most) + busy(rest)) + extra
    offsets = [full] * whole + [short] * (rest > 0)
    vector_cycles = sum(tiles * d[TILE - FREE] + d[UNIT - FREE] for d in offsets)
    (a, b), (c, d) = columns(k_block), columns(last)
    return (
        *(len(offsets), float(rest > 0 and whole > 0), tiles, count, a, c, b, d, own, extra),
        *(float(groups * (most if whole else rest) > chip.pe.al_groups), array_cycles, vector_cycles),
        *(*full, *short),
    )


@lru_cache(maxsize=1024)
def exchange_cycles(chip: ChipParams, others: int) -> int:
    """Cycles of a PE for the row maxima of ``others`` PEs, scale and reciprocal, and a requantised tile."""

    def one_row(*opcodes: Opcode) -> int:
        return sum(vector(chip, opcode, 1) + 1 for opcode in opcodes)

    maxima = one_row(Opcode.ROW_STORE) + others * one_row(Opcode.ROW_LOAD, Opcode.ROW_MAX) if others else 0
    scales = one_row(Opcode.ROW_RECIPROCAL, Opcode.ROW_SCALE) + _vector(chip, Opcode.QUANTIZE)
    return EXCHANGE_START + maxima + scales
