"""On-chip memory that behaves as an HB bank at its pins: the same commands, the same times, the same controller."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.die.host_bus import WindowPort
from hw.isa import HbCommand
from hw.memory.hb_types import HbPinsSignature
from hw.memory.timing_gate import TimingGate
from hw.params import HbParams


class ColumnPort(wiring.Signature):
    """The host's way to whole columns, beside its 32-bit window, which goes first.

    en, write, place, data  Out, the access; ``place`` is row x columns of a row + column
    owned                   In, the host has the bank; otherwise no access is ever taken
    taken                   In, the access takes place in this cycle
    read_data               In, in the cycle after one that read
    """

    def __init__(self, params: HbParams):
        super().__init__(
            {
                "en": Out(1),
                "write": Out(1),
                "place": Out(range(params.rows * params.columns_per_row)),
                "data": Out(params.data_bits),
                "owned": In(1),
                "taken": In(1),
                "read_data": In(params.data_bits),
            }
        )


class OnChipBank(wiring.Component):
    """Block memory behind HB pins, for boards without such DRAM; needs no refresh but checks that it has its time.

    A burst is on the pins until the tick nCL + nBL behind its command, and 0 at any other time. Write data is taken
    nCWL ticks behind its command. A command before its time, or to a bank in the wrong state, raises ``violation``.

    Parameters
    ----------
    params : HbParams
        Without ECC.

    Members
    -------
    pins : In, HbPinsSignature
    host : In, WindowPort
        32-bit words of the physical columns, lowest first. Only while ``host_owns``, when the pins are ignored.
    columns : In, ColumnPort
    host_owns : In, 1
        Also forgets the open row and any violation.
    violation : Out, 1
    """

    def __init__(self, params: HbParams):
        if params.ecc != "none":
            raise ValueError("an on-chip bank has no ECC")
        self._params = params
        self._lanes = params.data_bits // 32
        super().__init__(
            {
                "pins": In(HbPinsSignature(params)),
                "host": In(WindowPort(params.rows * params.columns_per_row * self._lanes)),
                "columns": In(ColumnPort(params)),
                "host_owns": In(1),
                "violation": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        params, pins, host, columns = self._params, self.pins, self.host, self.columns
        clocks = params.clocks
        shape = data.ArrayLayout(unsigned(32), self._lanes)
        m.submodules.cells = cells = Memory(shape=shape, depth=params.rows * params.columns_per_row, init=[])
        read, write = cells.read_port(), cells.write_port(granularity=1)

        # A command waits for its data: the address moves on with every tick.
        row = Signal(range(params.rows))
        place = Cat(pins.column, row)

        def delayed(command: HbCommand, ticks: int):
            """Whether ``command`` was given ``ticks`` ticks ago, and its place."""
            given, at = pins.command == command, place
            for stage in range(ticks):
                next_given = Signal(name=f"{command.name.lower()}_{stage}")
                next_at = Signal(len(place), name=f"{command.name.lower()}_place_{stage}")
                with m.If(pins.tick):
                    m.d.sync += [next_given.eq(given), next_at.eq(at)]
                with m.If(self.host_owns):
                    m.d.sync += next_given.eq(0)
                given, at = next_given, next_at
            return given, at

        reading, read_place = delayed(HbCommand.READ, clocks.nCL + clocks.nBL - 1)
        writing, write_place = delayed(HbCommand.WRITE, clocks.nCWL)
        burst = Signal()
        with m.If(pins.tick):
            m.d.sync += burst.eq(reading)
            with m.If(pins.command == HbCommand.ACTIVATE):
                m.d.sync += row.eq(pins.row)

        # Cells: the pins', or the host's: its window's, or its column port's.
        lane = host.address[: (self._lanes - 1).bit_length()]
        host_place = host.address[len(lane) :]
        held_lane = Signal.like(lane)
        m.d.sync += held_lane.eq(lane)
        column_read, column_write = columns.taken & ~columns.write, columns.taken & columns.write
        with m.Switch(held_lane):
            for i in range(self._lanes):
                with m.Case(i):
                    m.d.comb += host.read_data.eq(read.data[i])
        m.d.comb += [
            columns.owned.eq(self.host_owns),
            columns.taken.eq(columns.en & self.host_owns & ~host.en),
            columns.read_data.eq(read.data),
            read.en.eq(Mux(self.host_owns, host.en | column_read, pins.tick)),
            read.addr.eq(Mux(self.host_owns, Mux(column_read, columns.place, host_place), read_place)),
            pins.read_data.eq(Mux(burst, read.data.as_value(), 0)),
            write.addr.eq(Mux(self.host_owns, Mux(column_write, columns.place, host_place), write_place)),
            write.data.eq(
                Mux(
                    self.host_owns,
                    Mux(column_write, columns.data, host.data.replicate(self._lanes)),
                    pins.write_data,
                )
            ),
            write.en.eq(
                Mux(
                    self.host_owns,
                    ((host.en & host.write) << lane) | column_write.replicate(self._lanes),
                    (pins.tick & writing).replicate(self._lanes),
                )
            ),
        ]
        self._check(m)
        return m

    def _check(self, m) -> None:
        """Every timing rule between two commands, and the state that each command needs."""
        c, pins = self._params.clocks, self.pins
        given = {command: pins.command == command for command in HbCommand}

        def after(clocks: int, *commands: HbCommand):
            gate = TimingGate(clocks)
            m.submodules[f"gate_{clocks}_{'_'.join(command.name.lower() for command in commands)}"] = gate
            m.d.comb += [gate.tick.eq(pins.tick), gate.start.eq(Cat(given[each] for each in commands).any())]
            return gate.open

        activate, read, write, precharge, refresh = (HbCommand(i) for i in range(1, 6))
        is_open = Signal()
        idle = after(c.nRP, precharge) & after(c.nRFC, refresh) & after(c.nRC, activate)
        column = after(c.nRCD, activate) & after(c.nBL, read, write)
        allowed = {
            activate: ~is_open & idle,
            refresh: ~is_open & idle,
            read: is_open & column & after(c.nWRtoRD, write),
            write: is_open & column & after(c.nRTW, read),
            precharge: is_open & after(c.nRAS, activate) & after(c.nRTP, read) & after(c.nWRtoPRE, write),
        }
        with m.If(self.host_owns):
            m.d.sync += [is_open.eq(0), self.violation.eq(0)]
        with m.Elif(pins.tick):
            with m.If(Cat(given[command] & ~ok for command, ok in allowed.items()).any()):
                m.d.sync += self.violation.eq(1)
            with m.If(given[activate]):
                m.d.sync += is_open.eq(1)
            with m.Elif(given[precharge]):
                m.d.sync += is_open.eq(0)
