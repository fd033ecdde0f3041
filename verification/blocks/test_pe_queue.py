"""Semaphores and command queues: the start rule of docs/pe.md, cycle by cycle."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from cycle_model.pe.decoder import Step, decode
from hw.isa.encoding import (
    COMMANDS,
    RECORD_ENTRY_BITS,
    UNIT_FIELDS,
    Command,
    Opcode,
    Operand,
    PeError,
    Unit,
    pack,
)
from hw.isa.program import PeProgram
from hw.params import PeParams, chip
from hw.pe.command_queue import CommandQueue
from hw.pe.operand_bits import operand_bits
from hw.pe.semaphores import Semaphores

PARAMS = PeParams(queue_depth=4)


def _run(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def _token(semaphore):
    return {"semaphore": semaphore or 0, "valid": int(semaphore is not None)}


def test_semaphores_count_like_integers():
    """600 cycles of random gives and takes by 3 units each: levels as plain integers say, 0 to 15, never beyond.

    A cycle that would lead beyond leaves that semaphore as it was, and is an error.
    """
    dut = Semaphores(3, 3)
    rng = np.random.default_rng(11)
    errors = 0

    async def bench(ctx):
        nonlocal errors
        levels = [0] * 16
        for cycle in range(600):
            rising = cycle // 75 % 2 == 0
            change = [0] * 16
            for port, sign, rate in ((dut.gives, 1, 0.5 if rising else 0.2), (dut.takes, -1, 0.2 if rising else 0.5)):
                pairs = []
                for _ in range(3):
                    pair = [int(rng.integers(0, 4)) * 5 if rng.random() < rate else None for _ in range(2)]
                    for semaphore in pair:
                        if semaphore is not None:
                            change[semaphore] += sign
                    pairs.append([_token(semaphore) for semaphore in pair])
                ctx.set(port, pairs)
            wrong = [not 0 <= level + by <= 15 for level, by in zip(levels, change, strict=True)]
            assert ctx.get(dut.error) == any(wrong)
            assert ctx.get(dut.available) == sum((level > 0) << i for i, level in enumerate(levels))
            errors += any(wrong)
            levels = [level if bad else level + by for level, by, bad in zip(levels, change, wrong, strict=True)]
            await ctx.tick()

    _run(dut, bench)
    assert 30 < errors < 570


async def _push(ctx, dut, instruction, waits=(None, None), signals=(None, None)):
    """Offer a command in this cycle; whether it is taken. Leaves the cycle."""
    ctx.set(
        dut.push.payload,
        {
            "instruction": instruction,
            "waits": [_token(w) for w in waits],
            "signals": [_token(s) for s in signals],
        },
    )
    ctx.set(dut.push.valid, 1)
    taken = ctx.get(dut.push.ready)
    await ctx.tick()
    ctx.set(dut.push.valid, 0)
    return taken


def test_queue_is_full_by_its_level():
    """Four commands fit a queue of four; a fifth is refused, even in the cycle in which one leaves."""
    dut = CommandQueue(PARAMS)

    async def bench(ctx):
        assert [await _push(ctx, dut, i, waits=(0, None)) for i in range(5)] == [1, 1, 1, 1, 0]
        ctx.set(dut.available, 1)
        assert ctx.get(dut.start)
        assert not await _push(ctx, dut, 9)  # one starts in this very cycle
        assert await _push(ctx, dut, 9)

    _run(dut, bench)


def test_start_needs_head_unit_and_all_semaphores():
    """Pushed in t, started in t + 1 at the earliest; both semaphores needed; free in t lets the next start in t + 1."""
    dut = CommandQueue(PARAMS)

    async def bench(ctx):
        await _push(ctx, dut, 7, waits=(3, 12), signals=(1, None))
        for available in (0, 1 << 3, 1 << 12, ~(1 << 3) & 0xFFFF):
            ctx.set(dut.available, available)
            assert (ctx.get(dut.start), ctx.get(dut.stalled)) == (0, 1)
            assert not ctx.get(dut.takes[0].valid)
        ctx.set(dut.available, 1 << 3 | 1 << 12)
        ctx.set(dut.stopped, 1)
        assert (ctx.get(dut.start), ctx.get(dut.stalled)) == (0, 0)
        ctx.set(dut.stopped, 0)
        assert (ctx.get(dut.start), ctx.get(dut.stalled)) == (1, 0)
        assert [(ctx.get(t.semaphore), ctx.get(t.valid)) for t in dut.takes] == [(3, 1), (12, 1)]
        await _push(ctx, dut, 8)
        for _ in range(3):
            assert (ctx.get(dut.start), ctx.get(dut.busy), ctx.get(dut.stalled)) == (0, 1, 0)
            assert not ctx.get(dut.gives[0].valid)
            await ctx.tick()
        ctx.set(dut.done, 1)
        ctx.set(dut.free, 1)
        assert (ctx.get(dut.start), ctx.get(dut.oldest)) == (0, 7)
        assert [(ctx.get(t.semaphore), ctx.get(t.valid)) for t in dut.gives] == [(1, 1), (0, 0)]
        await ctx.tick()
        ctx.set(dut.done, 0)
        ctx.set(dut.free, 0)
        assert (ctx.get(dut.start), ctx.get(dut.command.instruction)) == (1, 8)

    _run(dut, bench)


def test_overlapping_commands_end_in_order():
    """A unit that is free before it is done: up to three in progress, each end gives its own command's signals."""
    dut = CommandQueue(PARAMS, in_flight=3)

    async def bench(ctx):
        for i in range(4):
            await _push(ctx, dut, i, waits=(0, None), signals=(i + 1, None))
        ended = []
        ctx.set(dut.available, 1)
        for cycle in range(9):
            ctx.set(dut.free, 1)  # free in the cycle of each start and after it
            ctx.set(dut.done, cycle in (3, 5, 6, 8))
            if ctx.get(dut.done):
                assert ctx.get(dut.gives[0].valid)
                ended.append(ctx.get(dut.gives[0].semaphore))
            await ctx.tick()
            if cycle == 4:
                assert ctx.get(dut.busy)
        assert ended == [1, 2, 3, 4]
        assert not ctx.get(dut.busy)

    _run(dut, bench)


