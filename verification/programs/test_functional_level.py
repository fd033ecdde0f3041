"""The functional level: error codes, what only it can notice, and values placed by hand."""

import struct

import pytest

from cycle_model.pe.functional import functional
from hw.errors import UserError
from hw.isa.encoding import record_header
from hw.isa.program import Chunk, PeProgram
from hw.params import chip
from sw_stack.compiler.assembler import assemble
from verification.programs.golden import GOLDEN
from verification.programs.test_errors import CASES

# Errors of time alone, of which values have none; and of two errors in one cycle, values have the first in the program.
_TIMING_ONLY = {"host that never answers", "word too late", "two errors in one cycle"}


def row(*values: float) -> int:
    """Four FP32 values as a word of `tiny`, the first lowest."""
    return int.from_bytes(struct.pack("<4f", *values), "little")


def run(text: str, *, find_races: bool = False, **changes):
    """One kernel on `tiny`."""
    program = PeProgram(chip("tiny"), assemble(text).instructions, dispatch=[record_header(0, 0)], **changes)
    return functional(program, find_races=find_races)


@pytest.mark.parametrize("name", [name for name in CASES if name not in _TIMING_ONLY])
def test_error_codes(name):
    """Every stop that values decide has the code, unit and instruction that the levels with time find."""
    program, code, unit, instruction, _ = CASES[name]
    error = functional(program).error
    assert (error.code, error.unit, error.instruction) == (code, unit, instruction)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_programs(name):
    """The hand-encoded programs leave the values worked by hand."""
    golden = GOLDEN[name]
    state = functional(golden.program).state
    assert (tuple(state.out), tuple(state.events), tuple(state.host)) == (golden.out, golden.events, golden.host)
    for memory, entries in golden.memories.items():
        assert state.memories[memory] == entries


_LT = [Chunk(0, (row(1, 2, 3, 4), row(-5, 6, 0.5, 0)))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vector.move d=VT[0], a=LT[2], n=1", r"instruction 0 \(vector.move\) reads LT\[2\], which was never written"),
        ("hb.load d=WH[0], a=3, n=1", r"reads HB column 3, which was never written"),
        ("store XM[4], n=1", r"reads XM\[4\], which was never written"),
        ("vector.row_scale row=1, row_a=0", r"reads row register 0, which was never written"),
        (
            "gather.load LT[0], n=2\nvector.move d=VT[0], a=LT[0], n=2\nvector.move d=VT[1], a=VT[0], n=2",
            r"instruction 2 \(vector.move\) reads VT\[1\] in row 1, which its row 0 writes",
        ),
        (
            "gather.load AL[0], n=8\nstream.load WL[0], n=5\n"
            "array.matmul d=0, a=AL[0], w=WL[0], s=WL[4], n=1, m=1, mode=LSB",
            r"instruction 2 \(array.matmul\) continues a chain that was never begun",
        ),
    ],
)
def test_what_only_values_show(text, message):
    """Reading what was never written, and races inside a vector command, are named with their instruction."""
    links = {"aggregation": [Chunk(0, tuple(range(1, 9)))], "stream": [Chunk(0, (1,) * 5)]}
    with pytest.raises(UserError, match=message):
        run(text + "\nreturn", **links)


_MATMUL = "array.matmul d=RT[0], a=AL[0], w=WL[0], s=WL[4], n=1, m=1, mode=LSB, first, last"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"gather.load AL[0], n=8\nstream.load WL[0], n=5 !1\n{_MATMUL} ?1", r"uses AL\[0\], which GATHER has written"),
        (
            f"gather.load AL[0], n=8 !0\nstream.load WL[0], n=5 !1\n{_MATMUL} ?0 ?1\nstream.load WL[4], n=1",
            r"uses WL\[4\], which ARRAY has read at instruction 2",
        ),
        (
            f"gather.load AL[0], n=8 !0\nstream.load WL[0], n=5 !1\n{_MATMUL} ?0 ?1\nvector.move d=VT[0], a=RT[3], n=1",
            r"uses RT\[3\], which ARRAY has written at instruction 2",
        ),
    ],
)
def test_races_between_units_are_found(text, message):
    """An access that no semaphore orders behind the other unit's is named; with the semaphore, or WAIT, it is legal."""
    links = {"aggregation": [Chunk(0, tuple(range(1, 9)))], "stream": [Chunk(0, (1,) * 6)]}
    lines = (text + "\nreturn").splitlines()
    with pytest.raises(UserError, match=message):
        run("\n".join(lines), find_races=True, **links)
    ordered = [line for each in lines for line in ("wait", each)]
    assert run("\n".join(ordered), find_races=True, **links).error is None


def test_row_registers_and_maps_by_hand():
    """Maxima, their scale and reciprocal, INT8 pieces, and rows added where a map says."""
    state = run(
        """
        gather.load LT[0], n=2
        gather.load LT[2], n=1
        vector.row_absmax LT[0], n=2, row=0, first          ; 4, 6
        vector.row_absmax LT[1], n=1, row=0                 ; 6, 6
        vector.row_absmax LT[0], n=2, row=0, first          ; 4, 6 again: the maxima before are forgotten
        vector.row_reciprocal row=1, row_a=0                ; 31.75, 127 / 6
        vector.quantize d=AV[3], a=LT[0], n=2, row_b=1
        vector.row_load LT[2], row=2
        vector.move d=VT[0], a=LT[0], n=2
        vector.move d=VT[2], a=LT[0], n=2
        vector.add d=VT[0], a=VT[0], b=LT[0], n=2, indexed, map=2   ; rows 3 and 1
        return
        """,
        aggregation=[Chunk(0, (*_LT[0].words, 3 | 1 << 32))],
    ).state
    # 31.75 x (1, 2, 3, 4) = 31.75, 63.5, 95.25, 127 -> 32, 64 (ties to even), 95, 127; the other row: 21.166668 x.
    pieces = state.memories["AV"][0].to_bytes(128, "little")
    assert list(struct.unpack("4b", pieces[12:16])) == [32, 64, 95, 127]
    assert list(struct.unpack("4b", pieces[44:48])) == [-106, 127, 11, 0]
    assert state.memories["VT"] == {
        0: row(1, 2, 3, 4),
        1: row(-10, 12, 1, 0),
        2: row(1, 2, 3, 4),
        3: row(-4, 8, 3.5, 4),
    }
    assert state.memories["ROW"][0] == row(4, 6, 0, 0)


def test_the_digest_sees_every_part():
    """Changing one value, one place, one word out or one event changes the digest."""
    base = functional(GOLDEN["vector"].program).state
    digests = {base.digest(chip("tiny"))}
    for change in (
        lambda s: s.memories["VT"].update({0: 1}),
        lambda s: s.memories["VT"].update({9: 0}),
        lambda s: s.out.append(0),
        lambda s: s.events.pop(),
        lambda s: s.host.append((0, 0, 0)),
        lambda s: s.memories["REGISTER"].update({1: 4}),
    ):
        state = functional(GOLDEN["vector"].program).state
        change(state)
        digests.add(state.digest(chip("tiny")))
    assert len(digests) == 7
