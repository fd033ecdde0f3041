"""Routing traces: which experts each token used in each layer, in memory and as a ``.npz`` file.

The format is documented in docs/traces.md. A file is read without pickle; its header carries a magic word, the
format's version, and dtype, shape and SHA-256 of every array, and whatever disagrees is reported in one line that
names file and array.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic

MAGIC = "elmoe3d-trace"
FORMAT_VERSION = 1
ARRAYS = ("experts", "offsets", "domain_of_sequence", "layer_index", "probs", "scores")
OPTIONAL = ("probs", "scores")
TEXTS = ("model", "source", "licence", "phase", "note")
SHIPPED = Path(__file__).parent.parent / "data" / "traces" / "gpt-oss-20b-excerpt.npz"
"""The excerpt that is used where no other trace is named."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Routing decisions of one model.

    experts             uint8 (at most 256 experts) or uint16 [tokens, layers, k], in descending selection score
    offsets             int64 [sequences + 1]: sequence s is tokens offsets[s] to offsets[s + 1]
    num_experts         routed experts of a layer
    domains             names of the kinds of text
    domain_of_sequence  int16 [sequences], index into ``domains``
    layer_index         int16 [layers]: position of each traced layer in the model, ascending
    probs               float16 [tokens, layers, k] or None: combination weights as the model used them
    scores              float16 [tokens, layers, k] or None: the scores that were ranked, never ascending
    model, source, licence, phase ("decode", "prefill", "generated"), note    provenance in words

    Raises UserError naming the array where one breaks these rules.
    """

    experts: np.ndarray
    offsets: np.ndarray
    num_experts: int
    model: str
    source: str
    licence: str
    phase: str = "decode"
    note: str = ""
    domains: tuple[str, ...] = ("all",)
    domain_of_sequence: np.ndarray = field(default=None)
    layer_index: np.ndarray = field(default=None)
    probs: np.ndarray | None = None
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.domain_of_sequence is None:
            object.__setattr__(self, "domain_of_sequence", np.zeros(max(len(self.offsets) - 1, 0), np.int16))
        if self.layer_index is None and self.experts.ndim == 3:
            object.__setattr__(self, "layer_index", np.arange(self.experts.shape[1], dtype=np.int16))
        _check(self)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return self.experts.shape[0]

    @property
    def layers(self) -> int:
        """Traced MoE layers."""
        return self.experts.shape[1]

    @property
    def top_k(self) -> int:
        """Experts that a token uses in a layer."""
        return self.experts.shape[2]

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.offsets) - 1

    def sequence(self, index: int) -> np.ndarray:
        """Experts of one sequence, [its tokens, layers, k]."""
        return self.experts[self.offsets[index] : self.offsets[index + 1]]

    def select(self, sequences: np.ndarray, longest: int | None = None, **changes: object) -> Trace:
        """The same trace with only ``sequences``, each cut to ``longest`` tokens; ``changes`` replace other fields."""
        ranges = [(self.offsets[s], self.offsets[s + 1]) for s in sequences]
        if longest is not None:
            ranges = [(first, min(last, first + longest)) for first, last in ranges]
        rows = np.concatenate([np.arange(first, last) for first, last in ranges])
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["experts"] = self.experts[rows]
        for name in OPTIONAL:
            fields[name] = None if fields[name] is None else fields[name][rows]
        fields["offsets"] = np.cumsum([0, *(last - first for first, last in ranges)]).astype(np.int64)
        fields["domain_of_sequence"] = self.domain_of_sequence[sequences]
        return Trace(**(fields | changes))


def expert_dtype(num_experts: int) -> np.dtype:
    """The dtype that a trace of so many experts uses."""
    return np.dtype(np.uint8 if num_experts <= 256 else np.uint16)


def _refuse(array: str, rule: str, found: object) -> None:
    raise UserError(f"trace array {array!r} must be {rule}, not {found}")


def _check(trace: Trace) -> None:
    """Raise UserError naming the first array that breaks the format's rules."""
    experts, offsets = trace.experts, trace.offsets
    if not (isinstance(trace.num_experts, int) and 1 <= trace.num_experts <= 65536):
        raise UserError(f"trace num_experts must be an integer from 1 to 65536, not {trace.num_experts!r}")
    if trace.phase not in ("decode", "prefill", "generated"):
        raise UserError(f"trace phase must be decode, prefill or generated, not {trace.phase!r}")
    if experts.dtype != expert_dtype(trace.num_experts):
        _refuse("experts", f"{expert_dtype(trace.num_experts)} for {trace.num_experts} experts", experts.dtype)
    if experts.ndim != 3 or 0 in experts.shape:
        _refuse("experts", "[tokens, layers, k] without an empty axis", f"of shape {list(experts.shape)}")
    if trace.top_k > trace.num_experts:
        _refuse("experts", f"of at most {trace.num_experts} experts per token", f"{trace.top_k}")
    if int(experts.max()) >= trace.num_experts:
        _refuse("experts", f"below num_experts {trace.num_experts}", int(experts.max()))
    ranked = np.sort(experts, axis=2)
    if (ranked[..., 1:] == ranked[..., :-1]).any():
        token, layer = np.argwhere((ranked[..., 1:] == ranked[..., :-1]).any(-1))[0]
        _refuse("experts", "distinct per token and layer", f"repeated at token {token}, layer {layer}")
    if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) < 2:
        _refuse("offsets", "int64 [sequences + 1]", f"{offsets.dtype} {list(offsets.shape)}")
    if offsets[0] != 0 or offsets[-1] != trace.tokens or (np.diff(offsets) <= 0).any():
        _refuse("offsets", f"rising from 0 to the {trace.tokens} tokens", f"{offsets[0]}..{offsets[-1]}")
    of = trace.domain_of_sequence
    if of.dtype != np.int16 or of.shape != (trace.sequences,):
        _refuse("domain_of_sequence", f"int16 [{trace.sequences}]", f"{of.dtype} {list(of.shape)}")
    if of.min() < 0 or of.max() >= len(trace.domains):
        _refuse("domain_of_sequence", f"an index of the {len(trace.domains)} domains", int(of.max()))
    index = trace.layer_index
    if index.dtype != np.int16 or index.shape != (trace.layers,) or (np.diff(index) <= 0).any() or index[0] < 0:
        _refuse("layer_index", f"ascending int16 [{trace.layers}]", f"{index.dtype} {list(index.shape)}")
    for name in OPTIONAL:
        values = getattr(trace, name)
        if values is None:
            continue
        if values.dtype != np.float16 or values.shape != experts.shape:
            _refuse(name, f"float16 {list(experts.shape)}", f"{values.dtype} {list(values.shape)}")
        if not np.isfinite(values).all():
            _refuse(name, "finite", "infinite or not a number")
    if trace.probs is not None and (trace.probs < 0).any():
        _refuse("probs", "at least 0", float(trace.probs.min()))
    if trace.scores is not None and (trace.scores[..., 1:] > trace.scores[..., :-1]).any():
        _refuse("scores", "never ascending along k", "ascending")


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def write_trace(path: Path | str, trace: Trace, compact: bool = False) -> Path:
    """Write ``trace`` whole or not at all; the same trace always gives the same bytes.

    ``compact`` compresses with LZMA: a fifth smaller and ten times slower than Deflate.
    """
    method = zipfile.ZIP_LZMA if compact else zipfile.ZIP_DEFLATED
    # Token-major bytes interleave unrelated layers; with tokens innermost (Fortran order in the .npy header) the
    # repeats that a compressor looks for lie side by side.
    arrays = {name: np.asfortranarray(value) for name in ARRAYS if (value := getattr(trace, name)) is not None}
    header = {
        "magic": MAGIC,
        "format_version": FORMAT_VERSION,
        "num_experts": trace.num_experts,
        "domains": list(trace.domains),
        **{name: getattr(trace, name) for name in TEXTS},
        "arrays": {
            name: {"dtype": value.dtype.str, "shape": list(value.shape), "sha256": _digest(value)}
            for name, value in arrays.items()
        },
    }
    text = np.frombuffer(json.dumps(header, indent=1).encode(), np.uint8)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, value in {"header": text, **arrays}.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = method
            archive.writestr(member, _npy(value))
    return write_atomic(path, stream.getvalue())


