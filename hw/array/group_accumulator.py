"""Group accumulator: integer group sums to FP32 chains, ``acc = rne(acc + rne(sum * 2^shift * scale))``.

Beats of a group are summed as integers; the group sum of each dot unit is scaled, rounded, and added to its chain.
``dots_per_fp32`` rows of a column take turns on one FP32 unit, one row a cycle (a *slot*). Chains of different
numbers interleave freely; a group whose chain still has an addition in flight waits, and the wait is counted.
Nothing is ever reordered, so a chain adds its groups in the order in which they arrive.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.mac_array import DotBeat
from hw.array.weight_feed import SCALE_BITS
from hw.hierarchy import Repeated, add_repeated
from hw.isa import WeightMode
from hw.params import ArrayParams
from hw.pipeline import cut


class ResultBeat(data.StructLayout):
    """Complete chains of one slot: ``values[column][unit]`` is row ``unit * dots_per_fp32 + slot``, FP32 bits."""

    def __init__(self, params: ArrayParams):
        super().__init__(
            {
                "values": data.ArrayLayout(
                    data.ArrayLayout(unsigned(32), params.fp32_units_per_column), params.columns
                ),
                "slot": range(params.dots_per_fp32),
                "chain": range(params.chains),
            }
        )


def chain_latency(params: ArrayParams) -> int:
    """Cycles between two additions to one chain: read, add, write."""
    return params.add_stages + 2


def accumulator_latency(params: ArrayParams) -> int:
    """Registers of the accumulator: hold, multiply, fetch, add."""
    return 1 + params.scale_stages + 1 + params.add_stages


class AccumulatorColumn(Repeated):
    """One column's group sums, FP32 units and chain memory; steered by `GroupAccumulator`.

    Members
    -------
    dots : In, rows x signed(dot_bits)
    scale : In, 16
    gather, gather_first : In, 1
        Take ``dots`` into the running group sums; ``gather_first`` starts them.
    hold : In, 1
        Take running sums plus ``dots``, and ``scale``, as the complete group.
    slot : In, range(dots_per_fp32)
        Row within each FP32 unit's share that enters the multiplier.
    e8m0, times_8 : In, 1
        Of the complete group's mode.
    multiply : In, 1
        Multiplier stages advance.
    fetch : In, 1
        The product at the multiplier's end and its chain's sum at ``fetch_address`` become the adder's operands.
    fetch_address : In, range(chains * dots_per_fp32)
    start : In, 1
        The operands at the adder begin a chain: +0 instead of the stored sum.
    add : In, 1
        Adder stages advance.
    store : In, 1
        Write the adder's totals to ``store_address``.
    store_address : In, range(chains * dots_per_fp32)
    totals : Out, fp32_units_per_column x 32
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"accumulator_column_{params.rows}"
        address = range(params.chains * params.dots_per_fp32)
        super().__init__(
            {
                "dots": In(data.ArrayLayout(signed(params.dot_bits), params.rows)),
                "scale": In(SCALE_BITS),
                "gather": In(1),
                "gather_first": In(1),
                "hold": In(1),
                "slot": In(range(params.dots_per_fp32)),
                "e8m0": In(1),
                "times_8": In(1),
                "multiply": In(1),
                "fetch": In(1),
                "fetch_address": In(address),
                "start": In(1),
                "add": In(1),
                "store": In(1),
                "store_address": In(address),
                "totals": Out(data.ArrayLayout(unsigned(32), params.fp32_units_per_column)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params

        # Integer group sums: running while beats arrive, then held while the rows take turns.
        held = []
        for r in range(p.rows):
            total = Signal(signed(p.group_bits), name=f"total_{r}")
            group = Signal(signed(p.group_bits), name=f"group_{r}", reset_less=True)
            if p.beats == 1:
                m.d.comb += total.eq(self.dots[r])
            else:
                # The last beat never enters it, so it holds less than a group's sum: one bit less.
                running = Signal(signed(p.group_bits - 1), name=f"running_{r}", reset_less=True)
                m.d.comb += total.eq(self.dots[r] + Mux(self.gather_first, 0, running))
                with m.If(self.gather):
                    m.d.sync += running.eq(total)
            with m.If(self.hold):
                m.d.sync += group.eq(total)
            held.append(group)
        scale = cut(m, self.hold, True, scale=self.scale).scale

        # FP32 units, each with the chains of its rows.
        for u in range(p.fp32_units_per_column):
            rows = held[u * p.dots_per_fp32 : (u + 1) * p.dots_per_fp32]
            multiplier, adder = ScaleMultiplier(p), Fp32Adder(p)
            add_repeated(m, f"multiplier_{u}", multiplier, platform)
            add_repeated(m, f"adder_{u}", adder, platform)
            chains = Memory(shape=unsigned(32), depth=p.chains * p.dots_per_fp32, init=[])
            m.submodules[f"chains_{u}"] = chains
            read, write = chains.read_port(), chains.write_port()

            term = cut(m, self.fetch, True, **{f"term_{u}": multiplier.product})
            m.d.comb += [
                multiplier.dot.eq(Array(rows)[self.slot]),
                multiplier.scale.eq(scale),
                multiplier.e8m0.eq(self.e8m0),
                multiplier.times_8.eq(self.times_8),
                multiplier.advance.eq(self.multiply),
                read.addr.eq(self.fetch_address),
                read.en.eq(self.fetch),
                adder.a.eq(Mux(self.start, Const(0, 32), read.data)),
                adder.b.eq(getattr(term, f"term_{u}")),
                adder.advance.eq(self.add),
                write.addr.eq(self.store_address),
                write.data.eq(adder.total),
                write.en.eq(self.store),
                self.totals[u].eq(adder.total),
            ]
        return m


class GroupAccumulator(wiring.Component):
    """Gathers, scales and accumulates groups; emits chains that are complete.

    Latency ``latency`` cycles from a group's last beat to the result of slot 0 of a chain's last group, when nothing
    stalls. Throughput one group per max(beats, dots_per_fp32) cycles over chains at least `chain_latency` cycles
    apart. Every wait for an output or a chain stops only what is upstream of it.

    Members
    -------
    dots : In, stream of DotBeat
        ``beats`` transfers per group; scales, mode and tags count on the last.
    results : Out, stream of ResultBeat
        ``dots_per_fp32`` transfers per chain whose last group arrived, in slot order.
    hazard_stalls : Out, 32
        Cycles in which a product waited only because its chain had an addition in flight; wraps.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        super().__init__(
            {
                "dots": In(stream.Signature(DotBeat(params))),
                "results": Out(stream.Signature(ResultBeat(params))),
                "hazard_stalls": Out(32),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a group's last beat to its slot-0 result."""
        return accumulator_latency(self._params)

    def elaborate(self, platform):
        m = Module()
        p = self._params
        beat = self.dots.payload
        tag = data.StructLayout(
            {"chain": range(p.chains), "slot": range(p.dots_per_fp32), "first": 1, "last": 1},
        )

        # Gather: count the beats of a group; its last one needs the hold register.
        beat_count = Signal(range(p.beats))
        gather = Signal()
        hold = Signal()
        release = Signal()
        held = Signal()
        last_beat = beat_count == p.beats - 1
        m.d.comb += [
            self.dots.ready.eq(~last_beat | ~held | release),
            gather.eq(self.dots.valid & self.dots.ready),
            hold.eq(gather & last_beat),
        ]
        with m.If(gather):
            m.d.sync += beat_count.eq(Mux(last_beat, 0, beat_count + 1))

        # Hold: the complete group, while its rows enter the multipliers slot by slot.
        held_mode = Signal(WeightMode)
        held_tag = Signal(tag)
        slot = Signal(range(p.dots_per_fp32))
        multiply = Signal()
        m.d.comb += release.eq(held & multiply & (slot == p.dots_per_fp32 - 1))
        with m.If(hold):
            m.d.sync += [
                held.eq(1),
                held_mode.eq(beat.mode),
                held_tag.chain.eq(beat.chain),
                held_tag.first.eq(beat.first),
                held_tag.last.eq(beat.last),
            ]
        with m.Elif(release):
            m.d.sync += held.eq(0)
        with m.If(held & multiply):
            m.d.sync += slot.eq(Mux(release, 0, slot + 1))

        # Multiply: products move while there is room at the end.
        products = [Signal(tag, name=f"product_{stage}") for stage in range(p.scale_stages)]
        products_valid = Signal(p.scale_stages)
        product, product_valid = products[-1], products_valid[-1]
        with m.If(multiply):
            m.d.sync += [
                products_valid.eq((products_valid << 1) | held),
                products[0].eq(held_tag),
                products[0].slot.eq(slot),
            ]
            m.d.sync += [products[i].eq(products[i - 1]) for i in range(1, p.scale_stages)]

        # Fetch and add: a chain with an addition in flight must wait for its sum to be written.
        sums = [Signal(tag, name=f"sum_{stage}") for stage in range(1 + p.add_stages)]
        sums_valid = Signal(1 + p.add_stages)
        total, total_valid = sums[-1], sums_valid[-1]
        add = Signal()
        fetch = Signal()
        hazard = Signal()
        same_chain = [
            valid & (s.chain == product.chain) & (s.slot == product.slot)
            for s, valid in zip(sums, sums_valid, strict=True)
        ]
        m.d.comb += [
            hazard.eq(~product.first & Cat(same_chain).any()),
            add.eq(~self.results.valid | self.results.ready),
            fetch.eq(product_valid & ~hazard & add),
            multiply.eq(~product_valid | fetch),
        ]
        with m.If(add):
            m.d.sync += [sums_valid.eq((sums_valid << 1) | fetch), sums[0].eq(product)]
            m.d.sync += [sums[i].eq(sums[i - 1]) for i in range(1, 1 + p.add_stages)]
        with m.If(product_valid & hazard & add):
            m.d.sync += self.hazard_stalls.eq(self.hazard_stalls + 1)

        # Emit the chains that are complete.
        out = self.results.payload
        m.d.comb += [
            self.results.valid.eq(total_valid & total.last),
            out.slot.eq(total.slot),
            out.chain.eq(total.chain),
        ]

        # Datapath, one module per column.
        for c in range(p.columns):
            column = AccumulatorColumn(p)
            add_repeated(m, f"column_{c}", column, platform)
            m.d.comb += [
                column.dots.eq(beat.dots[c]),
                column.scale.eq(beat.scales[c]),
                column.gather.eq(gather),
                column.gather_first.eq(beat_count == 0),
                column.hold.eq(hold),
                column.slot.eq(slot),
                column.e8m0.eq(held_mode == WeightMode.MXFP4),
                column.times_8.eq((held_mode == WeightMode.MSB) | (held_mode == WeightMode.DRAFT)),
                column.multiply.eq(multiply),
                column.fetch.eq(fetch),
                column.fetch_address.eq(product.chain * p.dots_per_fp32 + product.slot),
                column.start.eq(sums[0].first),
                column.add.eq(add),
                column.store.eq(total_valid & add),
                column.store_address.eq(total.chain * p.dots_per_fp32 + total.slot),
                out.values[c].eq(column.totals),
            ]
        return m
