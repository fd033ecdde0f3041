"""Requests that arrive at random: continuous batching on one machine, and the latencies that requests see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.comparison.cell import CellKey
from sw_stack.comparison.evaluate import Settings, architecture, server_of, serving_of
from sw_stack.machines.capacity import require_fit
from sw_stack.machines.machine import Machine
from sw_stack.workloads.metrics import fits
from sw_stack.workloads.requests import Arrivals, Request

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class OpenLoop:
    """What a stream of requests got.

    requests   finished, in order of their ends
    seconds    from time 0 to the last end
    tokens     output tokens of all requests
    mean_batch sequences per round, on average
    """

    key: CellKey
    arrivals: Arrivals
    requests: tuple[Request, ...]
    seconds: float
    tokens: int
    mean_batch: float

    @property
    def tokens_per_s(self) -> float:
        """Throughput over the whole run, idle time included."""
        return self.tokens / self.seconds

    def first_token_s(self) -> np.ndarray:
        """`PERCENTILES` of the time to first token."""
        return np.percentile([r.time_to_first_token_s for r in self.requests], PERCENTILES)

    def per_token_s(self) -> np.ndarray:
        """`PERCENTILES` of the time per later output token; of requests that have one."""
        return np.percentile([r.time_per_output_token_s for r in self.requests if r.output_tokens > 1], PERCENTILES)


def serve(key: CellKey, machine: Machine, settings: Settings, arrivals: Arrivals) -> OpenLoop:
    """Serve ``arrivals`` with at most ``key.batch`` sequences at once; UserError where the model does not fit."""
    serving = serving_of(key, machine, settings, arrivals)
    require_fit(fits(machine, architecture(key.model), serving))
    server, _ = server_of(key, machine, settings, serving)
    sizes = [len(one.new_tokens) for one in server.run()]
    tokens = sum(request.output_tokens for request in server.requests)
    return OpenLoop(key, arrivals, tuple(server.requests), server.clock_s, tokens, float(np.mean(sizes)))
