"""What a simulation sees of a PE's memories: every write port, and the entries that were written through it."""

import copy

from amaranth.hdl import Cat, Fragment, Signal, Value
from amaranth.lib import wiring

from hw.isa.program import PeProgram
from hw.isa.result import PeState, RunResult
from hw.memory.sram import SharedSram
from hw.params import ChipParams
from hw.pe.pe import Pe
from hw.pe.result_memory import ResultMemory
from hw.pe.sequencer import Sequencer
from hw.pe.vector.row_registers import RowRegisters
from rtl_gen.pe_bench import PeBench


class Written:
    """Entries of one memory that were ever written: address -> value, by looking at its write port every cycle.

    ``signals`` are enable (a bit for each granule), address and data; `take` gets their values.
    """

    def __init__(self, granules: int, enable: Value, address: Value, word: Value):
        self.signals = (enable, address, word)
        self.granules = granules
        self._granule = len(word) // granules
        self.entries: dict[int, int] = {}

    def fresh(self) -> "Written":
        """The same port, nothing written yet."""
        other = copy.copy(self)
        other.entries = {}
        return other

    def take(self, enable: int, address: int, word: int) -> None:
        """A cycle in which ``enable`` is not 0."""
        mask = sum(
            ((1 << self._granule) - 1) << self._granule * i for i in range(enable.bit_length()) if enable >> i & 1
        )
        self.entries[address] = self.entries.get(address, 0) & ~mask | word & mask


class WrittenTiles(Written):
    """RT: the array writes a row of each FP32 unit's share of a tile at once."""

    def __init__(self, memory: ResultMemory, rows: int, slots: int):
        result = memory.result
        super().__init__(1, memory.write, Cat(result.slot, result.tile), Value.cast(result["values"]))
        self._slot_bits = (slots - 1).bit_length()
        self._rows, self._slots = rows, slots
        self._units = rows // slots

    def take(self, enable: int, address: int, word: int) -> None:
        """A cycle with a result."""
        slot, tile = address & (1 << self._slot_bits) - 1, address >> self._slot_bits
        bits = self.signals[2].shape().width // self._units
        for unit in range(self._units):
            row = tile * self._rows + unit * self._slots + slot
            self.entries[row] = word >> unit * bits & (1 << bits) - 1


def components(fragment: Fragment, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], wiring.Component]:
    """Path -> component of everything in an elaborated design."""
    found = {}
    for origin in fragment.origins or ():
        if isinstance(origin, wiring.Component):
            found[path] = origin
    for child, name, _ in fragment.subfragments:
        found |= components(child, (*path, name or ""))
    return found


def probes(pe: Pe, design: dict[tuple[str, ...], wiring.Component], chip: ChipParams) -> dict[str, Written]:
    """What to look at in the elaborated ``pe`` of `components` ``design``, by the memory's name in `PeState`."""
    array, writes = chip.array, dict(pe.writes)
    found = {}
    for path, component in design.items():
        if isinstance(component, ResultMemory):
            found["RT"] = WrittenTiles(component, array.rows, array.dots_per_fp32)
        elif isinstance(component, SharedSram) and "vector" in path:
            writes["VT"] = component.write
        elif isinstance(component, RowRegisters):
            found["ROW"] = Written(array.rows, component.write, component.target, Value.cast(component.data))
    return found | {name: Written(len(port.en), port.en, port.addr, port.data) for name, port in writes.items()}


def registers(design: dict[tuple[str, ...], wiring.Component]) -> list[Signal]:
    """r1 ... r15."""
    return next(each for each in design.values() if isinstance(each, Sequencer)).registers


def result_of(
    program: PeProgram, bench: PeBench, watched: dict[str, Written], register_values: dict[int, int]
) -> RunResult:
    """The run that ``bench`` has finished."""
    if bench.slipped:
        raise AssertionError("the array waited; its cadence is wrong")
    memories = {name: probe.entries for name, probe in watched.items()} | {
        "HB": bench.hb_columns(),
        "REGISTER": {number: value for number, value in register_values.items() if value},
    }
    state = PeState(memories, bench.out, bench.events, bench.host)
    columns = [list(column) for column in zip(*bench.commands, strict=True)] or [[], [], [], []]
    return RunResult(
        "rtl",
        digest=None if bench.error else state.digest(program.chip),
        cycles=bench.cycles,
        counters=bench.counters,
        error=bench.error,
        state=state,
        **dict(zip(("unit", "instruction", "start", "done"), columns, strict=True)),
    )
