"""What README.md shows is what its commands print today."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def _sessions() -> list[tuple[str, str]]:
    """(command, printed text) of every ``console`` block, which starts with "$ " and shows one command."""
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [(command, printed) for command, printed in blocks]


def _pattern(printed: str) -> str:
    """Regular expression for what is shown: a line "..." stands for any lines, "~" before a number for any number."""
    lines = []
    for line in printed.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            parts = (re.escape(part) for part in re.split(r"~[\d.,]+", line.rstrip()))
            lines.append(r"[\d.,]+".join(parts) + r" *\n")
    return "".join(lines)


@pytest.mark.parametrize(("command", "printed"), _sessions(), ids=[command for command, _ in _sessions()])
def test_shown_output(command, printed, tmp_path):
    """Running the command prints what the README shows below it."""
    program, *arguments = shlex.split(command)
    assert program == "elmoe3d", "only elmoe3d commands can be checked in a console block"
    code = "from sw_stack.commands.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    output = done.stdout + done.stderr
    assert re.fullmatch(_pattern(printed), output), f"README shows\n{printed}\nbut the command prints\n{output}"


def test_there_are_sessions():
    """The check above has something to check."""
    assert len(_sessions()) >= 3


def test_make_targets_exist():
    """Every ``make X`` that the README names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)", README, re.MULTILINE))
    assert named
    assert named <= targets
