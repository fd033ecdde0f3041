"""Requests that arrive at random times, and what each of them saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hw.errors import UserError

if TYPE_CHECKING:
    from sw_stack.workloads.serving import Serving


@dataclass
class Request:
    """One request; times in seconds of the simulated clock, NaN until they are known."""

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float = float("nan")
    done_s: float = float("nan")

    @property
    def time_to_first_token_s(self) -> float:
        """From arrival to the end of its prefill."""
        return self.first_token_s - self.arrival_s

    @property
    def time_per_output_token_s(self) -> float:
        """Between later tokens, on average; NaN for a request of one token."""
        later = self.output_tokens - 1
        return (self.done_s - self.first_token_s) / later if later else float("nan")


@dataclass(frozen=True)
class Arrivals:
    """Poisson arrivals: ``count`` requests at ``per_second`` on average."""

    per_second: float
    count: int

    def __post_init__(self) -> None:
        if not self.per_second > 0:
            raise UserError(f"arrivals per second must be above 0, not {self.per_second!r}")
        if type(self.count) is not int or self.count < 1:
            raise UserError(f"number of requests must be an integer of at least 1, not {self.count!r}")

    def requests(self, serving: Serving) -> list[Request]:
        """All requests in order of arrival."""
        rng = np.random.default_rng([serving.seed, 4])
        times = np.cumsum(rng.exponential(1 / self.per_second, self.count))
        return [Request(i, float(t), serving.prompt_tokens, serving.output_tokens) for i, t in enumerate(times)]
