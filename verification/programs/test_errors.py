"""What stops a PE: each error code, who finds it, in which cycle; equal on exact, fast and RTL."""

from dataclasses import replace

import pytest

from hw.isa.encoding import PeError, Unit, record_header
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import PeFault
from hw.params import chip
from sw_stack.compiler.assembler import assemble
from verification.programs.equality import compare, run_level

_TINY = replace(chip("tiny"), pe=replace(chip("tiny").pe, watchdog_cycles=512))


def _program(text: str, *, instructions: list[int] | None = None, **changes) -> PeProgram:
    """One kernel; the assembler's instructions, some replaced."""
    assembled = list(assemble(text).instructions) if instructions is None else instructions
    settings = {"dispatch": [record_header(0, 0)], "hb": {}} | changes
    return PeProgram(_TINY, instructions=assembled, **settings)


_LOAD = "gather.load LT[0], n=2\n"
_C, _U = PeError, Unit
# name -> (program, code, unit, instruction, first cycle that sees it stopped). A record of one word: instruction i,
# all taking two cycles, is fetched in 1 + 2 i and executes in 2 + 2 i; a unit's first command starts one cycle later.
CASES = {
    "beyond IM": (_program("branch r0, 600"), _C.ADDRESS, _U.SEQUENCER, 600, 4),
    "opcode 0": (_program("", instructions=[0]), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 0, 3),
    "opcode 63": (_program("", instructions=[63]), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 0, 3),
    "field": (_program("", instructions=[0x25 | 3 << 26]), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 0, 3),
    "next alone": (_program("mark 1\nnext"), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 1, 5),
    "five loops": (_program("loop 1, 9\n" * 5), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 4, 11),
    "return in loop": (_program("loop 2, 3\nreturn\nnext"), _C.ILLEGAL_COMMAND, _U.SEQUENCER, 1, 5),
    "descriptor": (_program("describe r1, 0\nreturn", descriptors=[5]), _C.DESCRIPTOR, _U.SEQUENCER, 0, 4),
    "beyond DM": (_program("describe r1, 64\nreturn"), _C.ADDRESS, _U.SEQUENCER, 0, 3),
    "n of 0": (_program("stream.load WL[0], n=0\nreturn"), _C.ILLEGAL_COMMAND, _U.STREAM, 0, 4),
    # gather starts in 3, words in 4 ... 11; matmul starts in 12, free in 12 + 8 + 8 - 1 = 27; the second starts in 28
    # while the first is still in the pipeline: the error is the second's.
    "second matmul": (
        _program(
            "gather.load AL[0], n=8 !0\nstream.load WL[0], n=5\n"
            "array.matmul d=RT[0], a=AL[0], w=WL[0], s=WL[4], n=1, m=1, mode=MSB, first, last ?0\n"
            "array.matmul d=RT[0], a=AL[0], w=WL[0], s=WL[4], n=1, m=5, mode=MSB, first, last\nreturn",
            aggregation=[Chunk(0, tuple(range(8)))],
            stream=[Chunk(0, tuple(range(5)))],
        ),
        _C.ILLEGAL_COMMAND,
        _U.ARRAY,
        3,
        29,
    ),
    # host: 3, answer 4 + 10 = 14. Both wait for it and start, wrongly, in 15: the lower unit counts.
    "two errors in one cycle": (
        _program("host 1, 2, 3 !0 !1\nstore XM[0], n=0 ?0\nhb.load d=WH[0], a=0, n=0 ?1\nreturn", host_cycles=(10,)),
        _C.ILLEGAL_COMMAND,
        _U.HB,
        2,
        16,
    ),
    "WH": (_program("hb.load d=WH[60], a=0, n=5\nreturn"), _C.ADDRESS, _U.HB, 0, 4),
    "WL": (_program("stream.load WL[63], n=2\nreturn"), _C.ADDRESS, _U.STREAM, 0, 4),
    "LT": (_program("gather.load LT[31], n=2\nreturn"), _C.ADDRESS, _U.GATHER, 0, 4),
    "AL": (_program("gather.load AL[1020], n=5\nreturn"), _C.ADDRESS, _U.GATHER, 0, 4),
    "XM": (_program("mark 3\nstore XM[60], n=5\nreturn"), _C.ADDRESS, _U.STORE, 1, 6),
    "HB column": (_program("hb.load d=WH[0], a=1024, n=1\nreturn"), _C.ADDRESS, _U.HB, 0, 4),
    "chains": (
        _program("array.matmul d=RT[0], a=AL[0], w=WH[0], s=WH[8], n=1, m=3, mode=MSB, chain=2\nreturn"),
        _C.ILLEGAL_COMMAND,
        _U.ARRAY,
        0,
        4,
    ),
    "RT": (
        _program("array.matmul d=RT[2], a=AL[0], w=WH[0], s=WH[8], n=1, m=1, mode=MSB, last\nreturn"),
        _C.ADDRESS,
        _U.ARRAY,
        0,
        4,
    ),
    "codes": (
        _program("array.matmul d=RT[0], a=AL[0], w=WH[60], s=WH[8], n=2, m=1, mode=MSB\nreturn"),
        _C.ADDRESS,
        _U.ARRAY,
        0,
        4,
    ),
    "VT": (_program("vector.move d=VT[1023], a=LT[0], n=2\nreturn"), _C.ADDRESS, _U.VECTOR, 0, 4),
    "vector n": (_program("vector.move d=VT[0], a=LT[0], n=0\nreturn"), _C.ILLEGAL_COMMAND, _U.VECTOR, 0, 4),
    # Start 3, request 4, refused in 4: done pulse and error 5.
    "HB refused": (_program("hb.load d=WH[0], a=1020, n=8\nreturn"), _C.HB_REFUSED, _U.HB, 0, 6),
    "refill refused": (_program("stream.refill d=1020, n=8\nreturn"), _C.HB_REFUSED, _U.STREAM, 0, 6),
    # 16 host commands give one semaphore: command k starts in 3 + 3 k (request, answer) and ends 2 later, since the
    # sequencer pushes one every 2 cycles into a queue of 4 that never runs dry: the 16th ends in 3 + 45 + 2 = 50.
    "semaphore": (_program("host 1, 2, 3 !0\n" * 16 + "return"), _C.SEMAPHORE, _U.SEQUENCER, 0, 51),
    # The last thing that happens is the start in 3; 512 quiet cycles end with 515.
    "link that never comes": (_program(_LOAD + "return"), _C.WATCHDOG, _U.SEQUENCER, 0, 516),
    # Nothing starts: the record's word in cycle 0 is the last thing that moves.
    "token that never comes": (_program("host 1, 2, 3 ?4\nreturn"), _C.WATCHDOG, _U.SEQUENCER, 0, 513),
    "host that never answers": (
        _program("host 1, 2, 3\nreturn", host_cycles=(5000,)),
        _C.WATCHDOG,
        _U.SEQUENCER,
        0,
        516,
    ),
    "loop of the sequencer alone": (_program("branch r0, 0"), _C.WATCHDOG, _U.SEQUENCER, 0, 513),
    # Words in 40 and 600: 40 + 512 quiet cycles come first.
    "word too late": (
        _program(_LOAD + "return", aggregation=[Chunk(40, (1,)), Chunk(600, (2,))]),
        _C.WATCHDOG,
        _U.SEQUENCER,
        0,
        553,
    ),
    "refill that starves": (
        _program("stream.refill d=4, n=3\nreturn", stream=[Chunk(100, (1, 2))]),
        _C.WATCHDOG,
        _U.SEQUENCER,
        0,
        614,
    ),
}
LEVELS = ("exact", "fast", "rtl")


@pytest.mark.parametrize("name", CASES)
def test_error(name):
    """Code, unit, instruction and cycle are those worked by hand at every level, and commands before it agree."""
    program, code, unit, instruction, cycles = CASES[name]
    results = [run_level(program, level) for level in LEVELS]
    for result in results:
        assert result.error == PeFault(code, unit, instruction), result.level
        assert result.cycles == cycles, result.level
    compare(results)


def test_every_code_is_reached():
    """The cases above find every error that a bank without ECC can have; two wrong bits need the bank's own test."""
    assert {case[1] for case in CASES.values()} == set(PeError) - {PeError.NONE, PeError.HB_UNCORRECTABLE}


@pytest.mark.parametrize("level", LEVELS)
def test_word_just_in_time(level):
    """A word in the last cycle of the watchdog's patience is progress: nothing stops."""
    program = _program(_LOAD + "return", aggregation=[Chunk(40, (1,)), Chunk(40 + 512, (2,))])
    result = run_level(program, level)
    assert result.error is None
    assert result.cycles == 553
