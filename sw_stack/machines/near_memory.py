"""Arithmetic inside or beside the external DRAM: bandwidth from bank timing, capped by a power limit.

A unit reads ``access_bytes`` every same-bank column time (tCCD_L) from the rows of its bank, or of its bank group.
Hence, with u units working at once,

    peak = u x access_bytes / tCCD_L,    capped at   power limit / (8 x pJ per bit + macs per byte x pJ per MAC)

and what is sustained is less by row turns (a bank unit waits tRP + tRCD between rows; a bank-group unit opens the
next row in another of its banks meanwhile) and by all-bank refresh. No multiplier of the external bandwidth is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from hw.errors import UserError
from hw.lpddr5_config import Lpddr5Config
from sw_stack.machines.sourced import Sourced


class UnitLevel(Enum):
    """What one unit reads: a bank, or all banks of a bank group in turn."""

    BANK = "bank"
    BANK_GROUP = "bank group"


@dataclass(frozen=True)
class NearProduct:
    """Cost of a product in the memory: time, bytes read by the units, multiply-adds."""

    ns: float
    read_bytes: float
    macs: float


@dataclass(frozen=True, kw_only=True)
class NearMemory:
    """Units in the external memory that multiply weights where they lie.

    level            what one unit reads
    channels         channels that have units; weights that units read lie there
    ranks            ranks of a channel whose units work at once; every rank has units
    access_bytes     bytes that a unit reads per column access
    row_bytes        bytes of a row that a unit reads before the next activation
    macs_per_byte    INT8 multiply-adds that a unit's arithmetic can do per byte of its peak bandwidth
    blocks_external  while units work, their channels serve no reads of the processor
    input_bytes      activations that a unit holds: tokens whose whole input row does not fit read the weights again
    read_pj_per_bit  cell to unit
    mac_pj           per INT8 multiply-add
    power_limit_w    of all units together, reading and arithmetic; the bandwidth is cut where it would be exceeded
    """

    level: UnitLevel
    channels: int
    ranks: Sourced
    access_bytes: Sourced
    row_bytes: Sourced
    macs_per_byte: Sourced
    blocks_external: bool
    input_bytes: Sourced
    read_pj_per_bit: Sourced
    mac_pj: Sourced
    power_limit_w: Sourced

    def check(self, lpddr: Lpddr5Config) -> None:
        """UserError where the units do not fit the memory."""
        org = lpddr.organization
        if not 1 <= self.channels <= org.channels:
            raise UserError(f"near-memory channels must be 1 to {org.channels}, not {self.channels!r}")
        if self.ranks.value not in range(1, org.ranks + 1):
            raise UserError(f"near-memory ranks must be 1 to {org.ranks}, not {self.ranks.value!r}")
        for name in ("access_bytes", "row_bytes", "macs_per_byte", "read_pj_per_bit", "power_limit_w", "input_bytes"):
            if not getattr(self, name).value > 0:
                raise UserError(f"near-memory {name} must be above 0, not {getattr(self, name).value!r}")
        if self.row_bytes.value < self.access_bytes.value:
            raise UserError(f"near-memory row_bytes must be at least access_bytes, not {self.row_bytes.value!r}")

    def units(self, lpddr: Lpddr5Config) -> int:
        """Units that work at once."""
        org = lpddr.organization
        per_rank = org.banks if self.level is UnitLevel.BANK else org.bank_groups
        return self.channels * int(self.ranks.value) * per_rank

    def capacity_bytes(self, lpddr: Lpddr5Config) -> int:
        """Bytes behind the units: the weights they multiply must fit. Every rank has units, ``ranks`` work at once."""
        org = lpddr.organization
        return org.capacity_bytes * self.channels // org.channels

    def power_throttle(self, lpddr: Lpddr5Config) -> float:
        """Share of the timing peak that the power limit allows, at full bandwidth and full arithmetic; at most 1."""
        pj_per_byte = 8 * self.read_pj_per_bit.value + self.macs_per_byte.value * self.mac_pj.value
        watts = self._timing_gb_per_s(lpddr) * pj_per_byte * 1e-3
        return min(1.0, self.power_limit_w.value / watts)

    def peak_gb_per_s(self, lpddr: Lpddr5Config) -> float:
        """Of all units: column accesses back to back, after the power limit."""
        return self._timing_gb_per_s(lpddr) * self.power_throttle(lpddr)

    def macs_per_ns(self, lpddr: Lpddr5Config) -> float:
        """INT8 multiply-adds of all units per nanosecond, after the power limit."""
        return self.macs_per_byte.value * self.peak_gb_per_s(lpddr)

    def stream_ns(self, size: float, lpddr: Lpddr5Config) -> float:
        """Time in which all units together read ``size`` bytes spread evenly over them: rows, row turns, refresh.

        A unit's share is rounded up to whole accesses; a row is closed behind its reads; refresh (tRFCab each tREFI) is
        averaged.
        """
        if size <= 0:
            return 0.0
        t = lpddr.timing
        column_ns = t.tCCD_L_ns / self.power_throttle(lpddr)
        accesses = math.ceil(size / self.units(lpddr) / self.access_bytes.value)
        rows, rest = divmod(accesses, int(self.row_bytes.value // self.access_bytes.value))
        if self.level is UnitLevel.BANK_GROUP and rows:  # the next row opens in another bank, behind these reads
            rows, rest = 0, accesses

        def row_ns(columns: int) -> float:
            """Of one row, activation to activation."""
            return max(t.tRC_ns, t.tRCD_ns + (columns - 1) * column_ns + t.tRTP_ns + t.tRPpb_ns)

        busy = rows * row_ns(int(self.row_bytes.value // self.access_bytes.value)) + (row_ns(rest) if rest else 0.0)
        return busy / (1 - t.tRFCab_ns / t.tREFI_ns)

    def product(
        self, weight_bytes: float, weights: float, tokens: int, inputs: int, lpddr: Lpddr5Config
    ) -> NearProduct:
        """A product of ``weights`` (stored in ``weight_bytes``) with ``tokens`` rows of ``inputs`` INT8 values.

        The slower of reading (once per group of tokens that a unit holds) and arithmetic.
        """
        held = max(1, int(self.input_bytes.value // inputs))
        read = weight_bytes * -(-tokens // held)
        macs = weights * tokens
        return NearProduct(max(self.stream_ns(read, lpddr), macs / self.macs_per_ns(lpddr)), read, macs)

    def sustained_gb_per_s(self, lpddr: Lpddr5Config) -> float:
        """Of a long stream of whole rows."""
        size = 4096 * self.row_bytes.value * self.units(lpddr)
        return size / self.stream_ns(size, lpddr)

    def _timing_gb_per_s(self, lpddr: Lpddr5Config) -> float:
        return self.units(lpddr) * self.access_bytes.value / lpddr.timing.tCCD_L_ns
