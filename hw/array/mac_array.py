"""The MAC array: rows x columns dot units that share operands along columns and activations along rows."""

from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.dot_product import DotProduct, dot_latency
from hw.array.weight_feed import SCALE_BITS, OperandBeat
from hw.hierarchy import Repeated, add_repeated
from hw.isa import WeightMode
from hw.params import ArrayParams
from hw.pipeline import cut


class ActivationBeat(data.StructLayout):
    """One beat of activations, ``values[row][lane]``, and where the group's dot products belong.

    chain         accumulator chain of the group (one per token block and output tile in flight)
    first, last   the group starts its chain at +0; the chain is complete with this group and is emitted
    keep          another token block uses the same weight group next

    The four tags are equal on all beats of a group.
    """

    def __init__(self, params: ArrayParams):
        super().__init__(
            {
                "values": data.ArrayLayout(data.ArrayLayout(signed(params.activation_bits), params.depth), params.rows),
                "chain": range(params.chains),
                "first": 1,
                "last": 1,
                "keep": 1,
            }
        )


class DotBeat(data.StructLayout):
    """One beat of integer dot products, ``dots[column][row]``, with scales, mode and chain tags."""

    def __init__(self, params: ArrayParams):
        super().__init__(
            {
                "dots": data.ArrayLayout(data.ArrayLayout(signed(params.dot_bits), params.rows), params.columns),
                "scales": data.ArrayLayout(unsigned(SCALE_BITS), params.columns),
                "mode": WeightMode,
                "chain": range(params.chains),
                "first": 1,
                "last": 1,
            }
        )


class MacColumn(Repeated):
    """One column: its operand register, which all rows share, a dot unit per row, and the scale alongside.

    Latency `mac_array_latency` advances from ``operands``; activations come registered, one advance later.

    Members
    -------
    operands : In, depth x signed(operand_bits)
    scale : In, 16
    activations : In, rows x depth x signed(activation_bits)
        Registered by the array, once for all columns.
    advance : In, 1
    dots : Out, rows x signed(dot_bits)
    scale_out : Out, 16
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"mac_column_{params.rows}x{params.depth}"
        super().__init__(
            {
                "operands": In(data.ArrayLayout(signed(params.operand_bits), params.depth)),
                "scale": In(SCALE_BITS),
                "activations": In(
                    data.ArrayLayout(data.ArrayLayout(signed(params.activation_bits), params.depth), params.rows)
                ),
                "advance": In(1),
                "dots": Out(data.ArrayLayout(signed(params.dot_bits), params.rows)),
                "scale_out": Out(SCALE_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params

        operands = cut(m, self.advance, True, operands=self.operands).operands
        for r in range(p.rows):
            dot_unit = DotProduct(p)
            add_repeated(m, f"row_{r}", dot_unit, platform)
            m.d.comb += [
                Value.cast(dot_unit.operands).eq(operands),
                dot_unit.activations.eq(self.activations[r]),
                dot_unit.advance.eq(self.advance),
                self.dots[r].eq(dot_unit.dot),
            ]

        scale = self.scale
        for stage in range(mac_array_latency(p)):
            scale = getattr(cut(m, self.advance, True, **{f"scale_{stage}": scale}), f"scale_{stage}")
        m.d.comb += self.scale_out.eq(scale)
        return m


def mac_array_latency(params: ArrayParams) -> int:
    """Registers of the array: the operands, then the dot units."""
    return 1 + dot_latency(params)


class MacArray(wiring.Component):
    """Joins weights and activations beat by beat and computes all dot products.

    Latency ``latency`` cycles, throughput one beat per cycle. The whole array advances together; it holds while a
    result waits for its consumer, and a beat enters only when weights and activations are both there. Summing beats
    to groups, scaling and accumulation are left to the group accumulator.

    Members
    -------
    weights : In, stream of OperandBeat
    activations : In, stream of ActivationBeat
    keep : Out, 1
        The entering beat's ``keep``, for the weight feed.
    dots : Out, stream of DotBeat
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        super().__init__(
            {
                "weights": In(stream.Signature(OperandBeat(params))),
                "activations": In(stream.Signature(ActivationBeat(params))),
                "keep": Out(1),
                "dots": Out(stream.Signature(DotBeat(params))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a beat's entry to its dot products."""
        return mac_array_latency(self._params)

    def elaborate(self, platform):
        m = Module()
        p = self._params
        weights, beat, out = self.weights.payload, self.activations.payload, self.dots.payload

        # Control: one advance for everything, a valid bit and the tags per stage.
        advance = Signal()
        enter = Signal()
        m.d.comb += [
            advance.eq(~self.dots.valid | self.dots.ready),
            enter.eq(self.weights.valid & self.activations.valid & advance),
            self.weights.ready.eq(self.activations.valid & advance),
            self.activations.ready.eq(self.weights.valid & advance),
            self.keep.eq(beat.keep),
        ]
        valid = Signal(self.latency)
        with m.If(advance):
            m.d.sync += valid.eq((valid << 1) | enter)
        tags = {"mode": weights.mode, "chain": beat.chain, "first": beat.first, "last": beat.last}
        for stage in range(self.latency):
            staged = cut(m, advance, True, **{f"{tag}_{stage}": value for tag, value in tags.items()})
            tags = {tag: getattr(staged, f"{tag}_{stage}") for tag in tags}
        m.d.comb += [self.dots.valid.eq(valid[-1])]
        m.d.comb += [out[tag].eq(value) for tag, value in tags.items()]

        # Datapath, one module per column.
        activations = cut(m, advance, True, activations=beat.values).activations
        for c in range(p.columns):
            column = MacColumn(p)
            add_repeated(m, f"column_{c}", column, platform)
            m.d.comb += [
                column.operands.eq(weights.operands[c]),
                column.scale.eq(weights.scales[c]),
                Value.cast(column.activations).eq(activations),
                column.advance.eq(advance),
                out.dots[c].eq(column.dots),
                out.scales[c].eq(column.scale_out),
            ]
        return m
