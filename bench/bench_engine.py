"""Speed of the whole-model engine: decode steps of Qwen3-30B-A3B at batch 16, beside the targets.

    python bench/bench_engine.py [--steps 100]

Every step has fresh routing and its own refresh phase (the DRAM state is carried on). One core, CPU time, compilation
excluded. A step is all of it: compilation of the dispatch stream, lowering, HB and LPDDR command timing, counts and
attribution. ``without`` drops every kept result before each step; ``with`` keeps what the engine keeps, durations of a
kind of product (`sw_stack.machines.engine.lowering`), never a transfer, a layer or a step. The second table shows the
share of each part. On the way the engine's DRAM timing is compared with the exact models.
"""

import argparse
import time

import numpy as np

from cycle_model.hb import REQUEST, Traffic, exact
from cycle_model.hb.transfer import IDLE, bank_shape, new_banks, transfer
from cycle_model.lpddr.extent import extent_timing
from hw.params import HbParams
from sw_stack.machines.catalogue import machine as machine_of
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.lowering import forget, lower
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.models.catalogue import model
from sw_stack.reports.terminal import console as open_console
from sw_stack.reports.terminal import table
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset

TARGET_MS, TARGET_CACHED_MS = 50.0, 10.0
PUBLIC = (("public C++ tools", 700.0), ("an analytical roofline tool", 1000.0))  # ms per step, second-hand
BATCH, CONTEXT, RESIDENT = 16, 768, 24


def passes(steps: int) -> list[Pass]:
    """Decode steps with routing from the generator; the experts most used so far are resident as MSB slices."""
    trace = generate(preset("qwen3-30b-a3b").params, BATCH, steps, seed=0)
    layers, experts = trace.experts.shape[1], trace.num_experts
    chosen = trace.experts.reshape(BATCH, steps, layers, -1).astype(np.int64)
    used = np.zeros((layers, experts), np.int64)
    made = []
    for step in range(steps):
        counts = np.stack([np.bincount(chosen[:, step, layer].ravel(), minlength=experts) for layer in range(layers)])
        resident = np.zeros((layers, experts, 2), bool)
        hot = np.argsort(-used, axis=1, kind="stable")[:, :RESIDENT]
        np.put_along_axis(resident[:, :, 0], hot, True, axis=1)
        used += counts
        lengths = np.full(BATCH, CONTEXT + step)
        made.append(
            Pass(
                kind=PassKind.DECODE,
                tokens=np.ones(BATCH),
                kv_lengths=lengths,
                expert_tokens=counts,
                resident=resident,
            )
        )
    return made


def measured(engine: Engine, made: list[Pass], kept: bool) -> tuple[list[float], float, float]:
    """CPU ms of each step; simulated ms and records of all steps."""
    times, simulated, records = [], 0.0, 0
    for one in made:
        if not kept:
            forget()
        start = time.process_time()
        result = engine.run(one)
        times.append(1e3 * (time.process_time() - start))
        simulated += result.ns / 1e6
        records += len(result.dispatch)
    return times, simulated, records


def transfers_compared(number: int = 200, seed: int = 0) -> tuple[int, int]:
    """Random transfers of one HB bank in the engine's recurrence and cycle by cycle: how many, how many differ."""
    rng, params = np.random.default_rng(seed), HbParams()
    requests = np.zeros(number, REQUEST)
    requests["cycle"] = np.cumsum(rng.integers(0, 4000, number))
    requests["row"] = rng.integers(0, params.rows - 4, number)
    requests["columns"] = rng.integers(1, 1500, number)
    requests["write"] = rng.random(number) < 0.3
    bank, shape, done = new_banks(1)[0], bank_shape(params), []
    for q in requests:
        transfer(params.clocks, shape, bank, q["cycle"], 0, q["columns"], bool(q["write"]))
        done.append(int(bank[IDLE]))
    return number, int((exact(Traffic(params, requests)).dones[:, 0] != done).sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the whole-model engine.")
    parser.add_argument("--steps", type=int, default=100, help="decode steps")
    steps = parser.parse_args().steps
    config = model("qwen3-30b-a3b").architecture()
    made = passes(steps)
    console = open_console()
    rows = table(
        *("machine", "steps", "records", "without, ms", "worst", f"/ {TARGET_MS:g} ms"),
        *("with, ms", "worst", f"/ {TARGET_CACHED_MS:g} ms", "simulated ms"),
        title="CPU time of a decode step of Qwen3-30B-A3B at batch 16, without and with kept results",
    )
    parts = table("machine", "compiler ms", "lowering ms", "rest (schedule, counts) ms")
    slowest = 0.0
    for name in ("elmoe3d-8gb", "xpu", "xpu-pim"):
        machine = machine_of(name)
        engine = Engine(machine, config)
        engine.run(made[0])  # compiles, and chooses the mapping
        bare, _, _ = measured(engine, made, kept=False)
        times, simulated, records = measured(engine, made, kept=True)
        mean = sum(times) / steps
        slowest = max(slowest, sum(bare) / steps)
        rows.add_row(
            *(name, str(steps), f"{records / steps:,.0f}"),
            *(f"{sum(bare) / steps:.1f}", f"{max(bare):.1f}", f"{sum(bare) / steps / TARGET_MS:.2f}"),
            *(f"{mean:.1f}", f"{max(times):.1f}", f"{mean / TARGET_CACHED_MS:.2f}", f"{simulated / steps:.2f}"),
        )
        start = time.process_time()
        streams = [engine.compiler.compile(one).dispatch for one in made[:10]]
        compiled = time.process_time()
        for stream in streams:
            lower(stream, machine)
        lowered = time.process_time()
        compilation, lowering = 100 * (compiled - start), 100 * (lowered - compiled)
        parts.add_row(name, f"{compilation:.1f}", f"{lowering:.1f}", f"{mean - compilation - lowering:.1f}")
    console.print(rows)
    console.print(parts)
    for tool, ms in PUBLIC:
        console.print(f"{tool} (second-hand): {ms:.0f} ms per step, {ms / slowest:.0f} times the slowest above")
    timing = extent_timing(machine_of("elmoe3d-8gb").lpddr)
    console.print(
        f"LPDDR extents against stream mode: worst error of a run of extents {100 * timing.error:.3f} %, of one "
        f"extent {100 * timing.extent_error:.2f} %, {timing.checked} extents compared"
    )
    number, differ = transfers_compared()
    console.print(
        f"HB transfers against the exact model: {differ} of {number} random ones differ; more in "
        f"verification/blocks/test_hb_transfer.py"
    )


if __name__ == "__main__":
    main()
