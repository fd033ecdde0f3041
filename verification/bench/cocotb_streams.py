"""Drive and watch the streams of exported Verilog under cocotb; the twin of `amaranth_streams`.

One coroutine steps the clock: inputs change at its falling edge, everything is sampled just before its rising edge.
That is the same on every simulator, which sampling at an edge is not (Verilator runs callbacks after registers have
changed, Icarus before). An X or Z that is sampled raises ValueError.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from amaranth.lib import wiring
from cocotb.handle import SimHandleBase
from cocotb.triggers import Timer

from hw.params import ArrayParams, chip
from rtl_gen.verilog import build
from verification.bench.amaranth_streams import STALLS, Transfers
from verification.bench.payloads import pack

HALF_CYCLE_NS = 1


def component() -> wiring.Component:
    """The Amaranth component that the simulated Verilog was exported from: its layouts and its stated latency."""
    return build(os.environ["BLOCK"], os.environ["CHIP"])[0]


def array_params() -> ArrayParams:
    """Sizes of the simulated block."""
    return chip(os.environ["CHIP"]).array


async def reset(dut: SimHandleBase, inputs: Sequence[str] = ()) -> None:
    """Two cycles of reset; the named inputs are 0, so that nothing starts at X."""
    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(2):
        await falling(dut)
        await rising(dut)
    dut.rst.value = 0


async def falling(dut: SimHandleBase) -> None:
    """Clock low; returns with all combinational values settled, just before the rising edge."""
    dut.clk.value = 0
    await Timer(HALF_CYCLE_NS, "ns")


async def rising(dut: SimHandleBase) -> None:
    """Clock high; returns with registers updated, just before the falling edge."""
    dut.clk.value = 1
    await Timer(HALF_CYCLE_NS, "ns")


def sample(handle: SimHandleBase) -> int:
    """The value as an unsigned integer."""
    return int(str(handle.value), 2)


async def run_streams(
    dut: SimHandleBase,
    layouts: wiring.Component,
    inputs: Mapping[str, Sequence[object]],
    outputs: Mapping[str, int],
    *,
    stalls: str = "none",
    seed: int = 0,
    deadline: int = 20_000,
    strobes: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    watch: Sequence[str] = (),
) -> dict[str, Transfers | int]:
    """Reset, then run until every output stream has delivered its count, then 8 idle cycles more.

    Arguments and result as in `amaranth_streams.run_streams`; ``layouts`` is the component of the same block.
    """
    probability = STALLS[stalls]
    seen = {name: Transfers(getattr(layouts, name).payload.shape()) for name in (*inputs, *outputs)}
    seeds = dict(zip((*inputs, *outputs), np.random.SeedSequence(seed).spawn(len(seen)), strict=True))
    random = {name: np.random.default_rng(seeds[name]) for name in seen}
    port = {name: {role: getattr(dut, f"{name}__{role}") for role in ("payload", "valid", "ready")} for name in seen}
    packed = {name: [pack(seen[name].layout, payload) for payload in payloads] for name, payloads in inputs.items()}
    strobes = strobes or {}
    offered = dict.fromkeys(inputs, False)
    waiting: dict[str, int | None] = dict.fromkeys(outputs)
    idle = cycle = 0

    driven = [f"{name}__{role}" for name in inputs for role in ("payload", "valid")]
    await reset(dut, [*driven, *(f"{name}__ready" for name in outputs), *strobes])

    while idle < 8 and cycle < deadline:
        for name, payloads in packed.items():
            place = len(seen[name].cycles)
            if not offered[name] and place < len(payloads) and random[name].random() >= probability:
                offered[name] = True
                port[name]["payload"].value = payloads[place]
            port[name]["valid"].value = int(offered[name])
        for name in outputs:
            port[name]["ready"].value = int(random[name].random() >= probability)
        for strobe, (name, values) in strobes.items():
            place = len(seen[name].cycles)
            getattr(dut, strobe).value = int(values[place]) if place < len(values) else 0
        await falling(dut)

        for name, transfers in seen.items():
            valid, ready = sample(port[name]["valid"]), sample(port[name]["ready"])
            if name in outputs and waiting[name] is not None:
                assert valid, f"{name}: valid dropped at cycle {cycle} before the transfer"
                bits = sample(port[name]["payload"])
                assert bits == waiting[name], f"{name}: payload changed at cycle {cycle} before the transfer"
            if name in outputs:
                waiting[name] = sample(port[name]["payload"]) if valid and not ready else None
            transfers.waits += valid and not ready
            if valid and ready:
                transfers.cycles.append(cycle)
                transfers.bits.append(sample(port[name]["payload"]))
                offered[name] = False
        await rising(dut)
        cycle += 1
        idle += all(len(seen[name].cycles) >= count for name, count in outputs.items())

    for name, payloads in inputs.items():
        got = len(seen[name].cycles)
        assert got == len(payloads), f"{name}: {got} of {len(payloads)} payloads taken after {cycle} cycles"
    for name, count in outputs.items():
        got = len(seen[name].cycles)
        assert got == count, f"{name}: {got} transfers, not {count}, after {cycle} cycles"
    return seen | {name: sample(getattr(dut, name)) for name in watch}
