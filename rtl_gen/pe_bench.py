"""Everything around a PE that runs a program: dispatch stream, links, host, HB bank, and a log of what happens.

Plain Python stepped once per logic cycle, with ports named as in the exported Verilog, so that Amaranth's simulator
(`rtl_gen.simulate`) and any other simulator can use the very same bench.
"""

from collections import deque

from amaranth.lib import data

from hw.errors import UserError
from hw.isa import HbCommand
from hw.isa.counters import counters_of
from hw.isa.encoding import PeError, Unit, to_words
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import PeFault
from hw.pe.host_unit import HostRequest
from hw.pe.status import CounterValues, PeStatus
from rtl_gen.dram_device import HbDramDevice


def unpacked(layout: data.StructLayout, bits: int) -> dict[str, int]:
    """Fields of a port that is a flat structure."""
    return {name: bits >> field.offset & (1 << field.width) - 1 for name, field in layout}


class _Link:
    """Words of a link, offered one a cycle, each chunk not before its cycle."""

    def __init__(self, chunks: list[Chunk]):
        self._words = deque((chunk.available, word) for chunk in chunks for word in chunk.words)

    def offer(self, cycle: int) -> tuple[int, int]:
        """(valid, word) in ``cycle``."""
        if self._words and self._words[0][0] <= cycle:
            return 1, self._words[0][1]
        return 0, 0

    def take(self) -> None:
        self._words.popleft()


