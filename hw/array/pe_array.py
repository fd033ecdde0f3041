"""The PE's array: weight feed, MAC array and group accumulator, from stored slices to FP32 chains."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.group_accumulator import GroupAccumulator, ResultBeat, accumulator_latency
from hw.array.mac_array import ActivationBeat, MacArray, mac_array_latency
from hw.array.weight_feed import TileBeat, WeightFeed
from hw.params import ArrayParams


def pe_array_latency(params: ArrayParams) -> int:
    """Cycles from the entry of a group's last beat to its slot-0 result."""
    return mac_array_latency(params) + accumulator_latency(params)


class PeArray(wiring.Component):
    """Stored weight slices and INT8 activations in, FP32 chains out.

    Latency ``latency`` cycles from the entry of a chain's last beat to its slot-0 result when nothing stalls;
    throughput as the group accumulator's. Merging MSB and LSB chains, the activation scale and the bias are the
    vector unit's work.

    Members
    -------
    tiles : In, stream of TileBeat
    activations : In, stream of ActivationBeat
    results : Out, stream of ResultBeat
    beats : Out, 32
        Beats computed.
    weight_stalls : Out, 32
        Cycles in which activations waited for weights.
    hazard_stalls : Out, 32
        Cycles in which a product waited for its chain.
    output_stalls : Out, 32
        Cycles in which a result waited for its consumer.

    All counters wrap.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        super().__init__(
            {
                "tiles": In(stream.Signature(TileBeat(params))),
                "activations": In(stream.Signature(ActivationBeat(params))),
                "results": Out(stream.Signature(ResultBeat(params))),
                "beats": Out(32),
                "weight_stalls": Out(32),
                "hazard_stalls": Out(32),
                "output_stalls": Out(32),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a beat's entry to the slot-0 result it completes."""
        return pe_array_latency(self._params)

    def elaborate(self, platform):
        m = Module()
        m.submodules.feed = feed = WeightFeed(self._params)
        m.submodules.macs = macs = MacArray(self._params)
        m.submodules.accumulator = accumulator = GroupAccumulator(self._params)

        connect(m, flipped(self.tiles), feed.tiles)
        connect(m, feed.operands, macs.weights)
        connect(m, flipped(self.activations), macs.activations)
        connect(m, macs.dots, accumulator.dots)
        connect(m, accumulator.results, flipped(self.results))
        m.d.comb += [feed.keep.eq(macs.keep), self.hazard_stalls.eq(accumulator.hazard_stalls)]

        def count(counter: Signal, event) -> None:
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)

        count(self.beats, self.activations.valid & self.activations.ready)
        count(self.weight_stalls, self.activations.valid & ~feed.operands.valid)
        count(self.output_stalls, self.results.valid & ~self.results.ready)
        return m
