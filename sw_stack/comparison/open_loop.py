"""Requests that arrive at random: continuous batching on one machine, and the latencies that requests see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sw_stack.comparison.cell import CellKey
from sw_stack.comparison.evaluate import Settings, acceptance_for, architecture, routing
from sw_stack.machines.capacity import require_fit
from sw_stack.machines.engine.timer import MachineTimer
from sw_stack.machines.machine import Machine
from sw_stack.workloads.datasets import dataset
from sw_stack.workloads.metrics import fits
from sw_stack.workloads.requests import Arrivals, Request
from sw_stack.workloads.serving import Server
from sw_stack.workloads.serving_types import Serving

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
    config, data = architecture(key.model), dataset(key.dataset)
    serving = Serving(
        batch=key.batch,
        prompt_tokens=data.prompt_tokens,
        output_tokens=data.output_tokens,
        rounds=None,
        arrivals=arrivals,
        method=key.method,
        shape=settings.tree,
        mode=settings.mode,
        allocation=settings.allocation,
        corner=settings.corner,
        seed=settings.seed,
    )
    require_fit(fits(machine, config, serving))
    timer = MachineTimer(machine, config)
    server = Server(machine, config, routing(key.model, settings), acceptance_for(key, settings), serving, timer)
    timer.share = server.share
    sizes = [len(one.new_tokens) for one in server.run()]
    tokens = sum(request.output_tokens for request in server.requests)
    return OpenLoop(key, arrivals, tuple(server.requests), server.clock_s, tokens, float(np.mean(sizes)))
