"""Run a PE program on the RTL in Amaranth's simulator."""

import contextlib
import functools
from pathlib import Path

from amaranth.hdl import Cat, Fragment, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.errors import UserError
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import ChipParams
from hw.params.checks import require
from hw.pe.pe import Pe
from rtl_gen.pe_bench import PeBench
from rtl_gen.pe_probes import components, probes, registers, result_of


def simulate_pe(program: PeProgram, limit: int = 1_000_000, *, waves: Path | None = None) -> RunResult:
    """Run ``program`` on the RTL: HB bank, links and host included, values and times as `RunResult` defines them.

    A chip is elaborated once per process; every run begins with a reset. ``waves`` is a VCD file to write, every signal
    of the design in it, one cycle to 1 ns; a GTKWave save file with the units' signals lies beside it.

    Raises
    ------
    UserError
        Where the program does not fit its chip, does not end within ``limit`` cycles, or the chip has no HB pins.
    """
    require(program.chip.memory == "hb", "chip memory", "hb where the bench is the bank", program.chip.memory)
    bench = PeBench(program)
    return _pe_of(program.chip).run(program, bench, limit, waves)


_SHOWN = ("trace__start", "trace__done", "trace__pushed", "trace__instruction", "pins__command", "status")
"""Outputs that a viewer shows at first."""


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
        self._design = components(top)
        self._dut = dut
        self._simulator = Simulator(top)
        self._simulator.add_clock(1e-9)
        self._simulator.add_testbench(self._bench)
        self._fresh = True

    def run(self, program: PeProgram, bench: PeBench, limit: int, waves: Path | None) -> RunResult:
        """Run ``program`` from reset."""
        self._program, self._around, self._limit = program, bench, limit
        self._probes = probes(self._dut, self._design, self._chip)
        if not self._fresh:
            self._simulator.reset()
        self._fresh = False
        self._registers: dict[int, int] = {}
        with self._recording(waves):
            self._simulator.run()
        return result_of(program, bench, self._probes, self._registers)

    def _recording(self, waves: Path | None) -> contextlib.AbstractContextManager:
        """Writes waves while it is entered."""
        if waves is None:
            return contextlib.nullcontext()
        waves.parent.mkdir(parents=True, exist_ok=True)
        shown = [self._outputs[name] for name in _SHOWN]
        return self._simulator.write_vcd(str(waves), str(waves.with_suffix(".gtkw")), traces=shown)

    async def _bench(self, ctx) -> None:
        """Drive and look, cycle by cycle, until the program is over."""
        bench, watched, names = self._around, self._probes, list(self._outputs)
        looked_at = list(self._outputs.values()) + [signal for probe in watched.values() for signal in probe.signals]
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
                for i, register in enumerate(registers(self._design)):
                    self._registers[i + 1] = ctx.get(register)
                return
            for i, probe in enumerate(watched.values()):
                enable, address, word = values[len(names) + 3 * i : len(names) + 3 * i + 3]
                if enable:
                    probe.take(enable, address, word)
        raise UserError(f"program must end within {self._limit} cycles at RTL")


def _fill(ctx, memory: Memory, values: list[int]) -> None:
    """Put ``values`` into a memory before the first cycle."""
    row = memory.shape
    for address, value in enumerate(values):
        ctx.set(memory.data[address], row.from_bits(value) if hasattr(row, "from_bits") else value)
