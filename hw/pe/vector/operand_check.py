"""Which vector commands are refused because of their operands, before anything of them happens."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from hw.isa.encoding import Opcode, PeError, VectorSource, VectorTarget
from hw.params import ChipParams

BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)
ROWS_TO_ROWS = (*BINARY, Opcode.MOVE, Opcode.SIGMOID)
COUNTED = (*ROWS_TO_ROWS, Opcode.QUANTIZE, Opcode.ROW_ABSMAX)
"""Commands with an operand n."""
MEMORY_SOURCES = (VectorSource.RT, VectorSource.VT, VectorSource.LT)


def is_one_of(value: Value, values: tuple[int, ...]) -> Value:
    """Whether ``value`` is one of the constants."""
    return Cat(value == each for each in values).any()


def source_rows(chip: ChipParams, space: Value) -> Value:
    """Rows of the memory ``space``."""
    pe = chip.pe
    return Mux(space == VectorSource.RT, pe.rt_rows, Mux(space == VectorSource.VT, pe.vt_rows, pe.lt_rows))


def target_rows(chip: ChipParams, space: Value) -> Value:
    """Rows, words or pieces of the memory ``space``."""
    pe = chip.pe
    pieces = pe.av_groups * (32 // chip.array.columns)
    return Mux(space == VectorTarget.VT, pe.vt_rows, Mux(space == VectorTarget.XM, pe.xm_words, pieces))


def operand_error(m: Module, chip: ChipParams, command: data.View) -> Signal:
    """`PeError` of ``command``, 0 where it can run: a count of 0, then rows outside a memory or read after written.

    Rows addressed through a map are not looked at here.
    """
    opcode, flags, n = command.opcode, command.flags.vector, command.n
    binary = is_one_of(opcode, BINARY)
    indexed = binary & flags.indexed
    rows_to_rows = is_one_of(opcode, ROWS_TO_ROWS)
    counted = is_one_of(opcode, COUNTED)
    store = opcode == Opcode.ROW_STORE
    load = opcode == Opcode.ROW_LOAD
    quantize = opcode == Opcode.QUANTIZE
    to_av = quantize & (flags.d_space == VectorTarget.AV)
    b_rows = binary & is_one_of(flags.b_space, MEMORY_SOURCES)
    pieces_per_word = Const(4)

    def leaves(base: Value, count: Value, limit: Value) -> Value:
        return base + count > limit

    a_limit = source_rows(chip, Mux(load, VectorSource.LT, flags.a_space))
    d_limit = target_rows(chip, Mux(store, VectorTarget.XM, flags.d_space))
    b_count = Mux(flags.broadcast, 1, n)
    d_count = Mux(store | to_av, 1, Mux(quantize, (n + pieces_per_word - 1) >> 2, n))
    outside = (
        (((counted & ~indexed) | load) & leaves(command.a, Mux(load, 1, n), a_limit))
        | (b_rows & leaves(command.b, b_count, source_rows(chip, flags.b_space)))
        | (((rows_to_rows & ~indexed) | quantize | store) & leaves(command.d, d_count, d_limit))
        | (to_av & (n > chip.array.rows))
    )

    # A row of VT that the command would read after it wrote it.
    in_place = rows_to_rows & ~indexed & (flags.d_space == VectorTarget.VT)
    a_late = (flags.a_space == VectorSource.VT) & (command.a < command.d) & (command.d < command.a + n)
    b_late = Mux(
        flags.broadcast,
        (command.d <= command.b) & (command.b + 1 < command.d + n),
        (command.b < command.d) & (command.d < command.b + n),
    )
    late = in_place & (a_late | (b_rows & (flags.b_space == VectorSource.VT) & b_late))

    error = Signal(PeError, name="operand_error")
    with m.If(counted & (n == 0)):
        m.d.comb += error.eq(PeError.ILLEGAL_COMMAND)
    with m.Elif(outside | late):
        m.d.comb += error.eq(PeError.ADDRESS)
    return error
