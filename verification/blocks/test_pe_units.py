"""The PE's data-moving units alone: what they move, and that every command takes the time of docs/pe.md."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from cycle_model.hb import REQUEST, Traffic, exact
from hw.isa.encoding import GatherSpace, Opcode, PeError
from hw.memory.hb_controller import HbController
from hw.params import chip
from hw.pe.gather_unit import GatherUnit
from hw.pe.hb_unit import HbUnit
from hw.pe.host_unit import HostUnit
from hw.pe.store_unit import StoreUnit
from hw.pe.stream_unit import StreamUnit
from rtl_gen.dram_device import HbDramDevice
from verification.bench import ecc_reference

TINY = chip("tiny")


def _run(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


async def _start(ctx, unit, opcode, fields=None, **operands):
    """Start a command in this cycle; the error it finds. Leaves the cycle: the next one is start + 1."""
    flags = {unit_name: value for unit_name, value in (fields or {}).items()}
    ctx.set(unit.command, {"opcode": opcode, "flags": flags or {"bits": 0}, **operands})
    ctx.set(unit.go, 1)
    error = ctx.get(unit.error)
    await ctx.tick()
    ctx.set(unit.go, 0)
    return error


def _arrivals(rng, words, gap):
    """Cycles, counted from start + 1, in which a link offers its words; a word that is not taken stays."""
    return np.cumsum(rng.integers(1, gap + 1, words)) - 1


@pytest.mark.parametrize("gap", [1, 4])
@pytest.mark.parametrize("words", [1, 9])
def test_stream_load(words, gap):
    """WL gets the words in order, one a cycle from start + 1 while there are some; done with the last."""
    dut, rng = StreamUnit(TINY), np.random.default_rng(words + gap)
    arrivals = _arrivals(rng, words, gap)
    stored, done = [], []

    async def bench(ctx):
        assert await _start(ctx, dut, Opcode.STREAM_LOAD, d=3, n=words) == PeError.NONE
        for cycle in range(1, arrivals[-1] + 4):
            index = int(np.searchsorted(arrivals, cycle - 1))
            offered = index < words and arrivals[index] == cycle - 1
            ctx.set(dut.link.valid, int(offered))
            ctx.set(dut.link.payload, 1000 + index)
            if ctx.get(dut.write.en):
                stored.append((ctx.get(dut.write.addr), ctx.get(dut.write.data)))
            if ctx.get(dut.done):
                done.append(cycle)
            await ctx.tick()

    _run(dut, bench)
    assert stored == [(3 + i, 1000 + i) for i in range(words)]
    assert done == [arrivals[-1] + 1]
    if gap == 1:
        assert done == [words]


@pytest.mark.parametrize("space", GatherSpace)
def test_gather_load(space):
    """AL's link words go to their lane of a group word in byte order; LT's to rows; a word a cycle."""
    dut = GatherUnit(TINY)
    lanes = 256 * TINY.array.rows // (32 * TINY.array.columns)
    first, words = lanes - 1, 4
    written = []

    async def bench(ctx):
        fields = {"gather": {"space": space}}
        assert await _start(ctx, dut, Opcode.GATHER_LOAD, fields, d=first, n=words) == PeError.NONE
        ctx.set(dut.link.valid, 1)
        for cycle in range(1, words + 1):
            ctx.set(dut.link.payload, 77 + cycle)
            al, lt = dut.write_al, dut.write_lt
            written.append((ctx.get(al.en), ctx.get(al.addr), ctx.get(lt.en), ctx.get(lt.addr)))
            assert ctx.get(al.data) == sum((77 + cycle) << 128 * lane for lane in range(lanes))
            assert ctx.get(lt.data) == 77 + cycle
            assert ctx.get(dut.done) == (cycle == words)
            await ctx.tick()
        assert not ctx.get(dut.link.ready)

    _run(dut, bench)
    places = range(first, first + words)
    if space == GatherSpace.AL:
        assert [(en, addr) for en, addr, _, _ in written] == [(1 << p % lanes, p // lanes) for p in places]
        assert not any(en for _, _, en, _ in written)
    else:
        assert [(en, addr) for _, _, en, addr in written] == [(1, p) for p in places]
        assert not any(en for en, _, _, _ in written)


@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_store(rate):
    """The first word is offered at start + 2; a word a cycle while taken; payload holds while it waits."""
    dut, rng = StoreUnit(TINY), np.random.default_rng(5)
    memory = [0x5000 + i for i in range(TINY.pe.xm_words)]
    words, taken, valid, done = 6, [], [], []

    async def bench(ctx):
        assert await _start(ctx, dut, Opcode.STORE, a=10, n=words) == PeError.NONE
        shown = 0
        for cycle in range(1, 60):
            ctx.set(dut.read.data, shown)
            ready = rng.random() < rate
            ctx.set(dut.link.ready, int(ready))
            if ctx.get(dut.link.valid):
                valid.append(cycle)
                if ready:
                    taken.append(ctx.get(dut.link.payload))
            if ctx.get(dut.done):
                done.append(cycle)
            if ctx.get(dut.read.en):
                shown = memory[ctx.get(dut.read.addr)]
            await ctx.tick()

    _run(dut, bench)
    assert taken == memory[10 : 10 + words]
    assert valid == list(range(2, done[0] + 1))  # never a bubble
    assert len(done) == 1
    if rate == 1.0:
        assert done == [words + 1]


@pytest.mark.parametrize(("busy", "latency"), [(0, 0), (0, 5), (3, 0), (3, 2)])
def test_host(busy, latency):
    """The request is offered from start + 1 until taken; done is the answer's cycle, even where it comes at once."""
    dut = HostUnit(TINY.pe)
    seen = []

    async def bench(ctx):
        await _start(ctx, dut, Opcode.HOST, a=1, b=0xFFFFFFFF, d=3)
        for cycle in range(1, busy + latency + 4):
            ctx.set(dut.request.ready, int(cycle == 1 + busy))
            ctx.set(dut.answer, int(cycle == 1 + busy + latency))
            assert ctx.get(dut.request.valid) == (cycle <= 1 + busy)
            assert ctx.get(dut.done) == (cycle == 1 + busy + latency)
            if ctx.get(dut.request.valid):
                seen.append([ctx.get(dut.request.payload[name]) for name in "abd"])
            await ctx.tick()

    _run(dut, bench)
    assert seen == [[1, 0xFFFFFFFF, 3]] * (busy + 1)


