"""The vector unit: every operation on every kind of operand, its time, its errors."""

from dataclasses import replace

import numpy as np
import pytest

from hw.isa.encoding import COMMANDS, Opcode, PeError, VectorSource, VectorTarget
from hw.isa.vector_timing import vector_interval, vector_latency
from hw.params import ChipParams, chip
from verification.bench.vector_bench import Ran, run_commands
from verification.bench.vector_commands import VECTOR_COMMANDS, CommandGenerator
from verification.bench.vector_reference import VectorCommand, VectorReference, Writes

TINY = chip("tiny")
RT, VT, LT, ROW, IMMEDIATE = VectorSource
TO_VT, TO_XM, TO_AV = VectorTarget


def _bits(*values: float) -> np.ndarray:
    return np.array(values, np.float32).view(np.uint32)


def _cycles(sizes: ChipParams, command: VectorCommand) -> int:
    """done - start as published."""
    return command.n * vector_interval(sizes, command.opcode) + vector_latency(sizes, command.opcode) - 1


def _same(got: Writes, want: Writes) -> bool:
    return all(
        one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
        for one, other in ((got.xm, want.xm), (got.av, want.av))
    )


def _compare(sizes: ChipParams, rt, lt, commands: list[VectorCommand], ran: list[Ran]) -> VectorReference:
    """Every command wrote what the reference writes, in the published number of cycles."""
    reference = VectorReference(sizes, rt, lt)
    assert len(ran) == len(commands)
    for command, got in zip(commands, ran, strict=True):
        want = reference.execute(command)
        assert got.error is PeError.NONE and got.cycles == _cycles(sizes, command), command
        assert _same(got.writes, want), command
    return reference


def test_every_operation_and_operand():
    """All kinds of command, one after the other at once or with pauses: values, places and cycles of each."""
    generator = CommandGenerator(TINY, 41)
    rt, lt = generator.memories()
    kinds = generator.every_kind()
    commands = [*generator.preparation(), *kinds, *generator.contents()]
    ran = run_commands(TINY, rt, lt, commands, gap=lambda: int(generator.rng.choice([0, 0, 1, 3])))
    _compare(TINY, rt, lt, commands, ran)
    assert {command.opcode for command in kinds} == set(VECTOR_COMMANDS)
    assert len(kinds) == 3 * 6 * 2 * 2 * 2 + 2 * 3 * 2 + 3 * 2 + 2 * (3 * 2) + 2 * 5 + 1


DEPTHS = [
    {"vector_read_stages": 2, "vector_write_stages": 2, "sigmoid_units": 1},
    {"vector_add_stages": 1, "vector_mul_stages": 1, "vector_divide_stages": 1, "sigmoid_units": 4},
    {"vector_add_stages": 3, "vector_mul_stages": 4, "vector_divide_stages": 29, "max_levels_per_stage": 1},
]


@pytest.mark.parametrize("depths", DEPTHS, ids=lambda depths: "-".join(map(str, depths.values())))
def test_latency_and_interval_follow_the_stage_counts(depths):
    """At other depths, each operation on 1 and on 6 rows: same values, and exactly the published cycles."""
    sizes = replace(TINY, pe=replace(TINY.pe, **depths))
    generator = CommandGenerator(sizes, 43)
    rt, lt = generator.memories()
    commands = generator.preparation()
    for opcode in VECTOR_COMMANDS:
        for n in (1, 6) if "n" in COMMANDS[opcode].operands else (1,):
            fields = {"d_space": TO_XM, "a_space": LT, "b_space": RT, "row": 3, "row_a": 4, "row_b": 1}
            commands.append(VectorCommand(opcode, d=2, a=4, b=5, n=n, fields=fields))
    _compare(
        sizes,
        rt,
        lt,
        [*commands, *generator.registers()],
        run_commands(sizes, rt, lt, [*commands, *generator.registers()]),
    )


