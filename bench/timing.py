"""Time of a call on a machine that others use too."""

import time
from collections.abc import Callable


def cpu_seconds(run: Callable[[], object], least: float = 0.0, rounds: int = 3) -> float:
    """CPU seconds of one call of ``run``, the best of some rounds: what the first one compiles does not count.

    Each round calls it at least once and for ``least`` / ``rounds`` seconds.
    """
    best = float("inf")
    for _ in range(rounds):
        calls, start = 0, time.process_time()
        while calls == 0 or time.process_time() - start < least / rounds:
            run()
            calls += 1
        best = min(best, (time.process_time() - start) / calls)
    return best
