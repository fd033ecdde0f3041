"""Drives `Die` in Amaranth's simulator with a model's program, and logs what the models predict."""

from collections import deque
from dataclasses import dataclass

from amaranth.hdl import Cat, Fragment, Value
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from cycle_model.die import DieProgram
from hw.die.die import Die
from hw.die.links import ChunkHeader
from rtl_gen.pe_bench import PeBench
from rtl_gen.pe_probes import components
from verification.bench.payloads import pack


@dataclass
class DieLog:
    """What the RTL did: each PE's bench, (cycle, source) of both links' grants, (cycle, word) to the host, counters."""

    pes: list[PeBench]
    stream_grants: list[tuple[int, int]]
    aggregation_grants: list[tuple[int, int]]
    to_host: list[tuple[int, int]]
    counters: dict[str, int]


class _Source:
    """Headers and words of one source, as streams."""

    def __init__(self, port, layout: ChunkHeader, chunks, words: bool = True):
        self._headers = deque((at, pack(layout, fields)) for at, fields, _ in chunks)
        self._words = deque(word for _, _, content in chunks for word in content) if words else deque()
        self._header_port, self._word_port = port if words else (port, None)

    def drive(self, ctx, cycle: int) -> None:
        """Offer what is due."""
        due = bool(self._headers) and self._headers[0][0] <= cycle
        ctx.set(self._header_port.valid, due)
        if due:
            ctx.set(self._header_port.payload.as_value(), self._headers[0][1])
        if self._word_port is not None:
            ctx.set(self._word_port.valid, bool(self._words))
            if self._words:
                ctx.set(self._word_port.payload, self._words[0])

    def taken(self, ctx) -> None:
        """What was taken in this cycle is gone."""
        if ctx.get(self._header_port.valid & self._header_port.ready):
            self._headers.popleft()
        if self._word_port is not None and ctx.get(self._word_port.valid & self._word_port.ready):
            self._words.popleft()


def _fields(targets: int, words: int) -> dict[str, int]:
    return {"targets": targets, "words": words, "reduce": 0, "members": 0}


def simulate(program: DieProgram, limit: int = 50_000) -> DieLog:
    """Run ``program`` until every PE is done and the host has every word."""
    dut = Die(program.chip, program.credit_words)
    top = Fragment.get(dut, None)
    design = components(top)
    benches = [PeBench(one) for one in program.programs]
    log = DieLog(benches, [], [], [], {})
    links = (("stream_link", log.stream_grants), ("aggregation_link", log.aggregation_grants))
    count = program.chip.pes
    layouts = [ChunkHeader(params) for params in program.links]
    sources = [
        _Source((port.headers, port.words), layouts[0], _sent(chunks))
        for port, chunks in zip(dut.memory, program.memory, strict=True)
    ]
    sources.append(_Source((dut.host.headers, dut.host.words), layouts[1], _sent(program.host)))
    for port, route in zip(dut.routes, program.routes, strict=True):
        sources.append(_Source(port, layouts[1], [(0, _fields(*each), ()) for each in route], words=False))
    host_words = sum(len(s.words) for s in program.host if s.targets >> count & 1)
    host_words += sum(words for route in program.routes for targets, words in route if targets >> count & 1)

    outputs = []
    for i in range(count):
        pe = design[f"pe_{i}",]
        flat = ((path, member, Value.cast(value)) for path, member, value in pe.signature.flatten(pe))
        named = [("__".join(map(str, path)), value) for path, member, value in flat if member.flow == Out]
        named += [("stream_in__ready", pe.stream_in.ready), ("aggregate_in__ready", pe.aggregate_in.ready)]
        named += [("dispatch__ready", pe.dispatch.ready)]
        outputs.append(dict(named))

    async def bench(ctx):
        for i, one in enumerate(program.programs):
            for name, content in (("instructions", one.instructions), ("descriptors", one.descriptors)):
                memory = design[f"pe_{i}", "sequencer", name, "words"]
                for address, value in enumerate(content):
                    shaped = memory.shape.from_bits(value) if hasattr(memory.shape, "from_bits") else value
                    ctx.set(memory.data[address], shaped)
        ctx.set(dut.to_host.ready, 1)
        for cycle in range(limit):
            for source in sources:
                source.drive(ctx, cycle)
            for port, each in zip(dut.pes, benches, strict=True):
                if not each.finished:
                    values = each.inputs()
                    ctx.set(port.dispatch.valid, values["dispatch__valid"])
                    ctx.set(port.dispatch.payload, values["dispatch__payload"])
                    ctx.set(port.host.ready, values["host__ready"])
                    ctx.set(port.host_answer, values["host_answer"])
                    ctx.set(port.pins.read_data, values["pins__read_data"])
            for source in sources:
                source.taken(ctx)
            for name, grants in links:
                if ctx.get(design[name,].grant):
                    grants.append((cycle, ctx.get(design[name,].granted)))
            if ctx.get(dut.to_host.valid):
                log.to_host.append((cycle, ctx.get(dut.to_host.payload)))
            for named, each in zip(outputs, benches, strict=True):
                if not each.finished:
                    bits, seen = ctx.get(Cat(named.values())), {}
                    for name, value in named.items():
                        seen[name] = bits & (1 << len(value)) - 1
                        bits >>= len(value)
                    each.sample(seen)
            if all(each.finished for each in benches) and len(log.to_host) == host_words:
                break
            await ctx.tick()
        else:
            raise AssertionError(f"die not done after {limit} cycles")
        names = ("stream_moved", "stream_waits", "aggregate_moved", "aggregate_waits")
        log.counters.update({name: ctx.get(getattr(dut, name)) for name in names})

    simulator = Simulator(top)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return log


def _sent(chunks) -> list[tuple[int, dict[str, int], tuple[int, ...]]]:
    return [(sent.available, _fields(sent.targets, len(sent.words)), sent.words) for sent in chunks]
