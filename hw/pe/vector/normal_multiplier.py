"""FP32 multiplication where nothing can be subnormal, ``product = rne(a * b)``: no shifters, a ninth of the logic."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import round_to_24
from hw.hierarchy import Repeated
from hw.pe.vector.fp32_multiplier import MULTIPLY_STEPS
from hw.pipeline import cut, spread


class NormalMultiplier(Repeated):
    """``product = rne(a * b)`` where operands and exact product are normal numbers or zeros; undefined elsewhere.

    The product of two significands of 24 bits has at most one zero above its leading one, so normalising is a choice
    between two places. Latency ``stages`` advances, throughput one per advance, cut as `Fp32Multiplier` is.

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
        self.module_name = f"normal_multiplier_{stages}"
        super().__init__({"a": In(32), "b": In(32), "advance": In(1), "product": Out(32)})

    @property
    def latency(self) -> int:
        """Advances from operands to ``product``."""
        return self._stages

    def elaborate(self, platform):
        m = Module()
        cuts = spread(self._stages, MULTIPLY_STEPS)

        # Steps 1 and 2: multiply the significands.
        fields = [value[23:31] for value in (self.a, self.b)]
        significands = [Cat(value[:23], 1) for value in (self.a, self.b)]
        s = cut(
            m,
            self.advance,
            2 in cuts,
            product=significands[0] * significands[1],
            exponent=(fields[0] + fields[1] - 127)[:8],
            sign=self.a[31] ^ self.b[31],
            is_zero=(fields[0] == 0) | (fields[1] == 0),
        )

        # Steps 3 and 4: the leading one is bit 47 or bit 46.
        high = s.product[47]
        normal = Mux(high, s.product, Cat(Const(0, 1), s.product[:47]))
        s = cut(
            m,
            self.advance,
            3 in cuts or 4 in cuts,
            normal=Cat(normal[:23].any(), normal[23:]),  # 24 kept, guard, sticky
            exponent=(s.exponent + high)[:8],
            sign=s.sign,
            is_zero=s.is_zero,
        )
        if {3, 4} <= cuts:
            s = cut(m, self.advance, True, **vars(s))

        # Step 5: round and pack.
        rounded, carry = round_to_24(m, s.normal, "rounded")
        packed = Mux(s.is_zero, Const(0, 31), Cat(rounded[:23], (s.exponent + carry)[:8]))
        m.d.comb += self.product.eq(cut(m, self.advance, 5 in cuts, product_out=Cat(packed, s.sign)).product_out)
        return m
