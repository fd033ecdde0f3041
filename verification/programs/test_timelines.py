"""Timelines of the chip `tiny` worked by hand from docs/pe.md: what golden.py leaves out, at exact, fast and RTL.

A record of one word: it is taken in cycle 0, instruction i is fetched in 1 + 2 i and executed in 2 + 2 i while nothing
stalls, its command is at the head from 3 + 2 i on. HB edges lie at cycles ceil(5 k / 2).
"""

from dataclasses import dataclass, field

import pytest

from hw.isa.encoding import DESCRIPTOR_VALID, record_header
from hw.isa.program import Chunk, PeProgram
from hw.params import chip
from sw_stack.compiler.assembler import assemble
from verification.programs.equality import run_level

TINY = chip("tiny")


@dataclass(frozen=True)
class Timeline:
    """A kernel, what is around it, and (start, done) of its commands, cycles and counters worked by hand."""

    text: str
    times: tuple[tuple[int, int], ...]
    cycles: int
    counters: dict[str, int] = field(default_factory=dict)
    around: dict = field(default_factory=dict)

    def program(self) -> PeProgram:
        instructions = list(assemble(self.text + "\nreturn").instructions)
        return PeProgram(TINY, instructions=instructions, dispatch=[record_header(0, 0)], **self.around)


