"""How many bits of each operand a unit can use: what its queue keeps.

A unit refuses every operand beyond its memories, however far beyond, and addresses wrap at powers of two. So a queue
keeps the low bits of an operand and one bit that tells whether any above them was set (`narrowed`): the unit sees
another value then, but refuses it for the same reason.
"""

from amaranth.hdl import Cat, Value

from hw.isa.encoding import OPERANDS, Unit
from hw.params import ChipParams
from hw.pe.instruction import OPERAND_BITS


def operand_bits(chip: ChipParams, unit: Unit) -> dict[str, int]:
    """Bits of each operand slot that commands of ``unit`` use: all allowed values are below 2^bits; 0 for unused ones.

    Slots whose every value counts have all 32: VECTOR's immediate, and its n, which a counter adds up even where the
    command is refused; what HOST hands on.
    """
    pe, array, hb = chip.pe, chip.array, chip.hb

    def index(*sizes: int) -> int:
        """Bits of an address into any of several memories."""
        return (max(sizes) - 1).bit_length()

    def count(*sizes: int) -> int:
        """Bits of a number of places in any of several memories."""
        return max(sizes).bit_length()

    columns = index(hb.rows * hb.data_columns)
    al_words = pe.al_groups * 8 * array.rows // array.columns
    av_pieces = pe.av_groups * 32 // array.columns
    groups, weights = (pe.al_groups, pe.av_groups), (pe.wh_words, pe.wl_words)
    used = {
        Unit.HB: {"d": index(pe.wh_words), "a": columns, "n": count(pe.wh_words)},
        Unit.STREAM: {
            "d": max(columns, index(pe.wl_words)),
            "n": max(hb.length_bits, count(pe.wl_words)),
        },
        Unit.GATHER: {"d": index(al_words, pe.lt_rows), "n": count(al_words, pe.lt_rows)},
        Unit.ARRAY: {
            "d": index(pe.rt_rows),
            "a": index(*groups),
            "b": index(*weights),
            "s": index(*weights),
            "n": count(*groups),
            "m": count(array.chains),
        },
        Unit.VECTOR: {
            "d": index(pe.vt_rows, pe.xm_words, av_pieces, 4 * pe.xm_words),
            "a": index(pe.rt_rows, pe.vt_rows, pe.lt_rows),
            "b": OPERAND_BITS,
            "n": OPERAND_BITS,
        },
        Unit.STORE: {"a": index(pe.xm_words), "n": count(pe.xm_words)},
        Unit.HOST: dict.fromkeys(("d", "a", "b"), OPERAND_BITS),
    }[unit]
    return {slot: used.get(slot, 0) for slot in OPERANDS}


def narrowed(operand: Value, bits: int) -> Value:
    """The low ``bits`` of ``operand``, and above them whether there was more; nothing where ``bits`` is 0."""
    if bits in (0, len(operand)):
        return operand[:bits]
    return Cat(operand[:bits], operand[bits:].any())
