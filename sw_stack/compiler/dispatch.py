"""The dispatch stream: what a pass executes, record by record. The engine times it, the compiled runtime executes it.

A record names a kernel, the layer and expert, precision, the tier of each weight slice, how many tokens, the shape, the
record whose result it needs, and how it is shared out: parallel mapping, units of work, first PE, K blocks. Streams are
recordable: `save` and `load` (docs/engine.md describes the file).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic

MAGIC = "elmoe3d-dispatch"
FORMAT_VERSION = 3


class Kernel(IntEnum):
    """What a record runs.

    HOST        a host operation on ``elements``
    ATTENTION   the attention core: ``macs`` on the host; new keys and values written, the cached ones read
    PROJECTION  weights x activations of a dense part
    EXPERT      the same for one expert, on the tokens routed to it
    REFILL      slices written to HB behind a layer's last read; LPDDR bytes are of those not streamed anyway
    """

    HOST = 0
    ATTENTION = 1
    PROJECTION = 2
    EXPERT = 3
    REFILL = 4


class Precision(IntEnum):
    """Weight passes through the array: both slices, the augmented MSB slice, or MXFP4 codes (one pass)."""

    FULL = 0
    DRAFT = 1
    MXFP4 = 2


class Tier(IntEnum):
    """Where a slice is read from; NONE: not read."""

    NONE = 0
    HB = 1
    LPDDR = 2


BEGIN, BARRIER = -2, -1
"""``after`` of a record that needs nothing, and of one that needs all records before it."""

RECORD = np.dtype(
    [
        ("kernel", np.uint8),
        ("precision", np.uint8),
        ("msb_tier", np.uint8),
        ("lsb_tier", np.uint8),
        ("activated", np.uint8),
        ("mapping", np.uint8),
        ("token_blocks", np.uint8),
        ("k_block", np.uint16),
        ("operation", np.uint16),
        ("layer", np.int16),
        ("expert", np.int16),
        ("tokens", np.int32),
        ("inputs", np.int32),
        ("outputs", np.int32),
        ("after", np.int32),
        ("weights_known", np.int32),
        ("msb_bytes", np.int64),
        ("lsb_bytes", np.int64),
        ("elements", np.int64),
        ("macs", np.int64),
        ("hb_bytes", np.int64),
        ("lpddr_bytes", np.int64),
        ("hb_written", np.int64),
        ("lpddr_written", np.int64),
        ("pieces", np.int32),
        ("units", np.int32),
        ("first_pe", np.int16),
    ]
)
"""One record. ``weights_known``: the record behind which it is known which weights are needed (the router's choice),
BEGIN where it always was. ``hb_bytes``, ``lpddr_bytes``: KV read, or refill written and read; ``hb_written``,
``lpddr_written``: new keys and values; ``pieces``: runs of positions that KV bytes lie in, one per sequence.
``mapping``: index into `sw_stack.machines.machine.MAPPINGS`; ``k_block``: groups of a MATMUL; ``token_blocks``: of R
tokens for which weights are read once; ``units``: of work, which go round-robin over the PEs from ``first_pe`` on."""


def is_product(records: np.ndarray) -> np.ndarray:
    """Which records multiply weights, bool."""
    return (records["kernel"] == Kernel.PROJECTION) | (records["kernel"] == Kernel.EXPERT)


@dataclass(frozen=True, eq=False)
class Dispatch:
    """A stream: records, and the names that ``operation`` points into."""

    records: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)


# --- files -------------------------------------------------------------------------------------------------


def save(dispatch: Dispatch, path: Path) -> Path:
    """Write a stream as .npz with magic, version, names, records and their SHA-256."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        magic=np.array(MAGIC),
        format_version=np.array(FORMAT_VERSION),
        names=np.array(dispatch.names),
        sha256=np.array(hashlib.sha256(dispatch.records.tobytes()).hexdigest()),
        records=dispatch.records,
    )
    return write_atomic(path, buffer.getvalue())


def load(path: Path) -> Dispatch:
    """Read what `save` wrote; UserError in one line where it is something else, cut or corrupted."""
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in ("magic", "format_version", "names", "sha256", "records")}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        raise UserError(f"{path} must be a dispatch stream that elmoe3d wrote: {error}") from error
    if str(parts["magic"]) != MAGIC or int(parts["format_version"]) != FORMAT_VERSION:
        raise UserError(f"{path} must be a dispatch stream of format {FORMAT_VERSION}")
    if parts["records"].dtype != RECORD:
        raise UserError(f"{path} must hold records of this version; write it again")
    if hashlib.sha256(parts["records"].tobytes()).hexdigest() != str(parts["sha256"]):
        raise UserError(f"{path} is corrupted: its checksum does not fit")
    return Dispatch(parts["records"], tuple(map(str, parts["names"])))
