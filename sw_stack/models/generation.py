"""Plain autoregressive decoding of a batch: one token per sequence and pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hw.errors import UserError
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.sampling import RandomStream, SamplingConfig, sample


@dataclass(frozen=True)
class Emitted:
    """Tokens that a sequence gained in one step.

    sequence  its index in the batch
    tokens    ids; an end token is not among them
    done      nothing follows
    """

    sequence: int
    tokens: list[int]
    done: bool


def decode_plain(
    runtime: Runtime,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: SamplingConfig,
    seed: int,
) -> Iterator[Emitted]:
    """Decode until every sequence has ``tokens`` new tokens or met an end token.

    Sequence i draws from the stream (seed, i) at its own positions, so its text does not depend on the batch.

    Raises
    ------
    UserError
        No prompt, an empty one, fewer than one token asked for, or prompt and output beyond the model's context.
    """
    config = runtime.config
    check_request(prompts, tokens, config.max_positions)
    caches = [runtime.new_cache() for _ in prompts]
    streams = [RandomStream(seed, i) for i in range(len(prompts))]
    fresh: dict[int, Sequence[int]] = dict(enumerate(prompts))
    produced = [0] * len(prompts)
    while fresh:
        batch = list(fresh)
        result = runtime.forward([Segment(caches[i], fresh[i]) for i in batch], logits="last")
        fresh = {}
        for row, i in enumerate(batch):
            caches[i].commit()
            token = sample(result.logits[row], sampling, streams[i], caches[i].length)
            produced[i] += 1
            ended = token in config.end_tokens
            done = ended or produced[i] == tokens
            if not done:
                fresh[i] = [token]
            yield Emitted(i, [] if ended else [token], done)


def check_request(prompts: Sequence[Sequence[int]], tokens: int, max_positions: int) -> None:
    """Raise UserError where a generation cannot be started or would not fit the model's context."""
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise UserError("the prompt must not be empty")
    if tokens < 1:
        raise UserError(f"tokens must be at least 1, not {tokens}")
    longest = max(len(prompt) for prompt in prompts)
    if longest + tokens > max_positions:
        raise UserError(
            f"prompt and output must fit the model's {max_positions} positions, not {longest} + {tokens} tokens"
        )
