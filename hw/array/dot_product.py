"""A dot unit: ``depth`` slice MACs and a pipelined adder tree, ``sum_k operands[k] * activations[k]``."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hw.array.slice_mac import SliceMac
from hw.hierarchy import Repeated, add_repeated
from hw.params import ArrayParams
from hw.pipeline import cut


class DotProduct(Repeated):
    """Exact integer dot product of one beat.

    Latency `dot_latency(params)` advances, throughput one beat per advance. All dot units of an array move in
    lockstep under one ``advance``; valid bits and stalls are the array's business.

    Parameters
    ----------
    params : ArrayParams

    Members
    -------
    operands : In, depth x signed(operand_bits)
        Slice operands of one output.
    activations : In, depth x signed(activation_bits)
        Activations of one token.
    advance : In, 1
        Every register loads while high and holds while low.
    dot : Out, signed(dot_bits)
        The dot product of the beat that entered ``latency`` advances ago.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"dot_product_{params.depth}"
        super().__init__(
            {
                "operands": In(data.ArrayLayout(signed(params.operand_bits), params.depth)),
                "activations": In(data.ArrayLayout(signed(params.activation_bits), params.depth)),
                "advance": In(1),
                "dot": Out(signed(params.dot_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Advances from operands to ``dot``."""
        return dot_latency(self._params)

    def elaborate(self, platform):
        m = Module()
        p = self._params

        # Products, all registered.
        level = []
        for k in range(p.depth):
            mac = SliceMac(p)
            add_repeated(m, f"mac_{k}", mac, platform)
            m.d.comb += [mac.operand.eq(self.operands[k]), mac.activation.eq(self.activations[k])]
            level.append(cut(m, self.advance, True, **{f"product_{k}": mac.product}))
        values: list[Signal] = [getattr(stage, f"product_{k}") for k, stage in enumerate(level)]

        # Balanced adder tree; Amaranth's + grows by a bit per level, so no level can overflow.
        levels = tree_levels(p)
        for n in range(1, levels + 1):
            registered = n % p.tree_levels_per_stage == 0 or n == levels
            sums = {f"sum_{n}_{i}": values[2 * i] + values[2 * i + 1] for i in range(len(values) // 2)}
            values = list(vars(cut(m, self.advance, registered, **sums)).values())

        m.d.comb += self.dot.eq(values[0])
        return m


def tree_levels(params: ArrayParams) -> int:
    """Adder-tree levels: log2(depth)."""
    return (params.depth - 1).bit_length()


def dot_latency(params: ArrayParams) -> int:
    """Registers of a dot unit: the products, then one per ``tree_levels_per_stage`` levels."""
    return 1 + -(-tree_levels(params) // params.tree_levels_per_stage)