def test_one_token():
    """A machine of one row: every row meets the scalar that the row before it has just changed."""
    array = replace(TINY.array, rows=1, dots_per_fp32=1)
    sizes = replace(TINY, array=array)
    generator = CommandGenerator(sizes, 48)
    rt, lt = generator.memories()
    lt[3], rt[4:10] = 0, np.arange(7, 1, -1, dtype=np.float32).view(np.uint32)[:, None]  # row maxima fall
    commands = generator.preparation()
    for opcode, fields in (
        (Opcode.ROW_ABSMAX, {"a_space": RT, "row": 3}),
        (Opcode.MUL, {"a_space": RT, "b_space": ROW, "row_b": 3, "d_space": TO_XM}),
        (Opcode.QUANTIZE, {"a_space": RT, "row_b": 1, "d_space": TO_AV}),
    ):
        commands.append(VectorCommand(opcode, a=4, d=5, n=6, fields=fields))
    commands.append(VectorCommand(Opcode.ROW_SCALE, fields={"row": 4, "row_a": 3}))
    commands += generator.registers()
    _compare(sizes, rt, lt, commands, run_commands(sizes, rt, lt, commands))


def test_published_time_by_hand():
    """Cycles counted by hand on tiny (read 1, write 1, add 5, multiply 3, divide 8, 2 sigmoid units of 4 columns)."""
    by_hand = {
        # 2 preparation + 1 read + stages + 1 write, less the cycle of the row itself which n ii counts
        (Opcode.ADD, 1): 2 + 1 + 5 + 1,
        (Opcode.ADD, 10): 2 + 1 + 5 + 1 + 9,
        (Opcode.MUL, 1): 2 + 1 + 3 + 1,
        (Opcode.MOVE, 3): 2 + 1 + 1 + 1 + 2,
        (Opcode.QUANTIZE, 1): 2 + 1 + 3 + 1 + 1,
        (Opcode.SIGMOID, 1): 2 + 1 + (1 + 5 * 5 + 3 * 3) + 1 + 1,
        (Opcode.SIGMOID, 4): 2 + 1 + (1 + 5 * 5 + 3 * 3) + 1 + 7,
        (Opcode.ROW_ABSMAX, 4): 2 + 1 + 1 + 1 + 3,
        (Opcode.ROW_SCALE, 1): 2 + 1 + 8 + 1 + 3,
    }
    rt, lt = CommandGenerator(TINY, 44).memories()
    commands = [
        VectorCommand(opcode, n=n, fields={"a_space": LT, "d_space": TO_XM, "b_space": RT}) for opcode, n in by_hand
    ]
    assert [ran.cycles for ran in run_commands(TINY, rt, lt, commands)] == list(by_hand.values())


