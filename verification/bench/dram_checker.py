"""Judges the commands on an HB bank's pins by the data sheet, in picoseconds. Shares no code with anything else.

The checker watches every logic cycle, derives times from the cycle number alone, and raises `ProtocolError` with
the command, its cycle and the parameter violated. It has its own copy of the timing table, in nanoseconds times a
thousand, and knows nothing of clock counts: a wrong conversion in the hardware cannot hide here.
"""

from dataclasses import dataclass, field

NAMES = ("NOP", "ACTIVATE", "READ", "WRITE", "PRECHARGE", "REFRESH")
NOP, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH = range(6)

# ATLAS (MICRO 2026, arXiv 2604.08044), 400 and 500 Mb/s per pin, in ps; CWL and BL 1 clock each, RTW 3. Refresh times
# here are those of 2 Gib at up to 85 C.
HB400_PS = {
    "tCK": 2500,
    "tBL": 2500,
    "tCWL": 2500,
    "tRTW": 7500,
    "tRCD": 17500,
    "tRP": 12500,
    "tRAS": 35000,
    "tRC": 47500,
    "tWR": 17500,
    "tRTP": 5000,
    "tWTR": 7500,
    "tRFC": 65000,
    "tREFI": 7_800_000,
}
HB500_PS = {
    "tCK": 2000,
    "tBL": 2000,
    "tCWL": 2000,
    "tRTW": 6000,
    "tRCD": 16000,
    "tRP": 12000,
    "tRAS": 34000,
    "tRC": 46000,
    "tWR": 16000,
    "tRTP": 4000,
    "tWTR": 6000,
    "tRFC": 65000,
    "tREFI": 7_800_000,
}
TRFC_PS = ((0.5, 15_000), (1, 40_000), (2, 65_000), (4, 90_000), (8, 115_000), (16, 140_000), (32, 170_000))
TREFI_PS = ((2, 7_800_000), (8, 3_900_000), (32, 1_950_000))
REFRESH_INTERVALS_OWED = 8


def data_sheet(part: str = "hb400", gib: float = 2, celsius: float = 85) -> dict[str, int]:
    """The table of a part (``hb400``, ``hb500``) by density and temperature, as one would look it up."""
    table = dict({"hb400": HB400_PS, "hb500": HB500_PS}[part])
    table["tRFC"] = next(time for density, time in TRFC_PS if gib <= density)
    interval = next(time for density, time in TREFI_PS if gib <= density)
    for limit in (85, 95, 105):
        interval = interval // 2 if celsius > limit else interval
    return table | {"tREFI": interval}


class ProtocolError(AssertionError):
    """A command that the part does not allow: which, when, and by what rule."""

    def __init__(self, command: str, cycle: int, rule: str, detail: str):
        self.command, self.cycle, self.rule = command, cycle, rule
        super().__init__(f"{command} at cycle {cycle} violates {rule}: {detail}")


