"""Twin of `hw.die.die.Die`: PEs and links put together, to the cycle, from the exact or the fast models of both.

A PE's words come when the link delivers them, and what it stores goes to the link when it is there, on to other PEs:
times go round, and the model repeats links and PEs until nothing changes. That ends because every time depends on
earlier ones only: a round in which words are still missing is right up to the first of them. Chunks whose partners'
words are missing are left out. A target's buffer must hold all that it gets in a run, so that the links never wait for
a PE: then, and only then, are the links' times independent of when a PE takes its words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cycle_model.links import Chunk, LinkTrace, LinkTraffic
from cycle_model.pe.functional import words_sent
from hw.errors import UserError
from hw.isa.encoding import Unit
from hw.isa.program import Chunk as Words
from hw.isa.program import PeProgram
from hw.isa.result import RunResult
from hw.params import ChipParams
from hw.params.links import LinkParams, die_links


@dataclass(frozen=True)
class Sent:
    """Words that memory or host send as one chunk, from cycle ``available`` on; ``members`` of its turn as `Chunk`."""

    available: int
    targets: int
    words: tuple[int, ...]
    members: int = 0

    @property
    def chunk(self) -> Chunk:
        return Chunk(self.available, self.targets, len(self.words), members=self.members)


@dataclass(frozen=True)
class Route:
    """Where the next ``words`` that a PE stores go, as one chunk; fields as `Chunk`."""

    targets: int
    words: int
    reduce: bool = False
    members: int = 0

    def chunk(self, available: int) -> Chunk:
        """The chunk, offered from cycle ``available`` on."""
        return Chunk(available, self.targets, self.words, self.reduce, self.members)


@dataclass(frozen=True)
class DieProgram:
    """What a die runs.

    programs  of each PE; their own link words are not looked at
    memory    chunks of each source of the stream link
    host      the host's chunks on the aggregation link
    routes    of each PE: what becomes of what it stores, in order
    """

    chip: ChipParams
    credit_words: int
    programs: tuple[PeProgram, ...]
    memory: tuple[tuple[Sent, ...], ...]
    host: tuple[Sent, ...]
    routes: tuple[tuple[Route, ...], ...]

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


def run(program: DieProgram, link: Callable[[LinkTraffic], LinkTrace], pe: Callable[[PeProgram], RunResult]) -> DieRun:
    """Run ``program`` with one model of links and one of a PE's time; values are the functional model's.

    A PE that waits for words which never come ends with the watchdog's error, as the PE does.

    Raises UserError where a target's buffer cannot hold all its words, or times do not settle.
    """
    stream_params, rows_params = program.links
    count = program.chip.pes
    memory = [[(sent.chunk, sent.words) for sent in source] for source in program.memory]
    stream, weights = _deliver(stream_params, memory, link)
    host = [(sent.chunk, sent.words) for sent in program.host]
    stored: list[list[tuple[int, int]]] = [[] for _ in range(count)]  # (cycle, word) of what each PE stores
    for _ in range(100):
        sources = [_routed(program.routes[i], stored[i]) for i in range(count)]
        aggregation, rows = _deliver(rows_params, [*sources, host], link)
        fed = [
            dataclasses.replace(one, stream=_words(weights[i]), aggregation=_words(rows[i]))
            for i, one in enumerate(program.programs)
        ]
        results = [pe(one) for one in fed]
        again = [_stored(times, words_sent(one)) for times, one in zip(results, fed, strict=True)]
        if again == stored:
            return DieRun(tuple(results), stream, aggregation, tuple(rows[count]))
        stored = again
    raise UserError("the die's times must settle within 100 rounds")


_Source = list[tuple[Chunk, tuple[int, ...]]]
"""A source's chunks and their words."""


def _deliver(
    params: LinkParams, sources: list[_Source], link: Callable[[LinkTraffic], LinkTrace]
) -> tuple[LinkTrace, list[list[tuple[int, int]]]]:
    """The link's trace, and (cycle, word) as each target can take them."""
    sources = _complete(sources)
    chunks = tuple(tuple(chunk for chunk, _ in source) for source in sources)
    always = np.ones(0, bool)
    trace = link(LinkTraffic(params, chunks, (always,) * params.sources, (always,) * params.targets))
    heads = [0] * params.sources
    words: list[list[int]] = [[] for _ in range(params.targets)]
    for _, source in trace.grants:
        chunk, content = sources[source][heads[source]]
        senders = _members(chunk) if chunk.reduce else [source]
        if chunk.reduce:
            content = _greatest(params, [sources[member][heads[member]][1] for member in senders])
        for sender in senders:
            heads[sender] += 1
        for target in range(params.targets):
            if chunk.targets >> target & 1:
                words[target] += content
    for target, received in enumerate(words):
        if len(received) > params.credit_words:
            raise UserError(
                f"words for target {target} must fit its buffer of {params.credit_words}, not {len(received)}"
            )
    cycles: list[list[int]] = [[] for _ in range(params.targets)]
    for cycle, target in trace.arrivals:
        cycles[target].append(cycle)
    return trace, [list(zip(*pair, strict=True)) for pair in zip(cycles, words, strict=True)]


def _complete(sources: list[_Source]) -> list[_Source]:
    """The chunks that can ever be granted: all up to the first whose partners are not there."""
    heads = [0] * len(sources)
    turns: dict[int, list[int]] = {}
    progress = True
    while progress:
        progress = False
        for source, chunks in enumerate(sources):
            while heads[source] < len(chunks):
                chunk, _ = chunks[heads[source]]
                if chunk.reduce:
                    members = _members(chunk)
                    asking = [
                        heads[member] < len(sources[member]) and sources[member][heads[member]][0].reduce
                        for member in members
                    ]
                    if not all(asking):
                        break
                    for member in members:
                        heads[member] += 1
                else:
                    sent = turns.setdefault(chunk.members, [0] * len(sources))
                    if any(sent[m] < sent[source] + (m < source) for m in _members(chunk)):
                        break
                    sent[source] += 1
                    heads[source] += 1
                progress = True
    return [source[:head] for source, head in zip(sources, heads, strict=True)]


def _members(chunk: Chunk) -> list[int]:
    return [source for source in range(chunk.members.bit_length()) if chunk.members >> source & 1]


def _greatest(params: LinkParams, words: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Word by word the greatest of each 32-bit value."""
    lanes = range(0, params.word_bits, 32)
    return tuple(
        sum(max(word >> lane & 0xFFFFFFFF for word in together) << lane for lane in lanes)
        for together in zip(*words, strict=True)
    )


def _words(arrived: list[tuple[int, int]]) -> list[Words]:
    return [Words(cycle, (word,)) for cycle, word in arrived]


def _stored(times: RunResult, sent: list[int]) -> list[tuple[int, int]]:
    """(cycle, word) of every word that a PE sends: one a cycle from two cycles behind a STORE's start on."""
    cycles = [
        cycle
        for unit, start, done in zip(times.unit, times.start, times.done, strict=True)
        if unit == Unit.STORE and done >= 0
        for cycle in range(start + 2, done + 1)
    ]
    return list(zip(cycles, sent, strict=False))


def _routed(routes: tuple[Route, ...], stored: list[tuple[int, int]]) -> _Source:
    """A PE's chunks as far as they are complete: each from the cycle behind that in which its last word is stored."""
    chunks, at = [], 0
    for route in routes:
        part = stored[at : at + route.words]
        if len(part) < route.words:
            break
        chunks.append((route.chunk(part[-1][0] + 1), tuple(word for _, word in part)))
        at += route.words
    return chunks
