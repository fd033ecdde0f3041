"""Data paths of the HB controller: from column commands to streams of beats and back, ECC on the way."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.memory.ecc import EccDecoder, EccEncoder
from hw.memory.hb_types import beat_layout
from hw.params import ECC_GROUP, ECC_WORD_BITS, HbParams
from hw.timing import HbClocks


def _command_members(params: HbParams) -> dict:
    """What both paths are told of each column command."""
    return {
        "tick": In(1),
        "issue": In(1),
        "is_check": In(1),
        "lane": In(range(ECC_GROUP)),
        "owner": In(range(max(params.requesters, 2))),
        "available": Out(1),
    }


class HbReadPath(wiring.Component):
    """Captures bursts, checks and corrects them, buffers beats, and hands each to its requester.

    A beat can leave ``capture_stages`` cycles after the tick nCL + nBL behind its command. A data column may be
    read only while ``available``: its place in the buffer is reserved with the command and free again in the cycle
    after the beat left.

    Parameters
    ----------
    params : HbParams
    clocks : HbClocks

    Members
    -------
    tick, issue : In, 1
        DRAM clock edge; a read command is issued on it.
    is_check, lane, owner, tag, last : In
        Of the column being read: in-line check column, place in its group, whose, tag, end of the transfer.
    available : Out, 1
        A place in the buffer can be reserved.
    pin_data, pin_check : In
        The bank's data and side-band check pins.
    streams : Out, array of streams of `beat_layout`
        One per requester.
    corrected, uncorrectable : Out, 1
        A word of the beat that enters the buffer was corrected, could not be corrected.
    """

    def __init__(self, params: HbParams, clocks: HbClocks):
        self._params = params
        self._clocks = clocks
        super().__init__(
            _command_members(params)
            | {
                "tag": In(params.tag_bits),
                "last": In(1),
                "pin_data": In(params.data_bits),
                "pin_check": In(params.check_bits),
                "streams": Out(stream.Signature(beat_layout(params))).array(params.requesters),
                "corrected": Out(1),
                "uncorrectable": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        params = self._params
        flight_layout = data.StructLayout(
            {
                "valid": 1,
                "is_check": 1,
                "lane": range(ECC_GROUP),
                "owner": self.owner.shape(),
                "tag": params.tag_bits,
                "last": 1,
            }
        )
        entry_layout = data.StructLayout({"beat": beat_layout(params), "owner": self.owner.shape()})

        # Reservations --------------------------------------------------------------------------------------
        reserved = Signal(range(params.read_buffer + 1))
        leaves = Signal()
        m.d.comb += self.available.eq(reserved != params.read_buffer)
        m.d.sync += reserved.eq(reserved + (self.issue & ~self.is_check) - leaves)

        # Commands in flight: nCL + nBL ticks from command to the end of the burst --------------------------------
        arriving = Signal(flight_layout)
        m.d.comb += [
            arriving.valid.eq(self.issue),
            arriving.is_check.eq(self.is_check),
            arriving.lane.eq(self.lane),
            arriving.owner.eq(self.owner),
            arriving.tag.eq(self.tag),
            arriving.last.eq(self.last),
        ]
        for stage in range(self._clocks.nCL + self._clocks.nBL):
            following = Signal(flight_layout, name=f"flight_{stage}")
            with m.If(self.tick):
                m.d.sync += following.eq(arriving)
            arriving = following

        # Capture, and one stage more to decode -----------------------------------------------------------------
        m.submodules.buffer = buffer = SyncFIFO(width=entry_layout.size, depth=params.read_buffer)
        entry = Signal(entry_layout)
        captured, word, uncorrectable = arriving, self.pin_data, Const(0, 1)
        arrives = self.tick & arriving.valid
        if params.ecc != "none":
            captured, arrives, word, uncorrectable = self._decode(m, arriving, arrives)
        m.d.comb += [
            entry.beat.data.eq(word),
            entry.beat.tag.eq(captured.tag),
            entry.beat.last.eq(captured.last),
            entry.beat.uncorrectable.eq(uncorrectable),
            entry.owner.eq(captured.owner),
            buffer.w_data.eq(entry),
            buffer.w_en.eq(arrives & ~captured.is_check),
        ]

        # To the requesters -------------------------------------------------------------------------------------
        leaving = data.View(entry_layout, buffer.r_data)
        m.d.comb += [leaves.eq(buffer.r_en & buffer.r_rdy)]
        for i, port in enumerate(self.streams):
            m.d.comb += [
                port.payload.eq(leaving.beat),
                port.valid.eq(buffer.r_rdy & (leaving.owner == i)),
            ]
            with m.If(leaving.owner == i):
                m.d.comb += buffer.r_en.eq(port.ready)
        return m

    def _decode(self, m, arriving, arrives):
        """Register the burst, then decode it: what arrived, when, its data, whether it is beyond repair."""
        params = self._params
        captured = Signal.like(arriving)
        valid = Signal()
        word = Signal(params.data_bits)
        check = Signal(params.check_bits)
        m.d.sync += [captured.eq(arriving), valid.eq(arrives), word.eq(self.pin_data), check.eq(self.pin_check)]
        m.submodules.decoder = decoder = EccDecoder(params.data_bits // ECC_WORD_BITS)
        m.d.comb += decoder.data.eq(word)
        if params.ecc == "inline":
            group_checks = Signal(params.data_bits)
            with m.If(valid & captured.is_check):
                m.d.sync += group_checks.eq(word)
            m.d.comb += decoder.check.eq(group_checks.word_select(captured.lane, params.check_bits))
        else:
            m.d.comb += decoder.check.eq(check)
        is_data = valid & ~captured.is_check
        m.d.comb += [
            self.corrected.eq(is_data & decoder.corrected.any()),
            self.uncorrectable.eq(is_data & decoder.uncorrectable.any()),
        ]
        return captured, valid, decoder.corrected_data, decoder.uncorrectable.any()


class HbWritePath(wiring.Component):
    """Buffers the beats of the write transfer in progress and puts them on the pins nCWL ticks after the command.

    Beats are taken from the owner's stream only, as many as the transfer has columns, from the cycle after its
    acceptance; a beat taken can be written from the next cycle on.

    Parameters
    ----------
    params : HbParams
    clocks : HbClocks

    Members
    -------
    tick, issue : In, 1
        DRAM clock edge; a write command is issued on it.
    is_check, lane, owner : In
        Of the column being written: in-line check column, place in its group; whose transfer this is.
    begin : In, length_bits
        Columns of the write transfer that is accepted now, 0 if none is.
    available : Out, 1
        A beat can be written.
    streams : In, array of streams of data_bits
        One per requester.
    pin_data, pin_check : Out
        The bank's data and side-band check pins.
    """

    def __init__(self, params: HbParams, clocks: HbClocks):
        self._params = params
        self._clocks = clocks
        super().__init__(
            _command_members(params)
            | {
                "begin": In(params.length_bits),
                "streams": In(stream.Signature(params.data_bits)).array(params.requesters),
                "pin_data": Out(params.data_bits),
                "pin_check": Out(params.check_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        params = self._params
        m.submodules.buffer = buffer = SyncFIFO(width=params.data_bits, depth=params.write_buffer)

        # From the owner's stream ---------------------------------------------------------------------------
        missing = Signal(params.length_bits)
        with m.If(self.begin != 0):
            m.d.sync += missing.eq(self.begin)
        with m.Elif(buffer.w_en & buffer.w_rdy):
            m.d.sync += missing.eq(missing - 1)
        for i, port in enumerate(self.streams):
            with m.If((self.owner == i) & (missing != 0)):
                m.d.comb += [
                    buffer.w_data.eq(port.payload),
                    buffer.w_en.eq(port.valid),
                    port.ready.eq(buffer.w_rdy),
                ]

        # To the pins ---------------------------------------------------------------------------------------
        word, check = Signal(params.data_bits), Signal(params.check_bits)
        m.d.comb += [
            self.available.eq(buffer.r_rdy),
            buffer.r_en.eq(self.issue & ~self.is_check),
            word.eq(buffer.r_data),
        ]
        if params.ecc != "none":
            m.submodules.encoder = encoder = EccEncoder(params.data_bits // ECC_WORD_BITS)
            m.d.comb += [encoder.data.eq(buffer.r_data), check.eq(encoder.check)]
        if params.ecc == "inline":
            group_checks = Signal(params.data_bits)
            m.d.comb += word.eq(Mux(self.is_check, group_checks, buffer.r_data))
            with m.If(self.issue & ~self.is_check):
                m.d.sync += group_checks.word_select(self.lane, params.check_bits).eq(encoder.check)
        for stage in range(self._clocks.nCWL):
            next_word = Signal.like(word, name=f"word_{stage}")
            next_check = Signal.like(check, name=f"check_{stage}")
            with m.If(self.tick):
                m.d.sync += [next_word.eq(word), next_check.eq(check)]
            word, check = next_word, next_check
        m.d.comb += [self.pin_data.eq(word), self.pin_check.eq(check)]
        return m