@dataclass
class HbProtocolChecker:
    """Call `step` once per logic cycle from reset.

    table       times in ps (for 2 Gib at up to 85 C unless changed)
    rows, columns  size of the bank
    logic_ps    period of the logic clock
    commands    number of commands seen, by name
    """

    table: dict[str, int] = field(default_factory=lambda: dict(HB400_PS))
    rows: int = 4096
    columns: int = 512
    logic_ps: int = 1000
    commands: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES[1:], 0))
    _cycle: int = -1
    _tick: int = -1
    _refreshes: int = 0
    _open_row: int | None = None
    _last: dict[int, int] = field(default_factory=dict)

    def step(self, tick: int, command: int, row: int, column: int) -> None:
        """Judge the pins of the next logic cycle. Raises ProtocolError."""
        self._cycle += 1
        self._check_tick(tick, command)
        if not tick:
            return
        now = self._tick * self.table["tCK"]
        self._check_refresh_debt(command, now)
        if command == NOP:
            return
        if not NOP < command <= REFRESH:
            self._fail(command, "command set", "no such command")
        self._check_state(command, row, column)
        self._check_times(command, now)
        self._last[command] = now
        self.commands[NAMES[command]] += 1
        if command == ACTIVATE:
            self._open_row = row
        elif command == PRECHARGE:
            self._open_row = None
        elif command == REFRESH:
            self._refreshes += 1

    def _fail(self, command: int, rule: str, detail: str):
        name = NAMES[command] if 0 <= command < len(NAMES) else f"command {command}"
        raise ProtocolError(name, self._cycle, rule, detail)

    def _check_tick(self, tick: int, command: int) -> None:
        """An edge lies in the first logic cycle that does not begin before its time; none may be left out."""
        edge_ps = (self._tick + 1) * self.table["tCK"]
        starts_ps = self._cycle * self.logic_ps
        expected = edge_ps <= starts_ps
        if bool(tick) != expected:
            self._fail(command, "tCK", f"clock edge {self._tick + 1} {'missing' if expected else 'too early'}")
        if tick:
            self._tick += 1
        elif command != NOP:
            self._fail(command, "tCK", "command without a clock edge")

    def _check_refresh_debt(self, command: int, now: int) -> None:
        owed = now // self.table["tREFI"] - self._refreshes
        if owed > REFRESH_INTERVALS_OWED:
            self._fail(command, "tREFI", f"{owed} refreshes owed, at most {REFRESH_INTERVALS_OWED} may be")

    def _check_state(self, command: int, row: int, column: int) -> None:
        if command == ACTIVATE:
            if self._open_row is not None:
                self._fail(command, "bank state", f"row {self._open_row} is open")
            if not 0 <= row < self.rows:
                self._fail(command, "capacity", f"row {row} of {self.rows}")
        elif command in (READ, WRITE):
            if self._open_row is None:
                self._fail(command, "bank state", "no row is open")
            if not 0 <= column < self.columns:
                self._fail(command, "capacity", f"column {column} of {self.columns}")
        elif command == PRECHARGE and self._open_row is None:
            self._fail(command, "bank state", "no row is open")
        elif command == REFRESH and self._open_row is not None:
            self._fail(command, "bank state", f"row {self._open_row} is open")

    def _check_times(self, command: int, now: int) -> None:
        t = self.table
        write_to_read = t["tCWL"] + t["tBL"] + t["tWTR"]
        write_to_precharge = t["tCWL"] + t["tBL"] + t["tWR"]
        rules = {
            ACTIVATE: ((ACTIVATE, "tRC", t["tRC"]), (PRECHARGE, "tRP", t["tRP"]), (REFRESH, "tRFC", t["tRFC"])),
            READ: (
                (ACTIVATE, "tRCD", t["tRCD"]),
                (READ, "tBL", t["tBL"]),
                (WRITE, "tBL", t["tBL"]),
                (WRITE, "tWTR", write_to_read),
            ),
            WRITE: (
                (ACTIVATE, "tRCD", t["tRCD"]),
                (READ, "tBL", t["tBL"]),
                (WRITE, "tBL", t["tBL"]),
                (READ, "tRTW", t["tRTW"]),
            ),
            PRECHARGE: (
                (ACTIVATE, "tRAS", t["tRAS"]),
                (READ, "tRTP", t["tRTP"]),
                (WRITE, "tWR", write_to_precharge),
            ),
            REFRESH: ((ACTIVATE, "tRC", t["tRC"]), (PRECHARGE, "tRP", t["tRP"]), (REFRESH, "tRFC", t["tRFC"])),
        }
        for earlier, rule, least in rules[command]:
            if earlier in self._last and now - self._last[earlier] < least:
                gap = now - self._last[earlier]
                self._fail(command, rule, f"{gap / 1000:g} ns after {NAMES[earlier]}, at least {least / 1000:g} ns")
