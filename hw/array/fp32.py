"""FP32 arithmetic of the group accumulator: integer x scale, and addition.

Both follow IEEE 754 binary32 with round to nearest even, subnormals kept, infinities kept, every NaN result the
canonical quiet NaN 0x7FC00000. Nothing is fused: the scaled dot product is rounded, then added, then rounded.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated
from hw.params import ArrayParams
from hw.pipeline import cut, spread

CANONICAL_NAN = 0x7FC00000
INFINITY_EXPONENT = 0xFF
SCALE_STEPS = 3  # multiply, normalise, round
ADD_STEPS = 5  # order, align, add, normalise, round


def leading_zeros(m: Module, value: Value, name: str) -> Signal:
    """Zeros above the highest one of ``value``; its width where ``value`` is zero."""
    width = len(value)
    count = Signal(range(width + 1), name=name)
    m.d.comb += count.eq(width)
    for bit in range(width):  # the last assignment whose condition holds wins: the highest one
        with m.If(value[bit]):
            m.d.comb += count.eq(width - 1 - bit)
    return count


def round_to_24(m: Module, value: Value, name: str) -> tuple[Value, Value]:
    """Round ``value``, a significand with its leading one at the top (or below, if subnormal), to 24 bits.

    Returns the 24-bit significand and the carry that means 2^24.
    """
    kept, rest = value[-24:], value[:-24]
    guard, sticky = rest[-1], rest[:-1].any()
    rounded = Signal(25, name=name)
    m.d.comb += rounded.eq(kept + (guard & (sticky | kept[0])))
    return rounded[:24], rounded[24]


class ScaleMultiplier(Repeated):
    """``product = rne(dot * 2^shift * scale)`` with the scale FP16 or E8M0.

    FP16: any of the 2^16 patterns, widened exactly. E8M0 (low byte): 2^(e - 128), the factor 1/2 of the doubled E2M1
    operands folded in; 0xFF is NaN. FP16 results are normal or zero; E8M0 results are exact, subnormals included, or
    overflow to infinity. Infinity times a zero dot is NaN; a zero has the sign of the scale.

    Latency ``params.scale_stages`` advances, throughput one per advance; flow control is left to the accumulator.

    Parameters
    ----------
    params : ArrayParams

    Members
    -------
    dot : In, signed(group_bits)
        Integer dot product of a whole group.
    scale : In, 16
        FP16 bits, or E8M0 bits in the low byte.
    e8m0 : In, 1
        The scale is E8M0.
    times_8 : In, 1
        Upper slice: the dot product weighs 8.
    advance : In, 1
    product : Out, 32
        FP32 bits.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"scale_multiplier_{params.group_bits}"
        super().__init__(
            {
                "dot": In(signed(params.group_bits)),
                "scale": In(16),
                "e8m0": In(1),
                "times_8": In(1),
                "advance": In(1),
                "product": Out(32),
            }
        )

    @property
    def latency(self) -> int:
        """Advances from ``dot`` to ``product``."""
        return self._params.scale_stages

    def elaborate(self, platform):
        m = Module()
        p = self._params
        cuts = spread(p.scale_stages, SCALE_STEPS)

        # Step 1: multiply. value = magnitude x significand x 2^(exponent), integer times integer, exact.
        fraction, exponent_field, scale_sign = self.scale[:10], self.scale[10:15], self.scale[15]
        e8m0_field = self.scale[:8]
        significand = Signal(11)
        exponent = Signal(signed(10))  # power of two of the significand's last bit, before the factor 8
        sign = Signal()
        is_nan = Signal()
        is_inf = Signal()
        m.d.comb += sign.eq(self.dot[-1])
        with m.If(self.e8m0):
            m.d.comb += [significand.eq(1), exponent.eq(e8m0_field - 128), is_nan.eq(e8m0_field == 0xFF)]
        with m.Else():
            m.d.comb += [
                significand.eq(Cat(fraction, exponent_field != 0)),
                exponent.eq(Mux(exponent_field == 0, 1, exponent_field) - 25),
                sign.eq(self.dot[-1] ^ scale_sign),
                is_nan.eq(exponent_field.all() & ((fraction != 0) | (self.dot == 0))),
                is_inf.eq(exponent_field.all() & (fraction == 0)),
            ]
        magnitude = Signal(p.group_bits)  # |-2^(n-1)| needs all n bits
        m.d.comb += magnitude.eq(Mux(self.dot[-1], -self.dot, self.dot))
        s = cut(
            m,
            self.advance,
            1 in cuts,
            value=(magnitude * significand)[: p.group_bits + 11],
            exponent=exponent + Mux(self.times_8, 3, 0),
            sign=sign,
            is_nan=is_nan,
            is_inf=is_inf,
        )

        # Step 2: normalise. Leading one to the top; biased exponent of a significand with 1 before the point.
        width = len(s.value)
        zeros = leading_zeros(m, s.value, "zeros")
        s = cut(
            m,
            self.advance,
            2 in cuts,
            significand=(s.value << zeros)[:width],
            biased=s.exponent + (width - 1 + 127) - zeros,
            sign=s.sign,
            is_zero=s.value == 0,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 3: round and pack. Subnormals arise only from E8M0 with a dot below 4: at most two places, exact.
        rounded, carry = round_to_24(m, s.significand, "rounded")
        biased = Signal(signed(12))
        subnormal = Signal(23)
        product = Signal(32)
        m.d.comb += [
            biased.eq(s.biased + carry),
            subnormal.eq(Mux(s.biased == 0, rounded >> 1, rounded >> 2)),
        ]
        with m.If(s.is_nan):
            m.d.comb += product.eq(CANONICAL_NAN)
        with m.Elif(s.is_inf | (~s.is_zero & (biased >= INFINITY_EXPONENT))):
            m.d.comb += product.eq(Cat(Const(0, 23), Const(INFINITY_EXPONENT, 8), s.sign))
        with m.Elif(s.is_zero):
            m.d.comb += product.eq(Cat(Const(0, 31), s.sign))
        with m.Elif(biased <= 0):
            m.d.comb += product.eq(Cat(subnormal, Const(0, 8), s.sign))
        with m.Else():
            m.d.comb += product.eq(Cat(rounded[:23], biased[:8], s.sign))
        m.d.comb += self.product.eq(cut(m, self.advance, 3 in cuts, product_out=product).product_out)
        return m


class Fp32Adder(Repeated):
    """``total = rne(a + b)``, IEEE binary32, one path for near and far operands.

    An exact zero from unlike signs is +0. Latency ``params.add_stages`` advances, throughput one per advance; flow
    control is left to the accumulator.

    Parameters
    ----------
    params : ArrayParams

    Members
    -------
    a, b : In, 32
        FP32 bits.
    advance : In, 1
    total : Out, 32
        FP32 bits.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"fp32_adder_{params.add_stages}"
        super().__init__({"a": In(32), "b": In(32), "advance": In(1), "total": Out(32)})

    @property
    def latency(self) -> int:
        """Advances from operands to ``total``."""
        return self._params.add_stages

    def elaborate(self, platform):
        m = Module()
        cuts = spread(self._params.add_stages, ADD_STEPS)

        # Step 1: order by magnitude and find the distance. A subnormal has exponent 1 and no hidden one.
        swap = self.a[:31] < self.b[:31]
        large = Signal(32)
        small = Signal(32)
        m.d.comb += [large.eq(Mux(swap, self.b, self.a)), small.eq(Mux(swap, self.a, self.b))]
        large_field, small_field = large[23:31], small[23:31]
        large_exponent = Signal(8)
        small_exponent = Signal(8)
        m.d.comb += [
            large_exponent.eq(Mux(large_field == 0, 1, large_field)),
            small_exponent.eq(Mux(small_field == 0, 1, small_field)),
        ]
        subtract = large[31] ^ small[31]
        large_is_nan = large_field.all() & (large[:23] != 0)  # the larger magnitude is the NaN if either is
        s = cut(
            m,
            self.advance,
            1 in cuts,
            large=Cat(large[:23], large_field != 0),
            small=Cat(small[:23], small_field != 0),
            exponent=large_exponent,
            distance=(large_exponent - small_exponent)[:8],
            subtract=subtract,
            sign=large[31],
            is_nan=large_is_nan | (large_field.all() & small_field.all() & subtract),
            is_inf=large_field.all(),
        )

        # Step 2: align. Guard, round and sticky bits below the small significand; past 26 places only sticky is left.
        shifted = Signal(50)
        m.d.comb += shifted.eq(Cat(Const(0, 26), s.small) >> Mux(s.distance > 26, 26, s.distance[:5]))
        s = cut(
            m,
            self.advance,
            2 in cuts,
            large=s.large,
            small=Cat(shifted[:24].any(), shifted[24:]),
            exponent=s.exponent,
            subtract=s.subtract,
            sign=s.sign,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 3: add or subtract. 24 bits, three below, one carry above.
        extended = Cat(Const(0, 3), s.large)
        s = cut(
            m,
            self.advance,
            3 in cuts,
            total=Mux(s.subtract, extended - s.small, extended + s.small)[:28],
            exponent=s.exponent,
            cancelled=s.subtract,
            sign=s.sign,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 4: normalise. One place right after a carry, else left as far as the exponent allows.
        zeros = leading_zeros(m, s.total[:27], "zeros")
        room = (s.exponent - 1)[:8]
        left = Mux(zeros > room, room, zeros)[:5]
        normal = Signal(27)
        exponent = Signal(9)
        with m.If(s.total[27]):
            m.d.comb += [normal.eq(Cat(s.total[:2].any(), s.total[2:])), exponent.eq(s.exponent + 1)]
        with m.Else():
            m.d.comb += [normal.eq(s.total[:27] << left), exponent.eq(s.exponent - left)]
        s = cut(
            m,
            self.advance,
            4 in cuts,
            normal=normal,
            exponent=exponent,
            is_zero=s.total == 0,
            cancelled=s.cancelled,
            sign=s.sign,
            is_nan=s.is_nan,
            is_inf=s.is_inf,
        )

        # Step 5: round and pack. Without a hidden one the result is subnormal: exponent field 0.
        rounded, carry = round_to_24(m, s.normal, "rounded")
        field = Signal(9)
        total = Signal(32)
        m.d.comb += field.eq(Mux(rounded[23] | carry, s.exponent + carry, 0))
        with m.If(s.is_nan):
            m.d.comb += total.eq(CANONICAL_NAN)
        with m.Elif(s.is_inf | (field >= INFINITY_EXPONENT)):
            m.d.comb += total.eq(Cat(Const(0, 23), Const(INFINITY_EXPONENT, 8), s.sign))
        with m.Elif(s.is_zero):
            m.d.comb += total.eq(Cat(Const(0, 31), s.sign & ~s.cancelled))
        with m.Else():
            m.d.comb += total.eq(Cat(rounded[:23], field[:8], s.sign))
        m.d.comb += self.total.eq(cut(m, self.advance, 5 in cuts, total_out=total).total_out)
        return m
