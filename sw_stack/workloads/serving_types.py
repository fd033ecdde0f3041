"""What is served, and what a round of serving consists of: plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.elastic.scheduler import Decision
from sw_stack.elastic.slices import ALLOCATIONS
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.engine.workload import Pass
from sw_stack.models.architectures import ModelConfig
from sw_stack.workloads.requests import Arrivals, Request

MAX_BATCH = 64
DEFAULT_TREE = TreeShape(5)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and how.

    batch          sequences at once, at most
    prompt_tokens, output_tokens  of a request
    rounds         decoding rounds to simulate; None: until the requests of ``arrivals`` are done
    arrivals       open loop with continuous batching; None: a full batch in the steady state, its sequences
                   anywhere in their output
    method, shape  drafting method and token tree
    mode           always, auto or adaptive, see `sw_stack.elastic.scheduler`
    allocation     msb-only (published), whole, adaptive, or auto: whichever is predicted faster; on a machine whose HB
                   holds whole experts always whole
    policy         of the hot set
    corner         of the acceptance: low, nominal, high
    """

    batch: int
    prompt_tokens: int = 512
    output_tokens: int = 512
    rounds: int | None = 16
    arrivals: Arrivals | None = None
    method: str = "none"
    shape: TreeShape = DEFAULT_TREE
    mode: str = "always"
    allocation: str = "msb-only"
    policy: str = "hot"
    corner: str = "nominal"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, last in (
            ("batch", self.batch, MAX_BATCH),
            ("prompt_tokens", self.prompt_tokens, 1 << 20),
            ("output_tokens", self.output_tokens, 1 << 20),
        ):
            if type(value) is not int or not 1 <= value <= last:
                raise UserError(f"{name} must be an integer from 1 to {last}, not {value!r}")
        if self.rounds is None and self.arrivals is None:
            raise UserError("rounds must be given where there are no arrivals: the steady state has no end")
        if self.rounds is not None and self.rounds < 1:
            raise UserError(f"rounds must be at least 1, not {self.rounds!r}")
        if self.allocation not in (*ALLOCATIONS, "auto"):
            raise UserError(
                f"unknown allocation {self.allocation!r}; {nearest(self.allocation, [*ALLOCATIONS, 'auto'])}"
            )


@dataclass(frozen=True)
class Step:
    """One pass: of which model, what, its work, and how long it took by the timer."""

    model: ModelConfig
    one: Pass
    work: PassWork
    seconds: float


@dataclass(frozen=True)
class Round:
    """One round of the whole batch.

    start_s     clock when it began
    decision    depth and reason
    steps       prefills of sequences that joined before it, draft passes, then decoding or verification
    new_tokens  per sequence [batch], the bonus token included
    drafted     nodes verified, all sequences together
    coverage    router mass on residents in its drafts; 1 where drafts are not restricted or absent
    """

    number: int
    start_s: float
    decision: Decision
    steps: tuple[Step, ...]
    new_tokens: np.ndarray
    drafted: int
    coverage: float

    @property
    def seconds(self) -> float:
        """Of all its steps, one after another."""
        return sum(step.seconds for step in self.steps)

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return int(self.new_tokens.sum())


@dataclass
class Slots:
    """The batch's places: positions in the cache, tokens still to come, whether a request is in it, and which.

    unread  committed tokens that a drafter's own cache does not hold yet, the newest among them
    """

    kv: np.ndarray
    left: np.ndarray
    unread: np.ndarray
    active: np.ndarray
    request: list[Request | None]

    @classmethod
    def of(cls, serving: Serving, rng: np.random.Generator) -> Slots:
        """Empty where requests arrive; else all taken, anywhere in their output."""
        n = serving.batch
        if serving.arrivals:
            zeros = np.zeros(n, np.int64)
            return cls(zeros, zeros.copy(), zeros + 1, np.zeros(n, np.bool_), [None] * n)
        done = rng.integers(0, serving.output_tokens, n)
        left = serving.output_tokens - done
        return cls(serving.prompt_tokens + done, left, np.ones(n, np.int64), np.ones(n, np.bool_), [None] * n)

    def occupy(self, slot: int, kv: int, left: int, request: Request | None = None) -> None:
        """A request with ``kv`` positions in the cache and ``left`` tokens to come takes a slot."""
        self.kv[slot], self.left[slot], self.unread[slot] = kv, left, 1
        self.active[slot], self.request[slot] = True, request

    def commit(self, slots: np.ndarray, new: np.ndarray) -> np.ndarray:
        """New tokens of ``slots``; returns the slots that have all of theirs."""
        self.kv[slots] += new
        self.unread[slots] += new
        self.left[slots] -= new
        return slots[self.left[slots] == 0]
