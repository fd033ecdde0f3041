"""Runs tests against patched copies of the tree, two at a time, and remembers every result.

The parent loads the heavy third-party packages once and forks a child per patch. A child enters its own scratch copy
of the sources, in a temporary folder of this run, in which only the patched file differs, and runs pytest in-process,
cheapest test first, until the first failure. A result is stored under the hash of everything that it depends on, so an
interrupted or repeated run continues where it stopped. The child's limit is processor time: a mutant that never
finishes counts as killed on a busy machine no sooner than on an idle one.
"""

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hw.files import write_atomic
from verification.faults.fault import FaultError
from verification.faults.sources import PACKAGES, closure, compiled_sources

HEAVY = ("amaranth.sim", "amaranth.back.rtlil", "numpy", "numba", "ml_dtypes", "hypothesis", "pytest")
# A test may take this much processor time, and so often what it took without a fault; a whole run likewise.
LEAST_SECONDS = 3
COMPILE_SECONDS = 60  # more, where Numba kernels are made from the patched file and must be compiled anew
FACTOR = 3
START_SECONDS = 20  # what a run takes beside its tests, at most


@dataclass(frozen=True)
class Job:
    """One patch to try: ``text`` replaces ``file``; None for the baseline. ``compiles``: kernels are made from it."""

    key: str
    file: str
    text: str | None
    tests: tuple[str, ...]
    compiles: bool

    @property
    def least_seconds(self) -> float:
        """Processor time that any one test may take."""
        return COMPILE_SECONDS if self.compiles else LEAST_SECONDS


