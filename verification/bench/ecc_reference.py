"""The (72,64) code written down a second time, bit by bit, to judge the RTL's encoder and decoder by.

From the specification in docs/hb_interface.md: data bit i checks itself into three bits while i < 56, the triples
of 0..7 in lexicographic order; data bits 56..63 into five consecutive bits (modulo 8), from bit i - 56 on.
"""

TRIPLES = [(a, b, c) for a in range(8) for b in range(a + 1, 8) for c in range(b + 1, 8)]


def checks_of_bit(bit: int) -> tuple[int, ...]:
    """Check bits that data bit ``bit`` takes part in."""
    return TRIPLES[bit] if bit < 56 else tuple((bit - 56 + step) % 8 for step in range(5))


def encode_word(word: int) -> int:
    """Check byte of a 64-bit word."""
    check = 0
    for bit in range(64):
        if word >> bit & 1:
            for position in checks_of_bit(bit):
                check ^= 1 << position
    return check


def encode(data: int, data_bits: int) -> int:
    """Check bits of a beat, one byte per 64-bit word, the lowest word's byte lowest."""
    return sum(encode_word(data >> 64 * w & (1 << 64) - 1) << 8 * w for w in range(data_bits // 64))