def test_requantisation_by_hand():
    """Two tokens of eight inputs: maxima 254 and 0, scales 2 and 0, reciprocals 0.5 and 0, codes with ties to even."""
    rt = np.zeros((TINY.pe.rt_rows, 4), np.uint32)
    rt[0:2] = _bits(1, -3, 254, 5), _bits(0, -0.0, 0, 0)
    rt[2:4] = _bits(-253, 2.5, 252.9, -7), _bits(0, 0, 0, 0)
    lt = np.zeros((TINY.pe.lt_rows, 4), np.uint32)
    commands = [
        VectorCommand(Opcode.ROW_ABSMAX, a=0, n=2, fields={"a_space": RT, "row": 1, "first": 1}),
        VectorCommand(Opcode.ROW_ABSMAX, a=2, n=2, fields={"a_space": RT, "row": 1}),
        VectorCommand(Opcode.ROW_SCALE, fields={"row": 2, "row_a": 1}),
        VectorCommand(Opcode.ROW_RECIPROCAL, fields={"row": 3, "row_a": 1}),
        VectorCommand(Opcode.ROW_STORE, d=0, fields={"row_a": 2}),
        VectorCommand(Opcode.ROW_STORE, d=1, fields={"row_a": 3}),
        VectorCommand(Opcode.QUANTIZE, d=4, a=0, n=2, fields={"a_space": RT, "row_b": 3, "d_space": TO_AV}),
        VectorCommand(Opcode.QUANTIZE, d=5, a=2, n=2, fields={"a_space": RT, "row_b": 3, "d_space": TO_AV}),
        VectorCommand(Opcode.QUANTIZE, d=5, a=2, n=2, fields={"a_space": RT, "row_b": 3, "d_space": TO_XM}),
        VectorCommand(Opcode.ROW_ABSMAX, a=1, n=1, fields={"a_space": RT, "row": 1, "first": 1}),
        VectorCommand(Opcode.ROW_STORE, d=0, fields={"row_a": 1}),
    ]
    ran = run_commands(TINY, rt, lt, commands)
    stored = [r.writes.xm[i].astype(np.uint8).reshape(-1).view(np.float32)[:2].tolist() for i, r in enumerate(ran[4:6])]
    assert stored == [[2.0, 0.0], [0.5, 0.0]]
    first = {key: data.view(np.int8).tolist() for key, data in ran[6].writes.av.items()}
    assert first == {(4, 0): [0, -2, 127, 2], (4, 1): [0, 0, 0, 0]}  # 0.5 -> 0, -1.5 -> -2, 2.5 -> 2
    second = {key: data.view(np.int8).tolist() for key, data in ran[7].writes.av.items()}
    assert second == {(5, 0): [-126, 1, 126, -4], (5, 1): [0, 0, 0, 0]}  # -126.5 -> -126, 126.45 -> 126, -3.5 -> -4
    # In XM a group word (32 inputs of 4 tokens) is 8 words; piece 5 of row 0 is its byte 20, of row 1 byte 52.
    assert {word: np.flatnonzero(data[:, 0] >= 0).tolist() for word, data in ran[8].writes.xm.items()} == {
        1: [1],
        3: [1],
    }
    assert ran[8].writes.xm[1][1].astype(np.int8).tolist() == [-126, 1, 126, -4]
    assert not ran[10].writes.xm[0].any()  # the next block starts over: its first row is all zeros


def _edges(**fields: int) -> dict[str, int]:
    return {"a_space": RT, "b_space": LT, "d_space": TO_VT} | fields


_S = TINY.pe
REFUSED = [  # command that just fits, and what makes it not fit
    (VectorCommand(Opcode.ADD, a=_S.rt_rows - 3, n=3, fields=_edges()), {"n": 4}, PeError.ADDRESS),
    (VectorCommand(Opcode.ADD, b=_S.lt_rows - 3, n=3, fields=_edges()), {"b": _S.lt_rows - 2}, PeError.ADDRESS),
    (VectorCommand(Opcode.ADD, d=_S.vt_rows - 3, n=3, fields=_edges()), {"d": _S.vt_rows - 2}, PeError.ADDRESS),
    (
        VectorCommand(Opcode.ADD, a=_S.vt_rows - 3, n=3, fields=_edges(a_space=VT)),
        {"a": _S.vt_rows - 2},
        PeError.ADDRESS,
    ),
    (VectorCommand(Opcode.ADD, b=_S.lt_rows - 1, n=3, fields=_edges(broadcast=1)), {"b": _S.lt_rows}, PeError.ADDRESS),
    (VectorCommand(Opcode.MOVE, d=_S.xm_words - 3, n=3, fields=_edges(d_space=TO_XM)), {"n": 4}, PeError.ADDRESS),
    (VectorCommand(Opcode.ADD, n=4, fields=_edges(indexed=1)), {"n": 5}, PeError.ILLEGAL_COMMAND),
    (VectorCommand(Opcode.ADD, a=_S.rt_rows - 1, n=4, fields=_edges(indexed=1)), {"a": _S.rt_rows}, PeError.ADDRESS),
    (VectorCommand(Opcode.ADD, d=_S.vt_rows - 1, n=4, fields=_edges(indexed=1)), {"d": _S.vt_rows}, PeError.ADDRESS),
    (VectorCommand(Opcode.ADD, b=_S.lt_rows - 2, n=2, fields=_edges(indexed=1)), {"n": 3}, PeError.ADDRESS),
    (VectorCommand(Opcode.MUL, b=0xFFFFFFFF, n=2, fields=_edges(b_space=IMMEDIATE)), {"n": 0}, PeError.ILLEGAL_COMMAND),
    (VectorCommand(Opcode.MUL, n=2, fields=_edges()), {"a": 0xFFFFFFFF}, PeError.ADDRESS),
    (VectorCommand(Opcode.MUL, n=2, fields=_edges()), {"n": 0xFFFFFFFF}, PeError.ADDRESS),
    (VectorCommand(Opcode.ROW_ABSMAX, n=4, fields=_edges(first=1)), {"n": 5}, PeError.ILLEGAL_COMMAND),
    (VectorCommand(Opcode.ROW_ABSMAX, a=_S.rt_rows - 9, n=9, fields=_edges()), {"n": 10}, PeError.ADDRESS),
    (
        VectorCommand(Opcode.QUANTIZE, d=8 * _S.av_groups - 2, n=8, fields=_edges(d_space=TO_AV)),
        {"n": 9},
        PeError.ADDRESS,
    ),
    (VectorCommand(Opcode.QUANTIZE, d=_S.xm_words - 2, n=8, fields=_edges(d_space=TO_XM)), {"n": 9}, PeError.ADDRESS),
    (VectorCommand(Opcode.SIGMOID, a=_S.rt_rows - 2, n=2, fields=_edges()), {"a": _S.rt_rows - 1}, PeError.ADDRESS),
    (VectorCommand(Opcode.SIGMOID, n=2, fields=_edges()), {"n": 0}, PeError.ILLEGAL_COMMAND),
    (VectorCommand(Opcode.ROW_LOAD, a=_S.lt_rows - 1), {"a": _S.lt_rows}, PeError.ADDRESS),
    (VectorCommand(Opcode.ROW_STORE, d=_S.xm_words - 1), {"d": _S.xm_words}, PeError.ADDRESS),
]


