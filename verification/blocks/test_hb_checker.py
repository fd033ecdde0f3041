"""The protocol checker: every gate is tight (accepted at n, refused at n - 1), by scripts of commands at edges."""

import pytest

from verification.bench.dram_checker import HB400_PS, HbProtocolChecker, ProtocolError, data_sheet

CODES = {"ACT": 1, "RD": 2, "WR": 3, "PRE": 4, "REF": 5}
# In the published table three gates hide behind others (tRC = tRAS + tRP, and a burst is one clock): widen them.
LONG_TRC = {**HB400_PS, "tRC": 60_000}
LONG_BURST = {**HB400_PS, "tBL": 5_000}


def run(script: list[tuple[int, str]], table=HB400_PS, row: int = 0, column: int = 0) -> HbProtocolChecker:
    """Play commands at DRAM edges; edge k is at cycle ceil(2.5 k), counted here by halves."""
    checker = HbProtocolChecker(dict(table))
    wanted = dict(script)
    edge = 0
    for cycle in range(5 * max(wanted) // 2 + 2):
        tick = 2 * cycle >= 5 * edge
        command = wanted.get(edge, "") if tick else ""
        checker.step(int(tick), CODES.get(command, 0), row, column)
        edge += tick
    assert sum(checker.commands.values()) == len(script)
    return checker


# rule, table, commands before, the later command, the first edge at which it is allowed (worked by hand)
GATES = [
    ("tRCD", HB400_PS, [(0, "ACT")], "RD", 7),
    ("tRCD", HB400_PS, [(0, "ACT")], "WR", 7),
    ("tRAS", HB400_PS, [(0, "ACT")], "PRE", 14),
    ("tRP", HB400_PS, [(0, "ACT"), (20, "PRE")], "ACT", 25),
    ("tRP", HB400_PS, [(0, "ACT"), (20, "PRE")], "REF", 25),
    ("tRC", LONG_TRC, [(0, "ACT"), (14, "PRE")], "ACT", 24),
    ("tRC", LONG_TRC, [(0, "ACT"), (14, "PRE")], "REF", 24),
    ("tRTP", HB400_PS, [(0, "ACT"), (20, "RD")], "PRE", 22),
    ("tWR", HB400_PS, [(0, "ACT"), (20, "WR")], "PRE", 29),  # 1 + 1 + 7 clocks
    ("tWTR", HB400_PS, [(0, "ACT"), (20, "WR")], "RD", 25),  # 1 + 1 + 3 clocks
    ("tRTW", HB400_PS, [(0, "ACT"), (20, "RD")], "WR", 23),
    ("tBL", LONG_BURST, [(0, "ACT"), (20, "RD")], "RD", 22),
    ("tBL", LONG_BURST, [(0, "ACT"), (20, "WR")], "WR", 22),
    ("tRFC", HB400_PS, [(0, "REF")], "ACT", 26),
    ("tRFC", HB400_PS, [(0, "REF")], "REF", 26),
]


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate[0]}-{gate[3]}")
def test_gate_is_tight(gate):
    """The later command is accepted at the edge worked by hand and refused, by this rule, one edge before."""
    rule, table, before, later, edge = gate
    run([*before, (edge, later)], table)
    with pytest.raises(ProtocolError, match=f"violates {rule}:") as caught:
        run([*before, (edge - 1, later)], table)
    assert caught.value.cycle == -(-(edge - 1) * 5 // 2)
    assert caught.value.rule == rule


def test_refresh_debt_is_tight():
    """Eight owed are allowed, the ninth is not: without refresh the run fails at edge 9 x 3120, not before."""
    run([(9 * 3120 - 1, "REF")])
    with pytest.raises(ProtocolError, match="violates tREFI: 9 refreshes owed"):
        run([(9 * 3120 + 1, "REF")])
    run([(1, "REF"), (9 * 3120 + 1, "REF")])


@pytest.mark.parametrize(
    ("script", "rule"),
    [
        ([(0, "RD")], "bank state"),
        ([(0, "WR")], "bank state"),
        ([(0, "PRE")], "bank state"),
        ([(0, "ACT"), (30, "ACT")], "bank state"),
        ([(0, "ACT"), (30, "REF")], "bank state"),
        ([(0, "ACT"), (30, "PRE"), (40, "RD")], "bank state"),
    ],
)
def test_bank_state(script, rule):
    """Columns and precharges need an open row, activation and refresh a closed one."""
    with pytest.raises(ProtocolError, match=f"violates {rule}:"):
        run(script)


@pytest.mark.parametrize(("row", "column"), [(4096, 0), (0, 512)])
def test_capacity(row, column):
    """Rows and columns that the bank does not have are refused; the last ones are accepted."""
    run([(0, "ACT"), (7, "RD")], row=4095, column=511)
    with pytest.raises(ProtocolError, match="violates capacity:"):
        run([(0, "ACT"), (7, "RD")], row=row, column=column)


@pytest.mark.parametrize(
    ("ticks", "command_at", "words"),
    [
        ([1, 1], None, "clock edge 1 too early"),
        ([1, 0, 0, 0], None, "clock edge 1 missing"),
        ([0], None, "clock edge 0 missing"),
        ([1, 0, 0, 1, 0, 1, 0, 1], None, "clock edge 3 too early"),
        ([1, 0, 0, 1, 0], 4, "command without a clock edge"),
    ],
)
def test_clock_edges(ticks, command_at, words):
    """Edges belong at cycles 0, 3, 5, 8, ...; none may be early, missing, or a command beside them."""
    checker = HbProtocolChecker()
    with pytest.raises(ProtocolError, match=words):
        for cycle, tick in enumerate(ticks):
            checker.step(tick, 1 if cycle == command_at else 0, 0, 0)


def test_unknown_command():
    """Codes that the part does not know are refused."""
    with pytest.raises(ProtocolError, match="command 6 at cycle 0 violates command set"):
        HbProtocolChecker().step(1, 6, 0, 0)


@pytest.mark.parametrize(
    ("part", "gib", "celsius", "trfc_ns", "trefi_ns"),
    [
        ("hb400", 0.5, 85, 15, 7800),
        ("hb400", 2, 85.1, 65, 3900),
        ("hb500", 4, 95, 90, 1950),
        ("hb500", 2, 110, 65, 975),
    ],
)
def test_data_sheets(part, gib, celsius, trfc_ns, trefi_ns):
    """The checker's own look-up, against values read off the tables by hand."""
    table = data_sheet(part, gib, celsius)
    assert (table["tRFC"], table["tREFI"]) == (1000 * trfc_ns, 1000 * trefi_ns)
    assert table["tRCD"] == {"hb400": 17_500, "hb500": 16_000}[part]