class Bank:
    """HB and STREAM units, controller and bank of a chip, stepped cycle by cycle, with a log.

    stored : (cycle, address, word) of every write to WH
    errors : (cycle, code) of the HB unit
    """

    def __init__(self, sizes):
        self.top = Module()
        self.top.submodules.controller = self.controller = HbController(sizes.hb)
        self.top.submodules.hb = self.hb = HbUnit(sizes)
        self.top.submodules.stream = self.stream = StreamUnit(sizes)
        wiring.connect(self.top, self.hb.hb, self.controller.requesters[0])
        wiring.connect(self.top, self.stream.hb, self.controller.requesters[1])
        clocks = sizes.hb.clocks
        self.device = HbDramDevice(
            sizes.hb.data_bits,
            check_bits=sizes.hb.check_bits if sizes.hb.ecc == "sideband" else 0,
            read_clocks=clocks.nCL + clocks.nBL,
            write_clocks=clocks.nCWL,
            encode=lambda word: ecc_reference.encode(word, sizes.hb.data_bits),
        )
        self._sideband = sizes.hb.ecc == "sideband"
        self.cycle = self._sent = 0
        self.stored, self.errors = [], []

    async def run(self, ctx, unit, command):
        """Start ``command`` now; the cycle of its done, or of its refusal, which is over on return."""
        pins = self.controller.pins
        outputs = [pins.tick, pins.command, pins.row, pins.column, pins.write_data]
        outputs += [pins.write_check] if self._sideband else []
        ctx.set(unit.command, command)
        ctx.set(unit.go, 1)
        ctx.set(self.stream.link.valid, 1)
        done = None
        while done is None:
            ctx.set(self.stream.link.payload, 0xABC000 + self._sent)
            self._sent += ctx.get(self.stream.link.ready)
            if ctx.get(self.hb.write.en):
                self.stored.append((self.cycle, ctx.get(self.hb.write.addr), ctx.get(self.hb.write.data)))
            if ctx.get(self.hb.error) != PeError.NONE:
                self.errors.append((self.cycle, ctx.get(self.hb.error)))
                if self.errors[-1][1] == PeError.HB_REFUSED:
                    return self.cycle  # the PE stops; a refused transfer has no beats and so no done
            done = self.cycle if ctx.get(unit.done) else None
            word, check = self.device.step(*(ctx.get(each) for each in outputs))
            await ctx.tick()
            ctx.set(pins.read_data, word)
            if self._sideband:
                ctx.set(pins.read_check, check)
            ctx.set(unit.go, 0)
            self.cycle += 1
        return done


@pytest.mark.parametrize("ecc", ["none", "sideband"])
@pytest.mark.parametrize(("first", "columns"), [(5, 1), (30, 20), (16, 16)])
def test_hb_load_and_refill(first, columns, ecc):
    """A refill, then a load of the same columns, as long as the bank's model says: the words come back in order.

    Both requests are taken in start + 1, since the controller is idle, so done is the model's done pulse, or, with
    ECC and a whole row, the last beat, which is later.
    """
    sizes = replace(TINY, hb=replace(TINY.hb, ecc=ecc))
    bank, done = Bank(sizes), []
    requests = np.zeros(2, dtype=REQUEST)
    requests["requester"], requests["write"], requests["columns"] = [1, 0], [1, 0], columns
    requests["row"], requests["column"] = divmod(first, sizes.hb.data_columns)

    async def bench(ctx):
        refill = {"opcode": Opcode.STREAM_REFILL, "d": first, "n": columns}
        load = {"opcode": Opcode.HB_LOAD, "d": 2, "a": first, "n": columns}
        for i, (unit, command) in enumerate(((bank.stream, refill), (bank.hb, load))):
            requests[i]["cycle"] = bank.cycle + 1
            done.append(await bank.run(ctx, unit, command))

    _run(bank.top, bench)
    assert [(place, word) for _, place, word in bank.stored] == [(2 + i, 0xABC000 + i) for i in range(columns)]
    model = exact(Traffic(sizes.hb, requests))
    beats = [int(cycle) for cycle in model.reads[:, 0]]
    assert [cycle for cycle, _, _ in bank.stored] == beats
    assert done == [int(model.dones[0, 0]), max(int(model.dones[1, 0]), beats[-1])]
    assert (done[1] > model.dones[1, 0]) == (ecc != "none" and columns == 16)


