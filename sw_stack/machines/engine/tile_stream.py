"""One PE's tiles where weights come from HB: load, multiply, merge, as the shipped kernels order them.

    a LOAD starts when the one before has ended, half of the weight memory is free, and (first of a tile) a result slot
    a MATMUL starts when its LOAD has ended, the array is free, and what comes from LPDDR has arrived
    a tile's merge starts when its last MATMUL has drained and the vector unit is free

The command-by-command order of `cycle_model.pe.fast`, without its queues and sequencer. Every time carries what its
critical chain consists of, so that the end says how much of it was HB, array and vector unit.
"""

from __future__ import annotations

import numpy as np

from cycle_model.hb.transfer import ACT, IDLE, PRE, REF, REFRESHES, ROWS, transfer
from cycle_model.kernel_cache import njit
from sw_stack.machines.engine.kernel_times import (
    BLOCKS,
    COLUMNS,
    COLUMNS_LAST,
    DONE,
    DONE_LAST,
    EXTRA,
    FIRST,
    FREE,
    FREE_LAST,
    MORE_COLUMNS,
    MORE_LAST,
    PASSES,
    REST,
    REST_OFFSET,
    SLICES,
    TILE,
    TILES,
    UNIT,
    WIDE,
)
from sw_stack.machines.engine.resources import Resource

_HB = int(Resource.HB)
TIME, BY_HB, BY_ARRAY, BY_VECTOR, FROM_FAR, EVENT_FIELDS = range(6)
"""Of an event and of a result: when, how much of its chain was HB, array and vector unit, whether LPDDR began it."""
HB_BUSY, ARRAY_END, LOAD_END, RESULT_FIELDS = range(EVENT_FIELDS, EVENT_FIELDS + 4)
_LOADED, _FREE, _HALF, _SLOT, _VECTOR, _DRAINED, EVENTS = 0, 1, 2, 4, 6, 7, 8
_NEVER = -1e18


@njit(inline="always")
def _copy(events, to, source):
    for k in range(EVENT_FIELDS):
        events[to, k] = events[source, k]


@njit(inline="always")
def _add(events, to, cycles, part):
    events[to, TIME] += cycles
    events[to, part] += cycles


@njit(cache=True)
def tile_stream(clocks, shape, bank, row, start, overhead, mine, far_from, far_step, scale, events, result):
    """Run ``mine`` units from cycle ``start`` on; fills ``result``.

    Parameters
    ----------
    row : of `kernel_times.kernel_row`
    overhead : cycles of ``start`` that the kernel's start took; of every further pass too
    far_from, far_step : cycle in which slices from LPDDR begin to arrive, cycles per K block; step 0: none come
    scale : factors on (HB, array, vector unit)
    events : scratch, float64 [EVENTS, EVENT_FIELDS]
    result : float64 [RESULT_FIELDS], the end of the vector unit's last command, what made it, cycles of HB loads, the
        array's end, the last load's end
    """
    by_hb, by_array, by_vector = scale
    tiles, blocks, slices = int(row[TILES]), int(row[BLOCKS]), row[SLICES]
    passes, wide = int(row[PASSES]), row[WIDE] > 0
    events[:, TIME] = _NEVER
    events[:, BY_HB:] = 0.0
    events[_VECTOR, TIME] = start - overhead
    column, at_block, tile, hb_busy = 0, 0, 0, 0.0
    for one in range(passes):
        last_offset = REST_OFFSET if row[REST] > 0 and one == passes - 1 else 0
        _add(events, _VECTOR, overhead, BY_ARRAY)
        _copy(events, _FREE, _VECTOR)
        _copy(events, _LOADED, _VECTOR)
        events[_LOADED, TIME] -= 1  # a LOAD starts a cycle behind what it waits for, its request another one
        for _ in range(mine):
            for _ in range(tiles):
                for b in range(blocks):
                    end = b == blocks - 1
                    half = _HALF + at_block % 2
                    for more in range(2):
                        if more == 0:
                            columns = int(row[COLUMNS_LAST] if end else row[COLUMNS])
                        else:
                            columns = int(row[MORE_LAST] if end else row[MORE_COLUMNS])
                        if columns == 0:
                            continue
                        if more == 0 and events[half, TIME] > events[_LOADED, TIME]:
                            _copy(events, _LOADED, half)
                        if more == 0 and b == 0 and events[_SLOT + tile % 2, TIME] > events[_LOADED, TIME]:
                            _copy(events, _LOADED, _SLOT + tile % 2)
                        asked = int(events[_LOADED, TIME] + 2 - 1e-9) + 1
                        done = transfer(clocks, shape, bank, asked, column, columns, False)
                        cycles = (done - events[_LOADED, TIME]) * by_hb
                        hb_busy += cycles
                        _add(events, _LOADED, cycles, BY_HB)
                        column = (column + columns) % shape.data_columns
                    if events[_LOADED, TIME] > events[_FREE, TIME]:
                        _copy(events, _FREE, _LOADED)
                    at_block += 1
                    if far_step > 0:
                        arrives = far_from + far_step * at_block
                        if arrives > events[_FREE, TIME]:
                            events[_FREE, TIME] = arrives
                            events[_FREE, BY_HB:FROM_FAR] = 0.0
                            events[_FREE, FROM_FAR] = 1.0
                    free = row[(FREE_LAST if end else FREE) + last_offset] + 1
                    drain = row[(DONE_LAST if end else DONE) + last_offset] + 1
                    _copy(events, half, _FREE)
                    _add(events, half, ((slices - 1) * free + drain) * by_array, BY_ARRAY)
                    _add(events, _FREE, slices * free * by_array, BY_ARRAY)
                    _copy(events, _DRAINED, half)
                if wide:
                    continue
                if events[_DRAINED, TIME] > events[_VECTOR, TIME]:
                    _copy(events, _VECTOR, _DRAINED)
                slot = _SLOT + tile % 2
                _copy(events, slot, _VECTOR)
                _add(events, slot, row[FIRST + last_offset] * by_vector, BY_VECTOR)
                _add(events, _VECTOR, row[TILE + last_offset] * by_vector, BY_VECTOR)
                tile += 1
            if not wide:
                _add(events, _VECTOR, row[UNIT + last_offset] * by_vector, BY_VECTOR)
        if wide:
            if events[_DRAINED, TIME] > events[_VECTOR, TIME]:
                _copy(events, _VECTOR, _DRAINED)
            cycles = mine * (tiles * row[TILE + last_offset] + row[UNIT + last_offset])
            _add(events, _VECTOR, cycles * by_vector, BY_VECTOR)
    _add(events, _FREE, mine * row[EXTRA] * by_array, BY_ARRAY)
    if events[_FREE, TIME] > events[_VECTOR, TIME]:
        _copy(events, _VECTOR, _FREE)
    for k in range(EVENT_FIELDS):
        result[k] = events[_VECTOR, k]
    result[HB_BUSY] = hb_busy
    result[ARRAY_END] = events[_FREE, TIME]
    result[LOAD_END] = events[_LOADED, TIME]


