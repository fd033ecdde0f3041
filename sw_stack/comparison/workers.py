"""Processes that evaluate cells side by side; with one job everything stays in this process.

A worker lives as long as the run: it keeps what it has loaded, compiled and generated from one piece of work to the
next. It leaves an interrupt to the process that started it, and ends by itself should that one be gone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

FEW = 8
"""So little work is done here, sooner than processes have started."""
LOOK_S = 1.0
Result = TypeVar("Result")


def _prepare(starter: int) -> None:
    """In a new worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    def look() -> None:
        waiting = threading.Event()
        while os.getppid() == starter:
            waiting.wait(LOOK_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


class Workers:
    """``jobs`` processes, started when there is enough to do; a context manager that ends them.

    Results do not depend on ``jobs``, the order of completion does.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def each(self, function: Callable[..., Result], work: Sequence[tuple]) -> Iterator[tuple[int, Result]]:
        """``(i, function(*work[i]))`` as they are done."""
        if self.jobs <= 1 or (self._pool is None and len(work) < FEW):
            yield from ((i, function(*arguments)) for i, arguments in enumerate(work))
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.jobs, initializer=_prepare, initargs=(os.getpid(),))
        running = {self._pool.submit(function, *arguments): i for i, arguments in enumerate(work)}
        try:
            for future in as_completed(running):
                yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()
