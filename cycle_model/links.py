"""Twin of `hw.die.links.ChunkLink`: every grant and word to the cycle, stepped (`exact`) and by recurrence (`fast`).

Both see the same `LinkTraffic` and give the same `LinkTrace`; they share no stepping code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hw.params.links import LinkParams


@dataclass(frozen=True)
class Chunk:
    """A chunk that its source offers from cycle ``available`` on, behind its earlier ones. Fields as `ChunkHeader`."""

    available: int
    targets: int
    words: int
    reduce: bool = False
    members: int = 0

    @property
    def in_turn(self) -> bool:
        """Whether the members send one after the other."""
        return bool(self.members) and not self.reduce


@dataclass(frozen=True)
class LinkTraffic:
    """What happens around a link.

    chunks  of each source, in order
    offers  of each source: bool [cycles], a word that is due is first offered in a cycle that is True
    takes   of each target: bool [cycles], whether it takes a word in that cycle

    Behind the end of a pattern every cycle is True.
    """

    params: LinkParams
    chunks: tuple[tuple[Chunk, ...], ...]
    offers: tuple[np.ndarray, ...]
    takes: tuple[np.ndarray, ...]

    def wrong(self, source: int, chunk: Chunk) -> bool:
        """Whether the link refuses the chunk."""
        without = (chunk.reduce or chunk.members) and not chunk.members >> source & 1
        return not 1 <= chunk.words <= self.params.credit_words or not chunk.targets or bool(without)


@dataclass
class LinkTrace:
    """What a link did.

    grants   (cycle, source) of each header taken by arbitration
    moves    cycle in which each word moved
    arrivals (cycle, target) in which a target took a word, by target, then in order
    waits    cycles free, asked and not granted
    """

    grants: list[tuple[int, int]] = field(default_factory=list)
    moves: list[int] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    waits: int = 0

    @property
    def utilisation(self) -> float:
        """Share of the cycles up to the last word in which one moved, times the pace is the link's load."""
        return len(self.moves) / (self.moves[-1] + 1) if self.moves else 0.0


def _open(pattern: np.ndarray, cycle: int) -> bool:
    return cycle >= len(pattern) or bool(pattern[cycle])


def exact(traffic: LinkTraffic, limit: int = 100_000) -> LinkTrace:
    """Step the link's registers cycle by cycle until all chunks are through and taken."""
    p = traffic.params
    trace = LinkTrace()
    heads = [0] * p.sources
    offering = [False] * p.sources  # a word that was offered stays
    buffers: list[list[int]] = [[] for _ in range(p.targets)]  # cycle from which each word is visible
    credits = [p.credit_words] * p.targets
    left, pace, last, targets, senders, served = 0, 0, p.sources - 1, 0, 0, 0
    arrivals: list[list[int]] = [[] for _ in range(p.targets)]
    for cycle in range(limit):
        done = all(head == len(chunks) for head, chunks in zip(heads, traffic.chunks, strict=True))
        if done and not left and not any(buffers):
            break
        for source in range(p.sources):
            offering[source] |= _open(traffic.offers[source], cycle)
        move = left > 0 and pace == 0 and all(offering[s] for s in range(p.sources) if senders >> s & 1)
        free = left == 0 or (move and left == 1)
        heading = {
            source: chunks[heads[source]]
            for source, chunks in enumerate(traffic.chunks)
            if heads[source] < len(chunks) and chunks[heads[source]].available <= cycle
        }
        granted = None
        if free:
            order = [(last + 1 + i) % p.sources for i in range(p.sources)]
            granted = next((s for s in order if _eligible(traffic, heading, credits, served, s)), None)
            trace.waits += bool(heading) and granted is None
        taken = [
            bool(buffer) and buffer[0] <= cycle and _open(traffic.takes[t], cycle) for t, buffer in enumerate(buffers)
        ]
        if move:
            trace.moves.append(cycle)
            for target in range(p.targets):
                if targets >> target & 1:
                    buffers[target].append(cycle + p.stages + 1)
            for source in range(p.sources):
                if senders >> source & 1:
                    offering[source] = False
            left, pace = left - 1, p.cycles_per_word - 1
        elif pace:
            pace -= 1
        for target, took in enumerate(taken):
            if took:
                buffers[target].pop(0)
                arrivals[target].append(cycle)
                credits[target] += 1
        if granted is not None:
            trace.grants.append((cycle, granted))
            chunk, last = heading[granted], granted
            if traffic.wrong(granted, chunk):
                heads[granted] += 1
            else:
                left, targets = chunk.words, chunk.targets
                senders = chunk.members if chunk.reduce else 1 << granted
                if chunk.in_turn:
                    served |= 1 << granted
                    if chunk.members & served == chunk.members:
                        served &= ~chunk.members
                for source in range(p.sources):
                    heads[source] += senders >> source & 1
                for target in range(p.targets):
                    credits[target] -= chunk.words * (targets >> target & 1)
    else:
        raise ValueError(f"link traffic must end within {limit} cycles")
    trace.arrivals = [(cycle, target) for target, cycles in enumerate(arrivals) for cycle in cycles]
    return trace


