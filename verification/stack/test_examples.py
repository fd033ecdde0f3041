"""The examples run as they are and print what their text says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {
    "change_one_parameter.py": r" 64 KB +\d+\.\d +\d+\.\d",
    "own_model_and_trace.py": r"batch 16: plain +[\d,]+ tokens/s, Elastic-SD +[\d,]+ tokens/s, gain \d+\.\d\d",
    "bits_of_an_expert.py": r"merged are the projection, bit for bit: True",
}


def test_every_example_is_tested():
    """A new script in examples/ needs a line above."""
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_example_runs(name):
    """Exit status 0, nothing on standard error, the expected last figures on standard output."""
    run = subprocess.run(
        [sys.executable, f"examples/{name}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert re.search(SHOWN[name], run.stdout), run.stdout
