"""PE programs as files (`.prog`): `hw.isa.program.PeProgram` in one checked container, read without pickle.

    offset  size
    0       8     magic
    8       4     format version, little-endian like every number here
    12      8     bytes of the whole file
    20      32    SHA-256 of everything after it
    52      4     bytes of the manifest
    56            manifest, JSON: chip, fingerprint, kernels, host_cycles, expected, sections {name: entries}
                  sections in the order of `_SECTIONS`: instructions of 20 bytes, descriptors and dispatch words of 4;
                  hb, stream, aggregation: runs, each {u64 first column or cycle, u32 words} and its words of 4 C bytes

The fingerprint covers every size of the chip's array, HB bank and PE, so a program runs only where it was made for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import struct
from collections.abc import Iterable
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic
from hw.isa.encoding import COMMAND_BITS
from hw.isa.program import Chunk, PeProgram
from hw.params import CHIPS, ChipParams
from hw.params import chip as chip_named

MAGIC = b"ELMOE-PE"
FORMAT_VERSION = 1
LARGEST_FILE = 1 << 30
_HEADER = struct.Struct("<8sIQ32sI")
_RUN = struct.Struct("<QI")
_CHECKED_FROM = 52  # bytes before the manifest's length are not in the checksum
_SECTIONS = ("instructions", "descriptors", "dispatch", "hb", "stream", "aggregation")


def fingerprint(chip: ChipParams) -> str:
    """16 hex digits that change with every size of array, HB bank and PE; not with name, note or number of PEs."""
    sizes = {part: dataclasses.asdict(getattr(chip, part)) for part in ("array", "hb", "pe")}
    return hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).hexdigest()[:16]


def program_bytes(program: PeProgram) -> bytes:
    """The container's bytes; UserError where the program does not fit its chip."""
    program.check()
    word = program.chip.hb.column_bytes
    runs = {
        "hb": _column_runs(program.hb),
        "stream": [(chunk.available, chunk.words) for chunk in program.stream],
        "aggregation": [(chunk.available, chunk.words) for chunk in program.aggregation],
    }
    manifest = {
        "chip": program.chip.name,
        "fingerprint": fingerprint(program.chip),
        "kernels": program.kernels,
        "host_cycles": list(program.host_cycles),
        "expected": program.expected,
        "sections": {name: len(runs.get(name, getattr(program, name))) for name in _SECTIONS},
    }
    head = json.dumps(manifest, sort_keys=True).encode()
    body = bytearray(struct.pack("<I", len(head)) + head)
    body += b"".join(value.to_bytes(COMMAND_BITS // 8, "little") for value in program.instructions)
    body += b"".join(value.to_bytes(4, "little") for value in (*program.descriptors, *program.dispatch))
    for name in ("hb", "stream", "aggregation"):
        for key, words in runs[name]:
            body += _RUN.pack(key, len(words))
            body += b"".join(value.to_bytes(word, "little") for value in words)
    size = _CHECKED_FROM + len(body)
    return struct.pack("<8sIQ32s", MAGIC, FORMAT_VERSION, size, hashlib.sha256(body).digest()) + bytes(body)


def _column_runs(columns: dict[int, int]) -> list[tuple[int, list[int]]]:
    """Runs of consecutive columns: (first, their bits)."""
    runs = []
    for _, pairs in itertools.groupby(enumerate(sorted(columns)), lambda pair: pair[1] - pair[0]):
        addresses = [column for _, column in pairs]
        runs.append((addresses[0], [columns[column] for column in addresses]))
    return runs


def write_program(program: PeProgram, path: Path | str) -> Path:
    """Write ``program`` whole or not at all."""
    return write_atomic(path, program_bytes(program))


def read_program(path: Path | str, chip: ChipParams | None = None) -> PeProgram:
    """The program in ``path``, for ``chip`` or else the preset that it names.

    Raises
    ------
    UserError
        One line naming the file: not a program, another version, truncated, corrupted, made for another
        configuration, or too large for it.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path} must be at most {LARGEST_FILE} bytes, not {path.stat().st_size}")
    try:
        return parse_program(path.read_bytes(), chip)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def parse_program(content: bytes, chip: ChipParams | None = None) -> PeProgram:
    """`read_program` of bytes."""
    if content[: len(MAGIC)] != MAGIC[: len(content)] or not content:
        raise UserError(f"not a PE program: must begin with {MAGIC!r}")
    if len(content) < _HEADER.size:
        raise UserError(f"truncated: must have {_HEADER.size} bytes or more, not {len(content)}")
    _, version, size, checksum, head_size = _HEADER.unpack_from(content)
    if version != FORMAT_VERSION:
        raise UserError(f"program format must be version {FORMAT_VERSION}, not {version}")
    if len(content) != size:
        raise UserError(f"truncated or padded: must have {size} bytes, not {len(content)}")
    if hashlib.sha256(content[_CHECKED_FROM:]).digest() != checksum:
        raise UserError("corrupted: its checksum does not match its contents")
    try:
        manifest = json.loads(content[_HEADER.size : _HEADER.size + head_size])
        chip = _chip_of(manifest, chip)
        program = _parse_sections(content[_HEADER.size + head_size :], manifest, chip)
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise UserError(f"malformed: its sections do not follow the format ({type(error).__name__})") from error
    program.check()
    return program


def _chip_of(manifest: dict, chip: ChipParams | None) -> ChipParams:
    if chip is None:
        if manifest["chip"] not in CHIPS:
            raise UserError(f"made for chip {manifest['chip']!r}, which is not one of {', '.join(CHIPS)}")
        chip = chip_named(manifest["chip"])
    if manifest["fingerprint"] != fingerprint(chip):
        raise UserError(
            f"made for another configuration (chip {manifest['chip']!r}, sizes {manifest['fingerprint']}): "
            f"chip {chip.name!r} has sizes {fingerprint(chip)}"
        )
    return chip


class _Reader:
    """Numbers one after the other; ValueError where the bytes end too early."""

    def __init__(self, content: bytes):
        self.content = content
        self.place = 0

    def take(self, size: int) -> bytes:
        piece = self.content[self.place : self.place + size]
        if len(piece) != size:
            raise ValueError("ends too early")
        self.place += size
        return piece

    def numbers(self, count: int, size: int) -> list[int]:
        return [int.from_bytes(self.take(size), "little") for _ in range(count)]

    def runs(self, count: int, size: int) -> Iterable[tuple[int, list[int]]]:
        for _ in range(count):
            key, words = _RUN.unpack(self.take(_RUN.size))
            yield key, self.numbers(words, size)


def _parse_sections(content: bytes, manifest: dict, chip: ChipParams) -> PeProgram:
    counts, word = manifest["sections"], chip.hb.column_bytes
    reader = _Reader(content)
    program = PeProgram(
        chip,
        instructions=reader.numbers(counts["instructions"], COMMAND_BITS // 8),
        descriptors=reader.numbers(counts["descriptors"], 4),
        dispatch=reader.numbers(counts["dispatch"], 4),
        host_cycles=tuple(int(cycles) for cycles in manifest["host_cycles"]),
        kernels={str(name): int(entry) for name, entry in manifest["kernels"].items()},
        expected=str(manifest["expected"]),
    )
    for first, words in reader.runs(counts["hb"], word):
        program.hb.update(enumerate(words, first))
    for name in ("stream", "aggregation"):
        setattr(program, name, [Chunk(at, tuple(words)) for at, words in reader.runs(counts[name], word)])
    if reader.place != len(content):
        raise ValueError("bytes left over")
    return program
