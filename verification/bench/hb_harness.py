"""Everything around an HB controller under test: requesters, bank, protocol checker, scoreboard, event log.

The harness is plain Python stepped once per logic cycle, so that Amaranth's simulator (`run_amaranth`) and cocotb
(`verification.bench.hb_cocotb`) use the very same one. Ports are named as in the exported Verilog.
"""

import hashlib

import numpy as np
from amaranth.hdl import Cat, Value
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from cycle_model.counts import Counts
from cycle_model.hb import Trace, Traffic
from hw.memory.hb_controller import HbController
from hw.memory.hb_types import beat_layout, transfer_layout
from hw.timing import HbClocks
from rtl_gen.dram_device import HbDramDevice
from verification.bench import ecc_reference
from verification.bench.dram_checker import HbProtocolChecker, data_sheet
from verification.bench.payloads import pack, unpack


def table_of(clocks: HbClocks) -> tuple[dict[str, int], int]:
    """A checker's table for experimental clocks, and the logic period, in ps: 1 ns where the ratio allows whole ps."""
    logic_ps = 1000 if 1000 * clocks.tick_num % clocks.tick_den == 0 else 1000 * clocks.tick_den
    tck = logic_ps * clocks.tick_num // clocks.tick_den
    table = {f"t{name[1:]}": getattr(clocks, name) * tck for name in HbClocks._fields if name.startswith("n")}
    return {"tCK": tck, **table}, logic_ps


