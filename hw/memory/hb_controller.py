"""Controller of one hybrid-bonded DRAM bank: tagged transfers of several requesters, one at a time.

A transfer is a run of consecutive data columns. It finds its bank precharged and leaves it precharged; each of
its rows is activated, read or written column by column, and closed. Refreshes happen between transfers and
between the rows of one, each at the tick where the next activation could have been, so that each costs exactly
tRFC. A row that its stream keeps open is closed in the middle once a ninth refresh is about to be owed.
"""

from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HbCommand, HbError
from hw.memory.hb_data import HbReadPath, HbWritePath
from hw.memory.hb_types import HbPinsSignature, HbRequesterSignature, command_shape, error_shape, transfer_layout
from hw.memory.refresh import RefreshScheduler
from hw.memory.round_robin import RoundRobin
from hw.memory.tick import TickGenerator
from hw.memory.timing_gate import TimingGate
from hw.params import ECC_GROUP, HbParams
from hw.timing import HbClocks


class HbGates(NamedTuple):
    """Whether the timing lets each command pass on this tick; ``activate`` stands for refresh too."""

    activate: Value
    read: Value
    write: Value
    precharge: Value


class HbController(wiring.Component):
    """Serves `HbParams.requesters` requesters in round-robin order, one transfer at a time.

    A request is taken in the cycle in which the controller is idle; its activation goes out at the first tick
    after that which tRP, tRC and tRFC allow; then a column every nBL ticks while the stream keeps up. A requester
    waits for at most one transfer of every other one. An illegal request is answered with an error code in the
    next cycle and has no other effect. The order of beats, and thus of streams, is the order of acceptance.

    Left to others: the streams themselves (a consumer that never takes its beats blocks the bank, though not its
    refreshes), the power-up sequence, and the pads.

    Parameters
    ----------
    params : HbParams
    clocks : HbClocks, optional
        Timing to build to instead of ``params.clocks`` (experiments; the tests build wrong ones).

    Members
    -------
    requesters : In, array of HbRequesterSignature
        Request, write and read streams and the done pulse of each requester.
    pins : Out, HbPinsSignature
        The DRAM bank.
    busy, owner, owner_tag : Out
        A transfer is in progress, whose, and its tag.
    stalled : Out, 1
        On this tick only the stream kept a column back: no place reserved in the read buffer, no data to write.
    corrected, uncorrectable : Out, 1
        A beat read this cycle had a corrected (an uncorrectable) word; never with ``ecc="none"``.
    error : Out, 1
        A request was refused since ``error_clear``.
    error_clear : In, 1
        Clears ``error``.
    """

    def __init__(self, params: HbParams, clocks: HbClocks | None = None):
        self._params = params
        self._clocks = params.clocks if clocks is None else clocks
        super().__init__(
            {
                "requesters": In(HbRequesterSignature(params)).array(params.requesters),
                "pins": Out(HbPinsSignature(params)),
                "busy": Out(1),
                "owner": Out(range(max(params.requesters, 2))),
                "owner_tag": Out(params.tag_bits),
                "stalled": Out(1),
                "corrected": Out(1),
                "uncorrectable": Out(1),
                "error": Out(1),
                "error_clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        params = self._params
        inline = params.ecc == "inline"
        m.submodules.ticks = ticks = TickGenerator(self._clocks)
        m.submodules.refresh = refresh = RefreshScheduler(self._clocks, params.refresh_postpone)
        m.submodules.reads = reads = HbReadPath(params, self._clocks)
        m.submodules.writes = writes = HbWritePath(params, self._clocks)
        tick, command = ticks.tick, Signal(command_shape())
        gates = self._gates(m, tick, command)

        # The transfer in progress --------------------------------------------------------------------------
        write = Signal()
        row = Signal(range(params.rows))
        column = Signal(range(params.data_columns + 1))  # next data column; one past the last before a new row
        remaining = Signal(params.length_bits)
        row_ended = column == params.data_columns
        # In-line ECC: the group's check column is read before its first data column, written after its last.
        check_due = Signal()
        lane = column[: (ECC_GROUP - 1).bit_length()]

        # Requests ------------------------------------------------------------------------------------------
        idle = Signal()
        chosen, grant, asking = self._arbitrate(m, idle)
        refusal = self._refusal(m, chosen)
        done, done_owner, done_tag, done_error = self._done_port(m)
        m.d.sync += [done.eq(0), self.error.eq(self.error & ~self.error_clear)]

        # Column commands -----------------------------------------------------------------------------------
        stream_ready = check_due | Mux(write, writes.available, reads.available)
        physical = Signal(range(params.columns_per_row))
        if inline:
            group = Mux(write, column - 1, column) >> len(lane)
            m.d.comb += physical.eq(Mux(check_due, group * (ECC_GROUP + 1) + ECC_GROUP, column + (column >> len(lane))))
        else:
            m.d.comb += physical.eq(column)
        m.d.comb += [
            reads.tick.eq(tick),
            reads.issue.eq(command == HbCommand.READ),
            reads.is_check.eq(check_due),
            reads.lane.eq(lane),
            reads.owner.eq(self.owner),
            reads.tag.eq(self.owner_tag),
            reads.last.eq(remaining == 1),
            writes.tick.eq(tick),
            writes.issue.eq(command == HbCommand.WRITE),
            writes.is_check.eq(check_due),
            writes.lane.eq(lane),
            writes.owner.eq(self.owner),
            refresh.tick.eq(tick),
            refresh.issued.eq(command == HbCommand.REFRESH),
            self.corrected.eq(reads.corrected),
            self.uncorrectable.eq(reads.uncorrectable),
            self.busy.eq(~idle),
        ]

        with m.FSM():
            with m.State("IDLE"):  # bank precharged, no transfer: take a request, refresh what is owed
                m.d.comb += idle.eq(1)
                # A request that waits goes first unless the refresh is due; it would have to wait tRFC otherwise.
                with m.If(tick & gates.activate & ((refresh.owed != 0) & ~asking | refresh.due)):
                    m.d.comb += command.eq(HbCommand.REFRESH)
                with m.If(asking):
                    m.d.sync += [
                        self.owner.eq(grant),
                        self.owner_tag.eq(chosen.tag),
                        write.eq(chosen.write),
                        row.eq(chosen.row),
                        column.eq(chosen.column),
                        remaining.eq(chosen.columns),
                        check_due.eq(inline & ~chosen.write),
                    ]
                    with m.If(refusal == HbError.NONE):
                        m.d.comb += writes.begin.eq(Mux(chosen.write, chosen.columns, 0))
                        m.next = "ACTIVATE"
                    with m.Else():
                        m.d.sync += [done.eq(1), done_error.eq(refusal), self.error.eq(1)]
                        m.d.sync += [done_owner.eq(grant), done_tag.eq(chosen.tag)]

            # Bank precharged, a row to open; a row boundary.
            with m.State("ACTIVATE"), m.If(tick & gates.activate):
                with m.If(refresh.due):
                    m.d.comb += command.eq(HbCommand.REFRESH)
                with m.Else():
                    m.d.comb += command.eq(HbCommand.ACTIVATE)
                    m.next = "COLUMNS"

            with m.State("COLUMNS"):  # row open: a column whenever gates and stream allow
                gate = Mux(write, gates.write, gates.read)
                m.d.comb += self.stalled.eq(tick & ~refresh.urgent & gate & ~stream_ready)
                with m.If(tick & refresh.urgent):
                    m.next = "PRECHARGE"
                with m.Elif(tick & gate & stream_ready):
                    m.d.comb += command.eq(Mux(write, HbCommand.WRITE, HbCommand.READ))
                    with m.If(check_due):
                        m.d.sync += check_due.eq(0)
                        with m.If(write & ((remaining == 0) | row_ended)):
                            m.next = "PRECHARGE"
                    with m.Else():
                        m.d.sync += [column.eq(column + 1), remaining.eq(remaining - 1)]
                        if inline:
                            m.d.sync += check_due.eq(lane == ECC_GROUP - 1)
                        leave = (remaining == 1) | (column == params.data_columns - 1)
                        with m.If(leave & ~(inline & write)):
                            m.next = "PRECHARGE"

            # Close the row, then the next row, the rest of this one, or the end.
            with m.State("PRECHARGE"), m.If(tick & gates.precharge):
                m.d.comb += command.eq(HbCommand.PRECHARGE)
                with m.If((remaining == 0) & ~(write & check_due)):
                    m.d.sync += [done.eq(1), done_error.eq(HbError.NONE)]
                    m.d.sync += [done_owner.eq(self.owner), done_tag.eq(self.owner_tag)]
                    m.next = "IDLE"
                with m.Else():
                    with m.If(row_ended & ~(write & check_due)):
                        m.d.sync += [row.eq(row + 1), column.eq(0)]
                    m.next = "ACTIVATE"

        # Pins ----------------------------------------------------------------------------------------------
        m.d.comb += [
            self.pins.tick.eq(tick),
            self.pins.command.eq(command),
            self.pins.row.eq(row),
            self.pins.column.eq(physical),
            self.pins.write_data.eq(writes.pin_data),
            reads.pin_data.eq(self.pins.read_data),
        ]
        if params.ecc == "sideband":
            m.d.comb += [self.pins.write_check.eq(writes.pin_check), reads.pin_check.eq(self.pins.read_check)]
        for i, requester in enumerate(self.requesters):
            wiring.connect(m, wiring.flipped(requester.write), writes.streams[i])
            wiring.connect(m, reads.streams[i], wiring.flipped(requester.read))
        return m

    def _gates(self, m, tick, command):
        """The timing parameters as gates; ``activate`` also guards refresh, both need the precharged bank."""
        c = self._clocks

        def after(name: str, clocks: int, *commands: HbCommand):
            gate = TimingGate(clocks)
            m.submodules[f"gate_{name}"] = gate
            m.d.comb += [gate.tick.eq(tick), gate.start.eq(Cat(command == each for each in commands).any())]
            return gate.open

        activate = after("rc", c.nRC, HbCommand.ACTIVATE)
        activate &= after("rp", c.nRP, HbCommand.PRECHARGE) & after("rfc", c.nRFC, HbCommand.REFRESH)
        column = after("rcd", c.nRCD, HbCommand.ACTIVATE) & after("bl", c.nBL, HbCommand.READ, HbCommand.WRITE)
        precharge = after("ras", c.nRAS, HbCommand.ACTIVATE) & after("rtp", c.nRTP, HbCommand.READ)
        precharge &= after("wr", c.nWRtoPRE, HbCommand.WRITE)
        return HbGates(
            activate=activate,
            read=column & after("wtr", c.nWRtoRD, HbCommand.WRITE),
            write=column & after("rtw", c.nRTW, HbCommand.READ),
            precharge=precharge,
        )

    def _arbitrate(self, m, idle):
        """The request chosen now, by whom, and whether there is one; it is taken if ``idle``."""
        m.submodules.arbiter = arbiter = RoundRobin(self._params.requesters)
        chosen = Signal(transfer_layout(self._params))
        m.d.comb += [
            arbiter.requests.eq(Cat(requester.request.valid for requester in self.requesters)),
            arbiter.advance.eq(idle),
        ]
        with m.Switch(arbiter.grant):
            for i, requester in enumerate(self.requesters):
                with m.Case(i):
                    m.d.comb += [chosen.eq(requester.request.payload), requester.request.ready.eq(idle)]
        return chosen, arbiter.grant, arbiter.valid

    def _refusal(self, m, chosen):
        """Why ``chosen`` is illegal, or NONE."""
        params = self._params
        refusal = Signal(error_shape())
        end = chosen.row * params.data_columns + chosen.column + chosen.columns
        unaligned = chosen.write & ((chosen.column | chosen.columns) % ECC_GROUP != 0)
        with m.If(chosen.columns == 0):
            m.d.comb += refusal.eq(HbError.ZERO_LENGTH)
        with m.Elif(chosen.column >= params.data_columns):
            m.d.comb += refusal.eq(HbError.BAD_COLUMN)
        with m.Elif(end > params.rows * params.data_columns):
            m.d.comb += refusal.eq(HbError.BEYOND_BANK)
        with m.Elif((params.ecc == "inline") & unaligned):
            m.d.comb += refusal.eq(HbError.UNALIGNED)
        return refusal

    def _done_port(self, m):
        """Registers behind the done pulses: done, whose, tag, error."""
        done = Signal()
        owner = Signal.like(self.owner)
        tag = Signal(self._params.tag_bits)
        error = Signal(error_shape())
        for i, requester in enumerate(self.requesters):
            m.d.comb += [
                requester.done.eq(done & (owner == i)),
                requester.done_tag.eq(tag),
                requester.done_error.eq(error),
            ]
        return done, owner, tag, error
