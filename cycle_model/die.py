"""Twin of `hw.die.die.Die`: PEs and links put together, to the cycle, from the exact or the fast models of both.

A PE's words come when the link delivers them, and what it stores goes to the link when it is there: times go round, and
the model repeats links and PEs until nothing changes. That ends because every time depends on earlier ones only. A
target's buffer must hold all that it gets in a run, so that the links never wait for a PE: then, and only then, are
the links' times independent of when a PE takes its words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cycle_model.links import Chunk, LinkTrace, LinkTraffic
from hw.errors import UserError
from hw.isa.encoding import Unit
from hw.isa.program import Chunk as Words
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import ChipParams
from hw.params.links import LinkParams, die_links


@dataclass(frozen=True)
class Sent:
    """Words that memory or host send as one chunk, from cycle ``available`` on."""

    available: int
    targets: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class DieProgram:
    """What a die runs.

    programs  of each PE; their own link words are not looked at
    memory    chunks of each source of the stream link
    host      the host's chunks on the aggregation link
    routes    of each PE: (targets, words) of what it stores, in order
    """

    chip: ChipParams
    credit_words: int
    programs: tuple[PeProgram, ...]
    memory: tuple[tuple[Sent, ...], ...]
    host: tuple[Sent, ...]
    routes: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def links(self) -> tuple[LinkParams, LinkParams]:
        """Stream link and aggregation link."""
        stream, aggregation = (
            dataclasses.replace(link, credit_words=self.credit_words) for link in die_links(self.chip)
        )
        return stream, aggregation


@dataclass(frozen=True)
class DieRun:
    """Times and values: of each PE, of both links, and (cycle, word) as the host gets them."""

    pes: tuple[RunResult, ...]
    stream: LinkTrace
    aggregation: LinkTrace
    to_host: tuple[tuple[int, int], ...]


def run(
    program: DieProgram,
    link: Callable[[LinkTraffic], LinkTrace],
    pe: Callable[[PeProgram], RunResult],
    values: Callable[[PeProgram], RunResult],
) -> DieRun:
    """Run ``program`` with one model of links, one of a PE's time and the functional model of its values.

    Raises UserError where a target's buffer cannot hold all its words, or times do not settle.
    """
    stream_params, rows_params = program.links
    count = program.chip.pes
    memory = [[(sent.available, sent.targets, sent.words) for sent in source] for source in program.memory]
    stream, weights = _deliver(stream_params, memory, link)
    host = [(sent.available, sent.targets, sent.words) for sent in program.host]
    stored: list[list[tuple[int, int]]] = [[] for _ in range(count)]  # (cycle, word) of what each PE stores
    for _ in range(100):
        sources = [_routed(program.routes[i], stored[i]) for i in range(count)]
        aggregation, rows = _deliver(rows_params, [*sources, host], link)
        fed = [
            dataclasses.replace(one, stream=_chunks(weights[i]), aggregation=_chunks(rows[i]))
            for i, one in enumerate(program.programs)
        ]
        results = [pe(one) for one in fed]
        again = [_stored(times, values(one)) for times, one in zip(results, fed, strict=True)]
        if again == stored:
            return DieRun(tuple(results), stream, aggregation, tuple(rows[count]))
        stored = again
    raise UserError("the die's times must settle within 100 rounds")


def _deliver(params: LinkParams, sources, link) -> tuple[LinkTrace, list[list[tuple[int, int]]]]:
    """The link's trace, and (cycle, word) as each target can take them."""
    chunks = tuple(tuple(Chunk(at, targets, len(words)) for at, targets, words in source) for source in sources)
    for target in range(params.targets):
        total = sum(chunk.words for source in chunks for chunk in source if chunk.targets >> target & 1)
        if total > params.credit_words:
            raise UserError(f"words for target {target} must fit its buffer of {params.credit_words}, not {total}")
    always = np.ones(0, bool)
    trace = link(LinkTraffic(params, chunks, (always,) * params.sources, (always,) * params.targets))
    heads = [0] * params.sources
    words: list[list[int]] = [[] for _ in range(params.targets)]
    for _, source in trace.grants:
        _, targets, content = sources[source][heads[source]]
        heads[source] += 1
        for target in range(params.targets):
            if targets >> target & 1:
                words[target] += content
    cycles: list[list[int]] = [[] for _ in range(params.targets)]
    for cycle, target in trace.arrivals:
        cycles[target].append(cycle)
    return trace, [list(zip(*pair, strict=True)) for pair in zip(cycles, words, strict=True)]


def _chunks(arrived: list[tuple[int, int]]) -> list[Words]:
    return [Words(cycle, (word,)) for cycle, word in arrived]


def _stored(times: RunResult, values: RunResult) -> list[tuple[int, int]]:
    """(cycle, word) of every word that a PE sends: one a cycle from two cycles behind a STORE's start on."""
    cycles = [
        cycle
        for unit, start, done in zip(times.unit, times.start, times.done, strict=True)
        if unit == Unit.STORE and done >= 0
        for cycle in range(start + 2, done + 1)
    ]
    return list(zip(cycles, values.state.out, strict=False))


def _routed(routes, stored) -> list[tuple[int, int, tuple[int, ...]]]:
    """A PE's chunks as far as they are complete: each from the cycle behind that in which its last word is stored."""
    chunks, at = [], 0
    for targets, words in routes:
        part = stored[at : at + words]
        if len(part) < words:
            break
        chunks.append((part[-1][0] + 1, targets, tuple(word for _, word in part)))
        at += words
    return chunks
