"""The dispatch stream: what a pass executes, record by record, as the runtime emits it and the engine times it.

A record names a kernel, the layer and expert, precision, the tier of each weight slice, how many tokens, the shape, and
the record whose result it needs. Streams are recordable: `save` and `load` (docs/engine.md describes the file).
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
from sw_stack.compiler.graph import Attention, HostOperation, ModelGraph, Operation, Projection, Role
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import expert_sizes
from sw_stack.elastic.slices import LSB_BITS_PER_WEIGHT, MSB_BITS_PER_WEIGHT
from sw_stack.machines.engine.workload import Pass, PassKind

MAGIC = "elmoe3d-dispatch"
FORMAT_VERSION = 1


class Kernel(IntEnum):
    """What a record runs.

    HOST        a host operation on ``elements``
    ATTENTION   the attention core: ``macs`` on the host, KV bytes from HB and LPDDR
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
    ]
)
"""One record. ``weights_known``: the record behind which it is known which weights are needed (the router's choice),
BEGIN where it always was. ``hb_bytes``, ``lpddr_bytes``: KV read, or refill written and read."""


@dataclass(frozen=True, eq=False)
class Dispatch:
    """A stream: records, and the names that ``operation`` points into."""

    records: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)


class Emitter:
    """Turns passes of one model into dispatch streams.

    Parameters
    ----------
    model : graph of the model
    has_hb : dense weights and KV lie in HB; experts where the pass says they are resident
    share : of HB, decides how much of the KV cache is spilled
    """

    def __init__(self, model: ModelGraph, has_hb: bool, share: HbShare) -> None:
        self.model, self.has_hb, self.share = model, has_hb, share
        self.sizes = expert_sizes(model.config) if model.config.moe else None
        self.names: dict[str, int] = {}
        self._layers = self._templates()

    def _name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def _templates(self) -> list[tuple[Operation, ...]]:
        for operation in (*self.model.begin, *self.model.end):
            self._name(operation.name)
        for layer in self.model.layers:
            for operation in (*layer.before, *layer.expert, *layer.after):
                self._name(operation.name)
        self._name("refill")
        return [layer.before for layer in self.model.layers]

    # --- one pass ------------------------------------------------------------------------------------------

    def emit(self, one: Pass) -> Dispatch:
        """The stream of ``one``."""
        tokens = one.total_tokens
        parts: list[np.ndarray] = []
        at = 0
        spilled = self._spilled_share(one)
        positions = self._positions(one)

        def add(part: np.ndarray) -> None:
            nonlocal at
            parts.append(part)
            at += len(part)

        add(self._chain(self.model.begin, one, -1, tokens, BEGIN, positions, spilled))
        moe = 0
        for layer, operations in enumerate(self.model.layers):
            add(self._chain(operations.before, one, layer, tokens, BARRIER, positions, spilled, base=at))
            if operations.expert:
                add(self._experts(operations.expert, one, layer, moe, at))
                add(self._chain(operations.after, one, layer, tokens, BARRIER, positions, spilled, base=at))
                refill = self._refill(one, layer, moe)
                if refill is not None:
                    add(refill)
                moe += 1
            else:
                add(self._chain(operations.after, one, layer, tokens, BARRIER, positions, spilled, base=at))
        add(self._chain(self.model.end, one, -1, one.head_tokens, BARRIER, positions, spilled, base=at))
        records = np.empty(at, RECORD)  # concatenating as bytes spares NumPy the comparison of 19 field types
        records.view(np.uint8)[:] = np.concatenate([part.view(np.uint8) for part in parts])
        return Dispatch(records, tuple(self.names))

    def _spilled_share(self, one: Pass) -> float:
        """Share of KV bytes in LPDDR."""
        if not self.has_hb:
            return 1.0
        whole = sum(
            op.bytes_per_position for layer in self.model.layers for op in layer.before if isinstance(op, Attention)
        ) * float(one.kv_lengths.sum())
        return self.share.spilled(whole) / whole if whole else 0.0

    def _positions(self, one: Pass) -> dict[int | None, tuple[int, int]]:
        """window -> (positions read, token-position pairs), all sequences together."""
        found = {}
        for window in set(self.model.config.windows):
            limit = np.inf if window is None else window
            read = np.minimum(one.kv_lengths + (one.kind is PassKind.PREFILL) * one.tokens, limit)
            if one.kind is PassKind.PREFILL:  # causal: half of the square, plus what was cached
                pairs = one.tokens * np.minimum(one.kv_lengths + (one.tokens + 1) / 2, limit)
            else:
                pairs = one.tokens * np.minimum(one.kv_lengths + 1, limit)
            found[window] = (int(read.sum()), int(pairs.sum()))
        return found

    def _chain(
        self,
        operations: tuple[Operation, ...],
        one: Pass,
        layer: int,
        tokens: int,
        first_after: int,
        positions: dict,
        spilled: float,
        base: int = 0,
    ) -> np.ndarray:
        """Operations one after another."""
        made = np.zeros(len(operations), RECORD)
        made["layer"], made["expert"], made["tokens"] = layer, -1, tokens
        made["weights_known"] = BEGIN
        made["after"] = base + np.arange(-1, len(operations) - 1)
        made["after"][0] = first_after
        for record, operation in zip(made, operations, strict=True):
            record["operation"] = self.names[operation.name]
            if isinstance(operation, HostOperation):
                record["kernel"], record["elements"] = Kernel.HOST, operation.elements * tokens
            elif isinstance(operation, Attention):
                read, pairs = positions[operation.window]
                size = operation.bytes_per_position * read
                record["kernel"], record["macs"] = Kernel.ATTENTION, operation.macs_per_position * pairs
                record["lpddr_bytes"] = round(size * spilled)
                record["hb_bytes"] = size - record["lpddr_bytes"]
            else:
                self._dense(record, operation, one)
        return made

    def _dense(self, record: np.void, operation: Projection, one: Pass) -> None:
        tier = Tier.HB if self.has_hb else Tier.LPDDR
        whole = one.kind is not PassKind.DRAFT or one.dense_full or operation.role is Role.ROUTER
        record["kernel"] = Kernel.PROJECTION
        record["outputs"], record["inputs"] = operation.outputs, operation.inputs
        record["activated"] = operation.activated
        record["precision"] = Precision.FULL if whole else Precision.DRAFT
        record["msb_tier"], record["lsb_tier"] = tier, tier if whole else Tier.NONE
        record["msb_bytes"] = operation.weights * MSB_BITS_PER_WEIGHT / 8
        record["lsb_bytes"] = operation.weights * LSB_BITS_PER_WEIGHT / 8 if whole else 0

    def _experts(self, projections: tuple[Projection, ...], one: Pass, layer: int, moe: int, base: int) -> np.ndarray:
        """Gate and up, then down, of every expert with tokens in ascending id; each down one expert behind its up."""
        used = np.flatnonzero(one.expert_tokens[moe])
        n = len(used)
        up, down = projections
        made = np.zeros(2 * n, RECORD)
        if not n:
            return made
        # up 0, up 1, down 0, up 2, down 1, ...: the exchange between up and down hides behind the next expert.
        up_at = np.array([0, *range(1, 2 * n - 1, 2)][:n], np.int64)
        down_at = np.array([*range(2, 2 * n - 1, 2), 2 * n - 1][:n], np.int64)
        sizes, weights = self.sizes, up.weights + down.weights
        draft, mxfp4 = one.kind is PassKind.DRAFT, self.model.config.moe.mxfp4
        resident = one.resident[moe, used] & self.has_hb
        for at, projection in ((up_at, up), (down_at, down)):
            made["kernel"][at], made["operation"][at] = Kernel.EXPERT, self.names[projection.name]
            made["outputs"][at], made["inputs"][at] = projection.outputs, projection.inputs
            made["activated"][at] = projection.activated
            made["expert"][at], made["tokens"][at] = used, one.expert_tokens[moe, used]
            made["msb_bytes"][at] = sizes.msb_bytes * projection.weights // weights
            made["msb_tier"][at] = np.where(resident[:, 0], Tier.HB, Tier.LPDDR)
            if not (draft or mxfp4):
                made["lsb_bytes"][at] = sizes.lsb_bytes * projection.weights // weights
                made["lsb_tier"][at] = np.where(resident[:, 1], Tier.HB, Tier.LPDDR)
        made["layer"] = layer
        made["precision"] = Precision.MXFP4 if mxfp4 else Precision.DRAFT if draft else Precision.FULL
        made["weights_known"] = made["after"] = base - 1
        made["after"][down_at] = base + up_at
        return made

    def _refill(self, one: Pass, layer: int, moe: int) -> np.ndarray | None:
        """Slices that become resident; those not streamed in this pass are read once more."""
        if one.next_resident is None:
            return None
        new = one.next_resident[moe] & ~one.resident[moe]
        if not new.any():
            return None
        sizes = np.array([self.sizes.msb_bytes, self.sizes.lsb_bytes])
        streamed = (one.expert_tokens[moe] > 0)[:, None] & ~one.resident[moe]
        made = np.zeros(1, RECORD)
        made["kernel"], made["operation"], made["layer"], made["expert"] = (
            Kernel.REFILL,
            self.names["refill"],
            layer,
            -1,
        )
        made["after"] = made["weights_known"] = BARRIER
        made["hb_bytes"] = (new * sizes).sum()
        made["lpddr_bytes"] = ((new & ~streamed) * sizes).sum()
        return made


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
