"""(72,64) SECDED: every single error corrected, every double error detected, in data and check bits, in the RTL too."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from amaranth.sim import Simulator

from cycle_model.hb import REQUEST, Traffic
from hw.memory.ecc import EccDecoder, EccEncoder, hsiao_columns
from hw.params import chip
from verification.bench import ecc_reference
from verification.bench.hb_harness import run_amaranth

TINY = replace(chip("tiny").hb, data_bits=128)


def _simulate(dut, bench):
    async def wrapped(ctx):
        await bench(ctx)

    simulator = Simulator(dut)
    simulator.add_testbench(wrapped)
    simulator.run()


def test_code_is_hsiaos():
    """72 different columns of odd weight (hence distance 4); the 56 of weight 3 all used, rows balanced at 26 + 1.

    Hsiao 1970, table for (72,64): 3 x 56 + 5 x 8 + 8 = 216 ones, 27 in each row, the least there can be.
    """
    columns = [*hsiao_columns(), *(1 << i for i in range(8))]
    assert len(set(columns)) == 72
    assert all(column.bit_count() % 2 == 1 for column in columns)
    assert [sum(column >> row & 1 for column in columns) for row in range(8)] == [27] * 8
    pairs = {a ^ b for a, b in combinations(columns, 2)}
    assert not pairs & {0, *columns}


def test_encoder_equals_the_reference():
    """Random, all-zero, all-one and single-bit words of a two-word beat against the code written down again."""
    rng = np.random.default_rng(1)
    words = [0, (1 << 128) - 1, *(1 << bit for bit in range(128))]
    words += [int.from_bytes(rng.bytes(16), "little") for _ in range(100)]
    dut = EccEncoder(2)

    async def bench(ctx):
        for word in words:
            ctx.set(dut.data, word)
            assert ctx.get(dut.check) == ecc_reference.encode(word, 128)

    _simulate(dut, bench)


def test_decoder_on_all_single_and_double_errors():
    """All 72 single errors give the word back; all 2,556 double errors are detected and never called corrected."""
    word = 0x0123_4567_89AB_CDEF
    code = word | ecc_reference.encode_word(word) << 64
    dut = EccDecoder(1)
    seen = {"clean": 0, "single": 0, "double": 0}

    async def bench(ctx):
        for size, kind in enumerate(seen):
            for flips in combinations(range(72), size):
                received = code ^ sum(1 << flip for flip in flips)
                ctx.set(dut.data, received & (1 << 64) - 1)
                ctx.set(dut.check, received >> 64)
                assert ctx.get(dut.corrected) == (kind == "single"), flips
                assert ctx.get(dut.uncorrectable) == (kind == "double"), flips
                if kind != "double":
                    assert ctx.get(dut.corrected_data) == word, flips
                seen[kind] += 1

    _simulate(dut, bench)
    assert seen == {"clean": 1, "single": 72, "double": 2556}


def test_words_of_a_beat_are_independent():
    """One wrong bit in each word of a beat: all corrected; two in one word: only that word is lost."""
    words = [0xDEAD_BEEF_0BAD_F00D, 0x5555_5555_AAAA_AAAA]
    data = words[0] | words[1] << 64
    check = ecc_reference.encode(data, 128)
    dut = EccDecoder(2)

    async def bench(ctx):
        ctx.set(dut.data, data ^ (1 << 5) ^ (1 << 70))
        ctx.set(dut.check, check)
        assert ctx.get(dut.corrected_data) == data
        assert (ctx.get(dut.corrected), ctx.get(dut.uncorrectable)) == (0b11, 0)
        ctx.set(dut.data, data ^ (1 << 5) ^ (1 << 70) ^ (1 << 71))
        assert ctx.get(dut.corrected_data) & (1 << 64) - 1 == words[0]
        assert (ctx.get(dut.corrected), ctx.get(dut.uncorrectable)) == (0b01, 0b10)

    _simulate(dut, bench)


def _written_then_read(ecc: str) -> Traffic:
    """Sixteen columns written, then all 16 and the 8 behind them (never written) read."""
    requests = np.zeros(2, dtype=REQUEST)
    requests["write"] = [1, 0]
    requests["columns"] = [16, 24]
    requests["cycle"] = [0, 250]
    return Traffic(replace(TINY, ecc=ecc, columns_per_row=32), requests)


def _inject(flips: list[tuple[int, int]]):
    """Invert cells (column, bit) of row 0 once the write is done, before the read begins."""

    def prepare(harness):
        step = harness.device.step

        def injecting(*pins):
            if harness.cycle == 200:
                for column, bit in flips:
                    harness.device.flip(0, column, bit)
            return step(*pins)

        harness.device.step = injecting

    return prepare


# Physical columns: in-line group 0 is columns 0..7 and check column 8; lane 2's check bits are bits 32..47 of it.
SINGLE = {
    "sideband": {"data": [(2, 17)], "check": [(2, 128 + 9)], "both words": [(2, 3), (2, 100)], "unwritten": [(20, 64)]},
    "inline": {"data": [(2, 17)], "check": [(8, 33)], "second group": [(11, 99)], "unwritten": [(20, 64)]},
}
DOUBLE = {
    "sideband": {"data": [(2, 17), (2, 40)], "data and check": [(2, 17), (2, 128)], "check": [(2, 129), (2, 130)]},
    "inline": {"data": [(2, 17), (2, 40)], "data and check": [(2, 17), (8, 33)], "check": [(8, 33), (8, 34)]},
}


@pytest.mark.parametrize("ecc", SINGLE)
def test_controller_without_errors(ecc):
    """What was written comes back, and nothing is reported."""
    harness = run_amaranth(_written_then_read(ecc))
    assert (harness.corrected_pulses, harness.uncorrectable_pulses) == (0, 0)
    assert len(harness.trace().reads) == 24


@pytest.mark.parametrize(("ecc", "where"), [(ecc, where) for ecc in SINGLE for where in SINGLE[ecc]])
def test_single_faults_in_the_bank_are_corrected(ecc, where):
    """A wrong cell, data or check, written or not: the requester gets the right data, one beat reports it."""
    harness = run_amaranth(_written_then_read(ecc), prepare=_inject(SINGLE[ecc][where]))
    assert (harness.corrected_pulses, harness.uncorrectable_pulses) == (1, 0)


@pytest.mark.parametrize(("ecc", "where"), [(ecc, where) for ecc in DOUBLE for where in DOUBLE[ecc]])
def test_double_faults_in_the_bank_are_detected(ecc, where):
    """Two wrong cells of one word: exactly that beat is marked uncorrectable, all others are right."""
    harness = run_amaranth(_written_then_read(ecc), prepare=_inject(DOUBLE[ecc][where]), expect_uncorrectable=True)
    assert (harness.corrected_pulses, harness.uncorrectable_pulses) == (0, 1)
    assert harness.uncorrectable_beats == 1


def test_without_ecc_a_fault_reaches_the_requester():
    """The injection itself works: with ECC off the same wrong cell is read as it is."""
    with pytest.raises(AssertionError, match="read 0x"):
        run_amaranth(_written_then_read("none"), prepare=_inject([(2, 17)]))
