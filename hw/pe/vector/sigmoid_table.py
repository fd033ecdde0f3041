"""Coefficients of the sigmoid unit: cubic Taylor polynomials of t(y) = 1 / (1 + e^y) around 256 segment middles.

With E = e^y at the middle: t = 1 / (1 + E), t' = -E / (1 + E)^2, t'' / 2 = E (E - 1) / (2 (1 + E)^3),
t''' / 6 = -E (E^2 - 4 E + 1) / (6 (1 + E)^4), each rounded once to binary32 from 60 digits of ``decimal``, whose
exp is correctly rounded by specification.
"""

from decimal import Decimal, localcontext
from functools import cache

SEGMENTS = 256
SEGMENT_WIDTH = Decimal(1) / 16
LIMIT_BITS = 0x41800000  # 16.0 = SEGMENTS x SEGMENT_WIDTH: from here on t is taken as 0
ONE_BITS = 0x3F800000


def binary32(value: Decimal) -> int:
    """FP32 bits of ``value``, rounded once to nearest even; for magnitudes in the normal range, and 0."""
    if not value:
        return 0
    sign, numerator, denominator = value < 0, *abs(value).as_integer_ratio()
    exponent = numerator.bit_length() - denominator.bit_length()
    exponent -= numerator << max(-exponent, 0) < denominator << max(exponent, 0)
    shift = 23 - exponent  # the significand is value x 2^shift, from 2^23 up to 2^24
    whole, rest = divmod(numerator << max(shift, 0), denominator << max(-shift, 0))
    twice = 2 * rest - (denominator << max(-shift, 0))
    whole += twice > 0 or (twice == 0 and whole & 1)
    return sign << 31 | ((exponent + 126) << 23) + whole  # the hidden one, and a carry, add to the exponent


@cache
def sigmoid_coefficients() -> tuple[tuple[int, ...], ...]:
    """FP32 bits of the polynomial's coefficients, [power 0 .. 3][segment]."""
    columns = ([], [], [], [])
    with localcontext() as context:
        context.prec = 60
        for segment in range(SEGMENTS):
            e = ((segment + Decimal("0.5")) * SEGMENT_WIDTH).exp()
            terms = (
                1 / (1 + e),
                -e / (1 + e) ** 2,
                e * (e - 1) / (2 * (1 + e) ** 3),
                -e * (e * e - 4 * e + 1) / (6 * (1 + e) ** 4),
            )
            for column, term in zip(columns, terms, strict=True):
                column.append(binary32(term))
    return tuple(map(tuple, columns))
