"""What the fast HB model records (transfers, rows, refreshes), and the events and counts that follow from it."""

from typing import NamedTuple

import numpy as np

from cycle_model.counts import Counts
from cycle_model.hb.traffic import Trace
from hw.isa import HbCommand
from hw.params import ECC_GROUP, HbParams
from hw.timing import HbClocks

# Fields of a transfer record: cycles of acceptance and done pulse, whose, tag, error, direction, length.
ACCEPT, DONE, OWNER, TAG, ERROR, WRITE, COLUMNS, TRANSFER_FIELDS = range(8)
# Fields of a row record, one activation: index of its transfer, row, first data column, data columns and column
# commands of this activation, ticks of activation, first column command and precharge, where its explicit ticks
# begin (-1: one every nBL from the first), whether it begins with an in-line check column.
TRANSFER, ROW, COLUMN, DATA, COMMANDS, ACT_TICK, FIRST_TICK, PRE_TICK, BEATS_AT, CHECK_FIRST, ROW_FIELDS = range(11)


class Records(NamedTuple):
    """int64 arrays: one line per transfer and per activation; ticks of refreshes and of single column commands;
    cycles in which beats are taken by their consumers and from their writers (empty where nothing stalls)."""

    transfers: np.ndarray
    rows: np.ndarray
    refreshes: np.ndarray
    ticks: np.ndarray
    takes: np.ndarray
    offers: np.ndarray


class _ColumnCommands(NamedTuple):
    """Every column command in order: tick, line of its row record, physical column, whether a check column."""

    tick: np.ndarray
    of: np.ndarray
    column: np.ndarray
    check: np.ndarray


