"""The semaphores by which the units of a PE wait for each other."""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.params import SEMAPHORE_MAX, SEMAPHORES
from hw.pe.instruction import Token


class Semaphores(wiring.Component):
    """Counting semaphores; every giver and taker acts in the same cycle without arbitration.

    What is given or taken in a cycle shows in ``available`` from the next on. A count that would pass 15, or fall
    below 0 because more was taken in one cycle than was there, is an error; the count then stays.

    Parameters
    ----------
    givers, takers : int
        Pairs of tokens.

    Members
    -------
    gives : In, givers x 2 x Token
    takes : In, takers x 2 x Token
    available : Out, 16
        Bit i: semaphore i is at least 1.
    error : Out, 1
    """

    def __init__(self, givers: int, takers: int):
        pair = data.ArrayLayout(Token(), 2)
        super().__init__(
            {
                "gives": In(data.ArrayLayout(pair, givers)),
                "takes": In(data.ArrayLayout(pair, takers)),
                "available": Out(SEMAPHORES),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        given, taken = _one_hot(m, self.gives, "given"), _one_hot(m, self.takes, "taken")
        wrong = Signal(SEMAPHORES)
        for i in range(SEMAPHORES):
            count = Signal(range(SEMAPHORE_MAX + 1), name=f"count_{i}")
            following = Signal(signed(8), name=f"following_{i}")
            m.d.comb += [
                following.eq(count + sum(token[i] for token in given) - sum(token[i] for token in taken)),
                wrong[i].eq((following < 0) | (following > SEMAPHORE_MAX)),
                self.available[i].eq(count != 0),
            ]
            with m.If(~wrong[i]):
                m.d.sync += count.eq(following)
        m.d.comb += self.error.eq(wrong.any())
        return m


def _one_hot(m: Module, pairs: data.View, name: str) -> list[Signal]:
    """A bit for the semaphore that each valid token names."""
    named = []
    for i in range(pairs.shape().length):
        for j in range(2):
            signal = Signal(SEMAPHORES, name=f"{name}_{i}_{j}")
            m.d.comb += signal.eq(pairs[i][j].valid << pairs[i][j].semaphore)
            named.append(signal)
    return named


def all_available(waits: data.View, available: Value) -> Value:
    """Whether every awaited semaphore is at least 1."""
    return Cat(~token.valid | available.bit_select(token.semaphore, 1) for token in waits).all()
