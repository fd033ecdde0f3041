"""Run a PE program on the RTL in Amaranth's simulator."""

import functools
from collections.abc import Iterator

from amaranth.hdl import Cat, Fragment, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.isa.result import PeState, RunResult
from hw.memory.sram import SharedSram, Sram
from hw.params import ChipParams
from hw.pe.pe import Pe
from hw.pe.result_memory import ResultMemory
from hw.pe.sequencer import Sequencer
from hw.pe.vector.row_registers import RowRegisters
from rtl_gen.pe_bench import PeBench


class _Written:
    """Entries of one memory that were ever written: address -> value, by looking at its write port every cycle.

    ``signals`` are enable (a bit for each granule), address and data; `take` gets their values.
    """

    def __init__(self, granules: int, enable: Value, address: Value, word: Value):
        self.signals = (enable, address, word)
        self._granule = len(word) // granules
        self.entries: dict[int, int] = {}

    def take(self, enable: int, address: int, word: int) -> None:
        mask = sum(
            ((1 << self._granule) - 1) << self._granule * i for i in range(enable.bit_length()) if enable >> i & 1
        )
        self.entries[address] = self.entries.get(address, 0) & ~mask | word & mask


class _WrittenTiles(_Written):
    """RT: the array writes a row of each FP32 unit's share of a tile at once."""

    def __init__(self, memory: ResultMemory, rows: int, slots: int):
        result = memory.result
        super().__init__(1, memory.write, Cat(result.slot, result.tile), Value.cast(result["values"]))
        self._slot_bits = (slots - 1).bit_length()
        self._rows, self._slots = rows, slots
        self._units = rows // slots

    def take(self, enable: int, address: int, word: int) -> None:
        slot, tile = address & (1 << self._slot_bits) - 1, address >> self._slot_bits
        bits = self.signals[2].shape().width // self._units
        for unit in range(self._units):
            row = tile * self._rows + unit * self._slots + slot
            self.entries[row] = word >> unit * bits & (1 << bits) - 1


def _components(fragment: Fragment, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], wiring.Component]]:
    """(path, component) of everything in an elaborated design."""
    for origin in fragment.origins or ():
        if isinstance(origin, wiring.Component):
            yield path, origin
    for child, name, _ in fragment.subfragments:
        yield from _components(child, (*path, name or ""))


def _probes(design: dict[tuple[str, ...], wiring.Component], chip: ChipParams) -> dict[str, _Written]:
    """What to look at, by the memory's name in `PeState`."""
    array = chip.array

    def of(memory: Sram | SharedSram) -> _Written:
        write = memory.write
        return _Written(len(write.en), write.en, write.addr, write.data)

    probes = {name.upper(): of(design[name,]) for name in ("wh", "wl", "al", "av", "lt", "xm")}
    probes["RT"] = _WrittenTiles(design["rt",], array.rows, array.dots_per_fp32)
    for path, component in design.items():
        if path[0:1] == ("vector",) and isinstance(component, SharedSram):
            probes["VT"] = of(component)
        elif isinstance(component, RowRegisters):
            probes["ROW"] = _Written(array.rows, component.write, component.target, Value.cast(component.data))
    return probes


def simulate_pe(program: PeProgram, limit: int = 1_000_000) -> RunResult:
    """Run ``program`` on the RTL: HB bank, links and host included, values and times as `RunResult` defines them.

    A chip is elaborated once per process; every run begins with a reset.

    Raises
    ------
    UserError
        Where the program does not fit its chip, or does not end within ``limit`` cycles.
    """
    bench = PeBench(program)
    return _pe_of(program.chip).run(program, bench, limit)


@functools.lru_cache(maxsize=4)
def _pe_of(chip: ChipParams) -> "_SimulatedPe":
    return _SimulatedPe(chip)


class _SimulatedPe:
    """The RTL of one chip in Amaranth's simulator, ready for any number of programs, one after the other."""

    def __init__(self, chip: ChipParams):
        self._chip = chip
        dut = Pe(chip)
        ports = {
            "__".join(map(str, path)): (member, Value.cast(value)) for path, member, value in dut.signature.flatten(dut)
        }
        self._inputs = {name: value for name, (member, value) in ports.items() if member.flow != Out}
        self._outputs = {name: value for name, (member, value) in ports.items() if member.flow == Out}
        top = Fragment.get(dut, None)
        self._design = dict(_components(top))
        self._sequencer = next(each for each in self._design.values() if isinstance(each, Sequencer))
        self._simulator = Simulator(top)
        self._simulator.add_clock(1e-9)
        self._simulator.add_testbench(self._bench)
        self._fresh = True

    def run(self, program: PeProgram, bench: PeBench, limit: int) -> RunResult:
        """Run ``program`` from reset."""
        self._program, self._around, self._limit = program, bench, limit
        self._probes = _probes(self._design, self._chip)
        self._registers: dict[int, int] = {}
        if not self._fresh:
            self._simulator.reset()
        self._fresh = False
        self._simulator.run()
        return _result(program, bench, {name: probe.entries for name, probe in self._probes.items()}, self._registers)

    async def _bench(self, ctx) -> None:
        """Drive and look, cycle by cycle, until the program is over."""
        bench, probes, names = self._around, self._probes, list(self._outputs)
        looked_at = list(self._outputs.values()) + [signal for probe in probes.values() for signal in probe.signals]
        places, offset = [], 0
        for value in looked_at:
            places.append((offset, (1 << len(value)) - 1))
            offset += len(value)
        sampled = Cat(looked_at)
        _fill(ctx, self._design["sequencer", "instructions", "words"], self._program.instructions)
        _fill(ctx, self._design["sequencer", "descriptors", "words"], self._program.descriptors)
        driven: dict[str, int] = {}
        for _ in range(self._limit):
            for name, value in bench.inputs().items():
                if driven.get(name) != value:
                    ctx.set(self._inputs[name], value)
                    driven[name] = value
            _, _, bits = await ctx.tick().sample(sampled)
            values = [bits >> at & mask for at, mask in places]
            bench.sample(dict(zip(names, values[: len(names)], strict=True)))
            if bench.finished:
                self._registers.update({i + 1: ctx.get(r) for i, r in enumerate(self._sequencer.registers)})
                return
            for i, probe in enumerate(probes.values()):
                enable, address, word = values[len(names) + 3 * i : len(names) + 3 * i + 3]
                if enable:
                    probe.take(enable, address, word)
        raise UserError(f"program must end within {self._limit} cycles at RTL")


def _fill(ctx, memory: Memory, values: list[int]) -> None:
    """Put ``values`` into a memory before the first cycle."""
    row = memory.shape
    for address, value in enumerate(values):
        ctx.set(memory.data[address], row.from_bits(value) if hasattr(row, "from_bits") else value)


def _result(
    program: PeProgram, bench: PeBench, entries: dict[str, dict[int, int]], registers: dict[int, int]
) -> RunResult:
    if bench.slipped:
        raise AssertionError("the array waited; its cadence is wrong")
    memories = entries | {
        "HB": bench.hb_columns(),
        "REGISTER": {number: value for number, value in registers.items() if value},
    }
    state = PeState(memories, bench.out, bench.events, bench.host)
    unit, instruction, start, done = (
        (list(column) for column in zip(*bench.commands, strict=True)) if bench.commands else ([], [], [], [])
    )
    return RunResult(
        "rtl",
        digest=None if bench.error else state.digest(program.chip),
        cycles=bench.cycles,
        counters=bench.counters,
        unit=unit,
        instruction=instruction,
        start=start,
        done=done,
        error=bench.error,
        state=state,
    )
