"""Run programs on the exported die under cocotb, with the very bench that Amaranth's simulator uses."""

from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from cocotb.handle import SimHandleBase

from cycle_model.die import DieProgram
from verification.bench.cocotb_streams import falling, rising, sample
from verification.bench.die_bench import DieBench


class VerilogDie:
    """The simulated ``die``; ``component`` is what it was exported from."""

    def __init__(self, dut: SimHandleBase, component: wiring.Component):
        component._MustUse__silence = True  # only its ports are wanted
        ports = [(path, member.flow, value) for path, member, value in component.signature.flatten(component)]
        named = [("__".join(map(str, path)), flow) for path, flow, value in ports if len(Value.cast(value))]
        self._dut = dut
        self._inputs = {name: getattr(dut, name) for name, flow in named if flow != Out}
        self._outputs = {name: getattr(dut, name) for name, flow in named if flow == Out}
        self._driven: dict[str, int] = {}

    def _drive(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            if self._driven.get(name) != value:
                self._inputs[name].value = self._driven[name] = value

    async def _cycle(self) -> None:
        await falling(self._dut)
        await rising(self._dut)

    async def run(self, program: DieProgram, limit: int = 20_000) -> DieBench:
        """Load and run ``program`` from reset; IM and DM are filled while reset is held."""
        bench = DieBench(program)
        self._driven = {}
        self._drive(dict.fromkeys(self._inputs, 0))
        self._dut.rst.value = 1
        for values in bench.load_words():
            self._drive(values)
            await self._cycle()
        self._drive({f"pes__{i}__load__en": 0 for i in range(program.chip.pes)})
        for _ in range(2):
            await self._cycle()
        self._dut.rst.value = 0
        for _ in range(limit):
            self._drive(bench.inputs())
            await falling(self._dut)
            bench.sample(lambda name: sample(self._outputs[name]))
            if bench.finished:
                return bench
            await rising(self._dut)
        raise AssertionError(f"die not done after {limit} cycles")
