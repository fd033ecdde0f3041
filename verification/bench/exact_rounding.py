"""Round-to-nearest-even from exact rational arithmetic: an outside truth for every floating-point step.

Written from IEEE 754's definition with ``fractions.Fraction`` alone; it shares nothing with the models or the
RTL, which work on bit fields and NumPy operations.
"""

from __future__ import annotations

import math
from fractions import Fraction


def round_half_even(value: Fraction) -> int:
    """The integer nearest to ``value``, the even one of two equally near."""
    below = math.floor(value)
    rest = value - below
    if rest == Fraction(1, 2):
        return below + (below & 1)
    return below + (rest > Fraction(1, 2))


def _round_binary(value: Fraction, precision: int, least: int, limit: int) -> float:
    """Nearest number with ``precision`` significant bits, spacing at least 2^``least``, below 2^``limit``."""
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:  # the bit lengths leave one binade open
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - precision + 1, least)
    rounded = round_half_even(magnitude / quantum) * quantum
    result = math.inf if rounded >= Fraction(2) ** limit else float(rounded)
    return math.copysign(result, value)


def rne_fp32(value: Fraction) -> float:
    """``value`` rounded once to binary32 (subnormals and overflow included); an exact 0 is +0."""
    return _round_binary(value, precision=24, least=-149, limit=128)


def rne_fp16(value: Fraction) -> float:
    """``value`` rounded once to binary16; an exact 0 is +0."""
    return _round_binary(value, precision=11, least=-24, limit=16)


def exact_product(integer: int, scale: float) -> float:
    """IEEE product of an integer (0 counts as +0) and a binary32 ``scale``, rounded once to binary32."""
    if math.isnan(scale) or (math.isinf(scale) and integer == 0):
        return math.nan
    sign = math.copysign(1.0, scale) * (-1.0 if integer < 0 else 1.0)
    if math.isinf(scale):
        return math.copysign(math.inf, sign)
    return math.copysign(rne_fp32(Fraction(integer) * Fraction(scale)), sign)


def exact_sum(a: float, b: float) -> float:
    """IEEE sum of two binary32 numbers, rounded once to binary32."""
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b) and a != b):
        return math.nan
    if math.isinf(a) or math.isinf(b):
        return a if math.isinf(a) else b
    if a == 0 and b == 0:  # -0 only from two of them
        return -0.0 if math.copysign(1, a) == math.copysign(1, b) == -1 else 0.0
    return rne_fp32(Fraction(a) + Fraction(b))
