"""FP32 maximum and minimum, and the larger of absolute values, to the bit as docs/pe.md defines them."""

from amaranth.hdl import Mux, Value

from hw.array.fp32 import CANONICAL_NAN


def is_nan(value: Value) -> Value:
    """Whether FP32 bits are a NaN of any kind."""
    return value[23:31].all() & (value[:23] != 0)


def less(a: Value, b: Value) -> Value:
    """IEEE a < b of FP32 bits that are not NaN; -0 is not less than +0."""
    both_zero = (a[:31] == 0) & (b[:31] == 0)
    by_sign = Mux(a[31], ~both_zero, 0)
    by_magnitude = Mux(a[31], b[:31] < a[:31], a[:31] < b[:31])
    return Mux(a[31] == b[31], by_magnitude, by_sign)


def extremum(a: Value, b: Value, minimum: Value) -> Value:
    """``b`` where b < a (``minimum``) or a < b, else ``a``; the canonical NaN where either is NaN; 32 bits."""
    b_wins = Mux(minimum, less(b, a), less(a, b))
    return Mux(is_nan(a) | is_nan(b), CANONICAL_NAN, Mux(b_wins, b, a))


def canonical_magnitude(value: Value) -> Value:
    """31 bits without sign, every NaN the canonical one; as integers they compare like their values, NaN highest."""
    return Mux(is_nan(value), CANONICAL_NAN, value)[:31]
