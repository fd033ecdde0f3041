"""Drive and watch a component's streams in Amaranth's simulator.

`run_streams` feeds payloads to input streams, drains output streams with seeded stalls on both sides, and returns
what crossed every watched stream and when. It fails where a payload changes or a valid drops while waiting, and
where the queues are not empty at the deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from amaranth.lib import data, wiring
from amaranth.sim import Simulator

from verification.bench.payloads import pack, unpack

# Probability, per cycle, that a source has nothing to offer or a sink does not take.
STALLS = {"none": 0.0, "light": 0.2, "heavy": 0.8}


@dataclass
class Transfers:
    """What crossed one stream: ``cycles[i]`` is the clock edge of transfer i, ``payloads[i]`` its value."""

    layout: object
    cycles: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    waits: int = 0  # cycles in which a payload was offered and not taken

    @property
    def payloads(self) -> list:
        """Unpacked payloads, in order."""
        return [unpack(self.layout, bits) for bits in self.bits]


def run_streams(
    dut: wiring.Component,
    inputs: Mapping[str, Sequence[object]],
    outputs: Mapping[str, int],
    *,
    stalls: str = "none",
    seed: int = 0,
    deadline: int = 20_000,
    strobes: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    watch: Sequence[str] = (),
    after: Mapping[str, tuple[str, int]] | None = None,
) -> dict[str, Transfers | int]:
    """Run ``dut`` until every output stream has delivered its count, then 8 idle cycles more.

    Parameters
    ----------
    inputs : stream name -> payloads to send, in order
    outputs : stream name -> transfers expected
    stalls : key of `STALLS`, for every source and sink alike, each with its own seeded randomness
    deadline : cycles after which an unfinished run fails
    watch : output ports whose final value is wanted (counters)
    after : input stream name -> (stream, count): sends nothing until that many transfers of the other are done
    strobes : input port name -> (stream, values): the port carries ``values[i]`` until the stream's transfer i

    Returns
    -------
    Transfers per stream, inputs and outputs, and the final value of each watched port.
    """
    probability = STALLS[stalls]
    seen = {name: Transfers(getattr(dut, name).payload.shape()) for name in (*inputs, *outputs)}
    seeds = dict(zip((*inputs, *outputs), np.random.SeedSequence(seed).spawn(len(seen)), strict=True))

    def source(name: str):
        port, payloads = getattr(dut, name), inputs[name]
        rng = np.random.default_rng(seeds[name])

        async def process(ctx):
            if name in (after or {}):
                awaited, count = after[name]
                while len(seen[awaited].cycles) < count:
                    await ctx.tick()
            for payload in payloads:
                while probability and rng.random() < probability:
                    await ctx.tick()
                _set_bits(ctx, port.payload, pack(seen[name].layout, payload))
                ctx.set(port.valid, 1)
                await ctx.tick().until(port.ready)
                ctx.set(port.valid, 0)

        return process

    def sink(name: str):
        port = getattr(dut, name)
        rng = np.random.default_rng(seeds[name])

        async def process(ctx):
            while True:
                ctx.set(port.ready, not (probability and rng.random() < probability))
                await ctx.tick()

        return process

    def monitor(name: str):
        port, transfers = getattr(dut, name), seen[name]

        async def process(ctx):
            cycle, waiting = 0, None
            async for _, _, valid, ready, payload in ctx.tick().sample(port.valid, port.ready, port.payload):
                bits = _bits(payload)
                if waiting is not None and name in outputs:
                    assert valid, f"{name}: valid dropped at cycle {cycle} before the transfer"
                    assert bits == waiting, f"{name}: payload changed at cycle {cycle} before the transfer"
                waiting = bits if valid and not ready else None
                transfers.waits += waiting is not None
                if valid and ready:
                    transfers.cycles.append(cycle)
                    transfers.bits.append(bits)
                cycle += 1

        return process

    def strobe(port: str, name: str, values: Sequence[int]):
        stream = getattr(dut, name)

        async def process(ctx):
            for value in values:
                ctx.set(getattr(dut, port), int(value))
                await ctx.tick().until(stream.valid & stream.ready)

        return process

    final: dict[str, int] = {}

    async def watchdog(ctx):
        for _ in range(deadline):
            if all(len(seen[name].cycles) >= count for name, count in outputs.items()):
                await ctx.tick().repeat(8)
                break
            await ctx.tick()
        final.update({port: ctx.get(getattr(dut, port)) for port in watch})

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    for name in seen:
        simulator.add_testbench(monitor(name), background=True)
    for name in inputs:
        simulator.add_testbench(source(name), background=True)
    for name in outputs:
        simulator.add_testbench(sink(name), background=True)
    for port, (name, values) in (strobes or {}).items():
        simulator.add_testbench(strobe(port, name, values), background=True)
    simulator.add_testbench(watchdog)
    simulator.run()

    for name, payloads in inputs.items():
        got = len(seen[name].cycles)
        assert got == len(payloads), f"{name}: {got} of {len(payloads)} payloads taken after {deadline} cycles"
    for name, count in outputs.items():
        got = len(seen[name].cycles)
        assert got == count, f"{name}: {got} transfers, not {count}"
    return seen | final


def _bits(payload: object) -> int:
    return payload.as_bits() if isinstance(payload, data.Const) else int(payload)


def _set_bits(ctx, view: object, bits: int) -> None:
    ctx.set(view.as_value() if isinstance(view, data.View) else view, bits)
