"""Weight fetch: groups of codes and scales from the weight memories into the array's weight feed."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.weight_feed import SCALE_BITS, TileBeat
from hw.isa import WeightMode
from hw.isa.encoding import WeightSpace
from hw.memory.sram import ReadPort
from hw.params import ChipParams
from hw.params.pe import GROUP_WORDS


class WeightFetch(wiring.Component):
    """Reads the scale word, then the four code words of a group, one a cycle, from the cycle after ``fetch`` on.

    A scale word serves two consecutive groups of a command, the even one from its low half. ``fetch`` may come every
    six cycles; `GROUP_FETCH_CYCLES` after it the array's weight feed can present the group.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    start : In, 1
        A command starts: take the following, and fetch its first group.
    codes, scales : In
        First code word, first scale word.
    codes_from, scales_from : In, WeightSpace
    mode : In, WeightMode
    fetch : In, 1
        Fetch the next group.
    wh, wl : Out, ReadPort
    tiles : Out, stream of TileBeat
        Never has to wait where the array is fed as `hw.pe.array_unit` does.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        pe, word = chip.pe, chip.hb.data_bits
        place = range(max(pe.wh_words, pe.wl_words))
        super().__init__(
            {
                "start": In(1),
                "codes": In(place),
                "scales": In(place),
                "codes_from": In(WeightSpace),
                "scales_from": In(WeightSpace),
                "mode": In(WeightMode),
                "fetch": In(1),
                "wh": Out(ReadPort(pe.wh_words, word)),
                "wl": Out(ReadPort(pe.wl_words, word)),
                "tiles": Out(stream.Signature(TileBeat(chip.array))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        array = self._chip.array
        codes, scales = Signal.like(self.codes), Signal.like(self.scales)
        codes_from, scales_from = Signal(WeightSpace), Signal(WeightSpace)
        upper_half = Signal()
        step = Signal(range(GROUP_WORDS + 2))
        active = Signal()

        with m.If(active):
            m.d.sync += step.eq(step + 1)
            with m.If(step == GROUP_WORDS + 1):
                m.d.sync += active.eq(0)
        with m.If(self.start | self.fetch):
            m.d.sync += [active.eq(1), step.eq(0)]
        with m.If(self.start):
            m.d.sync += [
                codes.eq(self.codes),
                scales.eq(self.scales),
                codes_from.eq(self.codes_from),
                scales_from.eq(self.scales_from),
                self.tiles.payload.mode.eq(self.mode),
                upper_half.eq(0),
            ]

        # Reading: step 0 the scale word, steps 1 to 4 the codes.
        reads_scale = active & (step == 0)
        reads_code = active & (step != 0) & (step != GROUP_WORDS + 1)
        source = Mux(reads_scale, scales_from, codes_from)
        for space, port in ((WeightSpace.WH, self.wh), (WeightSpace.WL, self.wl)):
            m.d.comb += [
                port.en.eq((reads_scale | reads_code) & (source == space)),
                port.addr.eq(Mux(reads_scale, scales, codes)),
            ]
        with m.If(reads_code):
            m.d.sync += codes.eq(codes + 1)

        # What was read a cycle ago: step 1 the scales, steps 2 to 5 the codes, ``depth / 8`` words to a beat.
        scale_word = Mux(scales_from == WeightSpace.WL, self.wl.data, self.wh.data)
        code_word = Mux(codes_from == WeightSpace.WL, self.wl.data, self.wh.data)
        half_bits = SCALE_BITS * array.columns
        with m.If(active & (step == 1)):
            m.d.sync += [
                Value.cast(self.tiles.payload.scales).eq(
                    Mux(upper_half, scale_word[half_bits:], scale_word[:half_bits])
                ),
                upper_half.eq(~upper_half),
                scales.eq(scales + upper_half),
            ]
        words = GROUP_WORDS // array.beats
        earlier = [Signal(len(code_word), name=f"word_{i}") for i in range(words - 1)]
        if earlier:
            m.d.sync += Cat(*earlier).eq(Cat(*earlier[1:], code_word))
        m.d.comb += [
            Value.cast(self.tiles.payload.codes).eq(Cat(*earlier, code_word)),
            self.tiles.valid.eq(active & (step > words) & ((step - 1) % words == 0)),
        ]
        return m
