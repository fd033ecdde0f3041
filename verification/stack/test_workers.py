"""Workers: the same results as in one process, errors reach the caller, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from hw.errors import UserError
from sw_stack.comparison.workers import FEW, Workers

STARTER = """
import os, time
from sw_stack.comparison.workers import Workers
with Workers(2) as workers:
    for _ in workers.each(os.getpid, [()] * 20):
        pass
    print(*workers._pool._processes, flush=True)
    time.sleep(60)
"""


def _refuse(number: int) -> int:
    if number == 3:
        raise UserError("three is refused")
    return number


def test_results_do_not_depend_on_jobs():
    """Divisions by index, in any order of completion; a second piece of work goes to the same processes."""
    work = [(i, 7) for i in range(3 * FEW)]
    here = dict(Workers().each(divmod, work))
    with Workers(2) as workers:
        assert dict(workers.each(divmod, work)) == here == {i: divmod(i, 7) for i in range(3 * FEW)}
        pids = {pid for _ in range(2) for _, pid in workers.each(os.getpid, [()] * 30)}
        assert os.getpid() not in pids and len(pids) <= 2


def test_little_work_is_done_here():
    """No process is started for it."""
    with Workers(2) as workers:
        assert {pid for _, pid in workers.each(os.getpid, [()] * (FEW - 1))} == {os.getpid()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_reaches_the_caller(jobs):
    """As the exception it was."""
    with Workers(jobs) as workers, pytest.raises(UserError, match="three"):
        for _ in workers.each(_refuse, [(i,) for i in range(2 * FEW)]):
            pass


def test_workers_end_with_the_process_that_started_them():
    """It is killed without a chance to tidy up; its workers are gone a few seconds later."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    for _ in range(100):
        alive = [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and _running(pid)]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {alive}")


def _running(pid: int) -> bool:
    """A zombie that nobody has waited for is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
