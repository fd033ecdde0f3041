"""Three programs of the chip `tiny`, encoded by hand in hexadecimal, their results and every cycle worked by hand.

Nothing here is made by the assembler, by a model or by RTL: bits come from the text of `hw/isa/encoding.py`, cycles
from docs/pe.md, docs/pe_array.md and docs/hb_interface.md with the sizes of `tiny`: 4 x 4 x 8 array (b = 4 beats,
s = 2, I = 8, array latency 14), HB 400 (edge k of the DRAM clock in cycle ceil(5 k / 2)).

Words are written highest first: operands m n | s b | a d, then flags, then flags, semaphores and opcode.
"""

from dataclasses import dataclass

from hw.isa.program import Chunk, PeProgram
from hw.params import chip


@dataclass(frozen=True)
class Golden:
    """A program and what it must give at every level; ``memories`` is a part of `PeState.memories`."""

    program: PeProgram
    out: tuple[int, ...]
    events: tuple[tuple[int, int, int], ...]
    host: tuple[tuple[int, int, int], ...]
    memories: dict[str, dict[int, int]]
    unit: tuple[int, ...]
    start: tuple[int, ...]
    done: tuple[int, ...]
    cycles: int


def _instructions(text: str) -> list[int]:
    return [int(line.split(";")[0].replace("_", "").strip(), 16) for line in text.strip().splitlines()]


# --- loop, dispatch, gather, vector, store -------------------------------------------------------------------
# Words 0 1 2 of the record in cycles 0 1 2: entry 0, r1 = 9, r2 = 2.0. Instruction i is fetched and executed in:
#   0 set 3 4 | 1 gather 5 6 | 2 loop 7 8 | 3 mark 9 10 | 4 next 11 12 | mark 13 14 | next 15 16 | mark 17 18
#   next 19 20 | 5 add 21 22 | 6 mul 23 24 | 7 store 25 26 | 8 return 27 28
# gather  pushed 6, head 7, start 7; could take from 8, the chunk comes in 20: words in 20, 21, done 21
# add     head 23, semaphore 0 seen from 22: start 23; latency 2 + 1 + 5 + 1 = 9: done 23 + 1 + 9 - 1 = 32
# mul     head 25, unit free from 33: start 33; latency 2 + 1 + 3 + 1 = 7: done 33 + 1 + 7 - 1 = 40
# store   head 27, semaphore 1 seen from 41: start 41; word offered and taken in 43: done 43; idle in 44
# Values: (1, 2, 3, -1.5) + (0.5, 0.25, 2^-24, 1.5) = (1.5, 2.25, 3, 0): 2^-24 is a quarter of 3's last place; x 2.
_VECTOR = Golden(
    PeProgram(
        chip("tiny"),
        _instructions(
            """
            00000000_00000000_00000003_00000000_04000001 ; set r1, 3
            00000020_00000000_00000000_00000000_04100013 ; gather.load LT[0], n=2 !0
            00000001_00000050_00000000_00000000_00000003 ; loop r1, 5
            00000000_00000000_00410000_00000000_00000008 ; mark r1+4
            00000000_00000000_00000000_00000000_00000004 ; next
            00000010_00000010_00000000_00000000_28000420 ; vector.add d=VT[0], a=LT[0], b=LT[1], n=1 ?0
            00000010_00000002_00000000_00000000_c4110021 ; vector.mul d=XM[0], a=VT[0], b=IMMEDIATE[r2], n=1 !1
            00000010_00000000_00000000_00000000_00000455 ; store XM[0], n=1 ?1
            00000000_00000000_00000000_00000000_0000000a ; return
            """
        ),
        dispatch=[0x0002_0000, 9, 0x4000_0000],
        aggregation=[Chunk(20, (0xBFC00000_40400000_40000000_3F800000, 0x3FC00000_33800000_3E800000_3F000000))],
        kernels={"main": 0},
    ),
    out=(0x00000000_40C00000_40900000_40400000,),
    events=((0, 7, 0),) * 3,
    host=(),
    memories={
        "VT": {0: 0x00000000_40400000_40100000_3FC00000},
        "XM": {0: 0x00000000_40C00000_40900000_40400000},
        "REGISTER": {1: 3, 2: 0x4000_0000},
    },
    unit=(3, 5, 5, 6),
    start=(7, 23, 33, 41),
    done=(21, 32, 40, 43),
    cycles=44,
)

