"""The whole external memory at the exact level: channels behind an address mapping, for batches and in closed loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycle_model.counts import Counts
from cycle_model.kernel_cache import njit
from cycle_model.lpddr import channel as channel_state
from cycle_model.lpddr import exact
from cycle_model.lpddr.addressing import RECOMMENDED, Mapping, mapping
from cycle_model.lpddr.rules import NEVER, policy_of, rules_of
from hw.errors import UserError
from hw.lpddr5_config import Lpddr5Config

_NO_TRACE = np.empty((4, 0), np.int64)


def channel_counts(counter: np.ndarray, burst_bytes: int) -> Counts:
    """Action counts of one channel from the counters of ``exact`` or ``stream``, (12,) int64."""
    return Counts(
        lpddr_activates=int(counter[channel_state.ACTIVATES]),
        lpddr_precharges=int(counter[channel_state.PRECHARGES]),
        lpddr_precharges_all=int(counter[channel_state.PRECHARGES_ALL]),
        lpddr_reads=int(counter[channel_state.READS]),
        lpddr_writes=int(counter[channel_state.WRITES]),
        lpddr_read_bytes=int(counter[channel_state.READS]) * burst_bytes,
        lpddr_write_bytes=int(counter[channel_state.WRITES]) * burst_bytes,
        lpddr_refreshes_all_bank=int(counter[channel_state.REFRESHES_ALL_BANK]),
        lpddr_refreshes_per_bank=int(counter[channel_state.REFRESHES_PER_BANK]),
        lpddr_row_hits=int(counter[channel_state.HITS]),
        lpddr_row_misses=int(counter[channel_state.MISSES]),
        lpddr_row_conflicts=int(counter[channel_state.CONFLICTS]),
        lpddr_forwarded_reads=int(counter[channel_state.FORWARDED]),
    )


@dataclass(frozen=True)
class Run:
    """What a batch of requests did.

    config   the memory
    timed    whether the requests came with arrival cycles; otherwise each came as soon as its queue had a place
    arrival, entered, done  (N,) int64 cycles in the order of the requests: given, queue place got, last data beat + 1
    channel  (N,) the channel of each request
    counts   action counts per channel
    command_traces  issued commands per channel, (4, n) as ``exact`` lays them out, where recording was asked for
    """

    config: Lpddr5Config
    timed: bool
    arrival: np.ndarray
    entered: np.ndarray
    done: np.ndarray
    channel: np.ndarray
    counts: list[Counts]
    command_traces: list[np.ndarray]

    @property
    def total(self) -> Counts:
        """Counts of all channels."""
        return sum(self.counts, Counts())

    @property
    def cycles(self) -> int:
        """Cycles from the first arrival to the last data beat."""
        return int(self.done.max() - self.arrival.min()) if self.done.size else 0

    @property
    def latencies(self) -> np.ndarray:
        """Cycles from arrival (or, without arrival cycles, from the queue place) to the last data beat, (N,)."""
        return self.done - (self.arrival if self.timed else self.entered)

    def gb_per_s(self, channel: int | None = None) -> float:
        """Data moved per time over the whole run, GB/s; of one channel or of all."""
        counts = self.total if channel is None else self.counts[channel]
        seconds = self.cycles * self.config.timing.tCK_ns * 1e-9
        return (counts.lpddr_read_bytes + counts.lpddr_write_bytes) / seconds / 1e9 if self.cycles else 0.0

    def fraction_of_peak(self, channel: int | None = None) -> float:
        """``gb_per_s`` over the data bus peak of the same channels."""
        peak = self.config.peak_gb_per_s if channel is None else self.config.timing.peak_gb_per_s
        return self.gb_per_s(channel) / peak


@njit(cache=True)
def _distribute(channel, bank, row, unit, write, arrival, channels):
    """Sort requests by channel, keeping their order: requests (7, N), origin (N,), begin of each channel."""
    begin = np.zeros(channels + 1, np.int64)
    for c in channel:
        begin[c + 1] += 1
    for c in range(channels):
        begin[c + 1] += begin[c]
    place = begin.copy()
    requests = np.empty((channel_state.REQUEST_ROWS, channel.size), np.int64)
    origin = np.empty(channel.size, np.int64)
    for i in range(channel.size):
        k = place[channel[i]]
        place[channel[i]] = k + 1
        origin[k] = i
        requests[channel_state.BANK, k] = bank[i]
        requests[channel_state.ROW, k] = row[i]
        requests[channel_state.UNIT, k] = unit[i]
        requests[channel_state.WRITE, k] = write[i]
        requests[channel_state.ARRIVAL, k] = arrival[i]
    return requests, origin, begin


@njit(cache=True)
def _collect(requests, origin):
    """Entered and done cycles back in the order of the requests."""
    entered = np.empty(origin.size, np.int64)
    done = np.empty(origin.size, np.int64)
    for k in range(origin.size):
        entered[origin[k]] = requests[channel_state.ENTERED, k]
        done[origin[k]] = requests[channel_state.DONE, k]
    return entered, done


class Lpddr5Exact:
    """LPDDR5 memory, command by command. The state persists from one ``run`` to the next.

    Batch: ``run(addresses, ...)``. Closed loop, for a test bench that steps cycle by cycle: ``push`` while
    ``credits`` allow, ``advance_to`` the bench's cycle, collect ``completions``. One instance serves one of the two.
    """

    def __init__(self, config: Lpddr5Config | None = None, mapping_name: str = RECOMMENDED) -> None:
        self.config = config or Lpddr5Config()
        self.mapping: Mapping = mapping(mapping_name, self.config.organization)
        self.rules = rules_of(self.config)
        self.policy = policy_of(self.config)
        self.channels = [
            channel_state.new_channel(self.rules, self.policy) for _ in range(self.config.organization.channels)
        ]
        self._loop: list[_ClosedLoop] | None = None

    def _check(self, addresses: np.ndarray) -> None:
        capacity = self.config.organization.capacity_bytes
        wrong = np.flatnonzero((addresses < 0) | (addresses >= capacity))
        if wrong.size:
            raise UserError(
                f"address of request {int(wrong[0]) + 1} must be below the capacity {capacity:#x}, "
                f"not {int(addresses[wrong[0]]):#x}"
            )

    def run(
        self,
        addresses: np.ndarray,
        writes: np.ndarray | None = None,
        arrivals: np.ndarray | None = None,
        record: bool = False,
    ) -> Run:
        """Serve byte ``addresses`` (N,) in order, 32 bytes each, and return when all are done.

        writes    (N,) bool, default all reads
        arrivals  (N,) cycles, not decreasing; default: at once, as fast as the queues take them
        record    keep every command for the legality checker
        """
        addresses = np.asarray(addresses, np.int64)
        self._check(addresses)
        n, org = addresses.size, self.config.organization
        start = max(int(ch.bus) for ch in self.channels)
        arrival = np.full(n, start, np.int64) if arrivals is None else np.asarray(arrivals, np.int64)
        if arrival.size != n or (arrival.size > 1 and bool((np.diff(arrival) < 0).any())):
            raise UserError("arrival cycles must be one per request and not decreasing")
        write = np.zeros(n, np.int64) if writes is None else np.asarray(writes, np.int64)
        channel, bank, row, _ = self.mapping.decode(addresses)
        unit = addresses // org.burst_bytes
        requests, origin, begin = _distribute(channel, bank, row, unit, write, arrival, org.channels)
        before = [ch.counter.copy() for ch in self.channels]
        traces = []
        for c, ch in enumerate(self.channels):
            req = requests[:, begin[c] : begin[c + 1]]
            trace = self._trace_buffer(req) if record else _NO_TRACE
            ch.next_request = ch.traced = 0
            exact.advance(self.rules, self.policy, ch, req, trace, req.shape[1], NEVER)
            traces.append(trace[:, : ch.traced].copy() if record else trace)
        entered, done = _collect(requests, origin)
        counts = [channel_counts(ch.counter - b, org.burst_bytes) for ch, b in zip(self.channels, before, strict=True)]
        return Run(self.config, arrivals is not None, arrival, entered, done, channel, counts, traces)

    def _trace_buffer(self, req: np.ndarray) -> np.ndarray:
        """Room for every command that these requests can cause.

        At most PRE, ACT-1, ACT-2, CAS and RD per request, and three commands per refresh that falls due; between two
        arrivals a request is served within a few thousand clocks.
        """
        n = req.shape[1]
        span = int(req[channel_state.ARRIVAL, -1]) if n else 0
        refreshes = (span + 4000 * n) // self.policy.interval * self.rules.ranks
        size = 16 * n + 4 * refreshes + 4096
        return np.empty((4, size), np.int64)

    # Closed loop.

    def _loops(self) -> list[_ClosedLoop]:
        if self._loop is None:
            self._loop = [_ClosedLoop(self, ch) for ch in self.channels]
        return self._loop

    def channel_of(self, address: int) -> int:
        """The channel that serves ``address``."""
        return int(self.mapping.decode(np.array([address]))[0][0])

    def credits(self, channel: int, write: bool = False) -> int:
        """Requests that ``push`` would take for this channel now: free places of its read or write queue."""
        depth = self.policy.write_depth if write else self.policy.read_depth
        return depth - self._loops()[channel].outstanding[int(write)]

    def push(self, address: int, cycle: int, tag: object, write: bool = False) -> None:
        """Hand over one request that arrives at ``cycle``, not before the cycle last advanced to.

        Raises UserError beyond the capacity, and ValueError without a credit or back in time (the bench's mistake).
        """
        self._check(np.array([address]))
        channel, bank, row, _ = (int(a[0]) for a in self.mapping.decode(np.array([address])))
        if self.credits(channel, write) <= 0:
            raise ValueError(f"no credit left for {'writes' if write else 'reads'} of channel {channel}")
        self._loops()[channel].push(bank, row, address // self.config.organization.burst_bytes, cycle, tag, write)

    def advance_to(self, cycle: int) -> None:
        """Let every channel issue all commands whose first clock lies before ``cycle``."""
        for loop in self._loops():
            loop.advance_to(cycle)

    def completions(self) -> list[tuple[int, object]]:
        """(cycle, tag) of the requests whose data ended by the cycle advanced to, each reported once, by cycle."""
        found = [item for loop in self._loops() for item in loop.completions()]
        return sorted(found, key=lambda item: item[0])


class _ClosedLoop:
    """Request buffer of one channel in closed loop. A credit returns when the request's data has been reported."""

    def __init__(self, memory: Lpddr5Exact, channel: np.record) -> None:
        self.memory, self.channel = memory, channel
        self.capacity = memory.policy.read_depth + memory.policy.write_depth
        self.requests = np.zeros((channel_state.REQUEST_ROWS, self.capacity), np.int64)
        self.tags: dict[int, object] = {}
        self.outstanding = [0, 0]
        self.total = 0
        self.now = 0

    def push(self, bank: int, row: int, unit: int, cycle: int, tag: object, write: bool) -> None:
        if cycle < self.now or (self.total and cycle < self.requests[channel_state.ARRIVAL, self.total - 1]):
            raise ValueError(f"request at cycle {cycle} comes before cycle {self.now} or before an earlier request")
        if self.total == self.capacity:
            self._forget_reported()
        i = self.total
        self.requests[:, i] = (bank, row, unit, int(write), cycle, -1, -1)
        self.tags[i] = tag
        self.outstanding[int(write)] += 1
        self.total += 1

    def advance_to(self, cycle: int) -> None:
        self.now = max(self.now, cycle)
        m = self.memory
        exact.advance(m.rules, m.policy, self.channel, self.requests, _NO_TRACE, self.total, self.now)

    def completions(self) -> list[tuple[int, object]]:
        done = self.requests[channel_state.DONE]
        ready = [i for i in self.tags if 0 <= done[i] <= self.now]
        for i in ready:
            self.outstanding[int(self.requests[channel_state.WRITE, i])] -= 1
        return [(int(done[i]), self.tags.pop(i)) for i in ready]

    def _forget_reported(self) -> None:
        """Close the gaps of reported requests; the queue's entries and the next index follow."""
        kept = sorted(self.tags)
        place = {old: new for new, old in enumerate(kept)}
        self.requests[:, : len(kept)] = self.requests[:, kept]
        ch = self.channel
        ch.next_request = sum(old < ch.next_request for old in kept)
        for queue in range(2):
            for e in (int(head) for head in ch.queue["head"][queue]):
                while e >= 0:
                    ch.entry[e].request = place[int(ch.entry[e].request)]
                    e = int(ch.entry[e].next)
        self.tags = {place[old]: tag for old, tag in self.tags.items()}
        self.total = len(kept)