class HbHarness:
    """Drives ``traffic`` into a controller and logs what happens.

    Each cycle: drive `inputs`, let the logic settle, pass all outputs to `sample`. Raises AssertionError on wrong
    data, on a beat for the wrong requester and on a response that nobody waits for; ProtocolError on a command
    that the bank does not allow.

    Parameters
    ----------
    traffic : Traffic
    checker : HbProtocolChecker
    expect_uncorrectable : bool
        Beats may be marked uncorrectable; their data is then not compared.
    """

    def __init__(self, traffic: Traffic, checker: HbProtocolChecker, expect_uncorrectable: bool = False):
        params, clocks = traffic.params, traffic.timing
        self.params = params
        self.checker = checker
        self.device = HbDramDevice(
            params.data_bits,
            check_bits=params.check_bits if params.ecc == "sideband" else 0,
            read_clocks=clocks.nCL + clocks.nBL,
            write_clocks=clocks.nCWL,
            encode=lambda word: ecc_reference.encode(word, params.data_bits),
        )
        if params.ecc == "inline":
            self._initialise_inline()
        requests, self._starts = traffic.queues()
        self._requests = [{name: int(q[name]) for name in q.dtype.names} for q in requests]
        self._heads = list(map(int, self._starts[:-1]))
        self._streams = traffic.streams
        self._transfer = transfer_layout(params)
        self._beat = beat_layout(params)
        self._offering = [False] * params.requesters
        self._written = [0] * params.requesters
        self._awaited = []  # accepted, no done pulse yet
        self._memory: dict[tuple[int, int], int] = {}
        self._write_places: list[tuple[int, int]] = []
        self._expected: list[tuple[int, int, int, int]] = []  # owner, tag, last, data of beats to come
        self._expect_uncorrectable = expect_uncorrectable
        self.cycle = 0
        self.uncorrectable_beats = self.corrected_pulses = self.uncorrectable_pulses = 0
        self.error_seen = 0
        self._commands, self._accepts, self._dones, self._reads, self._writes = [], [], [], [], []
        self._counts = Counts()
        self._first_of_row = False
        self._open = (-1, None)  # done pulses before the last activation, its row

    def _initialise_inline(self) -> None:
        """Check columns of a bank that was initialised as it should be."""
        params, plain = self.params, self.device.initial

        def initial(row: int, column: int) -> int:
            if column % 9 != 8:
                return plain(row, column)
            words = (plain(row, column - 8 + i) for i in range(8))
            return sum(ecc_reference.encode(w, params.data_bits) << params.check_bits * i for i, w in enumerate(words))

        self.device.initial = initial

    @property
    def finished(self) -> bool:
        """Every request answered and every beat read."""
        return self._heads == list(self._starts[1:]) and not self._awaited and not self._expected

    def inputs(self) -> dict[str, int]:
        """Values of the controller's stream inputs in this cycle."""
        values = {}
        for r in range(self.params.requesters):
            prefix = f"requesters__{r}"
            head = self._heads[r]
            asks = head < self._starts[r + 1] and self._requests[head]["cycle"] <= self.cycle
            values[f"{prefix}__request__valid"] = int(asks)
            if asks:
                values[f"{prefix}__request__payload"] = pack(self._transfer, self._requests[head])
            if not self._offering[r]:
                self._offering[r] = self._pattern(self._streams.offers, r)
            values[f"{prefix}__write__valid"] = int(self._offering[r])
            values[f"{prefix}__write__payload"] = self._beat_to_write(r)
            values[f"{prefix}__read__ready"] = int(self._pattern(self._streams.takes, r))
        return values

    def _pattern(self, pattern: np.ndarray, r: int) -> bool:
        return self.cycle >= pattern.shape[1] or bool(pattern[r, self.cycle])

    def _beat_to_write(self, r: int) -> int:
        """Data of the requester's next beat: a digest of who and which."""
        digest = hashlib.blake2b(f"{r}:{self._written[r]}".encode(), digest_size=32).digest()
        return int.from_bytes(digest * 4, "little") & (1 << self.params.data_bits) - 1

    def sample(self, out: dict[str, int]) -> dict[str, int]:
        """The controller's outputs of this cycle; returns the pins to drive in the next."""
        self._dones_of(out)
        self._pins_of(out)
        for r in range(self.params.requesters):
            prefix = f"requesters__{r}"
            if out[f"{prefix}__read__valid"] and self._pattern(self._streams.takes, r):
                self._read_beat(r, unpack(self._beat, out[f"{prefix}__read__payload"]))
            if out[f"{prefix}__write__ready"] and self._offering[r]:
                assert self._write_places, f"cycle {self.cycle}: a beat of requester {r} was taken, none was due"
                self._memory[self._write_places.pop(0)] = self._beat_to_write(r)
                self._writes.append((self.cycle, r))
                self._written[r] += 1
                self._offering[r] = False
            head = self._heads[r]
            asks = head < self._starts[r + 1] and self._requests[head]["cycle"] <= self.cycle
            if asks and out[f"{prefix}__request__ready"]:
                self._accept(r, self._requests[head])
        self.error_seen |= out["error"]
        self.corrected_pulses += out["corrected"]
        self.uncorrectable_pulses += out["uncorrectable"]
        self._counts.hb_busy_cycles += out["busy"]
        self._counts.hb_stall_clocks += out["stalled"]
        self.cycle += 1
        word, check = self.device.step(
            out["pins__tick"],
            out["pins__command"],
            out["pins__row"],
            out["pins__column"],
            out["pins__write_data"],
            out.get("pins__write_check", 0),
        )
        return {"pins__read_data": word} | ({"pins__read_check": check} if self.params.ecc == "sideband" else {})

    def _is_legal(self, request: dict[str, int]) -> bool:
        row_columns = self.params.data_columns
        end = request["row"] * row_columns + request["column"] + request["columns"]
        aligned = not request["write"] or (request["column"] % 8 == 0 and request["columns"] % 8 == 0)
        return (
            request["columns"] > 0
            and request["column"] < row_columns
            and end <= self.params.rows * row_columns
            and (aligned or self.params.ecc != "inline")
        )

    def _accept(self, r: int, request: dict[str, int]) -> None:
        self._accepts.append((self.cycle, r, request["tag"]))
        self._heads[r] += 1
        legal = self._is_legal(request)
        self._awaited.append((r, request["tag"], legal))
        if not legal:
            return
        row_columns = self.params.data_columns
        first = request["row"] * row_columns + request["column"]
        places = [divmod(place, row_columns) for place in range(first, first + request["columns"])]
        if request["write"]:
            self._write_places += places
            return
        for place in places:
            row, column = place
            physical = column + column // 8 if self.params.ecc == "inline" else column
            word = self._memory.get(place, self.device.initial(row, physical))
            self._expected.append((r, request["tag"], int(place == places[-1]), word))

    def _read_beat(self, r: int, beat: dict[str, int]) -> None:
        assert self._expected, f"cycle {self.cycle}: requester {r} got a beat that nobody asked for"
        owner, tag, last, word = self._expected.pop(0)
        found = (r, beat["tag"], beat["last"])
        assert found == (owner, tag, last), f"cycle {self.cycle}: beat {found}, expected {(owner, tag, last)}"
        if beat["uncorrectable"]:
            assert self._expect_uncorrectable, f"cycle {self.cycle}: beat marked uncorrectable"
            self.uncorrectable_beats += 1
        else:
            assert beat["data"] == word, f"cycle {self.cycle}: read {beat['data']:#x}, expected {word:#x}"
        self._reads.append((self.cycle, r, tag, last))

    def _dones_of(self, out: dict[str, int]) -> None:
        for r in range(self.params.requesters):
            prefix = f"requesters__{r}__done"
            if out[prefix]:
                assert self._awaited, f"cycle {self.cycle}: done pulse for requester {r} that waits for none"
                owner, tag, legal = self._awaited.pop(0)
                error = out[f"{prefix}_error"]
                assert (owner, tag, legal) == (r, out[f"{prefix}_tag"], error == 0), f"cycle {self.cycle}: done"
                self._dones.append((self.cycle, r, tag, error))
                self._counts.hb_transfers += error == 0
                self._counts.hb_refused += error != 0

    def _pins_of(self, out: dict[str, int]) -> None:
        command, row, column = out["pins__command"], out["pins__row"], out["pins__column"]
        self.checker.step(out["pins__tick"], command, row, column)
        if command == 0:
            return
        if command == 5:
            self._commands.append((self.cycle, 5, 0, 0, -1, -1))
            self._counts.hb_refreshes += 1
            return
        column = column if command in (2, 3) else 0
        self._commands.append((self.cycle, command, row, column, out["owner"], out["owner_tag"]))
        self._tally(command, row, column)

    def _tally(self, command: int, row: int, column: int) -> None:
        """Counters by observation of the pins."""
        counts, params = self._counts, self.params
        if command == 1:
            counts.hb_activates += 1
            finished = len(self._dones)
            if self._open[0] != finished:
                counts.hb_row_misses += 1
            elif self._open[1] == row:
                counts.hb_row_reopens += 1
            else:
                counts.hb_row_conflicts += 1
            self._open = (finished, row)
            self._first_of_row = True
        elif command == 4:
            counts.hb_precharges += 1
        else:
            check = params.ecc == "inline" and column % 9 == 8
            if command == 2:
                counts.hb_reads += 1
                counts.hb_read_bytes += params.data_bits // 8
            else:
                counts.hb_writes += 1
                counts.hb_write_bytes += params.data_bits // 8
            if check:
                counts.hb_check_bytes += params.data_bits // 8
                return
            counts.hb_check_bytes += params.data_bits // 64 if params.ecc == "sideband" else 0
            counts.hb_row_hits += not self._first_of_row
            self._first_of_row = False

    def check_bank(self) -> None:
        """Every cell written holds the requester's beat and, with ECC, its check bits. Call it at the end."""
        params = self.params
        for (row, column), word in self._memory.items():
            inline = params.ecc == "inline"
            found, check = self.device.cell(row, column + column // 8 if inline else column)
            assert found == word, f"row {row}, column {column} holds {found:#x}, written {word:#x}"
            if inline:
                group_checks, _ = self.device.cell(row, column // 8 * 9 + 8)
                check = group_checks >> params.check_bits * (column % 8) & (1 << params.check_bits) - 1
            if params.ecc != "none":
                assert check == ecc_reference.encode(word, params.data_bits), f"row {row}, column {column}: check bits"

    def trace(self) -> Trace:
        """The log, in the models' form."""
        widths = {"_commands": 6, "_accepts": 3, "_dones": 4, "_reads": 4, "_writes": 2}
        arrays = [np.array(getattr(self, name), dtype=np.int64).reshape(-1, n) for name, n in widths.items()]
        end = max([*arrays[2][-1:, 0], *arrays[3][-1:, 0]], default=0)
        return Trace(*arrays, end_cycle=int(end), counts=self._counts)


def run_amaranth(
    traffic: Traffic,
    *,
    controller: HbController | None = None,
    checker: HbProtocolChecker | None = None,
    prepare=None,
    expect_uncorrectable: bool = False,
    deadline: int = 60_000,
) -> HbHarness:
    """Run ``traffic`` through a controller (default: as the traffic's parameters say) in Amaranth's simulator.

    ``prepare(harness)`` may change cells before or during the run; what the bank holds at the end is compared only
    without it. Fails where the run does not end within ``deadline`` cycles.
    """
    dut = HbController(traffic.params, traffic.clocks) if controller is None else controller
    harness = HbHarness(traffic, checker or checker_for(traffic), expect_uncorrectable)
    if prepare is not None:
        prepare(harness)
    ports = {"__".join(map(str, path)): (m, Value.cast(v)) for path, m, v in dut.signature.flatten(dut)}
    outputs = {name: value for name, (member, value) in ports.items() if member.flow == Out}
    inputs = {name: value for name, (member, value) in ports.items() if member.flow != Out}
    sampled = Cat(outputs.values())
    fields = []
    offset = 0
    for name, value in outputs.items():
        fields.append((name, offset, (1 << len(value)) - 1))
        offset += len(value)

    async def bench(ctx):
        driven: dict[str, int] = {}
        pins: dict[str, int] = {}
        while not harness.finished:
            for name, value in (harness.inputs() | pins).items():
                if driven.get(name) != value:
                    ctx.set(inputs[name], value)
                    driven[name] = value
            _, _, bits = await ctx.tick().sample(sampled)
            pins = harness.sample({name: bits >> at & mask for name, at, mask in fields})
            assert harness.cycle < deadline, f"not finished after {deadline} cycles"

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    if prepare is None:
        harness.check_bank()
    return harness


def checker_for(traffic: Traffic) -> HbProtocolChecker:
    """The protocol checker that fits a run: its own data-sheet table, or the table of experimental clocks."""
    size = {"rows": traffic.params.rows, "columns": traffic.params.columns_per_row}
    if traffic.clocks is None:
        params = traffic.params
        return HbProtocolChecker(data_sheet(params.part, params.density_gib, params.temperature_c), **size)
    table, logic_ps = table_of(traffic.clocks)
    return HbProtocolChecker(table, logic_ps=logic_ps, **size)