def _eligible(traffic: LinkTraffic, heading: dict[int, Chunk], credits: list[int], served: int, source: int) -> bool:
    chunk = heading.get(source)
    if chunk is None or traffic.wrong(source, chunk):
        return chunk is not None
    room = all(credits[t] >= chunk.words for t in range(len(credits)) if chunk.targets >> t & 1)
    members = [s for s in range(traffic.params.sources) if chunk.reduce and chunk.members >> s & 1]
    earlier = chunk.members & ((1 << source) - 1)
    turn = not chunk.in_turn or (not served >> source & 1 and earlier & ~served == 0)
    return room and turn and all(s in heading and heading[s].reduce for s in members)


class _Pattern:
    """First open cycle at or behind a cycle, looked up."""

    def __init__(self, pattern: np.ndarray):
        at = np.where(pattern, np.arange(len(pattern)), len(pattern))
        self._next = np.minimum.accumulate(at[::-1])[::-1]

    def at_or_after(self, cycle: int) -> int:
        """The cycle."""
        return int(self._next[cycle]) if cycle < len(self._next) else cycle


def fast(traffic: LinkTraffic) -> LinkTrace:
    """The same times chunk by chunk: a grant is the earliest cycle at which header, room and link are all there."""
    p = traffic.params
    trace = LinkTrace()
    offers, takes = [_Pattern(each) for each in traffic.offers], [_Pattern(each) for each in traffic.takes]
    heads = [0] * p.sources
    header_from = [0] * p.sources  # cycle behind the one in which the source's previous header was taken
    word_from = [0] * p.sources
    taken: list[list[int]] = [[] for _ in range(p.targets)]  # cycle in which each target takes each word
    idle, last, moved = 0, p.sources - 1, -p.cycles_per_word
    turns: dict[int, list[int]] = {}  # members -> how often each source has sent in their rounds

    def offered(source: int) -> int | None:
        if heads[source] == len(traffic.chunks[source]):
            return None
        return max(header_from[source], traffic.chunks[source][heads[source]].available)

    def possible(source: int) -> int | None:
        """Earliest cycle for the source's next header, whatever the others do; None: never, as things stand."""
        at = offered(source)
        if at is None:
            return None
        chunk = traffic.chunks[source][heads[source]]
        if traffic.wrong(source, chunk):
            return at
        for target in range(p.targets):
            if chunk.targets >> target & 1:
                returned = len(taken[target]) + chunk.words - p.credit_words  # words that must have been taken before
                if returned > 0:
                    at = max(at, taken[target][returned - 1] + 1)
        if chunk.reduce:
            for member in range(p.sources):
                if chunk.members >> member & 1:
                    other = offered(member)
                    if other is None or not traffic.chunks[member][heads[member]].reduce:
                        return None
                    at = max(at, other)
        if chunk.in_turn:
            sent = turns.setdefault(chunk.members, [0] * p.sources)
            members = [member for member in range(p.sources) if chunk.members >> member & 1]
            if any(sent[member] < sent[source] + (member < source) for member in members):
                return None
        return at

    while any(heads[s] < len(traffic.chunks[s]) for s in range(p.sources)):
        times = {s: at for s in range(p.sources) if (at := possible(s)) is not None}
        if not times:
            raise ValueError("link traffic must end: a chunk waits for a member that never asks")
        grant = max(idle, min(times.values()))
        order = [(last + 1 + i) % p.sources for i in range(p.sources)]
        last = next(s for s in order if s in times and times[s] <= grant)
        first = min(at for s in range(p.sources) if (at := offered(s)) is not None)
        trace.waits += max(0, grant - max(idle, first))
        trace.grants.append((grant, last))
        chunk = traffic.chunks[last][heads[last]]
        if traffic.wrong(last, chunk):
            heads[last] += 1
            header_from[last] = idle = grant + 1
            continue
        senders = [s for s in range(p.sources) if (chunk.members if chunk.reduce else 1 << last) >> s & 1]
        if chunk.in_turn:
            turns[chunk.members][last] += 1
        for source in senders:
            heads[source] += 1
            header_from[source] = grant + 1
        at = grant + 1
        for _ in range(chunk.words):
            at = max(at, moved + p.cycles_per_word, *(offers[s].at_or_after(word_from[s]) for s in senders))
            moved = at
            for source in senders:
                word_from[source] = at + 1
            trace.moves.append(at)
            for target in range(p.targets):
                if chunk.targets >> target & 1:
                    visible = at + p.stages + 1
                    if taken[target]:
                        visible = max(visible, taken[target][-1] + 1)
                    taken[target].append(takes[target].at_or_after(visible))
        idle = moved
    trace.arrivals = [(cycle, target) for target, cycles in enumerate(taken) for cycle in cycles]
    return trace