def _kept(value: int, bits: int) -> int:
    """What `narrowed` keeps of an operand, as an integer."""
    return value if bits == 32 or not bits else value & (1 << bits) - 1 | (value >> bits != 0) << bits


@pytest.mark.parametrize("name", ["tiny", "fpga-small", "4gb"])
def test_what_a_queue_keeps_of_an_operand_is_enough(name):
    """A unit that gets its operands as kept finds the same errors, by the models' rules, and else the same command.

    Every command with random legal fields, operands at the edges of what is kept and at powers of two.
    """
    sizes = chip(name)
    rng = np.random.default_rng(23)
    errors = set()
    for opcode, spec in COMMANDS.items():
        if spec.unit is Unit.SEQUENCER:
            continue
        bits = operand_bits(sizes, spec.unit)
        assert all(bits[slot] for slot in spec.operands.values())
        for _ in range(400 if spec.unit is Unit.ARRAY else 40):
            fields = {f.name: int(rng.integers(1 << f.bits)) for f in UNIT_FIELDS[spec.unit] if f.name in spec.fields}
            fields |= {each: int(rng.choice(legal)) for each, legal in spec.legal.items()}
            given = {slot: int(rng.choice([0, 1, 1, 4])) for slot in spec.operands.values()}
            for slot in rng.choice(list(given), int(rng.integers(3))) if given else ():
                edge = 1 << (bits[slot] if rng.random() < 0.5 else int(rng.integers(33)))
                given[slot] = int(rng.choice([edge // 2, edge - 1, edge, edge + 1, 3 * edge])) & 0xFFFFFFFF
            kept = {slot: _kept(value, bits[slot]) for slot, value in given.items()}
            one, other = (_step(sizes, opcode, fields, values) for values in (given, kept))
            assert one[Step.ERROR] == other[Step.ERROR], (spec.mnemonic, fields, given)
            errors.add((spec.unit, int(one[Step.ERROR])))
            if not one[Step.ERROR]:
                assert np.array_equal(one, other), (spec.mnemonic, fields, given)
    refusing = set(Unit) - {Unit.SEQUENCER, Unit.HOST}
    assert errors >= {(unit, error) for unit in refusing for error in (0, PeError.ILLEGAL_COMMAND, PeError.ADDRESS)}


def _step(sizes, opcode, fields, values):
    """How the models decode a command whose operands are ``values``, put into registers 1 ... by the record."""
    operands = {slot: Operand(register) for register, slot in enumerate(values, 1)}
    instruction = pack(Command(opcode, fields=fields, operands=operands))
    record = [len(values) << RECORD_ENTRY_BITS, *values.values()]
    return decode(PeProgram(sizes, [instruction, pack(Command(Opcode.RETURN))], dispatch=record))[1]


def test_a_queue_keeps_low_bits_and_whether_there_was_more():
    """Six bits of d, none of a, all of b: what comes out of the queue, stated."""
    dut = CommandQueue(PARAMS, operands={"d": 6, "a": 0, "b": 32})

    async def bench(ctx):
        for d, kept in ((0, 0), (63, 63), (64, 64), (0xFFFFFFC5, 64 + 5), (1 << 31, 64)):
            ctx.set(dut.push.payload, {"opcode": 5, "d": d, "a": 0xFFFFFFFF, "b": 0xDEADBEEF})
            ctx.set(dut.push.valid, 1)
            await ctx.tick()
            ctx.set(dut.push.valid, 0)
            command = dut.command
            assert [ctx.get(command[slot]) for slot in ("d", "a", "b")] == [kept, 0, 0xDEADBEEF]
            assert ctx.get(command.opcode) == 5
            ctx.set(dut.done, 1)
            ctx.set(dut.free, 1)
            await ctx.tick().repeat(2)

    _run(dut, bench)
