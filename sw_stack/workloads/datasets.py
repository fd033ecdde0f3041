"""The four data sets of the comparison, and what is published about drafting on them.

Accept lengths count the bonus token. Each is of one drafter at its own depth; `chain_acceptance` turns it into a
probability per drafted token, with which other depths are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError, nearest
from sw_stack.machines.sourced import Sourced


@dataclass(frozen=True)
class Dataset:
    """A kind of request.

    prompt_tokens, output_tokens  of one request, the contract's default of 1k sequences in equal parts
    """

    name: str
    note: str
    prompt_tokens: int = 512
    output_tokens: int = 512


DATASETS = {
    each.name: each
    for each in (
        Dataset("mt-bench", "multi-turn questions, 8 categories"),
        Dataset("gsm8k", "grade-school mathematics"),
        Dataset("alpaca", "instructions"),
        Dataset("humaneval", "Python functions"),
    )
}


def dataset(name: str) -> Dataset:
    """The data set called ``name``; raises UserError with the nearest known name."""
    if name not in DATASETS:
        raise UserError(f"unknown dataset {name!r}; {nearest(name, list(DATASETS))}")
    return DATASETS[name]


@dataclass(frozen=True)
class AcceptLength:
    """A published accept length: tokens per round, and how many were drafted in sequence."""

    tokens: Sourced
    depth: int


_ANGEL = "AngelSlim documentation, EAGLE-3; depth assumed 4"
_GLM = "GLM-4.7-Flash model card, EAGLE-3, 6-token tree"
_OSS = "two model cards of EAGLE-3 heads for GPT-OSS-20B, K = 7, T = 1"


def _angel(tokens: float) -> AcceptLength:
    return AcceptLength(Sourced(tokens, "tokens/round", "paper", _ANGEL), 4)


def _oss(low: float, high: float) -> AcceptLength:
    return AcceptLength(Sourced((low + high) / 2, "tokens/round", "paper", _OSS, low, high), 7)


EAGLE_LENGTHS: dict[tuple[str, str], AcceptLength] = {
    ("qwen3-30b-a3b", "mt-bench"): _angel(2.01),
    ("qwen3-30b-a3b", "gsm8k"): _angel(2.10),
    ("qwen3-30b-a3b", "alpaca"): _angel(2.04),
    ("qwen3-30b-a3b", "humaneval"): _angel(2.02),
    ("glm-4.7-flash", "mt-bench"): AcceptLength(Sourced(2.88, "tokens/round", "paper", _GLM), 6),
    ("glm-4.7-flash", "humaneval"): AcceptLength(Sourced(3.42, "tokens/round", "paper", _GLM), 6),
    ("gpt-oss-20b", "mt-bench"): _oss(2.63, 3.20),
    ("gpt-oss-20b", "gsm8k"): _oss(3.00, 3.65),
    ("gpt-oss-20b", "humaneval"): _oss(2.43, 3.01),
}
"""(Model, data set) -> accept length of an EAGLE-3 head. Absent = nothing is published."""


def accept_length(acceptance: float, depth: int) -> float:
    """Tokens per round of a chain in which each drafted token is accepted with one probability: sum of a^i, i <= n."""
    return sum(acceptance**i for i in range(depth + 1))


def chain_acceptance(tokens: float, depth: int) -> float:
    """Probability per drafted token with which a chain of ``depth`` gives ``tokens`` per round, to 1e-12.

    Raises UserError where no probability does: fewer than 1 or more than depth + 1 tokens.
    """
    if depth < 1 or not 1 <= tokens <= depth + 1:
        raise UserError(f"accept length of a chain of {depth} must be 1 to {depth + 1}, not {tokens!r}")
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if accept_length(middle, depth) < tokens else (low, middle)
    return (low + high) / 2
