"""Drives `ChunkLink` in Amaranth's simulator with a model's traffic, and logs a model's trace."""

import numpy as np
from amaranth.sim import Simulator

from cycle_model.links import Chunk, LinkTrace, LinkTraffic
from hw.die.links import ChunkHeader, ChunkLink
from hw.params.links import LinkParams
from verification.bench.payloads import pack


def random_traffic(params: LinkParams, seed: int, chunks: int, stall: float, *, reduce: bool = False) -> LinkTraffic:
    """Chunks of every source to random sets of targets, some wrong; with ``reduce`` some maxima and rounds in turn.

    Maxima are over all sources; rounds in turn among all, with every fourth seed all but the first.
    """
    rng = np.random.default_rng(seed)
    rounds = np.sort(rng.integers(0, 6 * chunks, size=(params.sources, chunks)), axis=1)
    kinds = rng.random(chunks) if reduce else np.ones(chunks)
    lists = []
    for source in range(params.sources):
        made = []
        for i in range(chunks):
            kind = rng.integers(0, 4)
            everyone = (1 << params.targets) - 1
            targets = (
                everyone
                if kind == 0
                else int(rng.integers(1, everyone + 1))
                if kind == 1
                else 1 << int(rng.integers(params.targets))
            )
            words = int(rng.integers(1, params.credit_words + 1))
            if rng.random() < 0.08:
                targets, words = (0, words) if rng.random() < 0.5 else (targets, 0)
            made.append(Chunk(int(rounds[source, i]), targets, words))
        lists.append(made)
    everybody = (1 << params.sources) - 1
    for i in np.flatnonzero(kinds < 0.3):  # every source's i-th chunk is the i-th reduction
        words, targets = int(rng.integers(1, params.credit_words + 1)), int(rng.integers(1, 1 << params.targets))
        for made in lists:
            made[i] = Chunk(made[i].available, targets, words, True, everybody)
    members = everybody - (seed % 4 == 0) or everybody
    for i in np.flatnonzero((kinds >= 0.3) & (kinds < 0.6)):
        for source, made in enumerate(lists):
            if members >> source & 1:
                words, targets = (
                    int(rng.integers(1, params.credit_words + 1)),
                    int(rng.integers(1, 1 << params.targets)),
                )
                made[i] = Chunk(made[i].available, targets, words, members=members)
    horizon = 400
    return LinkTraffic(
        params,
        tuple(map(tuple, lists)),
        tuple(rng.random(horizon) >= stall for _ in range(params.sources)),
        tuple(rng.random(horizon) >= stall for _ in range(params.targets)),
    )


def source_word(params: LinkParams, source: int, number: int) -> int:
    """Word ``number`` of a source: distinct, and 32-bit values that are not negative."""
    lanes = params.word_bits // 32
    rng = np.random.default_rng((source, number))
    return sum(int(rng.integers(0, 1 << 31)) << 32 * lane for lane in range(lanes))


def simulate(traffic: LinkTraffic, limit: int = 20_000) -> tuple[LinkTrace, list[list[int]], dict[str, int]]:
    """(trace, words that each target took, final counters) of the RTL."""
    p = traffic.params
    dut = ChunkLink(p)
    trace, received = LinkTrace(), [[] for _ in range(p.targets)]
    arrivals: list[list[int]] = [[] for _ in range(p.targets)]
    counters: dict[str, int] = {}
    layout = ChunkHeader(p)
    legal = [sum(c.words for c in chunks if not traffic.wrong(s, c)) for s, chunks in enumerate(traffic.chunks)]

    async def bench(ctx):
        heads, numbers = [0] * p.sources, [0] * p.sources
        offering = [False] * p.sources
        expected = sum(
            c.words * bin(c.targets).count("1")
            for s, chunks in enumerate(traffic.chunks)
            for c in chunks
            if not traffic.wrong(s, c) and (not c.reduce or s == 0)
        )
        for cycle in range(limit):
            for s in range(p.sources):
                chunks = traffic.chunks[s]
                head = chunks[heads[s]] if heads[s] < len(chunks) and chunks[heads[s]].available <= cycle else None
                ctx.set(dut.headers[s].valid, head is not None)
                if head is not None:
                    fields = {"targets": head.targets, "words": head.words, "reduce": head.reduce}
                    bits = pack(layout, fields | {"members": head.members})
                    ctx.set(dut.headers[s].payload.as_value(), bits)
                opened = cycle >= len(traffic.offers[s]) or traffic.offers[s][cycle]
                offering[s] = numbers[s] < legal[s] and (offering[s] or bool(opened))
                ctx.set(dut.words[s].valid, offering[s])
                if offering[s]:
                    ctx.set(dut.words[s].payload, source_word(p, s, numbers[s]))
            for t in range(p.targets):
                ctx.set(dut.out[t].ready, bool(cycle >= len(traffic.takes[t]) or traffic.takes[t][cycle]))
            if ctx.get(dut.grant):
                trace.grants.append((cycle, ctx.get(dut.granted)))
            moving = False
            for s in range(p.sources):
                heads[s] += ctx.get(dut.headers[s].ready & dut.headers[s].valid)
                if ctx.get(dut.words[s].ready & dut.words[s].valid):
                    numbers[s] += 1
                    offering[s], moving = False, True
            if moving:
                trace.moves.append(cycle)
            for t in range(p.targets):
                if ctx.get(dut.out[t].valid & dut.out[t].ready):
                    arrivals[t].append(cycle)
                    received[t].append(ctx.get(dut.out[t].payload))
            await ctx.tick()
            if sum(map(len, received)) == expected and all(
                h == len(c) for h, c in zip(heads, traffic.chunks, strict=True)
            ):
                break
        else:
            raise AssertionError(f"link not done after {limit} cycles")
        await ctx.tick().repeat(4)
        counters.update({name: ctx.get(getattr(dut, name)) for name in ("moved", "waits", "refused")})

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    trace.arrivals = [(cycle, target) for target, cycles in enumerate(arrivals) for cycle in cycles]
    trace.waits = counters["waits"]
    return trace, received, counters


def expected_words(traffic: LinkTraffic, trace: LinkTrace) -> list[list[int]]:
    """What each target must get, from the order of the grants alone: each chunk's words, whole, or their maxima."""
    p = traffic.params
    heads, numbers = [0] * p.sources, [0] * p.sources
    received: list[list[int]] = [[] for _ in range(p.targets)]
    for _, source in trace.grants:
        chunk = traffic.chunks[source][heads[source]]
        if traffic.wrong(source, chunk):
            heads[source] += 1
            continue
        senders = [s for s in range(p.sources) if (chunk.members if chunk.reduce else 1 << source) >> s & 1]
        for _ in range(chunk.words):
            words = [source_word(p, s, numbers[s]) for s in senders]
            lanes = [max(word >> 32 * i & 0xFFFFFFFF for word in words) for i in range(p.word_bits // 32)]
            for s in senders:
                numbers[s] += 1
            for target in range(p.targets):
                if chunk.targets >> target & 1:
                    received[target].append(sum(value << 32 * i for i, value in enumerate(lanes)))
        for s in senders:
            heads[s] += 1
    return received
