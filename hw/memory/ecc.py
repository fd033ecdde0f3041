"""(72,64) SECDED code (Hsiao, 1970: "A class of optimal minimum odd-weight-column SEC-DED codes").

Each of the 72 bits has a column of eight parity checks; all columns are different and of odd weight. One wrong
bit gives its own column as syndrome (odd weight), two wrong bits the sum of two columns (even weight, not zero):
single errors are corrected, double errors detected. Data bits use the 56 columns of weight 3 and, to balance the
load of the checks, eight of weight 5; check bit i uses column 1 << i.
"""

from functools import reduce
from itertools import combinations
from operator import xor

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.params import ECC_CHECK_BITS, ECC_WORD_BITS


def hsiao_columns() -> list[int]:
    """Column of the parity-check matrix of each data bit, 64 different bytes of weight 3 or 5.

    The eight columns of weight 5 are the rotations of 0b00011111: each check then covers the same number of bits.
    """
    weight_3 = [sum(1 << bit for bit in bits) for bits in combinations(range(ECC_CHECK_BITS), 3)]
    mask = (1 << ECC_CHECK_BITS) - 1
    weight_5 = [(0b11111 << turn | 0b11111 >> (ECC_CHECK_BITS - turn)) & mask for turn in range(ECC_CHECK_BITS)]
    return weight_3 + weight_5


def _checks(word) -> list:
    columns = hsiao_columns()
    return [
        reduce(xor, (word[bit] for bit in range(ECC_WORD_BITS) if columns[bit] >> check & 1))
        for check in range(ECC_CHECK_BITS)
    ]


class EccEncoder(wiring.Component):
    """Check bits of every 64-bit word of a beat, combinational (27 inputs per check bit).

    Parameters
    ----------
    words : int
        64-bit words of the beat.

    Members
    -------
    data : In, words x 64
        The beat.
    check : Out, words x 8
        Its check bits, word 0 in the low byte.
    """

    def __init__(self, words: int):
        self._words = words
        super().__init__({"data": In(words * ECC_WORD_BITS), "check": Out(words * ECC_CHECK_BITS)})

    def elaborate(self, platform):
        m = Module()
        for w in range(self._words):
            word = self.data.word_select(w, ECC_WORD_BITS)
            byte = self.check.word_select(w, ECC_CHECK_BITS)
            m.d.comb += [byte[check].eq(parity) for check, parity in enumerate(_checks(word))]
        return m


class EccDecoder(wiring.Component):
    """Corrects one wrong bit per 64-bit word and its check bits, detects two, combinational.

    Parameters
    ----------
    words : int
        64-bit words of the beat.

    Members
    -------
    data, check : In
        The beat and its check bits as read.
    corrected_data : Out, words x 64
        The beat with single errors put right; a word with a detected double error passes unchanged.
    corrected : Out, words
        Words in which one bit (data or check) was wrong.
    uncorrectable : Out, words
        Words in which more was wrong: an even syndrome, or one that is no bit's column.
    """

    def __init__(self, words: int):
        self._words = words
        super().__init__(
            {
                "data": In(words * ECC_WORD_BITS),
                "check": In(words * ECC_CHECK_BITS),
                "corrected_data": Out(words * ECC_WORD_BITS),
                "corrected": Out(words),
                "uncorrectable": Out(words),
            }
        )

    def elaborate(self, platform):
        m = Module()
        columns = hsiao_columns()
        every_column = [*columns, *(1 << check for check in range(ECC_CHECK_BITS))]
        for w in range(self._words):
            word = self.data.word_select(w, ECC_WORD_BITS)
            syndrome = Signal(ECC_CHECK_BITS, name=f"syndrome_{w}")
            parities = zip(_checks(word), self.check.word_select(w, ECC_CHECK_BITS), strict=True)
            m.d.comb += [syndrome[i].eq(computed ^ read) for i, (computed, read) in enumerate(parities)]
            one_wrong = Cat(syndrome == column for column in every_column).any()
            fixed = self.corrected_data.word_select(w, ECC_WORD_BITS)
            m.d.comb += [
                self.corrected[w].eq(one_wrong),
                self.uncorrectable[w].eq((syndrome != 0) & ~one_wrong),
                *(fixed[bit].eq(word[bit] ^ (syndrome == column)) for bit, column in enumerate(columns)),
            ]
        return m