# --- stream, array: one group, LSB then MSB in one chain ------------------------------------------------------
# Word 0 of the record in cycle 0. Fetched, executed: 0 stream 1 2 | 1 gather 3 4 | 2 matmul 5 6 | 3 matmul 7 8 |
#   4 move 9 10 | 5 store 11 12 | 6 return 13 14
# stream  head 3, start 3; words in 4 ... 8: done 8, seen from 9
# gather  head 5, start 5; words in 6 ... 13: done 13, seen from 14
# LSB     head 7, start 14; free = 14 + 8 + 8 - 1 = 29; done = 14 + 8 + 0 + 3 + 14 + 1 = 40
# MSB     start 30 = free + 1; done = 30 + 26 = 56, seen from 57
# move    start 57; latency 2 + 1 + 1 + 1 = 5: done = 57 + 4 + 5 - 1 = 65, seen from 66
# store   start 66; words in 68 ... 71: done 71; idle in 72
# Codes: output 0 input 0: 5 (word 0, nibble 0); output 1 input 9: 3 (word 1, nibble 8 + 1); output 2 input 31: 15
# (word 3, nibble 16 + 7). Scales 1, 0.5, -2, 1. Tokens: all 1 | k | -128 at k = 0 | 127 at k = 31. With h and l the
# same code, LSB + MSB is (l + 16 h) a: 5 + 80 = 85, 3 + 48 = 51, and 15 is h = -1: 15 - 16 = -1.
#   token 0: 85, 51 / 2 = 25.5, -1 x -2 = 2, 0      token 1: 0, 9 x 25.5 = 229.5, 31 x 2 = 62, 0
#   token 2: -128 x 85 = -10880, 0, 0, 0            token 3: 0, 0, 127 x 2 = 254, 0
# All partial sums are small integers or halves, so nothing is rounded; a zero dot times -2 is -0, and +0 + -0 = +0.
_TOKENS = (
    *(0x01010101_01010101_01010101_01010101,) * 2,
    0x0F0E0D0C_0B0A0908_07060504_03020100,
    0x1F1E1D1C_1B1A1918_17161514_13121110,
    0x80,
    0,
    0,
    0x7F << 120,
)
_RESULTS = (
    0x00000000_40000000_41CC0000_42AA0000,
    0x00000000_42780000_43658000_00000000,
    0x00000000_00000000_00000000_C62A0000,
    0x00000000_437E0000_00000000_00000000,
)
_ARRAY = Golden(
    PeProgram(
        chip("tiny"),
        _instructions(
            """
            00000050_00000000_00000000_00000000_00100011 ; stream.load WL[0], n=5 !0
            00000080_00000000_00000000_00000000_00110013 ; gather.load AL[0], n=8 !1
            00100010_00400000_00000000_00000064_04008c14 ; array.matmul LSB, WL[0], WL[4], AL[0], chain 0, first ?0 ?1
            00100010_00400000_00000000_00000068_00120014 ; array.matmul MSB, the same, last, RT[0] !2
            00000040_00000000_00000000_00000000_801304a4 ; vector.move d=XM[0], a=RT[0], n=4 ?2 !3
            00000040_00000000_00000000_00000000_000004d5 ; store XM[0], n=4 ?3
            00000000_00000000_00000000_00000000_0000000a ; return
            """
        ),
        dispatch=[0],
        stream=[Chunk(0, (0x5, 3 << 36, 0, 0xF << 92, 0x3C00_C000_3800_3C00))],
        aggregation=[Chunk(0, _TOKENS)],
        kernels={"main": 0},
    ),
    out=_RESULTS,
    events=(),
    host=(),
    memories={"RT": dict(enumerate(_RESULTS)), "AL": {0: sum(word << 128 * i for i, word in enumerate(_TOKENS))}},
    unit=(2, 3, 4, 4, 5, 6),
    start=(3, 5, 14, 30, 57, 66),
    done=(8, 13, 40, 56, 65, 71),
    cycles=72,
)

# --- descriptor, HB read, host, WAIT, HB refill ---------------------------------------------------------------
# Words 0 1 of the record in cycles 0 1: r1 = 2. Fetched, executed: 0 describe 2 3 (4) | 1 hb.load 5 6 | 2 host 7 8 |
#   3 wait 9 10 ... 53 | 4 refill 54 55 | 5 wait 56 57 ... 100 | 6 count 101 102 | 7 return 103 104
# hb.load  pushed 6, start 7; request in 8; the first edge from 9 on is edge 4 in 10: ACT. RD at edges 11, 12 (28, 30);
#          bursts end at edges 13, 14 (33, 35); beats in 34, 36. PRE at edge max(4 + 14, 12 + 2) = 18, cycle 45: done 46
# host     start 47; request in 48, answer 4 cycles later: done 52
# wait     nothing in progress at the beginning of 53: leaves in 53, semaphore 3 seen from 54
# refill   pushed 55, start 56; request in 57; first edge from 58 on is edge 23 in 58, 18 + tRP and 4 + tRC: ACT.
#          WR at edge 30 (75); PRE at edge max(23 + 14, 30 + 9) = 39, cycle 98: done 99
# wait     leaves in 100. return executed in 104: idle in 105
# Column 17 is row 1, column 1; d of the refill is 17 + 15 = 32: row 2, column 0.
_HB = Golden(
    PeProgram(
        chip("tiny"),
        _instructions(
            """
            00000000_00000000_00010000_00000000_0c000006 ; describe r3, DM[r1]
            00000020_00000000_00030020_00000000_00100010 ; hb.load d=WH[2], a=r3, n=2 !0
            00000000_00000001_0070fff0_00000000_00000416 ; host a=7, b=r1, d=-1 ?0
            00000000_00000000_00000000_00000000_00130007 ; wait !3
            00000010_00000000_000000f3_00000000_000004d2 ; stream.refill d=r3+15, n=1 ?3
            00000000_00000000_00000000_00000000_00000007 ; wait
            00000000_00000001_00500000_00000000_00000009 ; count 5, r1
            00000000_00000000_00000000_00000000_0000000a ; return
            """
        ),
        descriptors=[0, 0, 0x8000_0011],
        dispatch=[0x0001_0000, 2],
        hb={17: 0x1111, 18: 0x2222 << 64},
        stream=[Chunk(0, (0xABCD,))],
        host_cycles=(4,),
        kernels={"main": 0},
    ),
    out=(),
    events=((1, 5, 2),),
    host=((7, 2, 0xFFFF_FFFF),),
    memories={
        "WH": {2: 0x1111, 3: 0x2222 << 64},
        "HB": {17: 0x1111, 18: 0x2222 << 64, 32: 0xABCD},
        "REGISTER": {1: 2, 3: 17},
    },
    unit=(1, 7, 2),
    start=(7, 47, 56),
    done=(46, 52, 99),
    cycles=105,
)

GOLDEN = {"vector": _VECTOR, "array": _ARRAY, "hb": _HB}