def cycle_of(ticks, c: HbClocks):
    """Logic cycle of DRAM clock edges."""
    return -(-ticks * c.tick_num // c.tick_den)


def summary(records: Records) -> Trace:
    """Acceptances and done pulses only."""
    transfers = records.transfers
    nothing = np.empty((0, 6), dtype=np.int64)
    return Trace(
        commands=nothing,
        accepts=transfers[:, [ACCEPT, OWNER, TAG]],
        dones=transfers[:, [DONE, OWNER, TAG, ERROR]],
        reads=nothing[:, :4],
        writes=nothing[:, :2],
    )


def expand(params: HbParams, c: HbClocks, records: Records, closed: bool) -> Trace:
    """Every event of the run. ``closed``: the beats' cycles follow from the commands."""
    columns = _column_commands(params, c, records)
    trace = summary(records)
    trace.commands = _commands(c, records, columns)
    legal = records.transfers[records.transfers[:, ERROR] == 0]
    read, written = legal[legal[:, WRITE] == 0], legal[legal[:, WRITE] == 1]
    takes, offers = records.takes, records.offers
    if closed:
        is_write = records.transfers[records.rows[columns.of, TRANSFER], WRITE] == 1
        arrived = columns.tick[~is_write & ~columns.check] + c.nCL + c.nBL
        takes = cycle_of(arrived, c) + params.capture_stages
        offers = _offers(params, c, written, columns.tick[is_write & ~columns.check])
    last = np.zeros(len(takes), dtype=np.int64)
    last[np.cumsum(read[:, COLUMNS]) - 1] = 1
    trace.reads = np.column_stack([takes, *np.repeat(read[:, [OWNER, TAG]], read[:, COLUMNS], axis=0).T, last])
    trace.writes = np.column_stack([offers, np.repeat(written[:, OWNER], written[:, COLUMNS])])
    return trace


def _offers(params: HbParams, c: HbClocks, written: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """Cycle in which each beat is taken from a writer that keeps up, one a cycle while the buffer has a place."""
    lengths = written[:, COLUMNS]
    index = np.arange(len(ticks)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    earliest = np.repeat(written[:, ACCEPT], lengths) + 1 + index
    emptied = np.zeros(len(ticks), dtype=np.int64)
    depth = params.write_buffer
    emptied[depth:] = cycle_of(ticks[: len(ticks) - depth], c) + 1 if len(ticks) > depth else 0
    return np.where(index >= depth, np.maximum(earliest, emptied), earliest)


def _column_commands(params: HbParams, c: HbClocks, records: Records) -> _ColumnCommands:
    rows = records.rows
    number = rows[:, COMMANDS]
    of = np.repeat(np.arange(len(rows)), number)
    index = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number)
    at = rows[of, BEATS_AT]
    explicit = at >= 0
    tick = rows[of, FIRST_TICK] + index * c.nBL
    tick[explicit] = records.ticks[(at + index)[explicit]]
    column = rows[of, COLUMN] + index
    if params.ecc != "inline":
        return _ColumnCommands(tick, of, column, np.zeros(len(of), dtype=bool))
    # In-line: groups of eight data columns and their check column. Count along the order of the commands, nine
    # places a group: the check column is the first place of a group read, the last of a group written.
    first, check_first = rows[of, COLUMN], rows[of, CHECK_FIRST]
    is_write = records.transfers[rows[of, TRANSFER], WRITE]
    group, lane = np.divmod(first, ECC_GROUP)
    place = group * (ECC_GROUP + 1) + lane + (1 - is_write) + index - check_first
    group, offset = np.divmod(place, ECC_GROUP + 1)
    check = offset == np.where(is_write == 1, ECC_GROUP, 0)
    physical = place - np.where(check, 0, 1 - is_write)
    leading = (check_first == 1) & (index == 0)
    check |= leading
    group = np.where(leading, (first - is_write) // ECC_GROUP, group)
    return _ColumnCommands(tick, of, np.where(check, group * (ECC_GROUP + 1) + ECC_GROUP, physical), check)


def _commands(c: HbClocks, records: Records, columns: _ColumnCommands) -> np.ndarray:
    """Events of `Trace.commands`."""
    rows, transfers = records.rows, records.transfers
    kind = np.where(transfers[rows[columns.of, TRANSFER], WRITE] == 1, HbCommand.WRITE, HbCommand.READ)
    every = np.arange(len(rows))
    parts = [
        (rows[:, ACT_TICK], np.full(len(rows), HbCommand.ACTIVATE), every, np.zeros(len(rows), dtype=np.int64)),
        (columns.tick, kind, columns.of, columns.column),
        (rows[:, PRE_TICK], np.full(len(rows), HbCommand.PRECHARGE), every, np.zeros(len(rows), dtype=np.int64)),
    ]
    tick, command, of, column = (np.concatenate(field) for field in zip(*parts, strict=True))
    owner_and_tag = transfers[rows[of, TRANSFER]][:, [OWNER, TAG]]
    events = np.column_stack([cycle_of(tick, c), command, rows[of, ROW], column, owner_and_tag])
    refreshes = np.zeros((len(records.refreshes), 6), dtype=np.int64)
    refreshes[:, 0] = cycle_of(records.refreshes, c)
    refreshes[:, 1] = HbCommand.REFRESH
    refreshes[:, 4:] = -1
    events = np.concatenate([events, refreshes])
    return events[np.argsort(events[:, 0])]


def counts_of_records(params: HbParams, records: Records, stall_clocks: int) -> Counts:
    """Action counts from transfers and rows alone."""
    transfers, rows = records.transfers, records.rows
    write = transfers[rows[:, TRANSFER], WRITE] == 1
    commands, data = rows[:, COMMANDS], rows[:, DATA]
    same_transfer = np.zeros(len(rows), dtype=bool)
    same_transfer[1:] = rows[1:, TRANSFER] == rows[:-1, TRANSFER]
    same_row = np.zeros(len(rows), dtype=bool)
    same_row[1:] = rows[1:, ROW] == rows[:-1, ROW]
    reads, writes = int(commands[~write].sum()), int(commands[write].sum())
    refused = transfers[:, ERROR] != 0
    check_bytes = int((commands - data).sum()) * params.column_bytes
    if params.ecc == "sideband":
        check_bytes = int(data.sum()) * params.check_bits // 8
    return Counts(
        hb_activates=len(rows),
        hb_precharges=len(rows),
        hb_refreshes=len(records.refreshes),
        hb_reads=reads,
        hb_writes=writes,
        hb_read_bytes=reads * params.column_bytes,
        hb_write_bytes=writes * params.column_bytes,
        hb_check_bytes=check_bytes,
        hb_row_hits=int(np.maximum(data - 1, 0).sum()),
        hb_row_misses=int((~same_transfer).sum()),
        hb_row_conflicts=int((same_transfer & ~same_row).sum()),
        hb_row_reopens=int((same_transfer & same_row).sum()),
        hb_transfers=int((~refused).sum()),
        hb_refused=int(refused.sum()),
        hb_busy_cycles=int((transfers[~refused, DONE] - 1 - transfers[~refused, ACCEPT]).sum()),
        hb_stall_clocks=stall_clocks,
    )
