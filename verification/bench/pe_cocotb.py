"""Run programs on the exported PE under cocotb, with the very bench that Amaranth's simulator uses."""

from amaranth.hdl import Value
from amaranth.lib.wiring import Out
from cocotb.handle import SimHandleBase

from hw.isa.program import PeProgram
from hw.isa.result import PeState, RunResult
from hw.pe.pe import Pe
from rtl_gen.pe_bench import PeBench
from verification.bench.cocotb_streams import falling, rising, sample

_GATED = {"aggregate_out__payload": "aggregate_out__valid", "host__payload": "host__valid"}
_GATED |= dict.fromkeys(("event__kind", "event__a", "event__b"), "event__valid")
"""Outputs that say nothing, and may be X, without their valid."""


class _Values(dict):
    """Outputs of a cycle, each sampled when it is first asked for: most are not, and the counters are 1,280 bits."""

    def __init__(self, outputs: dict[str, SimHandleBase]):
        super().__init__()
        self._outputs = outputs

    def __missing__(self, name: str) -> int:
        valid = _GATED.get(name)
        self[name] = sample(self._outputs[name]) if valid is None or self[valid] else 0
        return self[name]


class VerilogPe:
    """The simulated ``pe`` of ``chip``."""

    def __init__(self, dut: SimHandleBase, chip):
        component = Pe(chip)
        component._MustUse__silence = True  # only its ports are wanted
        ports = [("__".join(map(str, path)), m.flow == Out, v) for path, m, v in component.signature.flatten(component)]
        ports = [port for port in ports if len(Value.cast(port[2]))]
        self._dut = dut
        self._inputs = {name: getattr(dut, name) for name, is_output, _ in ports if not is_output}
        self._outputs = {name: getattr(dut, name) for name, is_output, _ in ports if is_output}
        self._driven: dict[str, int] = {}

    def _drive(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            if self._driven.get(name) != value:
                self._inputs[name].value = self._driven[name] = value

    def _reset_values(self) -> dict[str, int]:
        """Inputs that are not 0 from reset on."""
        return {}

    async def _load(self, bench: PeBench) -> None:
        """Fill IM and DM while reset is held, so that everything else counts from its release."""
        self._driven = {}
        self._drive(dict.fromkeys(self._inputs, 0) | self._reset_values())
        self._dut.rst.value = 1
        for descriptor, address, word in bench.load_words():
            self._drive({"load__en": 1, "load__descriptor": descriptor, "load__address": address, "load__data": word})
            await falling(self._dut)
            await rising(self._dut)
        self._drive({"load__en": 0})
        for _ in range(2):
            await falling(self._dut)
            await rising(self._dut)
        self._dut.rst.value = 0

    async def run(self, program: PeProgram, limit: int = 1_000_000) -> RunResult:
        """Load and run ``program`` from reset; memories inside the PE stay unseen, so there is no digest."""
        bench = PeBench(program)
        await self._load(bench)
        for _ in range(limit):
            self._drive(bench.inputs())
            await falling(self._dut)
            bench.sample(_Values(self._outputs))
            if bench.finished:
                return _result(bench)
            await rising(self._dut)
        raise AssertionError(f"not finished after {limit} cycles")


def _result(bench: PeBench) -> RunResult:
    assert not bench.slipped, "the array waited; its cadence is wrong"
    columns = [list(column) for column in zip(*bench.commands, strict=True)] or [[], [], [], []]
    state = PeState({"HB": bench.hb_columns()}, bench.out, bench.events, bench.host)
    times = dict(zip(("unit", "instruction", "start", "done"), columns, strict=True))
    return RunResult("verilog", cycles=bench.cycles, counters=bench.counters, error=bench.error, state=state, **times)
