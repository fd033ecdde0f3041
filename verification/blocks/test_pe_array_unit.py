"""The ARRAY unit alone: the cadence of docs/pe.md holds, the array never waits, and rows are the exact dot products."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.isa.encoding import ActivationSpace, PeError, WeightSpace
from hw.isa.modes import WeightMode
from hw.params import chip
from hw.pe.array_unit import ArrayUnit

TINY = chip("tiny")
SMALL = chip("fpga-small")
# A beat per group, an FP32 unit for each row and eight chains: a slot a cycle.
WIDE = replace(SMALL, array=replace(SMALL.array, depth=32, dots_per_fp32=1, chains=8))
# Two code words a beat, and a long time to fetch.
SLOW = replace(SMALL, array=replace(SMALL.array, depth=16), pe=replace(SMALL.pe, fetch=13))
# Latency of the array from docs/pe_array.md: operands, products, tree, hold, scale, fetch, add.
CHIPS = {"tiny": (TINY, 1 + 3 + 10), "wide": (WIDE, 1 + 4 + 10), "slow": (SLOW, 1 + 3 + 10)}
SCALES = (0x3C00, 0x4000, 0x4400)  # 1, 2, 4 in FP16
SCALE_WORDS = 56  # from here on the weight memories hold scales: half h of word w is 2^((2 w + h) mod 3)


class Memories:
    """WH, WL, AL and AV with random codes and activations, read as SRAMs are, and the numbers that lie in them."""

    def __init__(self, sizes, rng):
        array, pe = sizes.array, sizes.pe
        self.chip = sizes
        word_bytes = 4 * array.columns
        self.words = {port: rng.bytes(64 * word_bytes) for port in ("wh", "wl")}
        self.groups = {
            port: rng.integers(-127, 128, (pe.al_groups, array.rows, 32)).astype(np.int8) for port in ("al", "av")
        }
        self._tables = {
            port: [int.from_bytes(words[i * word_bytes :][:word_bytes], "little") for i in range(64)]
            for port, words in self.words.items()
        }
        for table in self._tables.values():
            for word in range(SCALE_WORDS, 64):
                halves = (SCALES[(2 * word + half) % 3].to_bytes(2, "little") * array.columns for half in (0, 1))
                table[word] = int.from_bytes(b"".join(halves), "little")
        self._tables |= {
            port: [int.from_bytes(group.tobytes(), "little") for group in groups]
            for port, groups in self.groups.items()
        }

    def read(self, ctx, dut):
        """Words to show from the next cycle on."""
        shown = {}
        for port, table in self._tables.items():
            signals = getattr(dut, port)
            if ctx.get(signals.en):
                shown[port] = table[ctx.get(signals.addr)]
        return shown

    def rows(self, command):
        """int64 [m, R, C] that a command adds to its chains in MSB mode: 8 x 2h x activation x scale."""
        array, n, m = self.chip.array, command["n"], command["m"]
        codes = np.frombuffer(self.words[("wh", "wl")[command["w_space"]]], np.uint8)
        codes = codes[command["b"] * 4 * array.columns :][: 16 * array.columns * n]
        nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(n, array.beats, array.columns, array.depth)
        weights = nibbles.transpose(0, 1, 3, 2).reshape(32 * n, array.columns).astype(np.int64)
        scales = 2 ** ((2 * command["s"] + np.arange(n).repeat(32)) % 3)
        weights = np.where(weights > 7, weights - 16, weights) * 16 * scales[:, None]
        tokens = self.groups[("al", "av")[command["a_space"]]][command["a"] :][: m * n].astype(np.int64)
        return tokens.reshape(m, n, array.rows, 32).transpose(0, 2, 1, 3).reshape(m, array.rows, 32 * n) @ weights


def _random_commands(sizes, rng, count):
    """MATMULs that begin their chains, or continue them where every one has begun."""
    array, begun = sizes.array, set()
    for _ in range(count):
        m = int(rng.integers(1, array.chains + 1))
        n = int(rng.integers(1, 4))
        chain = int(rng.integers(0, array.chains - m + 1))
        chains = set(range(chain, chain + m))
        first = int(not chains <= begun or rng.random() < 0.4)
        begun |= chains
        yield {
            "m": m,
            "n": n,
            "chain": chain,
            "first": first,
            "a": int(rng.integers(0, sizes.pe.al_groups - m * n + 1)),
            "b": int(rng.integers(0, SCALE_WORDS - 4 * n + 1)),
            "s": int(rng.integers(SCALE_WORDS, 63)),
            "d": array.rows * int(rng.integers(0, sizes.pe.rt_rows // array.rows - m + 1)),
            **{name: int(rng.integers(0, 2)) for name in ("a_space", "w_space", "s_space")},
        }


@pytest.mark.parametrize("name", CHIPS)
def test_cadence_and_values(name):
    """Ten random MATMULs, each started as soon as the one before frees the unit: times, rows and order to the formula.

    All terms are multiples of 16 and sums stay below 2^28, so that FP32 is exact and expected are integer products.
    """
    sizes, latency = CHIPS[name]
    array, rng = sizes.array, np.random.default_rng(len(name))
    memories = Memories(sizes, rng)
    commands = list(_random_commands(sizes, rng, 10))
    dut = ArrayUnit(sizes)
    starts, frees, dones, slots, written = [], [], [], [], []

    async def bench(ctx):
        cycle, waiting = 0, list(commands)
        free = True
        while len(dones) < len(commands):
            go = free and bool(waiting)
            ctx.set(dut.go, int(go))
            if go:
                command = waiting.pop(0)
                fields = {"mode": WeightMode.MSB, "last": 1}
                fields |= {key: command[key] for key in ("chain", "first", "a_space", "w_space", "s_space")}
                operands = {key: command[key] for key in "dabsnm"}
                ctx.set(dut.command, {"flags": {"array": fields}, **operands})
                assert ctx.get(dut.error) == PeError.NONE
                starts.append(cycle)
                free = False
            if ctx.get(dut.slot_begins):
                slots.append(cycle)
            if ctx.get(dut.free):
                frees.append(cycle)
                free = True
            if ctx.get(dut.done):
                dones.append(cycle)
            if ctx.get(dut.write):
                result = dut.result
                place = ctx.get(result.tile) * array.rows + ctx.get(result.slot)
                values = [[ctx.get(result["values"][u][c]) for c in range(array.columns)] for u in _units(array)]
                written.append((cycle, place, values))
            shown = memories.read(ctx, dut)
            await ctx.tick()
            for port, word in shown.items():
                ctx.set(getattr(dut, port).data, word)
            cycle += 1
        assert not ctx.get(dut.slip)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    assert starts[1:] == [free + 1 for free in frees[:-1]]
    chains = np.zeros((array.chains, array.rows, array.columns), np.int64)
    tail = array.beats - 1 + latency + array.dots_per_fp32 - 1
    for start, free, done, command in zip(starts, frees, dones, commands, strict=True):
        slot_count = command["n"] * command["m"]
        interval = max(array.beats, array.dots_per_fp32, -(-sizes.pe.fetch // command["m"]))
        first = start + sizes.pe.fetch
        begins = [first + j * interval for j in range(slot_count)]
        assert slots[:slot_count] == begins
        del slots[:slot_count]
        assert (free, done) == (begins[-1] + interval - 1, begins[-1] + tail)
        rows = np.zeros((command["m"] * array.rows, array.columns), np.float32)
        for k in range(command["m"]):
            for slot in range(array.dots_per_fp32):
                cycle, place, values = written.pop(0)
                last_group = begins[(command["n"] - 1) * command["m"] + k]
                assert cycle == last_group + array.beats - 1 + latency + slot
                assert place == command["d"] + k * array.rows + slot
                for unit in _units(array):
                    row = k * array.rows + unit * array.dots_per_fp32 + slot
                    rows[row] = np.array(values[unit], np.uint32).view(np.float32)
        own = slice(command["chain"], command["chain"] + command["m"])
        chains[own] = memories.rows(command) + (0 if command["first"] else chains[own])
        assert np.array_equal(rows, chains[own].reshape(rows.shape).astype(np.float32))
    assert not slots
    assert not written


def _units(array):
    return range(array.fp32_units_per_column)


WRONG = [
    ({"n": 0}, PeError.ILLEGAL_COMMAND),
    ({"m": 0}, PeError.ILLEGAL_COMMAND),
    ({"m": 4}, PeError.NONE),
    ({"m": 4, "chain": 1}, PeError.ILLEGAL_COMMAND),
    ({"m": 5}, PeError.ILLEGAL_COMMAND),
    ({"m": 1 << 31}, PeError.ILLEGAL_COMMAND),
    ({"chain": 63}, PeError.ILLEGAL_COMMAND),
    ({"a": 126, "m": 2}, PeError.NONE),
    ({"a": 127, "m": 2}, PeError.ADDRESS),
    ({"a": 124, "n": 2, "m": 2, "a_space": ActivationSpace.AV}, PeError.NONE),
    ({"a": 125, "n": 2, "m": 2, "a_space": ActivationSpace.AV}, PeError.ADDRESS),
    ({"n": 1 << 31}, PeError.ADDRESS),
    ({"n": 129, "b": 0xFFFFFF00}, PeError.ADDRESS),
    ({"b": 60}, PeError.NONE),
    ({"b": 61, "w_space": WeightSpace.WL}, PeError.ADDRESS),
    ({"s": 63, "n": 2}, PeError.NONE),
    ({"s": 63, "n": 3}, PeError.ADDRESS),
    ({"d": 28, "last": 1}, PeError.NONE),
    ({"d": 28, "last": 1, "m": 2}, PeError.ADDRESS),
    ({"d": 2, "last": 1}, PeError.ADDRESS),
    ({"d": 2, "last": 0}, PeError.NONE),
    ({"d": 0xFFFFFFFC, "last": 1}, PeError.ADDRESS),
]


def test_operands_at_and_beyond_the_edge():
    """The last legal place is taken, the first beyond refused; chain and counts are judged before addresses."""
    dut = ArrayUnit(TINY)

    async def bench(ctx):
        for change, error in WRONG:
            fields = {
                "mode": WeightMode.MSB,
                "chain": 0,
                "first": 1,
                "last": 0,
                "a_space": 0,
                "w_space": 0,
                "s_space": 0,
            }
            operands = {"d": 0, "a": 0, "b": 0, "s": 0, "n": 1, "m": 1}
            fields |= {key: value for key, value in change.items() if key in fields}
            operands |= {key: value for key, value in change.items() if key in operands}
            ctx.set(dut.command, {"flags": {"array": fields}, **operands})
            ctx.set(dut.go, 1)
            assert ctx.get(dut.error) == error, change
            ctx.set(dut.go, 0)
        await ctx.tick()
        assert not ctx.get(dut.slot_begins)

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