CASES = {
    # Start 3, request 4, answer 24; 22 cycles each. Pushes in 2, 4, 6, 8, 10 fill the queue of 4 (one has left in 3).
    # The sixth executes from 12, a place is seen free from 26; the seventh from 28, free from 48.
    "full queue": Timeline(
        "host 1, 2, 3\n" * 7,
        tuple((3 + 22 * k, 24 + 22 * k) for k in range(7)),
        157,
        {"sequencer_queue_stalls": 14 + 20, "host_semaphore_stalls": 0, "host_busy_cycles": 7 * 22},
        {"host_cycles": (20,)},
    ),
    # host: 3, answer 4 + 10 = 14. Both start in 15 and ask in 16; after reset the HB unit goes first.
    # ACT edge 7 (18), RD 14, its beat in 41; PRE edge 7 + 14 = 21 (53): 54. Refill taken in 54; ACT edge 21 + 5 = 26,
    # WR edge 33, PRE edge 33 + 9 = 42 (105): 106. Its request waited from 16 to 53.
    "two requests at once": Timeline(
        "host 1, 2, 3 !0 !1\nhb.load d=WH[0], a=0, n=1 ?0\nstream.refill d=40, n=1 ?1",
        ((3, 14), (15, 54), (15, 106)),
        107,
        {"hb_request_stalls": 0, "stream_request_stalls": 38, "stream_link_stalls": 0, "hb_semaphore_stalls": 10},
        {"host_cycles": (10,), "hb": {0: 5}, "stream": [Chunk(0, (7,))]},
    ),
    # The bank's turn changes hands: behind the first load the waiting refill goes before the second load.
    # hb 0: request 4, ACT edge 2 (5), RD 9, PRE 16 (40): 41. Refill asks in 6, is taken in 41: ACT edge 21, WR 28,
    # PRE 37 (93): 94. hb 1: start 42, asks in 43, is taken in 94: ACT edge 42, RD 49, PRE 56 (140): 141.
    "turns at the bank": Timeline(
        "hb.load d=WH[0], a=0, n=1\nstream.refill d=40, n=1\nhb.load d=WH[1], a=0, n=1",
        ((3, 41), (5, 94), (42, 141)),
        142,
        {"hb_request_stalls": 94 - 43, "stream_request_stalls": 41 - 6},
        {"hb": {0: 5}, "stream": [Chunk(0, (7,))]},
    ),
    # Request 4, taken; ACT edge 2, RD 9 ... 12, PRE 16; next row: ACT 21, RD 28 ... 43, PRE 45 (113): 114; the last
    # burst ends at edge 45 (113), its beat leaves in 114.
    "two rows": Timeline(
        "hb.load d=WH[0], a=12, n=20",
        ((3, 114),),
        115,
        {"hb_activates": 2, "hb_reads": 20, "hb_row_conflicts": 1, "hb_stream_stalls": 0, "hb_busy_cycles": 112},
        {"hb": {12 + i: i for i in range(20)}},
    ),
    # Words in 4 5, 10 11 12 (the chunk of cycle 11 comes behind that of 10): none in 6 7 8 9.
    "late words": Timeline(
        "gather.load LT[0], n=5",
        ((3, 12),),
        13,
        {"gather_link_stalls": 4, "gather_words": 5},
        {"aggregation": [Chunk(0, (1, 2)), Chunk(10, (3, 4)), Chunk(11, (5,))]},
    ),
    # Refill of 3: request 4 taken, word 0 in 5. ACT edge 2, WR edge 9 (23). Word 1 comes in 60: taken in 60, WR at the
    # first edge from 61 on, 25 (63). Word 2 in 90: WR edge 37 (93). PRE edge 37 + 9 = 46 (115): done 116.
    # The controller would take words in 6 ... 59 and 61 ... 89; edges 10 ... 24 and 26 ... 36 were held back.
    "refill waits for words": Timeline(
        "stream.refill d=40, n=3",
        ((3, 116),),
        117,
        {"stream_link_stalls": 54 + 29, "hb_stream_stalls": 15 + 11, "hb_writes": 3, "stream_words": 3},
        {"stream": [Chunk(0, (1,)), Chunk(60, (2,)), Chunk(90, (3,))]},
    ),
    # Answers in the cycle of the request.
    "answer at once": Timeline("host 1, 2, 3\nhost 1, 2, 3", ((3, 4), (5, 6)), 7, {}, {"host_cycles": (0,)}),
    # gather: words 4 ... 27. stream: start 5, words 6 ... 10. matmul: three blocks, I = max(4, 2, 3) = 4: start 28,
    # free 28 + 8 + 12 - 1 = 47, done 28 + 8 + 8 + 3 + 14 + 1 = 62. sigmoid: two cycles a row, latency 2 + 1 + 35 + 1:
    # start 63, done 63 + 4 + 39 - 1 = 105. absmax of 4 rows: latency 2 + 1 + 1 + 1 = 5: 106, 106 + 8 = 114. scale:
    # interval 4, latency 2 + 1 + 8 + 1 = 12: 115, 115 + 15 = 130.
    "blocks and long operations": Timeline(
        "gather.load AL[0], n=24 !0\nstream.load WL[0], n=5\n"
        "array.matmul d=RT[0], a=AL[0], w=WL[0], s=WL[4], n=1, m=3, mode=MSB, first, last ?0 !1\n"
        "vector.sigmoid d=VT[0], a=RT[0], n=2 ?1\nvector.row_absmax a=RT[4], n=4, row=1, first\n"
        "vector.row_scale row=2, row_a=1",
        ((3, 27), (5, 10), (28, 62), (63, 105), (106, 114), (115, 130)),
        131,
        {"array_groups": 3, "array_busy_cycles": 20, "vector_rows": 6, "array_semaphore_stalls": 28 - 7},
        {
            "aggregation": [Chunk(0, tuple(range(24)))],
            "stream": [Chunk(0, (1, 2, 3, 4, 0x3C00_3C00_3C00_3C00))],
        },
    ),
    # Fetch and execute: describe 1 2 (3) | loop 4 5 | skipped | branch 6 7 | skipped | add 8 9 | host 10 11: start 12.
    "control": Timeline(
        "describe r1, 0\nloop r0, 4\nmark 1\nnext\nbranch r0, 6\nmark 2\nadd r2, r1, 3\nhost r2, 0, 0",
        ((12, 14),),
        15,
        {"sequencer_instructions": 6},
        {"descriptors": [9 | DESCRIPTOR_VALID], "host_cycles": (1,)},
    ),
    # wait 1: at once in 2, gives 5, seen from 3. host: pushed 4, start 5 as if there were no semaphore; done 7.
    # wait 2: executes from 6, host is done in 7: leaves in 8.
    "wait gives": Timeline(
        "wait !5\nhost 1, 2, 3 ?5\nwait",
        ((5, 7),),
        11,
        {"sequencer_wait_stalls": 2, "host_semaphore_stalls": 0},
        {"host_cycles": (1,)},
    ),
}


@pytest.mark.parametrize("level", ["exact", "fast", "rtl"])
@pytest.mark.parametrize("name", CASES)
def test_timeline(name, level):
    """Start and done of every command, total cycles and counters are those worked by hand."""
    case = CASES[name]
    result = run_level(case.program(), level)
    assert result.error is None
    assert tuple(zip(result.start, result.done, strict=True)) == case.times
    assert result.cycles == case.cycles
    assert {counter: result.counters[counter] for counter in case.counters} == case.counters
