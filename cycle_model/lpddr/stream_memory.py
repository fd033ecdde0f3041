"""The whole external memory in stream mode: extents in, cycles and counts out. See ``cycle_model.lpddr.stream``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.counts import Counts
from cycle_model.lpddr.addressing import RECOMMENDED, mapping
from cycle_model.lpddr.memory import channel_counts
from cycle_model.lpddr.rules import LONG_AGO, NEVER, first_refresh_due, policy_of, rules_of
from cycle_model.lpddr.stream import stream
from cycle_model.lpddr.stream_state import FLIGHT, SHAPE, STATE
from hw.errors import UserError
from hw.lpddr5_config import Lpddr5Config


@dataclass(frozen=True)
class StreamRead:
    """When a stream was over: cycle after the last data beat, per channel (channels,) and ``done`` over all."""

    channel_done: np.ndarray

    @property
    def done(self) -> int:
        """Cycle after the last data beat of the last channel."""
        return int(self.channel_done.max())


class Lpddr5Stream:
    """Reads of contiguous bytes in order, each starting after the previous one has issued its last read.

    Raises UserError for a controller that the schedule does not cover (closed page, a queue deeper than a row).
    """

    def __init__(self, config: Lpddr5Config | None = None) -> None:
        self.config = config or Lpddr5Config()
        org = self.config.organization
        self.log: list[np.ndarray] = []
        if self.config.controller.page != "open":
            raise UserError("stream mode must have the open page policy, not 'closed'")
        if self.config.controller.read_queue > org.bursts_per_row:
            raise UserError(
                f"stream mode must have a read queue of at most one row ({org.bursts_per_row}), "
                f"not {self.config.controller.read_queue}"
            )
        self.rules, self.policy = rules_of(self.config), policy_of(self.config)
        self.shape = np.array(
            [
                (
                    org.bursts_per_row.bit_length(),  # two rows
                    (org.bank_groups // 2).bit_length() - 1,
                    org.banks_per_group.bit_length() - 1,
                    org.ranks.bit_length() - 1,
                )
            ],
            SHAPE,
        ).view(np.recarray)[0]
        self.mapping = mapping(RECOMMENDED, org)
        self.channels = [self._new_channel() for _ in range(org.channels)]

    def _new_channel(self) -> np.record:
        ch = np.zeros(1, STATE).view(np.recarray)[0]
        for level in ("bank", "rank"):
            for name in ch[level].dtype.names:
                if name.endswith("_from") or name.startswith("act"):
                    ch[level][name] = LONG_AGO
        ch.group_read_from[:] = LONG_AGO
        ch.bank["row"] = ch.bank["used"] = -1
        ch.rank["pair"] = -1
        ch.rank["round"] = (1 << (int(self.rules.banks) // 2)) - 1
        ch.rank["due"] = NEVER
        ch.rank["due"][: self.rules.ranks] = first_refresh_due(self.policy, int(self.rules.ranks))
        ch.next_due = ch.rank["due"].min()
        return ch

    @property
    def counts(self) -> list[Counts]:
        """Action counts per channel since the beginning."""
        return [channel_counts(ch.counter, self.config.organization.burst_bytes) for ch in self.channels]

    @property
    def now(self) -> int:
        """First clock of the command bus that is free in every channel."""
        return max(int(ch.bus) for ch in self.channels)

    def read(self, address: int, size: int, start: int | None = None, log_steps: int = 0) -> StreamRead:
        """Read ``size`` bytes from ``address`` (both multiples of 32), requested at cycle ``start`` (default ``now``).

        ``log_steps``: room for that many steps per channel in ``self.log``, one (4, n) array per channel: cycle,
        command, bank, count. Channels in the same state with the same extent are computed once.
        """
        org = self.config.organization
        if size <= 0 or address < 0 or address % org.burst_bytes or size % org.burst_bytes:
            raise UserError(f"stream address and size must be multiples of {org.burst_bytes}, not {address} and {size}")
        if address + size > org.capacity_bytes:
            raise UserError(f"stream must end within the capacity {org.capacity_bytes:#x}, not {address + size:#x}")
        start = self.now if start is None else start
        begin, end = address // org.burst_bytes, (address + size) // org.burst_bytes
        done = np.full(org.channels, start, np.int64)
        known: list[tuple[tuple[int, int], bytes, int]] = []
        self.log = []
        for c in range(org.channels):
            extent = (-(-(begin - c) // org.channels), -(-(end - c) // org.channels))
            log = np.empty((4, 0), np.int64)
            if extent[0] < extent[1]:
                before = self.channels[c].tobytes()
                same = next((k for e, state, k in known if e == extent and state == before and not log_steps), None)
                if same is not None:
                    self.channels[c] = self.channels[same].copy()
                else:
                    log = self._read_channel(c, extent, start, log_steps)
                    known.append((extent, before, c))
                done[c] = self.channels[c].last_data
            self.log.append(log)
        return StreamRead(done)

    def _read_channel(self, c: int, extent: tuple[int, int], start: int, log_steps: int) -> np.ndarray:
        flight = np.zeros(1, FLIGHT).view(np.recarray)[0]
        flight.first, flight.end = extent
        flight.entered = extent[0]
        log = np.empty((4, log_steps), np.int64)
        ch = self.channels[c]
        if not stream(self.rules, self.policy, self.shape, ch, flight, start, log):
            raise UserError("stream mode cannot follow this timing: too many rows are in flight at once")
        return log[:, : flight.logged].copy()
