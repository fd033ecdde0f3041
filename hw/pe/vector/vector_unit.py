"""Vector unit: executes the VECTOR commands of docs/pe.md, one at a time, a row of C values a cycle.

A command passes through start (its operands are checked), preparation (row registers are read), and then its rows pass
through address, operands, arithmetic and result on a cadence that is fixed when it starts. The unit waits for nothing,
so the cycle of its end is known at its start (`hw.isa.vector_timing`).
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.isa.encoding import Opcode, PeError, VectorSource, VectorTarget
from hw.isa.vector_timing import vector_interval, vector_stages
from hw.memory.sram import ReadPort, SharedSram, WritePort
from hw.params import ChipParams
from hw.pe.instruction import Command
from hw.pe.vector.fp32_compare import extremum
from hw.pe.vector.operand_check import (
    BINARY,
    COUNTED,
    MEMORY_SOURCES,
    ROWS_TO_ROWS,
    is_one_of,
    operand_error,
)
from hw.pe.vector.row_datapath import RowDatapath
from hw.pe.vector.row_registers import RowRegisters
from hw.pipeline import delay

VECTOR_OPCODES = tuple(code for code in Opcode if code >= Opcode.ADD)
_REGISTER_TO_REGISTER = (Opcode.ROW_MAX, Opcode.ROW_MUL)
_DIVISIONS = (Opcode.ROW_SCALE, Opcode.ROW_RECIPROCAL)
_PIECES = 4  # pieces of C bytes in a word


class PieceWrite(Signature):
    """A requantised piece for AV: C consecutive inputs of one row.

    en     Out
    piece  Out, of which 32 / C are in a group word
    row    Out
    data   Out, C bytes
    """

    def __init__(self, chip: ChipParams):
        columns = chip.array.columns
        super().__init__(
            {
                "en": Out(1),
                "piece": Out(range(chip.pe.av_groups * (32 // columns))),
                "row": Out(range(chip.array.rows)),
                "data": Out(8 * columns),
            }
        )


class VectorUnit(wiring.Component):
    """Datapath, VT, row registers, and the control of rows.

    Latency and interval of every command: `hw.isa.vector_timing`. The next command may come in the cycle after ``done``
    or ``error``.

    Parameters
    ----------
    chip : ChipParams
    macro : bool
        VT is macros, as of `hw.memory.sram.Sram`.

    Members
    -------
    go : In, 1
        ``command`` starts in this cycle.
    command : In, Command
        A vector command of legal fields.
    done : Out, 1
        The command's last cycle: what it writes can be read from the next one on.
    error : Out, PeError
        In the cycle of ``go``: the command is refused for its operands, and nothing of it happens.
    rt, lt : Out, 2 x ReadPort
        Rows for operands a and b.
    av : Out, PieceWrite
    xm : Out, WritePort
        Granules of C bytes.
    """

    def __init__(self, chip: ChipParams, *, macro: bool = False):
        self._chip, self._macro = chip, macro
        pe, columns = chip.pe, chip.array.columns
        super().__init__(
            {
                "go": In(1),
                "command": In(Command(pe)),
                "done": Out(1),
                "error": Out(PeError),
                "rt": Out(ReadPort(pe.rt_rows, 32 * columns)).array(2),
                "lt": Out(ReadPort(pe.lt_rows, 32 * columns)).array(2),
                "av": Out(PieceWrite(chip)),
                "xm": Out(WritePort(pe.xm_words, 32 * columns, 8 * columns)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chip, pe = self._chip, self._chip.pe
        rows, columns = chip.array.rows, chip.array.columns
        row_bits = (rows - 1).bit_length()
        m.submodules.tiles = tiles = SharedSram(2, pe.vt_rows, 32 * columns, macro=self._macro)
        m.submodules.registers = registers = RowRegisters(chip)
        m.submodules.datapath = datapath = RowDatapath(chip)
        refused = operand_error(m, chip, self.command)

        # The command, and what follows from its opcode.
        command = Signal(self.command.shape())
        opcode, flags = command.opcode, command.flags.vector
        with m.If(self.go):
            m.d.sync += command.eq(self.command)
        binary = is_one_of(opcode, BINARY)
        division = is_one_of(opcode, _DIVISIONS)
        load = opcode == Opcode.ROW_LOAD
        absmax, quantize = opcode == Opcode.ROW_ABSMAX, opcode == Opcode.QUANTIZE
        indexed = binary & flags.indexed
        counted = is_one_of(opcode, COUNTED)
        count = Signal(range(max(pe.rt_rows, pe.vt_rows, pe.lt_rows) + 1))  # no memory has more
        m.d.comb += count.eq(Mux(counted, command.n, Mux(division, rows, 1)))
        interval = Mux(opcode == Opcode.SIGMOID, vector_interval(chip, Opcode.SIGMOID), 1)

        # Row registers: the first read gives map, divider's operand or maximum so far; the second, scalars of b.
        m.d.comb += [
            registers.selects[0].eq(Mux(absmax, flags.row, Mux(binary, flags.map, flags.row_a))),
            registers.selects[1].eq(flags.row_b),
        ]
        first, second = registers.values

        # Address of row ``issued``, once an interval.
        issuing = Signal()
        issue_wait = Signal(range(columns))
        issued = Signal.like(count)
        issue = Signal()
        slot = issued[:row_bits]
        a_row, b_row = Signal(32), Signal(32)
        a_space = Mux(load, VectorSource.LT, flags.a_space)
        m.d.comb += [
            issue.eq(issuing & (issue_wait == 0)),
            a_row.eq(command.a + Mux(indexed, Array(first)[slot], issued)),
            b_row.eq(command.b + Mux(flags.broadcast, 0, issued)),
        ]
        wanted = (
            (counted | load, a_space, a_row),
            (binary & is_one_of(flags.b_space, MEMORY_SOURCES), flags.b_space, b_row),
        )
        for port, (reads, space, row) in enumerate(wanted):
            memories = {VectorSource.RT: self.rt, VectorSource.VT: tiles.reads, VectorSource.LT: self.lt}
            for source, memory in memories.items():
                m.d.comb += [memory[port].addr.eq(row), memory[port].en.eq(issue & reads & (space == source))]

        # Operands from the next cycle on, until the next row's.
        operand_slot = Signal(row_bits)
        fresh = Signal()
        m.d.sync += fresh.eq(issue)
        with m.If(issue):
            m.d.sync += operand_slot.eq(slot)
        padding = Const(0, 32 * (columns - rows))
        values_a, values_b = Signal(32 * columns), Signal(32 * columns)
        with m.If(counted | load):
            m.d.comb += values_a.eq(Array((self.rt[0].data, tiles.reads[0].data, self.lt[0].data))[a_space])
        with m.Else():
            m.d.comb += values_a.eq(Cat(Value.cast(first), padding))
        with m.If(is_one_of(opcode, _REGISTER_TO_REGISTER)):
            m.d.comb += values_b.eq(Cat(Value.cast(second), padding))
        with m.Elif(quantize | (flags.b_space == VectorSource.ROW)):
            m.d.comb += values_b.eq(Cat([Array(second)[operand_slot]] * columns))
        with m.Elif(flags.b_space == VectorSource.IMMEDIATE):
            m.d.comb += values_b.eq(Cat([command.b] * columns))
        with m.Else():
            m.d.comb += values_b.eq(Array((self.rt[1].data, tiles.reads[1].data, self.lt[1].data))[flags.b_space])
        operand = {"values_a": values_a, "values_b": values_b, "scalar": Array(first)[operand_slot], "fresh": fresh}
        operand = delay(m, Const(1), pe.vector_read_stages - 1, **operand)
        m.d.comb += [
            datapath.opcode.eq(opcode),
            datapath.fresh.eq(operand.fresh),
            Value.cast(datapath.values_a).eq(operand.values_a),
            Value.cast(datapath.values_b).eq(operand.values_b),
            datapath.scalar.eq(operand.scalar),
        ]

        # Result of row ``written``, once an interval.
        result = {"row": Value.cast(datapath.row), "codes": Value.cast(datapath.codes), "scalar": datapath.row_scalar}
        result = delay(m, Const(1), pe.vector_write_stages, **result)
        wait_of = {code: self._first_result(code) for code in VECTOR_OPCODES}
        writing = Signal()
        write_wait = Signal(range(max(wait_of.values()) + 1))
        written = Signal.like(count)
        write = Signal()
        m.d.comb += write.eq(writing & (write_wait == 0))
        self._write(m, command, write, written, result, tiles, registers)

        # Control: every command runs both cadences to its end, from the cycle after its preparation.
        prepare = Signal()
        m.d.comb += [
            self.done.eq(write & (written == count - 1)),
            self.error.eq(Mux(self.go, refused, PeError.NONE)),
        ]
        m.d.sync += [
            prepare.eq(self.go & (refused == PeError.NONE)),
            issue_wait.eq(Mux(issue, interval, issue_wait) - 1),
            write_wait.eq(Mux(write, interval, write_wait) - 1),
        ]
        with m.If(issue):
            m.d.sync += [issued.eq(issued + 1), issuing.eq(issued != count - 1)]
        with m.If(write):
            m.d.sync += [written.eq(written + 1), writing.eq(~self.done)]
        with m.If(prepare):
            m.d.sync += [issuing.eq(1), issue_wait.eq(0), issued.eq(0), writing.eq(1), written.eq(0)]
            with m.Switch(opcode):
                for code, wait in wait_of.items():
                    with m.Case(code):
                        m.d.sync += write_wait.eq(wait)
        return m

    def _first_result(self, opcode: Opcode) -> int:
        """Cycles from the address of a command's first row to the write of its result."""
        chip, pe = self._chip, self._chip.pe
        turns = vector_interval(chip, opcode) if opcode is Opcode.SIGMOID else 1
        return pe.vector_read_stages + vector_stages(chip, opcode) + turns - 1 + pe.vector_write_stages

    def _write(
        self,
        m: Module,
        command: Value,
        write: Value,
        written: Value,
        result: object,
        tiles: SharedSram,
        registers: RowRegisters,
    ) -> None:
        """``result`` to where row ``written`` of ``command`` goes, in cycles of ``write``."""
        rows, columns = self._chip.array.rows, self._chip.array.columns
        opcode, flags = command.opcode, command.flags.vector
        first, _ = registers.values
        slot = written[: (rows - 1).bit_length()]
        indexed = is_one_of(opcode, BINARY) & flags.indexed
        rows_to_rows = write & is_one_of(opcode, ROWS_TO_ROWS)
        row = (command.d + Mux(indexed, Array(first)[slot], written))[:32]
        # Pieces of a group word: those of row 0, those of row 1, ... in AV as in XM.
        piece = (command.d + written[len(slot) :])[:32]
        in_group = (32 // columns).bit_length() - 1
        place = Cat(piece[:in_group], slot, piece[in_group:])
        m.d.comb += [
            tiles.write.en.eq(rows_to_rows & (flags.d_space == VectorTarget.VT)),
            tiles.write.addr.eq(row),
            tiles.write.data.eq(result.row),
            self.av.piece.eq(piece),
            self.av.row.eq(slot),
            self.av.data.eq(result.codes),
            self.xm.addr.eq(row),
            self.xm.data.eq(result.row),
        ]
        with m.If(opcode == Opcode.QUANTIZE):
            to_xm = flags.d_space == VectorTarget.XM
            m.d.comb += [
                self.av.en.eq(write & ~to_xm),
                self.xm.en.eq((write & to_xm) << place[:2]),
                self.xm.addr.eq(place[2:]),
                self.xm.data.eq(Cat([result.codes] * _PIECES)),
            ]
        with m.Elif((rows_to_rows & (flags.d_space == VectorTarget.XM)) | (write & (opcode == Opcode.ROW_STORE))):
            m.d.comb += self.xm.en.eq((1 << _PIECES) - 1)

        so_far = Mux(flags.first, 0, Array(first)[slot])
        maximum = extremum(so_far, result.scalar, Const(0, 1))
        m.d.comb += registers.target.eq(flags.row)
        for r in range(rows):
            m.d.comb += registers.data[r].eq(result.row[32 * r : 32 * r + 32])
        with m.If(is_one_of(opcode, (Opcode.ROW_LOAD, *_REGISTER_TO_REGISTER))):
            m.d.comb += registers.write.eq(Cat([write] * rows))
        with m.Elif(is_one_of(opcode, (Opcode.ROW_ABSMAX, *_DIVISIONS))):
            scalar = Mux(opcode == Opcode.ROW_ABSMAX, maximum, result.scalar)
            m.d.comb += [registers.write.eq(write << slot), *(registers.data[r].eq(scalar) for r in range(rows))]
