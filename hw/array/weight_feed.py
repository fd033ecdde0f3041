"""Weight feed: holds weight groups, turns stored codes into multiplier operands, repeats them per token block.

The LSB augmentation lives here, once per stored weight, where a weight fans out to all rows:

    MSB    {h, 0} = 2h        h = code, signed
    LSB    {0, l} = l         l = code, unsigned
    DRAFT  {h, 1} = 2h + 1
    MXFP4  2 x E2M1(code)     0 1 2 3 4 6 8 12 and their negatives
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated, add_repeated
from hw.isa import WeightMode
from hw.params import ArrayParams

SCALE_BITS = 16  # an FP16 scale, or an E8M0 scale in the low byte


class TileBeat(data.StructLayout):
    """One beat of stored weights: ``codes[column][lane]``; scales and mode count on a group's first beat."""

    def __init__(self, params: ArrayParams):
        super().__init__(
            {
                "codes": data.ArrayLayout(data.ArrayLayout(unsigned(params.slice_bits), params.depth), params.columns),
                "scales": data.ArrayLayout(unsigned(SCALE_BITS), params.columns),
                "mode": WeightMode,
            }
        )


class OperandBeat(data.StructLayout):
    """One beat of operands: ``operands[column][lane]``, with the group's scales and mode."""

    def __init__(self, params: ArrayParams):
        super().__init__(
            {
                "operands": data.ArrayLayout(
                    data.ArrayLayout(signed(params.operand_bits), params.depth), params.columns
                ),
                "scales": data.ArrayLayout(unsigned(SCALE_BITS), params.columns),
                "mode": WeightMode,
            }
        )


