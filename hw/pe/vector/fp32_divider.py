"""FP32 division, ``quotient = rne(a / b)``: correctly rounded by digit recurrence, fully pipelined."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import CANONICAL_NAN, INFINITY_EXPONENT, leading_zeros, round_to_24
from hw.hierarchy import Repeated
from hw.pipeline import cut, spread

QUOTIENT_BITS = 26  # 24 kept, guard, and one more since the quotient of two significands may begin with 0
DIVIDE_STEPS = 1 + QUOTIENT_BITS + 2  # normalise operands, one quotient bit each, shift, round


class Fp32Divider(Repeated):
    """``quotient = rne(a / b)``, IEEE binary32; x / 0 is an infinity, 0 / 0 and inf / inf the canonical NaN.

    Restoring division, one bit a step. Latency ``stages`` advances, throughput one per advance.

    Parameters
    ----------
    stages : int
        Registers, 1 to 29.

    Members
    -------
    a, b : In, 32
        FP32 bits.
    advance : In, 1
    quotient : Out, 32
        FP32 bits.
    """

    def __init__(self, stages: int):
        self._stages = stages
        self.module_name = f"fp32_divider_{stages}"
        super().__init__({"a": In(32), "b": In(32), "advance": In(1), "quotient": Out(32)})

    @property
    def latency(self) -> int:
        """Advances from operands to ``quotient``."""
        return self._stages

    def elaborate(self, platform):
        m = Module()
        cuts = spread(self._stages, DIVIDE_STEPS)

        # Step 1: normalise both significands, so that the quotient is between 1/2 and 2.
        significands, exponents = [], []
        for name, value in (("a", self.a), ("b", self.b)):
            field = value[23:31]
            significand = Cat(value[:23], field != 0)
            zeros = leading_zeros(m, significand, f"zeros_{name}")
            significands.append((significand << zeros)[:24])
            exponents.append(Mux(field == 0, 1, field) - zeros)
        zero = [value[:31] == 0 for value in (self.a, self.b)]
        infinite = [value[23:31].all() & (value[:23] == 0) for value in (self.a, self.b)]
        nan = [value[23:31].all() & (value[:23] != 0) for value in (self.a, self.b)]
        exponent = Signal(signed(11))  # biased exponent of the quotient, were it at least 1
        m.d.comb += exponent.eq(exponents[0] - exponents[1] + 127)
        tags = {
            "exponent": exponent,
            "sign": self.a[31] ^ self.b[31],
            "is_nan": nan[0] | nan[1] | (zero[0] & zero[1]) | (infinite[0] & infinite[1]),
            "is_inf": infinite[0] | zero[1],
            "is_zero": infinite[1],  # a zero dividend needs no care: its digits are 0
        }
        s = cut(
            m,
            self.advance,
            1 in cuts,
            rest=significands[0],
            divisor=significands[1],
            digits=Const(0, 0),
            **tags,
        )

        # Steps 2 to 27: does the divisor go into what is left? The difference is doubled for the next bit.
        for step in range(QUOTIENT_BITS):
            difference = Signal(25, name=f"difference_{step}")
            m.d.comb += difference.eq(s.rest - s.divisor)
            goes = ~difference[24]  # between -2^24 and 2^24: the sign
            following = {
                "rest": Cat(Const(0, 1), Mux(goes, difference[:24], s.rest[:24])),
                "digits": Cat(goes, s.digits),
                **{name: getattr(s, name) for name in tags},
            }
            if step + 1 < QUOTIENT_BITS:
                following["divisor"] = s.divisor
            s = cut(m, self.advance, step + 2 in cuts, **following)

        # Step 28: leading one to the top, then right where the exponent is below 1, past 26 places sticky only.
        small = ~s.digits[-1]
        biased = Signal(signed(12))
        right = Signal(signed(12))
        m.d.comb += [biased.eq(s.exponent - small), right.eq(Mux(biased < 1, 1 - biased, 0))]
        with_sticky = Cat(s.rest != 0, Mux(small, (s.digits << 1)[:QUOTIENT_BITS], s.digits))
        shifted = Signal(27 + 26)
        m.d.comb += shifted.eq(Cat(Const(0, 26), with_sticky) >> Mux(right > 26, 26, right[:5]))
        s = cut(
            m,
            self.advance,
            DIVIDE_STEPS - 1 in cuts,
            normal=Cat(shifted[:28].any(), shifted[28:]),  # 24 kept, guard, sticky
            exponent=Mux(biased < 1, 1, biased)[:10],
            **{name: getattr(s, name) for name in tags if name != "exponent"},
        )

        # Step 29: round and pack. Without a hidden one the result is subnormal: exponent field 0.
        rounded, carry = round_to_24(m, s.normal, "rounded")
        field = Signal(10)
        rounded_quotient = Signal(32)
        m.d.comb += field.eq(Mux(rounded[23] | carry, s.exponent + carry, 0))
        with m.If(s.is_nan):
            m.d.comb += rounded_quotient.eq(CANONICAL_NAN)
        with m.Elif(s.is_inf | (~s.is_zero & (field >= INFINITY_EXPONENT))):
            m.d.comb += rounded_quotient.eq(Cat(Const(0, 23), Const(INFINITY_EXPONENT, 8), s.sign))
        with m.Elif(s.is_zero):
            m.d.comb += rounded_quotient.eq(Cat(Const(0, 31), s.sign))
        with m.Else():
            m.d.comb += rounded_quotient.eq(Cat(rounded[:23], field[:8], s.sign))
        m.d.comb += self.quotient.eq(cut(m, self.advance, DIVIDE_STEPS in cuts, result=rounded_quotient).result)
        return m