@njit(inline="always")
def on_banks(
    clocks, shape, banks, row, start, overhead, first_pe, whole, rest, far_start, far_end, factors, events, result,
    slowest, busy, cycle,
):  # fmt: skip
    """Tiles of a product on every PE, in cycles; ``slowest`` is the result of the PE that ends last.

    PEs with as many units whose banks are in the same state, as far as a transfer can tell, do the same.
    """
    pes = len(banks)
    slowest[TIME] = -1.0
    asked = int(start) + 1
    edge = asked * clocks.tick_den // clocks.tick_num
    like = np.full((2, 4), -1, np.int64)  # PE, refreshes, gate, idle of the latest PE with one unit more, without
    grown = np.zeros((2, 2))  # rows opened, cycles of loads there
    for k in range(pes if whole > 0 else rest):
        p = (first_pe + k) % pes
        kind = 0 if k < rest else 1
        bank = banks[p]
        gate = max(max(bank[PRE] + clocks.nRP, bank[ACT] + clocks.nRC), bank[REF] + clocks.nRFC)
        idle = bank[IDLE]
        if gate <= edge and idle <= asked and (bank[REFRESHES] + 1) * clocks.nREFI > edge + 1:
            gate, idle = -1, -1
        if like[kind, 0] >= 0 and (like[kind, 1], like[kind, 2], like[kind, 3]) == (bank[REFRESHES], gate, idle):
            rows = bank[ROWS]
            bank[:] = banks[like[kind, 0]]
            bank[ROWS] = rows + grown[kind, 0]
            busy[_HB] += grown[kind, 1] * cycle / pes
            continue
        like[kind, 0], like[kind, 1], like[kind, 2], like[kind, 3] = p, bank[REFRESHES], gate, idle
        rows, mine = bank[ROWS], whole + (kind == 0)
        step = 0.0
        if far_end > 0 and row[EXTRA] == 0:
            step = (far_end - far_start) / (mine * row[PASSES] * row[TILES] * row[BLOCKS])
        tile_stream(clocks, shape, bank, row, start, overhead, mine, far_start, step, factors, events, result)
        grown[kind, 0], grown[kind, 1] = bank[ROWS] - rows, result[HB_BUSY]
        busy[_HB] += result[HB_BUSY] * cycle / pes
        if result[TIME] > slowest[TIME]:
            slowest[:] = result
