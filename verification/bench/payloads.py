"""Stream payloads as integers: pack nested values by a payload's own layout, and back."""

from enum import Enum

from amaranth.hdl import Shape
from amaranth.lib import data


def pack(layout: object, value: object) -> int:
    """Bits of ``value`` (dicts, sequences, arrays, integers, nested as ``layout`` is) as one integer."""
    if not isinstance(layout, data.Layout):
        return int(value) & ((1 << Shape.cast(layout).width) - 1)
    bits = 0
    for key, field in layout:
        bits |= pack(field.shape, value[key]) << field.offset
    return bits


def unpack(layout: object, bits: int) -> object:
    """The reverse of `pack`: dicts for structures, lists for arrays, integers (signed by shape) for leaves."""
    if isinstance(layout, data.StructLayout):
        return {key: unpack(field.shape, bits >> field.offset) for key, field in layout}
    if isinstance(layout, data.ArrayLayout):
        return [unpack(field.shape, bits >> field.offset) for _, field in layout]
    shape = Shape.cast(layout)
    value = bits & ((1 << shape.width) - 1)
    if shape.signed and value >> (shape.width - 1):
        value -= 1 << shape.width
    return layout(value) if isinstance(layout, type) and issubclass(layout, Enum) else value
