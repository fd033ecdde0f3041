"""The program container: what is written is read; what is damaged, foreign or too large is one clear line."""

import dataclasses
import hashlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.errors import UserError
from hw.isa.program import Chunk, PeProgram
from hw.params import CHIPS, chip
from sw_stack.compiler.program import fingerprint, parse_program, program_bytes, read_program, write_program

TINY = chip("tiny")
_WORD = st.integers(0, (1 << 128) - 1)
_CHUNKS = st.lists(st.builds(Chunk, st.integers(0, 1 << 40), st.lists(_WORD, max_size=4).map(tuple)), max_size=3)
_NUMBERS = st.lists(st.integers(0, 0xFFFFFFFF), max_size=8)
programs = st.builds(
    PeProgram,
    st.just(TINY),
    st.lists(st.integers(0, (1 << 160) - 1), max_size=6),
    _NUMBERS,
    _NUMBERS,
    st.dictionaries(st.integers(0, 1023), _WORD, max_size=8),
    _CHUNKS,
    _CHUNKS,
    st.lists(st.integers(0, 999), min_size=1, max_size=3).map(tuple),
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 511), max_size=2),
    st.text(max_size=8),
)


@settings(max_examples=100, deadline=None)
@given(programs)
def test_round_trip(program):
    """Any program that fits its chip comes back equal."""
    assert parse_program(program_bytes(program)) == program


def _example() -> PeProgram:
    return PeProgram(TINY, [0x0A], [1 << 31], [0], {5: 7, 6: 8, 900: 9}, [Chunk(3, (1, 2))], [], (4,), {"main": 0})


def test_every_truncation_and_every_flipped_byte_is_refused(tmp_path):
    """No prefix and no single-byte change of a program is accepted, and each says so in one line with the file."""
    content = program_bytes(_example())
    path = tmp_path / "x.prog"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"x\.prog: (truncated|not a PE program)") as caught:
            read_program(path)
        assert "\n" not in str(caught.value)
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 0x41
        with pytest.raises(UserError):
            parse_program(bytes(broken))


def test_another_configuration_is_refused(tmp_path):
    """A program for one chip does not load for another, nor once any size of its own chip has changed."""
    path = write_program(_example(), tmp_path / "x.prog")
    assert read_program(path).chip is TINY
    with pytest.raises(UserError, match="made for another configuration"):
        read_program(path, chip("fpga-small"))
    for part, size, value in (("pe", "vt_rows", 512), ("array", "add_stages", 4), ("hb", "read_buffer", 4)):
        other = dataclasses.replace(TINY, **{part: dataclasses.replace(getattr(TINY, part), **{size: value})})
        with pytest.raises(UserError, match="made for another configuration"):
            read_program(path, other)
    assert len({fingerprint(c) for c in CHIPS.values()}) == 3  # 4gb and 8gb have the same PE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instructions": [0] * 513}, "instructions must be at most 512 .chip tiny., not 513"),
        ({"descriptors": [0] * 65}, "descriptors must be at most 64"),
        ({"hb": {1024: 0}}, "HB image must lie in 1024 data columns"),
        ({"hb": {0: 1 << 128}}, "HB columns must have 128 bits"),
        ({"stream": [Chunk(0, (1 << 128,))]}, "link words must have 128 bits"),
        ({"host_cycles": ()}, "host_cycles must be one or more"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    """A program larger than its chip is refused when written and when read."""
    with pytest.raises(UserError, match=message):
        program_bytes(dataclasses.replace(_example(), **change))


def test_a_well_formed_file_too_large_for_its_chip_is_refused_when_read():
    """The reader checks sizes itself: a file with a right checksum and too many descriptors."""
    content = program_bytes(_example())
    head_size = struct.unpack_from("<I", content, 52)[0]
    manifest = json.loads(content[56 : 56 + head_size])
    manifest["sections"]["descriptors"] = 70
    head = json.dumps(manifest, sort_keys=True).encode()
    rest = content[56 + head_size :]
    body = struct.pack("<I", len(head)) + head + rest[:20] + bytes(4 * 69) + rest[20:]
    forged = content[:12] + struct.pack("<Q", 52 + len(body)) + hashlib.sha256(body).digest() + body
    with pytest.raises(UserError, match="descriptors must be at most 64"):
        parse_program(forged)
