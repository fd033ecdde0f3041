"""Everything around a die that runs a program: memory, host and a bench for each PE, and a log of what happens.

Plain Python stepped once per logic cycle, with ports named as in the exported Verilog, so that Amaranth's simulator
(`simulate`) and cocotb (`verification.bench.die_cocotb`) use the very same bench.
"""

from collections import deque
from collections.abc import Callable

from amaranth.hdl import Fragment, Value
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from cycle_model.die import DieProgram, DieRun
from hw.die.die import Die
from hw.die.links import ChunkHeader
from hw.params.links import LinkParams
from rtl_gen.pe_bench import PeBench
from rtl_gen.pe_probes import components
from verification.bench.payloads import pack

LINK_COUNTERS = ("stream_moved", "stream_waits", "aggregate_moved", "aggregate_waits")
_UNSEEN = frozenset(("aggregate_out__valid", "stream_in__ready", "aggregate_in__ready"))
"""Ports of a PE that lie inside the die."""


class _Source:
    """Headers and words of one source, at the ports called ``headers`` and ``words``."""

    def __init__(self, headers: str, words: str | None, params: LinkParams, chunks):
        layout = ChunkHeader(params)
        self._header_port, self._word_port = headers, words
        self._headers = deque(
            (
                chunk.available,
                pack(layout, {name: getattr(chunk, name) for name in ("targets", "words", "reduce", "members")}),
            )
            for chunk, _ in chunks
        )
        self._words = deque(word for _, content in chunks for word in content)
        self._due = False

    def inputs(self, cycle: int) -> dict[str, int]:
        """What is offered."""
        self._due = bool(self._headers) and self._headers[0][0] <= cycle
        values = {f"{self._header_port}__valid": int(self._due)}
        if self._due:
            values[f"{self._header_port}__payload"] = self._headers[0][1]
        if self._word_port:
            values[f"{self._word_port}__valid"] = int(bool(self._words))
            if self._words:
                values[f"{self._word_port}__payload"] = self._words[0]
        return values

    def sample(self, read: Callable[[str], int]) -> None:
        """What was taken in this cycle is gone."""
        if self._due and read(f"{self._header_port}__ready"):
            self._headers.popleft()
        if self._word_port and self._words and read(f"{self._word_port}__ready"):
            self._words.popleft()


class _PePorts:
    """A PE's outputs by the names that `PeBench` knows, read when they are looked at."""

    def __init__(self, index: int, read: Callable[[str], int]):
        self._prefix, self._read = f"pes__{index}__", read

    def __getitem__(self, name: str) -> int:
        return 0 if name in _UNSEEN else self._read(self._prefix + name)


