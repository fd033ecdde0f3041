"""Which vector commands are refused because of their operands, before anything of them happens."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from hw.isa.encoding import Opcode, PeError, VectorSource, VectorTarget
from hw.params import ChipParams

BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)
ROWS_TO_ROWS = (*BINARY, Opcode.MOVE, Opcode.SIGMOID)
COUNTED = (*ROWS_TO_ROWS, Opcode.QUANTIZE, Opcode.ROW_ABSMAX)
"""Commands with an operand n; they read rows at a."""
MEMORY_SOURCES = (VectorSource.RT, VectorSource.VT, VectorSource.LT)


def is_one_of(value: Value, values: tuple[int, ...]) -> Value:
    """Whether ``value`` is one of the constants."""
    return Cat(value == each for each in values).any()


def operand_error(m: Module, chip: ChipParams, command: data.View) -> Signal:
    """`PeError` of ``command``, 0 where it can run: first a count that is not allowed, then rows outside a memory."""
    pe, array = chip.pe, chip.array
    row_bits = (array.rows - 1).bit_length()
    pieces_per_group = 32 // array.columns
    words_per_group = 8 * array.rows // array.columns

    opcode, flags = command.opcode, command.flags.vector
    binary = is_one_of(opcode, BINARY)
    indexed = binary & flags.indexed
    counted = is_one_of(opcode, COUNTED)
    quantize, absmax = opcode == Opcode.QUANTIZE, opcode == Opcode.ROW_ABSMAX
    load, store = opcode == Opcode.ROW_LOAD, opcode == Opcode.ROW_STORE
    b_is_rows = binary & is_one_of(flags.b_space, MEMORY_SOURCES)

    def source_rows(space: Value) -> Value:
        return Mux(space == VectorSource.RT, pe.rt_rows, Mux(space == VectorSource.VT, pe.vt_rows, pe.lt_rows))

    # Rows or pieces used from each operand on; a map takes rows modulo the memory, so only its base counts.
    pieces = ((command.n - 1) >> row_bits) + 1
    a_count = Mux(counted & ~indexed, command.n, 1)
    b_count = Mux(flags.broadcast, 1, command.n)
    d_count = Mux(quantize, pieces, Mux(store | indexed, 1, command.n))
    a_limit = source_rows(Mux(load, VectorSource.LT, flags.a_space))
    piece_limit = Mux(
        flags.d_space == VectorTarget.AV,
        pe.av_groups * pieces_per_group,
        pe.xm_words // words_per_group * pieces_per_group,
    )
    row_limit = Mux(store | (flags.d_space == VectorTarget.XM), pe.xm_words, pe.vt_rows)
    outside = (
        ((counted | load) & (command.a + a_count > a_limit))
        | (b_is_rows & (command.b + b_count > source_rows(flags.b_space)))
        | ((is_one_of(opcode, ROWS_TO_ROWS) | store) & (command.d + d_count > row_limit))
        | (quantize & (command.d + d_count > piece_limit))
    )
    once = indexed | (absmax & flags.first)  # a scalar of a row register serves one row

    error = Signal(PeError, name="operand_error")
    with m.If(counted & ((command.n == 0) | (once & (command.n > array.rows)))):
        m.d.comb += error.eq(PeError.ILLEGAL_COMMAND)
    with m.Elif(outside):
        m.d.comb += error.eq(PeError.ADDRESS)
    return error