def test_operands_are_refused_one_step_beyond_what_fits():
    """Each command runs at the edge; one step on it is refused in its first cycle and writes nothing; the next runs."""
    generator = CommandGenerator(TINY, 45)
    rt, lt = generator.memories()
    commands, errors = generator.preparation(), [PeError.NONE] * len(generator.preparation())
    for fits, beyond, error in REFUSED:
        commands += [fits, replace(fits, **beyond), fits]
        errors += [PeError.NONE, error, PeError.NONE]
    ran = run_commands(TINY, rt, lt, commands)
    assert [r.error for r in ran] == errors
    reference = VectorReference(TINY, rt, lt)
    for command, got in zip(commands, ran, strict=True):
        if got.error:
            assert got.cycles is None and not got.writes.xm and not got.writes.av
        else:
            assert _same(got.writes, reference.execute(command))
            assert got.cycles == _cycles(TINY, command)


def test_fields_of_other_commands_are_ignored():
    """A count of 0 and wild operands and flags that a command does not have change nothing."""
    generator = CommandGenerator(TINY, 46)
    rt, lt = generator.memories()
    wild = {"indexed": 1, "broadcast": 1, "first": 1, "b_space": 7, "map": 5}
    plain, strange = generator.preparation(), generator.preparation()
    for opcode in VECTOR_COMMANDS:
        spec = COMMANDS[opcode]
        fields = {"a_space": LT, "d_space": TO_XM, "row": 3, "row_a": 4, "row_b": 1}
        slots = {name: 2 for name in "dabn"}
        unused = {name: 0xFFFFFFF0 if name != "n" else 0 for name in "dabn" if name not in spec.operands}
        plain.append(VectorCommand(opcode, **slots | ({"n": 1} if "n" in unused else {}), fields=fields))
        extra = {name: value for name, value in wild.items() if name not in spec.fields}
        strange.append(VectorCommand(opcode, **slots | unused, fields=fields | extra))
    ran = run_commands(TINY, rt, lt, [*strange, *generator.registers()])
    _compare(TINY, rt, lt, [*plain, *generator.registers()], ran)


@pytest.mark.full
def test_full_size():
    """Every operation and every fourth kind of command at the published size, 16 tokens by 32 columns."""
    sizes = chip("4gb")
    generator = CommandGenerator(sizes, 47)
    rt, lt = generator.memories()
    commands = [*generator.preparation(), *generator.some_of_each(4), *generator.contents()]
    _compare(sizes, rt, lt, commands, run_commands(sizes, rt, lt, commands))
