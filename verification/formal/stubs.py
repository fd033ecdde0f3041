"""Stand-ins for the arithmetic in proofs about order: same ports and latency, functions that hide no mistake.

A handshake proof asks which operands meet and in what order, not what the sum is. The stand-ins keep that question
and drop the arithmetic, which has its own proofs: the multipliers concatenate their inputs, so nothing is lost, and
the adder rotates one operand, so that order and repetition show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from amaranth.hdl import Cat, Module, Value

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.slice_mac import SliceMac
from hw.pipeline import cut


def joined_product(operand: Value, activation: Value) -> Value:
    """What the slice MAC's stand-in computes, 13 bits."""
    return Cat(operand, activation).as_signed()


def joined_term(dot: Value, scale: Value, e8m0: Value, times_8: Value) -> Value:
    """What the scale multiplier's stand-in computes: dot product (up to 15 bits), scale and mode, 32 bits."""
    return Cat(scale[:15], scale[15] ^ e8m0, times_8, dot)[:32]


def joined_sum(total: Value, term: Value) -> Value:
    """What the adder's stand-in computes: neither commutative nor associative, 32 bits."""
    return total.rotate_left(5) ^ term


class _JoiningMac(SliceMac):
    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(joined_product(self.operand, self.activation))
        return m


def _delayed(m: Module, value: Value, advance: Value, stages: int) -> Value:
    for n in range(stages):
        value = getattr(cut(m, advance, True, **{f"stage_{n}": value}), f"stage_{n}")
    return value


class _JoiningMultiplier(ScaleMultiplier):
    def elaborate(self, platform):
        m = Module()
        term = joined_term(self.dot, self.scale, self.e8m0, self.times_8)
        m.d.comb += self.product.eq(_delayed(m, term, self.advance, self.latency))
        return m


class _RotatingAdder(Fp32Adder):
    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.total.eq(_delayed(m, joined_sum(self.a, self.b), self.advance, self.latency))
        return m


@contextmanager
def without_arithmetic() -> Iterator[None]:
    """Blocks elaborated inside use the stand-ins."""
    with (
        mock.patch("hw.array.dot_product.SliceMac", _JoiningMac),
        mock.patch("hw.array.group_accumulator.ScaleMultiplier", _JoiningMultiplier),
        mock.patch("hw.array.group_accumulator.Fp32Adder", _RotatingAdder),
    ):
        yield
