"""FP32 multiplication, ``product = rne(a * b)``: IEEE 754 binary32, subnormals and infinities kept, NaN canonical."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import CANONICAL_NAN, INFINITY_EXPONENT, leading_zeros, round_to_24
from hw.hierarchy import Repeated
from hw.pipeline import cut, spread

MULTIPLY_STEPS = 5  # multiply (as long as two of the others), count zeros, shift, round


class Fp32Multiplier(Repeated):
    """``product = rne(a * b)``.

    Latency ``stages`` advances, throughput one per advance; flow control is left to the owner.

    Parameters
    ----------
    stages : int
        Registers, 1 to 4.

    Members
    -------
    a, b : In, 32
        FP32 bits.
    advance : In, 1
    product : Out, 32
        FP32 bits.
    """

    def __init__(self, stages: int):
        self._stages = stages
        self.module_name = f"fp32_multiplier_{stages}"
        super().__init__({"a": In(32), "b": In(32), "advance": In(1), "product": Out(32)})

    @property
    def latency(self) -> int:
        """Advances from operands to ``product``."""
        return self._stages

    def elaborate(self, platform):
        m = Module()
        cuts = spread(self._stages, MULTIPLY_STEPS)

        # Steps 1 and 2: multiply the significands. A subnormal has exponent 1 and no hidden one. ``room`` is how far
        # the product may go left before its exponent field would fall below 1; negative: it must go right.
        fields = [value[23:31] for value in (self.a, self.b)]
        significands = [Cat(value[:23], field != 0) for value, field in zip((self.a, self.b), fields, strict=True)]
        exponents = [Mux(field == 0, 1, field) for field in fields]
        zero = [value[:31] == 0 for value in (self.a, self.b)]
        special = [field.all() for field in fields]
        nan = [field.all() & (value[:23] != 0) for value, field in zip((self.a, self.b), fields, strict=True)]
        room = Signal(signed(10))
        m.d.comb += room.eq(exponents[0] + exponents[1] - 127)
        s = cut(
            m,
            self.advance,
            2 in cuts,
            product=significands[0] * significands[1],
            room=room,
            sign=self.a[31] ^ self.b[31],
            is_nan=nan[0] | nan[1] | (special[0] & zero[1]) | (special[1] & zero[0]),
            is_inf=special[0] | special[1],
        )

        # Step 3: count the zeros above the leading one; go left by them or by the room, whichever is less.
        zeros = leading_zeros(m, s.product, "zeros")
        right = Signal(range(128))
        m.d.comb += right.eq(-s.room)
        s = cut(
            m,
            self.advance,
            3 in cuts,
            product=s.product,
            left=Mux(s.room < 0, 0, Mux(zeros > s.room, s.room, zeros))[:6],
            right=Mux(s.room < 0, Mux(right > 26, 26, right), 0)[:5],
            exponent=(s.room + 1)[:9],  # below 1 nothing rounds up to a normal number, and it is not looked at
            sign=s.sign,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 4: shift. Either amount is 0. Past 26 places to the right only the sticky bit is left.
        leftward = Signal(48)
        shifted = Signal(74)
        m.d.comb += [
            leftward.eq(s.product << s.left),
            shifted.eq(Cat(Const(0, 26), leftward) >> s.right),
        ]
        s = cut(
            m,
            self.advance,
            4 in cuts,
            normal=Cat(shifted[:49].any(), shifted[49:]),  # 24 kept, guard, sticky
            exponent=(s.exponent - s.left)[:9],
            sign=s.sign,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 5: round and pack. Without a hidden one the result is subnormal or zero: exponent field 0.
        rounded, carry = round_to_24(m, s.normal, "rounded")
        field = Signal(10)
        product = Signal(32)
        m.d.comb += field.eq(Mux(rounded[23] | carry, s.exponent + carry, 0))
        with m.If(s.is_nan):
            m.d.comb += product.eq(CANONICAL_NAN)
        with m.Elif(s.is_inf | (field >= INFINITY_EXPONENT)):
            m.d.comb += product.eq(Cat(Const(0, 23), Const(INFINITY_EXPONENT, 8), s.sign))
        with m.Else():
            m.d.comb += product.eq(Cat(rounded[:23], field[:8], s.sign))
        m.d.comb += self.product.eq(cut(m, self.advance, 5 in cuts, product_out=product).product_out)
        return m
