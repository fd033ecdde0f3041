"""elmoe3d compile, run and listing: one file at every level, and mistakes in one line."""

import json
from pathlib import Path

import pytest

from cycle_model.pe.functional import functional
from sw_stack.commands.main import main
from sw_stack.commands.run_command import compare
from sw_stack.compiler.program import read_program, write_program
from verification.programs.golden import GOLDEN

_ROOT = Path(__file__).parents[2]
_MODEL = _ROOT / "sw_stack" / "data" / "elmoe-8m"


def elmoe3d(capsys, *arguments) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of the command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def golden(tmp_path) -> Path:
    """The hand-encoded program of loop and vector unit, as a file."""
    return write_program(GOLDEN["vector"].program, tmp_path / "golden.prog")


def test_all_levels_of_one_file_agree(capsys, golden, tmp_path):
    """The same file at functional, fast, exact and RTL: one digest, the cycles worked by hand, in text and JSON."""
    document = tmp_path / "out.json"
    status, out, err = elmoe3d(capsys, "run", golden, "--level", "all", "--json", document)
    assert (status, err) == (0, "")
    assert "levels agree" in out
    levels = json.loads(document.read_text())["levels"]
    assert list(levels) == ["functional", "fast", "exact", "rtl"]
    assert {level["digest"] for level in levels.values()} == {functional(GOLDEN["vector"].program).digest}
    assert [level["cycles"] for level in levels.values()] == [None, 44, 44, 44]
    assert [command["done"] for command in levels["rtl"]["commands"]] == [21, 32, 40, 43]


def test_a_wrong_digest_and_an_error_end_with_status_1(capsys, tmp_path):
    """A program that gives another digest than it promises, and one that stops, are no success."""
    program = read_program(write_program(GOLDEN["vector"].program, tmp_path / "a.prog"))
    program.expected = "0" * 64
    status, out, _ = elmoe3d(capsys, "run", write_program(program, tmp_path / "b.prog"), "--level", "functional")
    assert status == 1
    assert "differs at functional" in out
    program.instructions[0] = 0
    status, out, _ = elmoe3d(capsys, "run", write_program(program, tmp_path / "c.prog"))
    assert status == 1
    assert "ILLEGAL_COMMAND SEQUENCER at instruction 0" in out


def test_differences_between_levels_are_named():
    """A level that gives other values or times is named with what differs."""
    first, second = (functional(GOLDEN[name].program) for name in ("vector", "array"))
    assert "digest: functional and functional differ" in compare([first, second])
    assert compare([first, first]) == []


def test_experts_of_the_shipped_model(capsys, tmp_path):
    """A real expert compiles for tiny; its listing as text assembles to the same instructions; fast and exact agree."""
    path = tmp_path / "expert.prog"
    status, out, _ = elmoe3d(capsys, "compile", _MODEL, "--experts", "3", "--tokens", "1", "--out", path)
    assert status == 0
    assert "of 512 instructions" in out
    for level in ("fast", "exact"):
        status, out, _ = elmoe3d(capsys, "run", path, "--level", level)
        assert status == 0
        assert functional(read_program(path)).digest[:16] in out
    status, text, _ = elmoe3d(capsys, "listing", path, "--text")
    from sw_stack.compiler.assembler import assemble

    assert assemble(text).instructions == read_program(path).instructions
    status, text, _ = elmoe3d(capsys, "listing", path)
    assert ".kernel gate_up_hb_full" in text
    assert "DM[0] = 0x0" in text


def test_assembler_files(capsys, tmp_path):
    """The example without data runs: r1 rounds of two requests."""
    path = tmp_path / "events.prog"
    assert elmoe3d(capsys, "compile", _ROOT / "examples/events.s", "--registers", "3", "--out", path)[0] == 0
    state = functional(read_program(path)).state
    assert state.events == [(1, 2, 7)] * 3 + [(0, 99, 0)]
    assert state.host == [(1, 0, 0), (2, 0, 0), (1, 1, 0), (2, 1, 0), (1, 2, 0), (2, 2, 0)]


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("run", "missing.prog"), "missing.prog"),
        (("run", "GOLDEN", "--level", "rtll"), "did you mean rtl"),
        (("run", "GOLDEN", "--chip", "4gb"), "made for another configuration"),
        (("run", "TRUNCATED"), "truncated"),
        (("run", "CORRUPTED"), "corrupted"),
        (("listing", "CORRUPTED"), "corrupted"),
        (("compile", _MODEL, "--experts", "3,99"), "expert 99 in layer 0"),
        (("compile", _MODEL, "--experts", "x"), "--experts must be numbers"),
        (("compile", _MODEL, "--pes", "4"), "PEs must be at most 3"),
        (("compile", _MODEL, "--pes", "1"), "program's HB image must lie in 1024 data columns"),
        (("compile", _MODEL, "--mode", "half"), "kernel must have a mode"),
        (("compile", "missing.s"), "missing.s"),
    ],
)
def test_mistakes_are_one_line(capsys, golden, tmp_path, arguments, needle):
    """Exit status 2, one line on standard error that names the thing."""
    content = golden.read_bytes()
    truncated, corrupted = tmp_path / "truncated.prog", tmp_path / "corrupted.prog"
    truncated.write_bytes(content[:-3])
    corrupted.write_bytes(content[:-3] + b"abc")
    files = {"GOLDEN": golden, "TRUNCATED": truncated, "CORRUPTED": corrupted}
    status, out, err = elmoe3d(capsys, *(files.get(argument, argument) for argument in arguments))
    assert (status, out) == (2, "")
    assert needle in err
    assert len(err.strip().splitlines()) == 1
