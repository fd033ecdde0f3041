"""HB timelines worked by hand from the data sheet's nanoseconds, the same for RTL, exact and fast.

Edges of the DRAM clock lie at logic cycles 0, 3, 5, 8, 10, 13, ... (edge k at ceil(2.5 k)). In clocks: tRCD 7,
tRP 5, tRAS 14, tRC 19, tWR 7 (write to precharge 9), tRTP 2, tRFC 6 (0.5 Gib), tREFI 3120 (320 where
refreshes matter, to save cycles). The chip is `tiny`: 16
columns a row. "3:ACT" is a command at cycle 3; beats leave the read buffer one cycle after the edge at which their
burst ends, two edges behind the command.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from cycle_model.hb import REQUEST, Stalls, Trace, Traffic, exact, fast
from hw.params import HbParams, chip
from hw.timing import HbClocks
from verification.bench.hb_harness import run_amaranth

TINY = chip("tiny").hb
SOON = TINY.clocks._replace(nREFI=320)
NAMES = ("NOP", "ACT", "RD", "WR", "PRE", "REF")


@dataclass(frozen=True)
class Golden:
    """Requests (requester, cycle, write, tag, row, column, columns) and what follows from them."""

    requests: tuple[tuple[int, ...], ...]
    commands: str
    dones: str
    reads: str = ""
    writes: str = ""
    params: HbParams = TINY
    clocks: HbClocks | None = None
    takes_from: int = 0

    def traffic(self) -> Traffic:
        stalls = None
        if self.takes_from:
            takes = np.zeros((self.params.requesters, self.takes_from), dtype=np.bool_)
            stalls = Stalls(takes, np.ones_like(takes))
        return Traffic(self.params, np.array(list(self.requests), dtype=REQUEST), stalls, self.clocks)


def _commands(trace: Trace) -> str:
    """Cycle and command, with its row or column."""
    words = []
    for cycle, command, row, column, _, _ in trace.commands.tolist():
        place = {1: f" r{row}", 2: f" c{column}", 3: f" c{column}"}.get(command, "")
        words.append(f"{cycle}:{NAMES[command]}{place}")
    return ", ".join(words)


def _pulses(events: np.ndarray) -> str:
    """Cycle, requester, and what follows."""
    return ", ".join(":".join(map(str, event)) for event in events.tolist())


CASES = {
    # Taken in cycle 0, activated at the next edge. Reads 7 edges later (8, 9), precharge at edge 1 + 14 = 15.
    "single read": Golden(
        requests=((0, 0, 0, 9, 3, 5, 2),),
        commands="3:ACT r3, 20:RD c5, 23:RD c6, 38:PRE",
        dones="39:0:9:0",
        reads="26:0:9:0, 29:0:9:1",
    ),
    # Write at edge 8, precharge at 8 + 1 + 1 + 7 = 17 (cycle 43). The beat is taken in cycle 1.
    "single write": Golden(
        requests=((1, 0, 1, 2, 0, 0, 1),),
        commands="3:ACT r0, 20:WR c0, 43:PRE",
        dones="44:1:2:0",
        writes="1:1",
    ),
    # Precharge at edge 15, next row at 15 + 5 = 20 (= 1 + tRC), read at 27, precharge at 20 + 14 = 34.
    "row crossing": Golden(
        requests=((0, 0, 0, 1, 0, 15, 2),),
        commands="3:ACT r0, 20:RD c15, 38:PRE, 50:ACT r1, 68:RD c0, 85:PRE",
        dones="86:0:1:0",
        reads="26:0:1:0, 74:0:1:1",
    ),
    # The read is taken in cycle 44; activation at edge 17 + 5 = 22, read at 29 (write to read 21 edges), 22 + 14 = 36.
    "write then read": Golden(
        requests=((0, 0, 1, 1, 0, 0, 1), (1, 0, 0, 2, 0, 0, 1)),
        commands="3:ACT r0, 20:WR c0, 43:PRE, 55:ACT r0, 73:RD c0, 90:PRE",
        dones="44:0:1:0, 91:1:2:0",
        reads="79:1:2:1",
        writes="1:0",
    ),
    # tWTR of 24 clocks: the read waits until edge 8 + 1 + 1 + 24 = 34 (cycle 85).
    "turnaround bound by tWTR": Golden(
        requests=((0, 0, 1, 1, 0, 0, 1), (1, 0, 0, 2, 0, 0, 1)),
        commands="3:ACT r0, 20:WR c0, 43:PRE, 55:ACT r0, 85:RD c0, 90:PRE",
        dones="44:0:1:0, 91:1:2:0",
        reads="91:1:2:1",
        writes="1:0",
        clocks=TINY.clocks._replace(nWTR=24),
    ),
    # Idle at edge 320 (cycle 800): refresh. The request of cycle 801 waits for edge 320 + 6 = 326.
    "refresh between transfers": Golden(
        requests=((0, 801, 0, 1, 0, 0, 1),),
        commands="800:REF, 815:ACT r0, 833:RD c0, 850:PRE",
        dones="851:0:1:0",
        reads="839:0:1:1",
        clocks=SOON,
    ),
    # The request comes at the very edge: a due refresh goes first all the same.
    "refresh and request at once": Golden(
        requests=((0, 800, 0, 1, 0, 0, 1),),
        commands="800:REF, 815:ACT r0, 833:RD c0, 850:PRE",
        dones="851:0:1:0",
        reads="839:0:1:1",
        clocks=SOON,
    ),
    # If one may stay owed, the request goes first, at edge 321; the refresh follows at the first idle edge that tRP
    # and tRC allow, 321 + 19 = 340, but the run ends with the done pulse at 839.
    "request before a postponed refresh": Golden(
        requests=((0, 800, 0, 1, 0, 0, 1),),
        commands="803:ACT r0, 820:RD c0, 838:PRE",
        dones="839:0:1:0",
        reads="826:0:1:1",
        params=replace(TINY, refresh_postpone=1),
        clocks=SOON,
    ),
    # Row 0 from edge 317; it falls due at 320; columns 324 to 339, precharge 341, boundary at 346: refresh,
    # then row 1 at 352, column 359, precharge 352 + 14 = 366.
    "refresh at a row boundary": Golden(
        requests=((0, 790, 0, 1, 0, 0, 17),),
        commands="793:ACT r0, "
        + ", ".join(f"{-(-5 * (324 + i) // 2)}:RD c{i}" for i in range(16))
        + ", 853:PRE, 865:REF, 880:ACT r1, 898:RD c0, 915:PRE",
        dones="916:0:1:0",
        reads=", ".join(f"{-(-5 * (326 + i) // 2) + 1}:0:1:0" for i in range(16)) + ", 904:0:1:1",
        clocks=SOON,
    ),
    # The same transfer with one refresh postponed: row 1 at edge 346, six clocks (15 ns) sooner.
    "refresh postponed over a row boundary": Golden(
        requests=((0, 790, 0, 1, 0, 0, 17),),
        commands="793:ACT r0, "
        + ", ".join(f"{-(-5 * (324 + i) // 2)}:RD c{i}" for i in range(16))
        + ", 853:PRE, 865:ACT r1, 883:RD c0, 900:PRE",
        dones="901:0:1:0",
        reads=", ".join(f"{-(-5 * (326 + i) // 2) + 1}:0:1:0" for i in range(16)) + ", 889:0:1:1",
        params=replace(TINY, refresh_postpone=1),
        clocks=SOON,
    ),
    # tREFI of 100 clocks, nobody takes a beat before cycle 3000. Reads 8 to 15 fill the buffer. With 8 owed the row
    # is closed 20 clocks (1 + tRAS + tRP) before edge 900; refreshes every 6 from 886 on, nine because one more
    # falls due at 900; the row opens again at 940. Cycle 3000 frees a place: column 8 at edge 1201.
    "stalled row closed before the ninth refresh": Golden(
        requests=((0, 0, 0, 1, 0, 0, 10),),
        commands="3:ACT r0, "
        + ", ".join(f"{-(-5 * (8 + i) // 2)}:RD c{i}" for i in range(8))
        + ", 2203:PRE, "
        + ", ".join(f"{-(-5 * (886 + 6 * i) // 2)}:REF" for i in range(9))
        + ", 2350:ACT r0, 3003:RD c8, 3005:RD c9, 3010:PRE",
        dones="3011:0:1:0",
        reads=", ".join(f"{3000 + i}:0:1:0" for i in range(8)) + ", 3009:0:1:0, 3011:0:1:1",
        clocks=TINY.clocks._replace(nREFI=100),
        takes_from=3000,
    ),
    # One group of nine columns a row: the check column (8) is read before the data, one edge later each.
    "in-line ECC read": Golden(
        requests=((0, 0, 0, 1, 0, 3, 1),),
        commands="3:ACT r0, 20:RD c8, 23:RD c3, 38:PRE",
        dones="39:0:1:0",
        reads="30:0:1:1",
        params=replace(TINY, ecc="inline"),
    ),
    # Nothing but an error code in the next cycle; another follows, then a legal one, taken in cycle 2.
    "refused request": Golden(
        requests=((0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 2, 63, 15, 2), (0, 0, 0, 3, 63, 15, 1)),
        commands="3:ACT r63, 20:RD c15, 38:PRE",
        dones="1:0:1:1, 2:0:2:3, 39:0:3:0",
        reads="26:0:3:1",
    ),
}
# Edge by edge: a request taken in cycle c is activated at the first edge from c + 1 on.
for request, activated, read, closed in (
    (1, 3, 20, 38),
    (2, 3, 20, 38),
    (3, 5, 23, 40),
    (4, 5, 23, 40),
    (5, 8, 25, 43),
):
    CASES[f"tick phase {request}"] = Golden(
        requests=((0, request, 0, 1, 0, 0, 1),),
        commands=f"{activated}:ACT r0, {read}:RD c0, {closed}:PRE",
        dones=f"{closed + 1}:0:1:0",
        reads=f"{ {20: 26, 23: 29, 25: 31}[read] }:0:1:1",
    )


def _check(case: Golden, trace: Trace) -> None:
    """Commands, beats and done pulses are those worked by hand."""
    assert _commands(trace) == case.commands
    assert _pulses(trace.dones) == case.dones
    assert _pulses(trace.reads) == case.reads
    assert _pulses(trace.writes) == case.writes


@pytest.mark.parametrize("name", CASES)
def test_exact(name):
    """The exact model's timeline is the one worked by hand."""
    _check(CASES[name], exact(CASES[name].traffic()))


@pytest.mark.parametrize("name", CASES)
def test_fast(name):
    """So is the fast model's."""
    _check(CASES[name], fast(CASES[name].traffic()))


@pytest.mark.parametrize("name", CASES)
def test_rtl(name):
    """So is the RTL's, and the protocol checker and the bank agree."""
    _check(CASES[name], run_amaranth(CASES[name].traffic()).trace())
