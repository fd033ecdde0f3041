"""The command line: help, versions, and mistakes answered in one line with exit status 2."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hw.errors import UserError
from hw.files import write_atomic
from hw.params import CHIPS, ArrayParams, chip


def elmoe3d(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the command in a fresh process."""
    command = [sys.executable, "-c", "from sw_stack.commands.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_version_and_help():
    """--version prints name and version; --help lists every subcommand."""
    from sw_stack.commands.main import COMMANDS

    assert elmoe3d("--version").stdout.startswith("elmoe3d 0.")
    text = elmoe3d("--help").stdout
    assert all(name in text for name in COMMANDS)


def test_list_chips():
    """Every chip preset is listed by name."""
    text = elmoe3d("list", "chips").stdout
    assert all(name in text for name in CHIPS)


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("bogus",), "No such command"),
        (("list", "chps"), "did you mean chips"),
        (("list", "--bogus"), "No such option"),
        (("verilog", "--block", "pe_aray", "--chip", "tiny"), "pe_array"),
        (("verilog", "--block", "pe_array", "--chip", "tinny"), "tiny"),
    ],
)
def test_mistakes(arguments, needle):
    """A mistake gives one line on standard error that helps, exit status 2, nothing on standard output."""
    done = elmoe3d(*arguments)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert needle in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("sizes", "needle"),
    [
        ({"rows": 0}, "array rows must be an integer from 1 to 64, not 0"),
        ({"columns": 65}, "array columns"),
        ({"depth": 12}, "array depth must be a power of two"),
        ({"depth": 32, "group_size": 16}, "array group_size must be a multiple of depth 32, not 16"),
        ({"rows": 6, "dots_per_fp32": 4}, "array dots_per_fp32 must be a divisor of rows 6, not 4"),
        ({"chains": 0}, "array chains"),
        ({"add_stages": 6}, "array add_stages must be 1 to 5, not 6"),
        ({"slice_bits": 3}, "array slice_bits"),
    ],
)
def test_impossible_sizes(sizes, needle):
    """Impossible array sizes are refused when the parameters are made, naming field, rule and value."""
    with pytest.raises(UserError, match=needle.replace("(", r"\(")):
        ArrayParams(**({"rows": 4, "columns": 4, "depth": 8} | sizes))


def test_unknown_chip_suggests():
    """An unknown preset names the nearest known one."""
    with pytest.raises(UserError, match="did you mean fpga-small"):
        chip("fpga-smal")


def test_write_atomic_keeps_what_was_there(tmp_path):
    """A failed write leaves the old content and no temporary file; a good one replaces it."""
    target = tmp_path / "folder" / "file.txt"
    write_atomic(target, "old")
    write_atomic(target, b"new")
    assert target.read_text() == "new"
    (tmp_path / "plain").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(tmp_path / "plain" / "file.txt", "x")
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_an_interrupted_comparison_says_that_it_continues(tmp_path):
    """Ctrl-C behind the first cells: one line, status 130, every cell that is there whole, no process left behind."""
    command = [sys.executable, "-c", "from sw_stack.commands.main import main; main()"]
    command += ["compare", "--suite", "sim", "--rounds", "1", "--no-study", "--out", str(tmp_path)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    cells, limit = tmp_path / "cells", time.monotonic() + 100
    while time.monotonic() < limit and not (cells.exists() and any(cells.iterdir())):
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.strip().splitlines() == ["elmoe3d: interrupted; finished cells are kept: the same command continues"]
    assert not (tmp_path / "results.json").exists()
    assert all(json.loads(path.read_text())["key"] for path in cells.glob("*.json"))
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