class PeBench:
    """Drives ``program`` into a PE and logs what it does.

    Each cycle, beginning with the first behind reset: drive `inputs`, let the logic settle, pass the outputs to
    `sample`. IM and DM hold the program before (`load_words` names the writes). The run is over once `finished`; then
    the members below hold what `hw.isa.result.RunResult` wants.

    Parameters
    ----------
    program : PeProgram
        For a chip without ECC in its HB bank; UserError otherwise. With ``chip.memory`` "axi" the PE has no HB pins:
        the memory is somebody else's, ``device`` holds what it should hold at first, and nothing is ``refilled``.

    Members
    -------
    cycles : int
        First cycle at whose beginning the PE was idle with all records read, or stopped by an error.
    counters : dict
        As they stood in that cycle.
    error : PeFault or None
    out, events, host : lists as in `hw.isa.result.PeState`
    commands : list of [unit, instruction, start, done]
        In program order; -1 for what did not happen.
    slipped : bool
        The array waited, which it never should.
    device : HbDramDevice
    refilled : set of (row, column) of the bank that were written
    """

    def __init__(self, program: PeProgram):
        program.check()
        hb = program.chip.hb
        if hb.ecc != "none":
            raise UserError(f"chip of a program simulated as RTL must have HB ecc none, not {hb.ecc!r}")
        self._program, self._hb = program, hb
        clocks = hb.clocks
        self.device = HbDramDevice(hb.data_bits, read_clocks=clocks.nCL + clocks.nBL, write_clocks=clocks.nCWL)
        self.device.initial = lambda row, column: 0
        for column, word in program.hb.items():
            self.device.write_cell(*divmod(column, hb.data_columns), word)
        self._links = {"stream_in": _Link(program.stream), "aggregate_in": _Link(program.aggregation)}
        self._dispatch = deque(program.dispatch)
        self._answers: deque[int] = deque()
        self._asked = 0
        self._has_pins = program.chip.memory == "hb"
        self._counters = CounterValues(counters_of(program.chip.memory))
        self._pins = {"pins__read_data": self.device.poison[0]} if self._has_pins else {}
        self._queued: dict[int, deque] = {unit: deque() for unit in Unit}
        self._started: dict[int, deque] = {unit: deque() for unit in Unit}
        self._open_row = 0
        self.refilled: set[tuple[int, int]] = set()
        self._cycle = 0
        self.finished = self.slipped = False
        self.cycles: int | None = None
        self.counters: dict[str, int] = {}
        self.error: PeFault | None = None
        self.out, self.events, self.host, self.commands = [], [], [], []

    def load_words(self) -> list[tuple[int, int, int]]:
        """(descriptor, address, data) of each write to the load port that fills IM and DM."""
        writes = [
            (0, 8 * index + place, word)
            for index, instruction in enumerate(self._program.instructions)
            for place, word in enumerate(to_words(instruction))
        ]
        return writes + [(1, address, word) for address, word in enumerate(self._program.descriptors)]

    def inputs(self) -> dict[str, int]:
        """Values of all inputs in this cycle."""
        values = {
            "dispatch__valid": int(bool(self._dispatch)),
            "dispatch__payload": self._dispatch[0] if self._dispatch else 0,
            "aggregate_out__ready": 1,
            "host__ready": 1,
            "host_answer": int(bool(self._answers) and self._answers[0] == self._cycle),
        }
        for name, link in self._links.items():
            values[f"{name}__valid"], values[f"{name}__payload"] = link.offer(self._cycle)
        return values | self._pins

    def sample(self, out: dict[str, int]) -> None:
        """All outputs of this cycle."""
        status = unpacked(PeStatus(), out["status"])
        if status["error"] or not (self._dispatch or status["busy"]):
            self.finish(self._cycle, out["status"], out["counters"])
            return
        if self._dispatch and out["dispatch__ready"]:
            self._dispatch.popleft()
        for name, link in self._links.items():
            if out[f"{name}__ready"] and link.offer(self._cycle)[0]:
                link.take()
        if self._answers and self._answers[0] == self._cycle:
            self._answers.popleft()
        if out["trace__start"] >> Unit.HOST & 1:  # its request is on the port from the next cycle on
            latencies = self._program.host_cycles
            self._answers.append(self._cycle + 1 + latencies[min(self._asked, len(latencies) - 1)])
            self._asked += 1
        if out["aggregate_out__valid"]:
            self.out.append(out["aggregate_out__payload"])
        if out["event__valid"]:
            self.events.append((out["event__kind"], out["event__a"], out["event__b"]))
        if out["host__valid"]:
            self.see_request(out["host__payload"])
        self.slipped |= bool(out["trace__slip"])
        self.see_commands(
            self._cycle, out["trace__pushed"], out["trace__instruction"], out["trace__start"], out["trace__done"]
        )
        if self._has_pins:
            self._step_bank(out)
        self._cycle += 1

    def _step_bank(self, out: dict[str, int]) -> None:
        word, _ = self.device.step(
            out["pins__tick"], out["pins__command"], out["pins__row"], out["pins__column"], out["pins__write_data"]
        )
        self._pins = {"pins__read_data": word}
        if out["pins__command"] == HbCommand.ACTIVATE:
            self._open_row = out["pins__row"]
        elif out["pins__command"] == HbCommand.WRITE:
            self.refilled.add((self._open_row, out["pins__column"]))

    def see_request(self, payload: int) -> None:
        """A HOST request is taken."""
        request = unpacked(HostRequest(), payload)
        self.host.append((request["a"], request["b"], request["d"]))

    def see_commands(self, cycle: int, pushed: int, instruction: int, start: int, done: int) -> None:
        """The trace port in ``cycle``: bits by unit."""
        if not pushed | start | done:
            return
        for unit in Unit:
            if pushed >> unit & 1:
                self.commands.append([int(unit), instruction, -1, -1])
                self._queued[unit].append(self.commands[-1])
            if start >> unit & 1:
                command = self._queued[unit].popleft()
                command[2] = cycle
                self._started[unit].append(command)
            if done >> unit & 1:
                self._started[unit].popleft()[3] = cycle

    def finish(self, cycle: int, status: int, counters: int) -> None:
        """The run is over in ``cycle``, with status and counters as they are in it."""
        self.finished, self.cycles = True, cycle
        fields = unpacked(PeStatus(), status)
        if fields["error"]:
            self.error = PeFault(PeError(fields["error"]), Unit(fields["unit"]), fields["instruction"])
        self.counters = unpacked(self._counters, counters)

    def hb_columns(self) -> dict[int, int]:
        """Data columns of the image and those refilled: what they hold."""
        row_columns = self._hb.data_columns
        columns = set(self._program.hb) | {row * row_columns + column for row, column in self.refilled}
        return {column: self.device.cell(*divmod(column, row_columns))[0] for column in columns}
