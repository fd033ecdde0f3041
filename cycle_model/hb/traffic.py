"""What goes into the HB models (requests, stalls) and what comes out (a trace), the same for exact, fast and RTL."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cycle_model.counts import Counts
from hw.errors import UserError
from hw.isa import HbCommand
from hw.params import ECC_GROUP, HbParams
from hw.timing import HbClocks

REQUEST = np.dtype(
    [
        ("requester", np.int64),
        ("cycle", np.int64),
        ("write", np.int64),
        ("tag", np.int64),
        ("row", np.int64),
        ("column", np.int64),
        ("columns", np.int64),
    ]
)
"""One request: who asks, not before which cycle, and what (`hw.memory.hb_types.transfer_layout`).

A requester presents its requests in the order of the array, each from its cycle on but not before the cycle after
the acceptance of the one before it.
"""


class Shape(NamedTuple):
    """The integers of `HbParams` that the compiled kernels need."""

    requesters: int
    rows: int
    data_columns: int
    read_buffer: int
    write_buffer: int
    inline: bool
    postpone: int
    capture_stages: int


def shape_of(params: HbParams) -> Shape:
    """The kernels' view of ``params``."""
    return Shape(
        requesters=params.requesters,
        rows=params.rows,
        data_columns=params.data_columns,
        read_buffer=params.read_buffer,
        write_buffer=params.write_buffer,
        inline=params.ecc == "inline",
        postpone=params.refresh_postpone,
        capture_stages=params.capture_stages,
    )


@dataclass(frozen=True)
class Stalls:
    """When the streams outside do not keep up; beyond the last cycle given they always do.

    takes   bool (requesters, cycles): the requester's consumer takes a beat in this cycle if there is one
    offers  bool (requesters, cycles): the requester's writer may begin to offer its next beat in this cycle; it
            holds the offer until the beat is taken
    """

    takes: np.ndarray
    offers: np.ndarray

    @staticmethod
    def none(requesters: int) -> "Stalls":
        """Streams that always keep up."""
        always = np.ones((requesters, 0), dtype=np.bool_)
        return Stalls(always, always)

    @property
    def absent(self) -> bool:
        """True where nothing ever stalls."""
        return bool(self.takes.all() and self.offers.all())


@dataclass(frozen=True)
class Traffic:
    """Requests and stalls of one run. Raises UserError where the arrays do not fit ``params``."""

    params: HbParams
    requests: np.ndarray
    stalls: Stalls | None = None
    clocks: HbClocks | None = None

    def __post_init__(self) -> None:
        if self.requests.dtype != REQUEST:
            raise UserError(f"HB requests must be an array of {REQUEST}, not {self.requests.dtype}")
        who = self.requests["requester"]
        if len(who) and (who.min() < 0 or who.max() >= self.params.requesters):
            raise UserError(f"HB requester must be 0 to {self.params.requesters - 1}, not {who.max()}")
        limits = {
            "cycle": 1 << 60,
            "write": 2,
            "tag": 1 << self.params.tag_bits,
            "row": 1 << (self.params.rows - 1).bit_length(),
            "column": self.params.columns_per_row,
            "columns": 1 << self.params.length_bits,
        }
        for name, limit in limits.items():
            values = self.requests[name]
            if len(values) and (values.min() < 0 or values.max() >= limit):
                bad = values.max() if values.min() >= 0 else values.min()
                raise UserError(f"HB request {name} must be 0 to {limit - 1}, not {bad}")

    @property
    def timing(self) -> HbClocks:
        """The clocks of this run: those given, else the parameters'."""
        return self.params.clocks if self.clocks is None else self.clocks

    @property
    def streams(self) -> Stalls:
        """The stalls of this run, possibly none."""
        return Stalls.none(self.params.requesters) if self.stalls is None else self.stalls

    def queues(self) -> tuple[np.ndarray, np.ndarray]:
        """Requests ordered by requester, and where each requester's begin (requesters + 1 offsets)."""
        order = np.argsort(self.requests["requester"], kind="stable")
        queued = self.requests[order]
        return queued, np.searchsorted(queued["requester"], np.arange(self.params.requesters + 1))


@dataclass
class Trace:
    """Everything that happened, in order of time; int64 arrays with one event per line.

    commands  cycle, `HbCommand`, row, physical column (0 but for columns), requester and tag (-1 for REFRESH)
    accepts   cycle, requester, tag
    dones     cycle of the pulse, requester, tag, `HbError`
    reads     cycle in which a beat leaves the buffer, requester, tag, last
    writes    cycle in which a beat is taken, requester
    end_cycle  the later of the last done pulse and the last beat read; refreshes behind it are left out
    """

    commands: np.ndarray
    accepts: np.ndarray
    dones: np.ndarray
    reads: np.ndarray
    writes: np.ndarray
    end_cycle: int = 0
    counts: Counts = field(default_factory=Counts)


def last_cycle(dones: np.ndarray, reads: np.ndarray) -> int:
    """The later of the last done pulse and the last beat read, 0 where nothing happened."""
    return int(max([*dones[-1:, 0], *reads[-1:, 0]], default=0))


def counts_of(trace: Trace, params: HbParams, stall_clocks: int) -> Counts:
    """The action counts that follow from a trace's events."""
    commands = trace.commands
    kind = commands[:, 1]
    number = {command: int((kind == command).sum()) for command in HbCommand}
    check = np.zeros(len(kind), dtype=bool)
    is_column = (kind == HbCommand.READ) | (kind == HbCommand.WRITE)
    if params.ecc == "inline":
        check = is_column & (commands[:, 3] % (ECC_GROUP + 1) == ECC_GROUP)
    activation = np.cumsum(kind == HbCommand.ACTIVATE)
    is_data = is_column & ~check
    opened = commands[kind == HbCommand.ACTIVATE]
    # A transfer's activations follow each other: same owner, and no done pulse of that owner between them.
    served = np.searchsorted(trace.dones[:, 0], opened[:, 0], side="right")
    continues = np.zeros(len(opened), dtype=bool)
    continues[1:] = served[1:] == served[:-1]
    same_row = np.zeros(len(opened), dtype=bool)
    same_row[1:] = opened[1:, 2] == opened[:-1, 2]
    side_band = params.check_bits // 8 if params.ecc == "sideband" else 0
    data_columns = int(is_data.sum())
    refused = trace.dones[:, 3] != 0
    served_cycles = trace.dones[:, 0] - 1 - trace.accepts[:, 0]  # done pulse i answers acceptance i
    return Counts(
        hb_activates=number[HbCommand.ACTIVATE],
        hb_precharges=number[HbCommand.PRECHARGE],
        hb_refreshes=number[HbCommand.REFRESH],
        hb_reads=number[HbCommand.READ],
        hb_writes=number[HbCommand.WRITE],
        hb_read_bytes=number[HbCommand.READ] * params.column_bytes,
        hb_write_bytes=number[HbCommand.WRITE] * params.column_bytes,
        hb_check_bytes=int(check.sum()) * params.column_bytes + data_columns * side_band,
        hb_row_hits=data_columns - len(np.unique(activation[is_data])),
        hb_row_misses=int((~continues).sum()),
        hb_row_conflicts=int((continues & ~same_row).sum()),
        hb_row_reopens=int((continues & same_row).sum()),
        hb_transfers=int((~refused).sum()),
        hb_refused=int(refused.sum()),
        hb_busy_cycles=int(served_cycles[~refused].sum()),
        hb_stall_clocks=stall_clocks,
    )