class WeightDecoder(Repeated):
    """Codes of one column's beat to operands. Combinational; one per column, shared by all its rows.

    Members
    -------
    codes : In, depth x unsigned(slice_bits)
    mode : In, WeightMode
    operands : Out, depth x signed(operand_bits)
    """

    clocked = False

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"weight_decoder_{params.depth}"
        super().__init__(
            {
                "codes": In(data.ArrayLayout(unsigned(params.slice_bits), params.depth)),
                "mode": In(WeightMode),
                "operands": Out(data.ArrayLayout(signed(params.operand_bits), params.depth)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for k in range(self._params.depth):
            code = Signal(self._params.slice_bits, name=f"code_{k}")
            operand = Signal(signed(self._params.operand_bits), name=f"operand_{k}")
            m.d.comb += [code.eq(self.codes[k]), self.operands[k].eq(operand)]
            with m.Switch(self.mode):
                with m.Case(WeightMode.MSB):
                    m.d.comb += operand.eq(Cat(0, code))
                with m.Case(WeightMode.LSB):
                    m.d.comb += operand.eq(Cat(code, 0))
                with m.Case(WeightMode.DRAFT):
                    m.d.comb += operand.eq(Cat(1, code))
                with m.Case(WeightMode.MXFP4):
                    m.d.comb += operand.eq(_twice_e2m1(code))
        return m


def _twice_e2m1(code: Value) -> Value:
    """2 x E2M1: exponent 0 gives the mantissa bit, exponent e gives (2 + mantissa) << (e - 1)."""
    mantissa, exponent, sign = code[0], code[1:3], code[3]
    magnitude = Mux(exponent == 0, mantissa, Cat(mantissa, 1) << (exponent - 1)[:2])[:4]
    return Mux(sign, -magnitude, magnitude)


class WeightColumn(Repeated):
    """Two banks of one column's group codes and scale, and its decoder; steered by `WeightFeed`.

    Members
    -------
    load : In, beats
        One-hot: write ``codes`` as that beat of ``load_bank``; beat 0 also writes ``scale_in``.
    load_bank, show_bank : In, 1
    show_beat : In, range(beats)
    codes : In, depth x unsigned(slice_bits)
    scale_in : In, 16
    mode : In, WeightMode
        Of the shown group.
    operands : Out, depth x signed(operand_bits)
        The shown beat, decoded.
    scale : Out, 16
        The shown group's scale.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        self.module_name = f"weight_column_{params.group_size}_by_{params.depth}"
        super().__init__(
            {
                "load": In(params.beats),
                "load_bank": In(1),
                "show_bank": In(1),
                "show_beat": In(range(params.beats)),
                "codes": In(data.ArrayLayout(unsigned(params.slice_bits), params.depth)),
                "scale_in": In(SCALE_BITS),
                "mode": In(WeightMode),
                "operands": Out(data.ArrayLayout(signed(params.operand_bits), params.depth)),
                "scale": Out(SCALE_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        codes = [Array(Signal(p.depth * p.slice_bits, name=f"codes_{b}_{i}") for i in range(p.beats)) for b in (0, 1)]
        scales = Array(Signal(SCALE_BITS, name=f"scale_{b}") for b in (0, 1))

        for b in (0, 1):
            with m.If(self.load_bank == b):
                for i in range(p.beats):
                    with m.If(self.load[i]):
                        m.d.sync += codes[b][i].eq(Value.cast(self.codes))
                with m.If(self.load[0]):
                    m.d.sync += scales[b].eq(self.scale_in)

        decoder = WeightDecoder(p)
        add_repeated(m, "decoder", decoder, platform)
        m.d.comb += [
            Value.cast(decoder.codes).eq(Array(codes)[self.show_bank][self.show_beat]),
            decoder.mode.eq(self.mode),
            self.operands.eq(decoder.operands),
            self.scale.eq(scales[self.show_bank]),
        ]
        return m


class WeightFeed(wiring.Component):
    """Double-buffered weight groups, presented as operands as often as token blocks need them.

    A group is ``beats`` tiles. While one group is presented the next one loads. Latency: a group can be
    presented one cycle after its last tile; throughput: one tile in and one beat out per cycle. The activation
    side decides how often a group is used through ``keep``.

    Members
    -------
    tiles : In, stream of TileBeat
        Stored weights, ``beats`` transfers per group.
    operands : Out, stream of OperandBeat
        The current group's beats in order; after the last, the same group again (``keep``) or the next one.
        The payload holds while valid and not ready.
    keep : In, 1
        Counts with the transfer of a group's last beat: high presents the same group once more.
    """

    def __init__(self, params: ArrayParams):
        self._params = params
        super().__init__(
            {
                "tiles": In(stream.Signature(TileBeat(params))),
                "operands": Out(stream.Signature(OperandBeat(params))),
                "keep": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p = self._params
        tile, shown = self.tiles.payload, self.operands.payload

        full = Signal(2)  # bank holds a whole group
        modes = Array(Signal(WeightMode, name=f"mode_{b}") for b in (0, 1))
        load_bank = Signal()
        load_beat = Signal(range(p.beats))
        load = Signal(p.beats)
        show_bank = Signal()
        show_beat = Signal(range(p.beats))

        # Datapath, one module per column.
        for c in range(p.columns):
            column = WeightColumn(p)
            add_repeated(m, f"column_{c}", column, platform)
            m.d.comb += [
                column.load.eq(load),
                column.load_bank.eq(load_bank),
                column.show_bank.eq(show_bank),
                column.show_beat.eq(show_beat),
                column.codes.eq(tile.codes[c]),
                column.scale_in.eq(tile.scales[c]),
                column.mode.eq(modes[show_bank]),
                shown.operands[c].eq(column.operands),
                shown.scales[c].eq(column.scale),
            ]
        m.d.comb += shown.mode.eq(modes[show_bank])

        # Loading.
        loaded = Signal()
        m.d.comb += self.tiles.ready.eq(~full.bit_select(load_bank, 1))
        with m.If(self.tiles.valid & self.tiles.ready):
            m.d.comb += load.eq(1 << load_beat)
            with m.If(load_beat == 0):
                m.d.sync += modes[load_bank].eq(tile.mode)
            with m.If(load_beat == p.beats - 1):
                m.d.comb += loaded.eq(1)
                m.d.sync += [load_beat.eq(0), load_bank.eq(~load_bank)]
            with m.Else():
                m.d.sync += load_beat.eq(load_beat + 1)

        # Presenting.
        released = Signal()
        m.d.comb += self.operands.valid.eq(full.bit_select(show_bank, 1))
        with m.If(self.operands.valid & self.operands.ready):
            with m.If(show_beat == p.beats - 1):
                m.d.sync += show_beat.eq(0)
                with m.If(~self.keep):
                    m.d.comb += released.eq(1)
                    m.d.sync += show_bank.eq(~show_bank)
            with m.Else():
                m.d.sync += show_beat.eq(show_beat + 1)

        # Loading and releasing never meet on one bank in one cycle: one needs it empty, the other full.
        m.d.sync += full.eq((full | (loaded << load_bank)) & ~(released << show_bank))
        return m
