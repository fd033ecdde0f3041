"""LPDDR5 command timelines worked by hand from the standard's rules: the model must give these cycles, no others.

Each case states its sums. Clocks of CK at 6400 Mb/s: nRCD 15, nRP 15, nRPab 17, nRAS 34, nRC 49, nRTP 8, nCCD_S 2,
nCCD_L 4, nRRD 4, nFAW 16, nPPD 2, nCL 17, nCWL 9, nBL_min 2, nBL_max 4, nWR 28, nWTR_S 5, nWTR_L 10, nRFCab 224,
nRFCpb 112, npbR2act 6, rank gap 2. ACT-2 follows ACT-1; CAS is one clock before its column. Data of a read ends
nCL + nBL_min = 19 clocks after RD, of a write nCWL + nBL_min = 11 after WR.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from cycle_model.lpddr.memory import Lpddr5Exact
from hw.lpddr5_config import Lpddr5Config, Lpddr5Controller
from hw.lpddr5_timing import Lpddr5Timing
from verification.bench.lpddr5_checker import check
from verification.bench.lpddr5_traffic import commands_of


class Case(NamedTuple):
    """Requests as (arrival, R or W, rank, group, bank, row, column); expected commands and ends of data."""

    rule: str
    requests: list[tuple[int, str, int, int, int, int, int]]
    commands: str
    done: list[int]
    kinds: tuple[int, int, int]  # row hits, misses, conflicts
    controller: dict = {"refresh": "none"}
    timing: dict = {}


CASES = [
    Case(
        "row miss, then row hit (tRCD, tCCD_L)",
        # ACT at 0; RD 0 + 15; the hit in the same group 15 + 4. Ends 15 + 19, 19 + 19.
        [(0, "R", 0, 0, 0, 7, 0), (0, "R", 0, 0, 0, 7, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 CAS@18 RD@19",
        [34, 38],
        (1, 1, 0),
    ),
    Case(
        "row conflict: tRAS, tRP and same-bank tRC",
        # PRE at max(0 + nRAS 34, 15 + nRTP 23) = 34; ACT at max(34 + nRP, 0 + nRC) = 49; RD 49 + 15 = 64.
        [(0, "R", 0, 0, 0, 0, 0), (0, "R", 0, 0, 0, 1, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 PRE@34 ACT-1@49 ACT-2@50 CAS@63 RD@64",
        [34, 83],
        (0, 1, 1),
    ),
    Case(
        "precharge after reads: tRTP",
        # Six reads at 15, 19, ... 35; PRE at max(34, 35 + nRTP) = 43; ACT 43 + 15 = 58; RD 73.
        [(0, "R", 0, 0, 0, 0, c) for c in range(6)] + [(0, "R", 0, 0, 0, 1, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 CAS@18 RD@19 CAS@22 RD@23 CAS@26 RD@27 CAS@30 RD@31 CAS@34 RD@35 "
        "PRE@43 ACT-1@58 ACT-2@59 CAS@72 RD@73",
        [34, 38, 42, 46, 50, 54, 92],
        (5, 1, 1),
    ),
    Case(
        "activate to activate: tRRD",
        # Second ACT 0 + nRRD = 4; its RD 4 + 15 = 19.
        [(0, "R", 0, 0, 0, 0, 0), (0, "R", 0, 1, 0, 0, 0)],
        "ACT-1@0 ACT-2@1 ACT-1@4 ACT-2@5 CAS@14 RD@15 CAS@18 RD@19",
        [34, 38],
        (0, 2, 0),
    ),
    Case(
        "five activates: tFAW (stretched to 30 ns = 24 clocks; at 20 ns it equals 4 x tRRD)",
        # ACTs 0, 4, 8, 12; the fifth not before 0 + 24; its RD 24 + 15 = 39. The RD at 27 follows the ACT in the bus.
        [(0, "R", 0, g % 4, g // 4, 0, 0) for g in range(5)],
        "ACT-1@0 ACT-2@1 ACT-1@4 ACT-2@5 ACT-1@8 ACT-2@9 ACT-1@12 ACT-2@13 CAS@14 RD@15 CAS@18 RD@19 CAS@22 RD@23 "
        "ACT-1@24 ACT-2@25 CAS@26 RD@27 CAS@38 RD@39",
        [34, 38, 42, 46, 58],
        (0, 5, 0),
        timing={"tFAW_ns": 30.0},
    ),
    Case(
        "bank-group switch: tCCD_S against tCCD_L",
        # A at 15; then B (4 + nRCD = 19) and A's second (15 + nCCD_L = 19) tie: B is older. A's second
        # 19 + nCCD_S = 21; B's second max(21 + 2, 19 + 4) = 23.
        [(0, "R", 0, g, 0, 0, c) for c in (0, 1) for g in (0, 1)],
        "ACT-1@0 ACT-2@1 ACT-1@4 ACT-2@5 CAS@14 RD@15 CAS@18 RD@19 CAS@20 RD@21 CAS@22 RD@23",
        [34, 38, 40, 42],
        (2, 2, 0),
    ),
    Case(
        "write to read, same group: tWTR_L",
        # WR 15; RD 15 + nCWL 9 + nBL_max 4 + nWTR_L 10 = 38. Ends 15 + 11, 38 + 19.
        [(0, "W", 0, 0, 0, 0, 0), (16, "R", 0, 0, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 WR@15 CAS@37 RD@38",
        [26, 57],
        (1, 1, 0),
    ),
    Case(
        "write to read, other group: tWTR_S",
        # Group 1 is open since 0. WR 16 + 15 = 31; RD 31 + nCWL 9 + nBL_min 2 + nWTR_S 5 = 47.
        [(0, "R", 0, 1, 0, 0, 0), (16, "W", 0, 0, 0, 0, 0), (32, "R", 0, 1, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 ACT-1@16 ACT-2@17 CAS@30 WR@31 CAS@46 RD@47",
        [34, 42, 66],
        (1, 2, 0),
    ),
    Case(
        "read to write: data bus turnaround",
        # WR 15 + nCL 17 + nBL_min 2 + 2 - nCWL 9 = 27.
        [(0, "R", 0, 0, 0, 0, 0), (16, "W", 0, 0, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 CAS@26 WR@27",
        [34, 38],
        (1, 1, 0),
    ),
    Case(
        "precharge after a write: tWR",
        # PRE 15 + nCWL 9 + nBL_min 2 + nWR 28 = 54; ACT 69; RD 84.
        [(0, "W", 0, 0, 0, 0, 0), (16, "R", 0, 0, 0, 1, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 WR@15 PRE@54 ACT-1@69 ACT-2@70 CAS@83 RD@84",
        [26, 103],
        (0, 1, 1),
    ),
    Case(
        "all-bank refresh: tRPab, tRFCab",
        # Due at 20. PREab max(34, 15 + 8) = 34; REFab max(34 + nRPab 17, nRC 49) = 51; ACT 51 + 224 = 275; RD 290.
        [(0, "R", 0, 0, 0, 0, 0), (21, "R", 0, 0, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 PREab@34 REFab@51 ACT-1@275 ACT-2@276 CAS@289 RD@290",
        [34, 309],
        (0, 2, 0),
        controller={"refresh": "all-bank", "postponed": 1, "refresh_phase": 781 - 20},
    ),
    Case(
        "refresh of an idle rank gives way: tRPab holds closed banks, too",
        # Due at 20, one of eight that may be owed; the rank is idle, so PREab at max(34, 15 + 8) = 34. At 35 a request
        # for a bank that never was open: ACT 34 + nRPab 17 = 51, RD 66; REFab waits.
        [(0, "R", 0, 0, 0, 0, 0), (35, "R", 0, 1, 0, 0, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 PREab@34 ACT-1@51 ACT-2@52 CAS@65 RD@66",
        [34, 85],
        (0, 2, 0),
        controller={"refresh": "all-bank", "refresh_phase": 781 - 20},
    ),
    Case(
        "per-bank refresh: tRFCpb, tpbR2act",
        # Due at 20: the pair last used, banks 0 and 8. PRE 34; REFpb 34 + 15 = 49. Another bank's ACT
        # 49 + 6 = 55, RD 70. The refreshed bank's ACT 49 + 112 = 161, RD 176. Rank 1 falls due at 118 and
        # refreshes at once.
        [(0, "R", 0, 0, 0, 0, 0), (50, "R", 0, 0, 0, 0, 1), (50, "R", 0, 0, 1, 0, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 PRE@34 REFpb@49 ACT-1@55 ACT-2@56 CAS@69 RD@70 REFpb@118 "
        "ACT-1@161 ACT-2@162 CAS@175 RD@176",
        [34, 195, 89],
        (0, 3, 0),
        controller={"refresh": "per-bank", "postponed": 1, "refresh_phase": 97 - 20},
    ),
    Case(
        "rank switch",
        # tRRD is per rank: the second ACT takes the next clock of the bus, 2.
        # RD max(2 + 15, 15 + nBL_min 2 + gap 2) = 19.
        [(0, "R", 0, 0, 0, 0, 0), (0, "R", 1, 0, 0, 0, 0)],
        "ACT-1@0 ACT-2@1 ACT-1@2 ACT-2@3 CAS@14 RD@15 CAS@18 RD@19",
        [34, 38],
        (0, 2, 0),
    ),
    Case(
        "write, then another rank's read",
        # Rank 1 is open since 0. WR of rank 0 16 + 15 = 31; RD of rank 1 31 + nCL 17 + nBL_min 2 + 2 - nCWL 9 = 43.
        [(0, "R", 1, 0, 0, 0, 0), (16, "W", 0, 0, 0, 0, 0), (32, "R", 1, 0, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 ACT-1@16 ACT-2@17 CAS@30 WR@31 CAS@42 RD@43",
        [34, 42, 62],
        (1, 2, 0),
    ),
    Case(
        "write drain from high (4) to low (2) mark",
        # Four writes start the drain: WR 15, 19. Two left, a read waits: RD 19 + nCWL 9 + nBL_max 4 + nWTR_L 10 = 42.
        # No read left: WR 42 + 12 = 54, 58.
        [(0, "R", 0, 0, 0, 0, 0)] + [(0, "W", 0, 0, 0, 0, c) for c in range(1, 5)],
        "ACT-1@0 ACT-2@1 CAS@14 WR@15 CAS@18 WR@19 CAS@41 RD@42 CAS@53 WR@54 CAS@57 WR@58",
        [61, 26, 30, 65, 69],
        (4, 1, 0),
        controller={"refresh": "none", "write_high": 4, "write_low": 2},
    ),
    Case(
        "precharge to precharge: tPPD",
        # At 100 both banks may close: 100 and 100 + nPPD 2. ACTs 100 + 15 = 115 and max(102 + 15, 115 + nRRD) = 119.
        [(t, "R", 0, g, 0, row, 0) for t, row in ((0, 0), (100, 1)) for g in (0, 1)],
        "ACT-1@0 ACT-2@1 ACT-1@4 ACT-2@5 CAS@14 RD@15 CAS@18 RD@19 PRE@100 PRE@102 ACT-1@115 ACT-2@116 "
        "ACT-1@119 ACT-2@120 CAS@129 RD@130 CAS@133 RD@134",
        [34, 38, 149, 153],
        (0, 2, 2),
    ),
    Case(
        "FR-FCFS: a younger hit passes a conflict",
        # The third request hits at 15 + 4 = 19; then PRE max(34, 19 + 8) = 34, ACT 49, RD 64.
        [(0, "R", 0, 0, 0, 0, 0), (0, "R", 0, 0, 0, 1, 0), (0, "R", 0, 0, 0, 0, 1)],
        "ACT-1@0 ACT-2@1 CAS@14 RD@15 CAS@18 RD@19 PRE@34 ACT-1@49 ACT-2@50 CAS@63 RD@64",
        [34, 83, 38],
        (1, 1, 1),
    ),
    Case(
        "closed page: RDA, then tRC",
        # Auto-precharge allows ACT at 15 + nRTP 8 + nRP 15 = 38, but nRC asks for 49.
        [(0, "R", 0, 0, 0, 0, 0), (0, "R", 0, 0, 0, 1, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 RDA@15 ACT-1@49 ACT-2@50 CAS@63 RDA@64",
        [34, 83],
        (0, 2, 0),
        controller={"refresh": "none", "page": "closed"},
    ),
    Case(
        "closed page: WRA, write recovery inside",
        # ACT 15 + nCWL 9 + nBL_min 2 + nWR 28 + nRP 15 = 69; RDA 84.
        [(0, "W", 0, 0, 0, 0, 0), (16, "R", 0, 0, 0, 1, 0)],
        "ACT-1@0 ACT-2@1 CAS@14 WRA@15 ACT-1@69 ACT-2@70 CAS@83 RDA@84",
        [26, 103],
        (0, 2, 0),
        controller={"refresh": "none", "page": "closed"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.rule.split(":")[0] for case in CASES])
def test_timeline(case: Case) -> None:
    """Commands, their cycles, the ends of data and the row statistics equal those worked by hand."""
    config = Lpddr5Config(timing=Lpddr5Timing(**case.timing), controller=Lpddr5Controller(**case.controller))
    memory = Lpddr5Exact(config)
    addresses = np.array([memory.mapping.encode(0, *place) for _, _, *place in case.requests])
    writes = np.array([op == "W" for _, op, *_ in case.requests])
    run = memory.run(addresses, writes, np.array([arrival for arrival, *_ in case.requests]), record=True)
    commands = commands_of(run.command_traces[0], memory.mapping)
    assert " ".join(f"{c.name}@{c.cycle}" for c in commands) == case.commands
    assert run.done.tolist() == case.done
    counts = run.counts[0]
    assert (counts.lpddr_row_hits, counts.lpddr_row_misses, counts.lpddr_row_conflicts) == case.kinds
    assert check(commands) == len(commands)
