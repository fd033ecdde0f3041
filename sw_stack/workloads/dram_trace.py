"""Memory traces in the text format of the common DRAM simulators (Ramulator's load/store and read/write traces).

One request per line: ``R address``, ``W address`` (or LD, ST, READ, WRITE), the address in bytes, decimal or 0x hex,
optionally followed by the arrival cycle in memory clocks; either every line has a cycle or none. Blank lines and what
follows a ``#`` are ignored. A request moves one burst (32 bytes in LPDDR5, one column in HB DRAM).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import UserError

_READS, _WRITES = ("R", "LD", "READ"), ("W", "ST", "WRITE")


@dataclass(frozen=True)
class DramTrace:
    """Requests in order: byte ``addresses`` (N,), ``writes`` (N,) bool, arrival ``cycles`` (N,) or None."""

    addresses: np.ndarray
    writes: np.ndarray
    cycles: np.ndarray | None


def read_trace(path: Path, capacity_bytes: int) -> DramTrace:
    """The trace in ``path``; UserError naming the line that is malformed, out of order or beyond the capacity."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be ASCII text, one request per line") from error
    addresses: list[int] = []
    writes: list[bool] = []
    cycles: list[int] = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"{path} line {number}"
        if len(words) not in (2, 3):
            raise UserError(f"{where} must be 'R|W address [cycle]', not {line.strip()!r}")
        operation = words[0].upper()
        if operation not in _READS + _WRITES:
            raise UserError(f"{where}: operation must be R, LD, W or ST, not {words[0]!r}")
        address = _number(words[1], f"{where}: address")
        if address >= capacity_bytes:
            raise UserError(f"{where}: address must be below the capacity {capacity_bytes:#x}, not {words[1]}")
        if addresses and (len(words) == 3) != bool(cycles):
            raise UserError(f"{where}: either every line or none must have an arrival cycle")
        if len(words) == 3:
            cycle = _number(words[2], f"{where}: cycle")
            if cycle >= 1 << 40 or (cycles and cycle < cycles[-1]):
                raise UserError(
                    f"{where}: cycle must not be before the previous line's (nor beyond 2^40), not {words[2]}"
                )
            cycles.append(cycle)
        addresses.append(address)
        writes.append(operation in _WRITES)
    if not addresses:
        raise UserError(f"{path} must hold at least one request")
    made = (np.array(addresses, np.int64), np.array(writes))
    return DramTrace(*made, np.array(cycles, np.int64) if cycles else None)


def _number(text: str, what: str) -> int:
    try:
        if "_" in text:  # Python's digit groups are not the format's
            raise ValueError
        value = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise UserError(f"{what} must be a decimal or 0x hexadecimal number, not {text!r}") from None
    if value < 0:
        raise UserError(f"{what} must not be negative, not {text!r}")
    return value
