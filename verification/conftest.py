"""Shared by all tests: time per group (folder and file stem) printed after the run, with xdist as without."""

from collections import defaultdict
from pathlib import Path

import pytest

_seconds: dict[str, float] = defaultdict(float)
_skipped: list[str] = []

# Skips that are accepted, by test id, with the reason; any other skip fails the run.
ALLOWED_SKIPS: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    path = Path(report.nodeid.split("::")[0])
    _seconds[f"{path.parent.name}/{path.stem.removeprefix('test_')}"] += report.duration
    if report.skipped and not hasattr(report, "wasxfail") and report.nodeid not in ALLOWED_SKIPS:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    terminalreporter.section("seconds per group, all processes together")
    for group, seconds in sorted(_seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds:8.1f}  {group}")
    for nodeid in _skipped:
        terminalreporter.write_line(f"skipped without an allowed reason: {nodeid}", red=True)