def test_two_wrong_bits_stop_the_unit():
    """With side-band ECC one wrong bit is repaired unseen, two are HB_UNCORRECTABLE in the beat's cycle."""
    sizes = replace(TINY, hb=replace(TINY.hb, ecc="sideband"))
    bank = Bank(sizes)
    for column, bits in ((3, (17,)), (4, (70, 90))):
        for bit in bits:
            bank.device.flip(0, column, bit)

    async def bench(ctx):
        await bank.run(ctx, bank.hb, {"opcode": Opcode.HB_LOAD, "d": 0, "a": 2, "n": 4})

    _run(bank.top, bench)
    assert bank.errors == [(bank.stored[2][0], PeError.HB_UNCORRECTABLE)]
    assert [word for _, _, word in bank.stored[:2]] == [bank.device.initial(0, column) for column in (2, 3)]


def test_refused_transfer():
    """A transfer whose end only the controller can see to be wrong: HB_REFUSED in the cycle of its done pulse."""
    bank = Bank(TINY)

    async def bench(ctx):
        await bank.run(ctx, bank.hb, {"opcode": Opcode.HB_LOAD, "d": 0, "a": 1020, "n": 5})

    _run(bank.top, bench)
    assert bank.errors == [(2, PeError.HB_REFUSED)]


WRONG = [
    (StreamUnit, Opcode.STREAM_LOAD, {"d": 0, "n": 0}, PeError.ILLEGAL_COMMAND),
    (StreamUnit, Opcode.STREAM_LOAD, {"d": 0, "n": 64}, PeError.NONE),
    (StreamUnit, Opcode.STREAM_LOAD, {"d": 1, "n": 64}, PeError.ADDRESS),
    (StreamUnit, Opcode.STREAM_LOAD, {"d": 0xFFFFFFFF, "n": 1}, PeError.ADDRESS),
    (StreamUnit, Opcode.STREAM_REFILL, {"d": 1023, "n": 1}, PeError.NONE),
    (StreamUnit, Opcode.STREAM_REFILL, {"d": 1024, "n": 1}, PeError.ADDRESS),
    (StreamUnit, Opcode.STREAM_REFILL, {"d": 0, "n": 1024}, PeError.ADDRESS),
    (HbUnit, Opcode.HB_LOAD, {"d": 0, "a": 0, "n": 65}, PeError.ADDRESS),
    (HbUnit, Opcode.HB_LOAD, {"d": 63, "a": 1023, "n": 1}, PeError.NONE),
    (HbUnit, Opcode.HB_LOAD, {"d": 0, "a": 0xFFFFFFFF, "n": 1}, PeError.ADDRESS),
    (HbUnit, Opcode.HB_LOAD, {"d": 0xFFFFFFFF, "a": 0, "n": 0xFFFFFFFF}, PeError.ADDRESS),
    (GatherUnit, Opcode.GATHER_LOAD, {"d": 1016, "n": 8}, PeError.NONE),
    (GatherUnit, Opcode.GATHER_LOAD, {"d": 1017, "n": 8}, PeError.ADDRESS),
    (StoreUnit, Opcode.STORE, {"a": 32, "n": 32}, PeError.NONE),
    (StoreUnit, Opcode.STORE, {"a": 33, "n": 32}, PeError.ADDRESS),
    (StoreUnit, Opcode.STORE, {"a": 99, "n": 0}, PeError.ILLEGAL_COMMAND),
]


@pytest.mark.parametrize(("unit", "opcode", "operands", "error"), WRONG)
def test_operands_at_and_beyond_the_edge(unit, opcode, operands, error):
    """The last legal place is taken, the first beyond refused in the cycle of the start; then nothing happens."""
    dut = unit(TINY)

    async def bench(ctx):
        assert await _start(ctx, dut, opcode, **operands) == error
        if error == PeError.NONE:
            return
        if hasattr(dut, "link") and unit is not StoreUnit:
            ctx.set(dut.link.valid, 1)
        for _ in range(8):
            assert ctx.get(dut.error) == PeError.NONE
            assert not ctx.get(dut.done)
            if unit is StoreUnit:
                assert not ctx.get(dut.link.valid)
            elif unit is not HbUnit:
                assert not ctx.get(dut.link.ready)
            if hasattr(dut, "hb"):
                assert not ctx.get(dut.hb.request.valid)
            await ctx.tick()

    _run(dut, bench)
