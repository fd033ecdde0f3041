"""Sigmoid, ``value = 1 / (1 + e^-x)``: cubic polynomials of 256 segments, every step rounded to FP32 (docs/runtime.md).

y = min(|x|, 16),  j = trunc(16 y),  d = rne(y - (j + 1/2) / 16)
t = ((c3 d + c2) d + c1) d + c0      each product and sum rounded; 0 from y = 16 on
value = t for x < 0, rne(1 - t) otherwise

No product is subnormal where y < 16 (`test_no_product_is_subnormal` has the bounds), so the multipliers need no
shifters. For other x the polynomial is undefined, and unused.
"""

from dataclasses import replace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import CANONICAL_NAN, Fp32Adder, leading_zeros
from hw.hierarchy import Repeated, add_repeated
from hw.isa.vector_timing import sigmoid_stages
from hw.params import ChipParams
from hw.pe.vector.fp32_compare import is_nan
from hw.pe.vector.normal_multiplier import NormalMultiplier
from hw.pe.vector.sigmoid_table import LIMIT_BITS, ONE_BITS, SEGMENTS, sigmoid_coefficients
from hw.pipeline import cut, delay

_SIGN = 1 << 31
_FIRST_FIELD = 123  # exponent field of 1/16, where segment 1 begins


class SigmoidUnit(Repeated):
    """One sigmoid a cycle, latency ``latency`` cycles, never stalled; NaN gives the canonical NaN.

    Members
    -------
    x : In, 32
        FP32 bits.
    value : Out, 32
        FP32 bits.
    """

    module_name = "sigmoid_unit"

    def __init__(self, chip: ChipParams):
        self._chip = chip
        super().__init__({"x": In(32), "value": Out(32)})

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``value``."""
        return sigmoid_stages(self._chip)

    def elaborate(self, platform):
        m = Module()
        pe = self._chip.pe
        adder_params = replace(self._chip.array, add_stages=pe.vector_add_stages)
        always = Const(1)

        def add(name: str, a: Value, b: Value) -> Signal:
            adder = Fp32Adder(adder_params)
            add_repeated(m, name, adder, platform)
            m.d.comb += [adder.a.eq(a), adder.b.eq(b), adder.advance.eq(1)]
            return adder.total

        def multiply(name: str, a: Value, b: Value) -> Signal:
            multiplier = NormalMultiplier(pe.vector_mul_stages)
            add_repeated(m, name, multiplier, platform)
            m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b), multiplier.advance.eq(1)]
            return multiplier.product

        def coefficient(power: int, segment: Value) -> Signal:
            """The cycle after ``segment``."""
            table = Memory(shape=32, depth=SEGMENTS, init=sigmoid_coefficients()[power])
            m.submodules[f"table_{power}"] = table
            port = table.read_port()
            m.d.comb += [port.addr.eq(segment), port.en.eq(1)]
            return port.data

        # Segment: the integer part of 16 y, and (2 j + 1) / 32 as FP32.
        field = self.x[23:31]
        segment = Signal(range(SEGMENTS))
        with m.If(field >= _FIRST_FIELD):
            m.d.comb += segment.eq(Cat(self.x[16:23], Const(1, 1)) >> (_FIRST_FIELD + 7 - field)[:3])
        odd = Cat(Const(1, 1), segment)
        zeros = leading_zeros(m, odd, "zeros")
        s = cut(
            m,
            always,
            True,
            segment=segment,
            minus_middle=Cat(Const(0, 15), (odd << zeros)[:8], (127 + 3 - zeros)[:8], Const(1, 1)),
            y=self.x[:31],
            negative=self.x[31] & (self.x[:31] != 0),
            is_nan=is_nan(self.x),
            beyond=self.x[:31] >= LIMIT_BITS,
        )

        # Distance from the middle, then Horner. What goes around the arithmetic is delayed by as many cycles.
        distance = add("distance", s.y, s.minus_middle)
        flags = {"negative": s.negative, "is_nan": s.is_nan, "beyond": s.beyond}
        step = pe.vector_mul_stages + pe.vector_add_stages
        s = delay(m, always, pe.vector_add_stages - 1, segment=s.segment, **flags)
        polynomial = coefficient(3, s.segment)
        s = cut(m, always, True, **vars(s))
        flags = {name: getattr(s, name) for name in flags}
        for power in (2, 1, 0):
            product = multiply(f"multiply_{power}", polynomial, distance)
            before_sum = delay(m, always, pe.vector_mul_stages - 1, segment=s.segment)
            polynomial = add(f"add_{power}", product, coefficient(power, before_sum.segment))
            if power:
                s = delay(m, always, step, distance=distance, segment=s.segment, **flags)
                distance = s.distance
            else:
                s = delay(m, always, step, **flags)
            flags = {name: getattr(s, name) for name in flags}

        # Reflect: 1 - t unless x < 0.
        t, minus_t = Signal(32), Signal(32)
        m.d.comb += [t.eq(Mux(s.beyond, 0, polynomial)), minus_t.eq(t ^ _SIGN)]
        reflected = add("reflect", ONE_BITS, minus_t)
        tail = delay(m, always, pe.vector_add_stages, t=t, negative=s.negative, is_nan=s.is_nan)
        m.d.comb += self.value.eq(Mux(tail.is_nan, CANONICAL_NAN, Mux(tail.negative, tail.t, reflected)))
        return m
