"""The ARRAY unit: feeds the PE array on a fixed cadence from weight and activation memories, and files its results.

A MATMUL of n groups and m token blocks is n m *slots*, one every I = max(beats, dots_per_fp32, ceil(fetch / m)) cycles.
Slot j = g m + k, group g on block k, begins at start + fetch + j I. While a group is used the next one is fetched, in
less than the m I >= fetch cycles that a group lasts, and a chain is revisited after m I >= add_stages + 2 cycles. So
neither weights nor chains can be late, and no stream of the array ever waits; ``slip`` would show it.
"""

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hw.array.pe_array import PeArray, pe_array_latency
from hw.isa.encoding import ActivationSpace, PeError, WeightSpace
from hw.memory.sram import ReadPort
from hw.params import ChipParams
from hw.params.pe import GROUP_WORDS
from hw.pe.unit import is_beyond, operand_error, unit_members
from hw.pe.weight_fetch import WeightFetch


def cadence(chip: ChipParams, blocks: int) -> int:
    """Cycles from a slot to the next, I."""
    return max(chip.array.beats, chip.array.dots_per_fp32, -(-chip.pe.fetch // blocks))


def result_delay(chip: ChipParams) -> int:
    """Cycles from the beginning of a slot to its first rows: the other beats, the array."""
    return chip.array.beats - 1 + pe_array_latency(chip.array)


def in_flight(chip: ChipParams) -> int:
    """MATMULs in progress at once, at most: the shortest frees the unit after fetch + I cycles."""
    longest = chip.pe.fetch + result_delay(chip) + chip.array.dots_per_fp32
    return longest // (chip.pe.fetch + cadence(chip, 1)) + 1


class ResultWrite(data.StructLayout):
    """Rows ``unit * dots_per_fp32 + slot`` of result tile ``tile``: ``values[unit][column]``."""

    def __init__(self, chip: ChipParams):
        array = chip.array
        super().__init__(
            {
                "tile": range(chip.pe.rt_rows // array.rows),
                "slot": range(array.dots_per_fp32),
                "values": data.ArrayLayout(data.ArrayLayout(32, array.columns), array.fp32_units_per_column),
            }
        )


class ArrayUnit(wiring.Component):
    """Executes MATMUL; times as in the module's docstring and docs/pe.md.

    Parameters
    ----------
    chip : ChipParams

    Members
    -------
    go, command, done, error
        As of `unit_members`, but that commands overlap: ``free``, not ``done``, lets the next one start.
    free : Out, 1
        Last cycle of the last slot.
    wh, wl : Out, ReadPort
    al, av : Out, ReadPort
        Group words, 32 inputs of each row: byte k + 32 row.
    write : Out, 1
    result : Out, ResultWrite
        Rows of complete chains, valid with ``write``.
    slot_begins : Out, 1
    slip : Out, 1
        A stream of the array waited, or a result came at another time than it should: never; stays up.
    """

    def __init__(self, chip: ChipParams):
        self._chip = chip
        pe, word, group = chip.pe, chip.hb.data_bits, 256 * chip.array.rows
        super().__init__(
            unit_members(pe)
            | {
                "free": Out(1),
                "wh": Out(ReadPort(pe.wh_words, word)),
                "wl": Out(ReadPort(pe.wl_words, word)),
                "al": Out(ReadPort(pe.al_groups, group)),
                "av": Out(ReadPort(pe.av_groups, group)),
                "write": Out(1),
                "result": Out(ResultWrite(chip)),
                "slot_begins": Out(1),
                "slip": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chip, command = self._chip, self.command
        array, flags, most_blocks = chip.array, command.flags.array, chip.array.chains
        m.submodules.weight_fetch = fetch = WeightFetch(chip)
        m.submodules.array = pe_array = PeArray(array)
        wrong = self._operand_error(m)
        begin = self.go & (wrong == PeError.NONE)
        with m.If(self.go):
            m.d.comb += self.error.eq(wrong)

        # The command.
        groups = Signal(range(max(chip.pe.al_groups, chip.pe.av_groups) + 1))
        blocks = Signal(range(most_blocks + 1))
        chain, tile = Signal(range(most_blocks)), Signal.like(self.result.tile)
        first, last = Signal(), Signal()
        source = Signal(ActivationSpace)
        interval_less_1 = Signal(range(cadence(chip, 1)))
        intervals = Array(Const(cadence(chip, max(k, 1)) - 1, len(interval_less_1)) for k in range(most_blocks + 1))

        # The slot that begins next: its place in activation memory, its group, its block.
        place = Signal(range(max(chip.pe.al_groups, chip.pe.av_groups)))
        column = Signal.like(place)  # of block 0
        groups_left = Signal.like(groups)
        next_block = Signal(range(most_blocks))
        next_first = Signal()

        # The slot in progress.
        lead = Signal(range(chip.pe.fetch + 1))
        running = Signal()
        cycle = Signal.like(interval_less_1)
        block = Signal(range(most_blocks))
        first_group, last_group = Signal(), Signal()
        last_cycle, last_slot = Signal(), Signal()
        prepare = Signal()  # the next cycle begins a slot: read its activations
        m.d.comb += [
            last_cycle.eq(running & (cycle == interval_less_1)),
            last_slot.eq(last_group & (block == blocks - 1)),
            prepare.eq((lead == 1) | (last_cycle & ~last_slot)),
            self.slot_begins.eq(running & (cycle == 0)),
            self.free.eq(last_cycle & last_slot),
        ]
        with m.If(lead != 0):
            m.d.sync += lead.eq(lead - 1)
        m.d.sync += cycle.eq(Mux(last_cycle | ~running, 0, cycle + 1))
        with m.If(prepare):
            m.d.sync += [
                running.eq(1),
                block.eq(next_block),
                first_group.eq(next_first),
                last_group.eq(groups_left == 1),
            ]
            with m.If(next_block == blocks - 1):
                m.d.sync += [
                    next_block.eq(0),
                    next_first.eq(0),
                    groups_left.eq(groups_left - 1),
                    column.eq(column + 1),
                    place.eq(column + 1),
                ]
            with m.Else():
                m.d.sync += [next_block.eq(next_block + 1), place.eq(place + groups)]
        with m.Elif(self.free):
            m.d.sync += running.eq(0)
        with m.If(begin):
            m.d.sync += [
                groups.eq(command.n),
                blocks.eq(command.m),
                chain.eq(flags.chain),
                tile.eq(command.d >> (array.rows - 1).bit_length()),
                first.eq(flags.first),
                last.eq(flags.last),
                source.eq(flags.a_space),
                interval_less_1.eq(intervals[command.m[: len(blocks)]]),
                place.eq(command.a),
                column.eq(command.a),
                groups_left.eq(command.n),
                next_block.eq(0),
                next_first.eq(1),
                lead.eq(chip.pe.fetch - 1),
            ]

        # Weights: the first group at once, each other one while its predecessor is used.
        m.d.comb += [
            fetch.start.eq(begin),
            fetch.codes.eq(command.b),
            fetch.scales.eq(command.s),
            fetch.codes_from.eq(flags.w_space),
            fetch.scales_from.eq(flags.s_space),
            fetch.mode.eq(flags.mode),
            fetch.fetch.eq(self.slot_begins & (block == 0) & ~last_group),
        ]
        wiring.connect(m, fetch.wh, wiring.flipped(self.wh))
        wiring.connect(m, fetch.wl, wiring.flipped(self.wl))
        wiring.connect(m, fetch.tiles, pe_array.tiles)

        # Activations: a group word, shown beat by beat.
        for space, port in ((ActivationSpace.AL, self.al), (ActivationSpace.AV, self.av)):
            m.d.comb += [port.en.eq(prepare & (source == space)), port.addr.eq(place)]
        group_word = Mux(source == ActivationSpace.AV, self.av.data, self.al.data)
        beat = pe_array.activations.payload
        for row in range(array.rows):
            lanes = 8 * array.depth
            inputs = [group_word[256 * row + lanes * i :][:lanes] for i in range(array.beats)]
            m.d.comb += Value.cast(beat["values"][row]).eq(Array(inputs)[cycle])
        m.d.comb += [
            pe_array.activations.valid.eq(running & (cycle < array.beats)),
            beat.chain.eq(chain + block),
            beat.first.eq(first & first_group),
            beat.last.eq(last & last_group),
            beat.keep.eq(block != blocks - 1),
        ]

        self._file_results(m, pe_array, tile + block, last & last_group, last_slot)
        return m

    def _operand_error(self, m: Module) -> Signal:
        """What is wrong with ``command``."""
        chip, command, flags = self._chip, self.command, self.command.flags.array
        pe, array = chip.pe, chip.array
        n, blocks = command.n, command.m
        groups = Mux(flags.a_space == ActivationSpace.AV, pe.av_groups, pe.al_groups)
        code_words = Mux(flags.w_space == WeightSpace.WL, pe.wl_words, pe.wh_words)
        scale_words = Mux(flags.s_space == WeightSpace.WL, pe.wl_words, pe.wh_words)
        few = n[: max(pe.al_groups, pe.av_groups).bit_length()]  # exact where n is not beyond anyway
        outside = (
            (n > groups)
            | is_beyond(command.a, few * blocks[: array.chains.bit_length()], groups)
            | is_beyond(command.b, GROUP_WORDS * n, code_words)
            | is_beyond(command.s, (n + 1) >> 1, scale_words)
            | flags.last & (is_beyond(command.d, blocks * array.rows, pe.rt_rows) | (command.d % array.rows != 0))
        )
        return operand_error(m, (n == 0) | (blocks == 0) | (flags.chain + blocks > array.chains), outside)

    def _file_results(self, m: Module, pe_array: PeArray, tile: Value, emits: Value, is_last: Value) -> None:
        """Send result tile and end of each slot along with it; write rows as they come."""
        chip = self._chip
        slots = chip.array.dots_per_fp32
        note = data.StructLayout({"emits": 1, "is_last": 1, "tile": self.result.tile.shape()})
        arriving = Signal(note)
        m.d.comb += [
            arriving.emits.eq(self.slot_begins & emits),
            arriving.is_last.eq(self.slot_begins & is_last),
            arriving.tile.eq(tile),
        ]
        for stage in range(result_delay(chip)):
            following = Signal(note, name=f"note_{stage}")
            m.d.sync += following.eq(arriving)
            arriving = following
        ending = arriving.is_last
        for stage in range(slots - 1):
            following = Signal(name=f"ending_{stage}")
            m.d.sync += following.eq(ending)
            ending = following

        results, shown = pe_array.results, pe_array.results.payload
        filing, filed_tile = Signal(), Signal.like(self.result.tile)
        expected = arriving.emits | filing
        with m.If(arriving.emits):
            m.d.sync += filed_tile.eq(arriving.tile)
        m.d.sync += filing.eq(expected & (shown.slot != slots - 1))
        m.d.comb += [
            results.ready.eq(1),
            self.done.eq(ending),
            self.write.eq(results.valid),
            self.result.tile.eq(Mux(arriving.emits, arriving.tile, filed_tile)),
            self.result.slot.eq(shown.slot),
        ]
        for unit in range(chip.array.fp32_units_per_column):
            for column in range(chip.array.columns):
                m.d.comb += self.result["values"][unit][column].eq(shown["values"][column][unit])
        waited = pe_array.weight_stalls | pe_array.hazard_stalls | pe_array.output_stalls
        with m.If((waited != 0) | (pe_array.tiles.valid & ~pe_array.tiles.ready) | (results.valid != expected)):
            m.d.sync += self.slip.eq(1)