@dataclass(frozen=True)
class Verdict:
    """What the tests said.

    status   killed, survived or timeout (killed by the time limit)
    by       the test that failed
    seconds  processor time
    """

    status: str
    by: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether the tests noticed."""
        return self.status != "survived"


class _Watch:
    """Pytest plugin in the child: cheapest test first, a time limit per test, who failed first."""

    def __init__(self, known: dict[str, float], least: float):
        self._known = known
        self._least = least
        self._start = 0.0
        self.seconds: dict[str, float] = {}  # processor time per test
        self.failed = ""

    def pytest_collection_modifyitems(self, items) -> None:
        items.sort(key=lambda item: self._known.get(item.nodeid, 0.0))

    def pytest_runtest_logstart(self, nodeid) -> None:
        self._start = time.process_time()
        if nodeid in self._known:
            signal.setitimer(signal.ITIMER_PROF, self._least + FACTOR * self._known[nodeid])

    def pytest_runtest_logfinish(self, nodeid) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds[nodeid] = time.process_time() - self._start

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} does not import"


class Killer:
    """Tries patches. ``root`` is the tree, ``work`` keeps the results; a context manager that removes its copies."""

    def __init__(self, root: Path, work: Path, jobs: int):
        self._root, self._work, self._jobs = root, work, jobs
        self._texts: dict[Path, bytes] = {}
        self._baselines: dict[tuple[str, ...], dict] = {}
        for name in HEAVY:
            importlib.import_module(name)
        self._scratch = tempfile.TemporaryDirectory(prefix="elmoe3d-mutate-")
        self._slots = [Path(self._scratch.name) / f"slot{n}" for n in range(jobs)]
        for slot in self._slots:
            self._fill(slot)

    @property
    def snapshot(self) -> Path:
        """The sources as they were when the run started."""
        return self._slots[0]

    def __enter__(self) -> "Killer":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._scratch.cleanup()

    def _fill(self, slot: Path) -> None:
        """A copy of the sources."""
        slot.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz")
        for package in PACKAGES:
            shutil.copytree(self._root / package, slot / package, ignore=ignored)
        shutil.copytree(self._root / "docs", slot / "docs")  # some tests check what the documents say
        for name in ("pyproject.toml", "README.md", "Makefile"):
            shutil.copy(self._root / name, slot)

    def job(self, file: str, text: str | None, tests: tuple[str, ...]) -> Job:
        """The patch with the hash of all that its verdict depends on."""
        digest = hashlib.sha256("\n".join(tests).encode())
        for path in closure(self._root, tests):
            name = path.relative_to(self._root).as_posix()
            changed = text is not None and name == file
            digest.update(f"\0{name}\0".encode() + (text.encode() if changed else self._read(path)))
        compiles = text is not None and self._root / file in compiled_sources(self._root)
        return Job(digest.hexdigest()[:24], file, text, tests, compiles)

    def _read(self, path: Path) -> bytes:
        """Contents at the start of the run, which is also what the slots hold."""
        if path not in self._texts:
            copy = self._slots[0] / path.relative_to(self._root)
            self._texts[path] = (copy if copy.is_file() else path).read_bytes()
        return self._texts[path]

    def _result(self, key: str) -> Path:
        return self._work / "results" / f"{key}.json"

    def baseline(self, tests: tuple[str, ...]) -> dict:
        """Seconds per test without any patch; FaultError where the tests fail as they are."""
        if tests not in self._baselines:
            job = self.job("", None, tests)
            list(self._run([job], lambda _job, _verdict: None))
            record = json.loads(self._result(job.key).read_text())
            if record["status"] != "survived":
                self._result(job.key).unlink()
                raise FaultError(f"tests fail without any fault: {record['by'] or ', '.join(tests)}")
            self._baselines[tests] = record
        return self._baselines[tests]

    def verdicts(self, jobs: list[Job], done: Callable[[Job, Verdict], None]) -> dict[str, Verdict]:
        """Verdict by key; ``done`` is called as each is known, remembered ones first."""
        for tests in dict.fromkeys(job.tests for job in jobs):
            self.baseline(tests)
        return dict(self._run(jobs, done))

    def _run(self, jobs: Iterable[Job], done: Callable[[Job, Verdict], None]):
        waiting = []
        for job in jobs:
            if self._result(job.key).is_file():
                verdict = self._verdict(job)
                done(job, verdict)
                yield job.key, verdict
            else:
                waiting.append(job)
        waiting.reverse()
        free, running = list(range(self._jobs)), {}
        try:
            while waiting or running:
                while waiting and free:
                    slot, job = free.pop(), waiting.pop()
                    running[self._fork(slot, job)] = slot, job
                pid, status, usage = os.wait3(0)
                if pid in running:
                    slot, job = running.pop(pid)
                    free.append(slot)
                    verdict = self._finish(slot, job, status, usage)
                    done(job, verdict)
                    yield job.key, verdict
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _verdict(self, job: Job) -> Verdict:
        record = json.loads(self._result(job.key).read_text())
        return Verdict(record["status"], record["by"], record["processor_seconds"])

    def _limit(self, job: Job) -> int:
        if job.text is None:
            return 3600
        return int(START_SECONDS + job.least_seconds + FACTOR * self._baselines[job.tests]["processor_seconds"])

    def _fork(self, slot: int, job: Job) -> int:
        place = self._slots[slot]
        if job.text is not None:
            (place / job.file).write_text(job.text)
        known = {} if job.text is None else self._baselines[job.tests]["seconds"]
        limit = self._limit(job)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _child(place, job, known, limit)
        return pid

    def _finish(self, slot: int, job: Job, status: int, usage) -> Verdict:
        place = self._slots[slot]
        if job.text is not None:
            (place / job.file).write_bytes(self._read(self._root / job.file))
        report = place / "report.json"
        record = json.loads(report.read_text()) if report.is_file() else {"by": "", "seconds": {}}
        report.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        outcomes = {0: "survived", 1: "killed", 2: "killed"}
        outcomes |= {-number: "timeout" for number in (signal.SIGPROF, signal.SIGXCPU, signal.SIGKILL)}
        if code not in outcomes:
            log = (place / "output.txt").read_text()[-2000:]
            raise FaultError(f"pytest ended with {code} on {job.file or 'the baseline'}:\n{log}")
        record |= {"status": outcomes[code], "processor_seconds": usage.ru_utime + usage.ru_stime}
        write_atomic(self._result(job.key), json.dumps(record))
        return self._verdict(job)


def _child(place: Path, job: Job, known: dict[str, float], limit: int) -> None:
    """Run the tests in ``place`` and leave the process."""
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(place)
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(place))
        for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        import pytest

        watch = _Watch(known, job.least_seconds)
        code = int(pytest.main(["-x", "-q", "-m", "not full", "--rootdir", str(place), *job.tests], plugins=[watch]))
        Path("report.json").write_text(json.dumps({"by": watch.failed, "seconds": watch.seconds}))
    finally:
        os._exit(code)
