"""What every unit of the PE has in common."""

from amaranth.hdl import Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa.encoding import PeError
from hw.params import PeParams
from hw.pe.instruction import Command


def unit_members(params: PeParams) -> dict[str, wiring.Member]:
    """Members of a unit towards its queue.

    go       In, ``command`` starts in this cycle; only while the unit is free
    command  In, Command, valid with ``go``
    done     Out, the command ends in this cycle; the unit can start the next one in the following cycle
    error    Out, a `PeError` in the cycle in which it is found; a command with a wrong operand does not happen
    """
    return {"go": In(1), "command": In(Command(params)), "done": Out(1), "error": Out(PeError)}


def is_beyond(first: Value, count: Value, capacity: int) -> Value:
    """Whether ``count`` places from ``first`` on leave a memory of ``capacity`` places."""
    return first + count > capacity


def operand_error(m, wrong: Value, outside: Value) -> Signal:
    """The error of a command with ``wrong`` operands, or with some that lead ``outside`` a memory."""
    error = Signal(PeError, name="operand_error")
    with m.If(wrong):
        m.d.comb += error.eq(PeError.ILLEGAL_COMMAND)
    with m.Elif(outside):
        m.d.comb += error.eq(PeError.ADDRESS)
    return error
