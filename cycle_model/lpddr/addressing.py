"""Address mappings: which channel, rank, bank, row and column a byte address means.

A mapping lists runs of address bits from the least significant (above the 32 bytes of a burst) upwards, and
optionally XOR hashes that fold row bits into another field. Every mapping is a bijection: ``encode`` inverts
``decode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cycle_model.kernel_cache import njit
from hw.errors import UserError, nearest
from hw.lpddr5_timing import Lpddr5Organization

FIELDS = ("channel", "rank", "group", "bank", "row", "column")
_CHANNEL, _RANK, _GROUP, _BANK, _ROW, _COLUMN = range(6)


@dataclass(frozen=True)
class Mapping:
    """One address mapping of an organization.

    name     as given to ``mapping``
    summary  what it is good for
    runs     (field, bits, lowest bit within the field), least significant address bits first
    hashes   (field, lowest bit within the row, bits): field ^= those row bits
    """

    name: str
    summary: str
    organization: Lpddr5Organization
    runs: tuple[tuple[str, int, int], ...]
    hashes: tuple[tuple[str, int, int], ...] = ()

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """``runs`` as (field, address shift, mask, field shift) and ``hashes`` as (field, row shift, mask)."""
        rows, shift = [], 0
        for name, bits, low in self.runs:
            rows.append((FIELDS.index(name), shift, (1 << bits) - 1, low))
            shift += bits
        hashes = [(FIELDS.index(name), low, (1 << bits) - 1) for name, low, bits in self.hashes]
        return np.array(rows, np.int64).reshape(-1, 4), np.array(hashes, np.int64).reshape(-1, 3)

    def decode(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Byte ``addresses`` (N,) -> channel, flat bank (rank, group, bank), row, column; each (N,) int64."""
        org = self.organization
        return _decode(np.asarray(addresses, np.int64), *self.tables, org.banks, org.banks_per_group, org.burst_bytes)

    def encode(self, channel: int, rank: int, group: int, bank: int, row: int, column: int) -> int:
        """The byte address of one burst: the inverse of ``decode``."""
        values = [channel, rank, group, bank, row, column]
        runs, hashes = self.tables
        for field, low, mask in hashes:
            values[field] ^= (row >> int(low)) & int(mask)
        unit = sum(((values[field] >> int(low)) & int(mask)) << int(shift) for field, shift, mask, low in runs)
        return unit * self.organization.burst_bytes


@njit(cache=True)
def _decode(addresses, runs, hashes, banks, banks_per_group, burst_bytes):
    n = addresses.size
    channel = np.empty(n, np.int64)
    flat = np.empty(n, np.int64)
    row = np.empty(n, np.int64)
    column = np.empty(n, np.int64)
    value = np.zeros(6, np.int64)
    for i in range(n):
        unit = addresses[i] // burst_bytes
        value[:] = 0
        for k in range(runs.shape[0]):
            value[runs[k, 0]] |= ((unit >> runs[k, 1]) & runs[k, 2]) << runs[k, 3]
        for k in range(hashes.shape[0]):
            value[hashes[k, 0]] ^= (value[_ROW] >> hashes[k, 1]) & hashes[k, 2]
        channel[i] = value[_CHANNEL]
        flat[i] = value[_RANK] * banks + value[_GROUP] * banks_per_group + value[_BANK]
        row[i] = value[_ROW]
        column[i] = value[_COLUMN]
    return channel, flat, row, column


def _bits(count: int) -> int:
    return count.bit_length() - 1


def mappings(organization: Lpddr5Organization) -> dict[str, Mapping]:
    """All mappings of ``organization`` by name, the naive ones first and the recommended one last."""
    ch, ra, bg, ba, ro, co = (
        _bits(count)
        for count in (
            organization.channels,
            organization.ranks,
            organization.bank_groups,
            organization.banks_per_group,
            organization.rows,
            organization.bursts_per_row,
        )
    )
    channel, rank, row, column = ("channel", ch, 0), ("rank", ra, 0), ("row", ro, 0), ("column", co, 0)
    group, bank = ("group", bg, 0), ("bank", ba, 0)
    hashes = [("group", 0, bg), ("bank", bg, ba)]
    if ro >= bg + ba + ch:
        hashes.append(("channel", bg + ba, ch))
    made = (
        Mapping(
            "channel-contiguous",
            "a channel is one contiguous block; a stream uses one channel and one bank at a time",
            organization,
            (column, group, bank, rank, row, channel),
        ),
        Mapping(
            "row-bank-rank-column-channel",
            "bursts rotate over channels, then fill a row; a stream stays in one bank group",
            organization,
            (channel, column, rank, group, bank, row),
        ),
        Mapping(
            "bank-group-interleaved",
            "bursts rotate over channels, then over all bank groups; four rows open at a time",
            organization,
            (channel, group, column, bank, rank, row),
        ),
        Mapping(
            "xor-hashed",
            "as bank-group-interleaved, with row bits folded into group, bank and channel against power-of-two strides",
            organization,
            (channel, group, column, bank, rank, row),
            tuple(hashes),
        ),
        Mapping(
            "weight-stream",
            "recommended: bursts rotate over channels, then alternate between the two banks that one REFpb refreshes; "
            "all banks of a rank before the next rank, so that idle ranks refresh",
            organization,
            (channel, ("group", 1, bg - 1), column, ("group", bg - 1, 0), bank, rank, row),
        ),
    )
    return {mapping.name: mapping for mapping in made}


RECOMMENDED = "weight-stream"


def mapping(name: str, organization: Lpddr5Organization) -> Mapping:
    """The mapping called ``name``; UserError with the nearest known name."""
    known = mappings(organization)
    if name not in known:
        raise UserError(f"unknown mapping {name!r}; {nearest(name, list(known))}")
    return known[name]