def _member(archive: zipfile.ZipFile, path: Path, name: str, limit: int | None) -> np.ndarray:
    """One array of the archive; ``limit`` bounds its bytes before anything is allocated."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise UserError(f"{path}: array {name!r} is missing") from None
    if limit is not None and info.file_size > limit:
        raise UserError(f"{path}: array {name!r} holds {info.file_size} bytes, its header allows {limit}")
    try:
        with archive.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # zipfile, zlib, lzma and NumPy each have their own for damaged bytes
        raise UserError(f"{path}: array {name!r} cannot be read: {error}") from error


def _header(archive: zipfile.ZipFile, path: Path) -> dict:
    text = _member(archive, path, "header", 1 << 20)
    try:
        header = json.loads(text.astype(np.uint8).tobytes())
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: array 'header' is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("magic") != MAGIC:
        raise UserError(f"{path}: array 'header' must carry the magic {MAGIC!r}: not a routing trace")
    if header.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: array 'header' must have format_version {FORMAT_VERSION}, not {header.get('format_version')!r}"
        )
    for key, kind in {"num_experts": int, "domains": list, "arrays": dict, **dict.fromkeys(TEXTS, str)}.items():
        if not isinstance(header.get(key), kind):
            raise UserError(f"{path}: array 'header' must have {key} as {kind.__name__}, not {header.get(key)!r}")
    return header


def _checked_array(archive: zipfile.ZipFile, path: Path, name: str, entry: object) -> np.ndarray:
    """An array that has the dtype, shape and checksum that the header states."""
    try:
        dtype, shape, digest = np.dtype(entry["dtype"]), [int(n) for n in entry["shape"]], str(entry["sha256"])
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: array {name!r} must have dtype, shape and sha256 in the header") from error
    value = _member(archive, path, name, size + 4096)
    if value.dtype != dtype or list(value.shape) != shape:
        raise UserError(f"{path}: array {name!r} must be {dtype} {shape}, not {value.dtype} {list(value.shape)}")
    value = np.ascontiguousarray(value)
    if _digest(value) != digest:
        raise UserError(f"{path}: array {name!r} does not match its checksum")
    return value


def read_trace(path: Path | str) -> Trace:
    """Read and check a trace file; UserError in one line names the file and the array at fault."""
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise UserError(f"{path}: no such trace file")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise UserError(f"{path}: not a .npz archive, or a truncated one: {error}") from error
    with archive:
        header = _header(archive, path)
        named = set(header["arrays"])
        for name in sorted(named - set(ARRAYS)):
            raise UserError(f"{path}: array {name!r} is not one of {', '.join(ARRAYS)}")
        for name in ARRAYS:
            if name not in named and name not in OPTIONAL:
                raise UserError(f"{path}: array {name!r} is missing")
        arrays = {name: _checked_array(archive, path, name, header["arrays"][name]) for name in ARRAYS if name in named}
    try:
        return Trace(
            num_experts=header["num_experts"],
            domains=tuple(str(name) for name in header["domains"]),
            **{name: header[name] for name in TEXTS},
            **arrays,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