class DieBench:
    """Drives ``program`` into a die and logs what it does.

    Each cycle, beginning with the first behind reset: drive `inputs`, let the logic settle, pass a function that reads
    an output to `sample`. `load_words` fill the PEs' IM and DM before.

    Members
    -------
    pes : of each PE, a bench with cycles, counters, commands, events, HB columns; what it sends is seen by its effects
    stream_grants, aggregation_grants : (cycle, source)
    to_host : (cycle, word)
    counters : of the links, once finished
    """

    def __init__(self, program: DieProgram):
        self._program = program
        stream, rows = program.links
        self.pes = [PeBench(one) for one in program.programs]
        self._sources = [
            _Source(f"memory__{i}__headers", f"memory__{i}__words", stream, [(s.chunk, s.words) for s in source])
            for i, source in enumerate(program.memory)
        ]
        host = [(sent.chunk, sent.words) for sent in program.host]
        self._sources.append(_Source("host__headers", "host__words", rows, host))
        for i, routes in enumerate(program.routes):
            chunks = [(route.chunk(0), ()) for route in routes]
            self._sources.append(_Source(f"routes__{i}", None, rows, chunks))
        to_host = 1 << program.chip.pes
        self._missing = sum(route.words for routes in program.routes for route in routes if route.targets & to_host)
        self._cycle = 0
        self.stream_grants: list[tuple[int, int]] = []
        self.aggregation_grants: list[tuple[int, int]] = []
        self.to_host: list[tuple[int, int]] = []
        self.counters: dict[str, int] = {}

    @property
    def finished(self) -> bool:
        """Every PE is done and the host has every word."""
        return all(each.finished for each in self.pes) and not self._missing

    def load_words(self) -> list[dict[str, int]]:
        """Inputs of each cycle in which the PEs' IM and DM are filled, all PEs at once."""
        lists = [each.load_words() for each in self.pes]
        cycles = []
        for i in range(max(map(len, lists))):
            values = {}
            for pe, words in enumerate(lists):
                descriptor, address, word = words[min(i, len(words) - 1)]
                values |= {f"pes__{pe}__load__en": 1, f"pes__{pe}__load__descriptor": descriptor}
                values |= {f"pes__{pe}__load__address": address, f"pes__{pe}__load__data": word}
            cycles.append(values)
        return cycles

    def inputs(self) -> dict[str, int]:
        """Values of inputs in this cycle; the others keep theirs."""
        values = {"to_host__ready": 1}
        for source in self._sources:
            values |= source.inputs(self._cycle)
        for i, each in enumerate(self.pes):
            if not each.finished:
                values |= {
                    f"pes__{i}__{name}": value
                    for name, value in each.inputs().items()
                    if not name.startswith(("stream_in", "aggregate"))
                }
        return values

    def sample(self, read: Callable[[str], int]) -> None:
        """All outputs of this cycle."""
        for source in self._sources:
            source.sample(read)
        for name, grants in (("stream", self.stream_grants), ("aggregate", self.aggregation_grants)):
            if read(f"{name}_grant__valid"):
                grants.append((self._cycle, read(f"{name}_grant__source")))
        if read("to_host__valid"):
            self.to_host.append((self._cycle, read("to_host__payload")))
            self._missing -= 1
        for i, each in enumerate(self.pes):
            if not each.finished:
                each.sample(_PePorts(i, read))
        if self.finished:
            self.counters = {name: read(name) for name in LINK_COUNTERS}
        self._cycle += 1

    def compare(self, model: DieRun) -> int:
        """How many values were compared with the ``model``'s; AssertionError where one differs."""
        for i, (bench, result) in enumerate(zip(self.pes, model.pes, strict=True)):
            assert bench.error is None and not bench.slipped, f"PE {i}: {bench.error}"
            assert bench.cycles == result.cycles, f"PE {i}"
            assert bench.counters == result.counters, f"PE {i}"
            assert [command[2] for command in bench.commands] == result.start, f"PE {i}"
            assert [command[3] for command in bench.commands] == result.done, f"PE {i}"
        assert self.stream_grants == model.stream.grants
        assert self.aggregation_grants == model.aggregation.grants
        assert self.to_host == list(model.to_host)
        assert self.counters == {
            "stream_moved": len(model.stream.moves),
            "stream_waits": model.stream.waits,
            "aggregate_moved": len(model.aggregation.moves),
            "aggregate_waits": model.aggregation.waits,
        }
        per_pe = sum(2 * len(result.start) + len(result.counters) + 1 for result in model.pes)
        grants = 2 * (len(self.stream_grants) + len(self.aggregation_grants))
        return per_pe + grants + 2 * len(self.to_host) + len(self.counters)


def simulate(program: DieProgram, limit: int = 50_000) -> DieBench:
    """Run ``program`` in Amaranth's simulator."""
    dut = Die(program.chip, program.credit_words)
    bench = DieBench(program)
    top = Fragment.get(dut, None)
    design = components(top)
    ports = [("__".join(map(str, path)), m.flow, Value.cast(v)) for path, m, v in dut.signature.flatten(dut)]
    inputs = {name: value for name, flow, value in ports if flow != Out}
    outputs = {name: value for name, flow, value in ports if flow == Out}

    async def testbench(ctx):
        for i, one in enumerate(program.programs):
            for name, content in (("instructions", one.instructions), ("descriptors", one.descriptors)):
                memory = design[f"pe_{i}", "sequencer", name, "words"]
                for address, value in enumerate(content):
                    shaped = memory.shape.from_bits(value) if hasattr(memory.shape, "from_bits") else value
                    ctx.set(memory.data[address], shaped)
        for _ in range(limit):
            for name, value in bench.inputs().items():
                ctx.set(inputs[name], value)
            bench.sample(lambda name: ctx.get(outputs[name]))
            if bench.finished:
                return
            await ctx.tick()
        raise AssertionError(f"die not done after {limit} cycles")

    simulator = Simulator(top)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return bench
