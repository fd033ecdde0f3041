"""RT: the array's result tiles, written several rows at a time, read a row at a time by two readers."""

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.hierarchy import add_repeated
from hw.memory.sram import ReadPort, Sram
from hw.params import ChipParams
from hw.pe.array_unit import ResultWrite


class ResultMemory(wiring.Component):
    """One bank for each FP32 unit of a column, because the array delivers a row of each in the same cycle.

    Row r of a tile lies in bank r div ``dots_per_fp32``. A read takes one cycle.

    Parameters
    ----------
    chip : ChipParams
    readers : int
    macro : bool
        Banks as macros.

    Members
    -------
    write : In, 1
    result : In, ResultWrite
    reads : In, array of ReadPort
    """

    def __init__(self, chip: ChipParams, readers: int = 2, *, macro: bool = False):
        self._chip, self._macro = chip, macro
        port = ReadPort(chip.pe.rt_rows, chip.hb.data_bits)
        super().__init__({"write": In(1), "result": In(ResultWrite(chip)), "reads": In(port).array(readers)})

    def elaborate(self, platform):
        m = Module()
        array = self._chip.array
        units = array.fp32_units_per_column
        slot_bits, row_bits = (array.dots_per_fp32 - 1).bit_length(), (array.rows - 1).bit_length()
        depth = self._chip.pe.rt_rows // units
        for i, reader in enumerate(self.reads):
            banks = []
            for unit in range(units):
                bank = Sram(depth, self._chip.hb.data_bits, macro=self._macro)
                add_repeated(m, f"copy_{i}_bank_{unit}", bank, platform)
                m.d.comb += [
                    bank.write.en.eq(self.write),
                    bank.write.addr.eq(self.result.tile * array.dots_per_fp32 + self.result.slot),
                    bank.write.data.eq(Value.cast(self.result["values"][unit])),
                    bank.read.en.eq(reader.en),
                    bank.read.addr.eq((reader.addr >> row_bits) * array.dots_per_fp32 + reader.addr[:slot_bits]),
                ]
                banks.append(bank.read.data)
            shown = Signal(range(max(units, 2)))
            with m.If(reader.en):
                m.d.sync += shown.eq(reader.addr[slot_bits:row_bits])
            m.d.comb += reader.data.eq(Array(banks)[shown])
        return m
