"""``python bench/bench_gpu_moe.py``: one MoE layer on a real GPU, beside the roofline of a GPU preset.

Three grouped GEMMs (gate, up, down) over the experts that a batch of 1 to 64 tokens reaches, with PyTorch in BF16 (the
precision that every PyTorch has grouped kernels for; the roofline beside is of the same bytes), timed with CUDA events
over a captured graph. Routing is drawn from the model's calibrated generator. Exit status 2 and one line where there
is no GPU or no PyTorch.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.machines.catalogue import machine
from sw_stack.models.catalogue import model as model_named
from sw_stack.provenance import provenance
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import preset
from sw_stack.workloads.routing_source import RoutingSource, expert_tokens

BATCHES = (1, 2, 4, 8, 16, 32, 64)
REPEATS = 50
BYTES = 2
"""BF16."""


def gpu_torch():
    """PyTorch with a usable GPU; UserError with what is missing."""
    try:
        import torch
    except ImportError as error:
        raise UserError("PyTorch with CUDA must be there (pip install torch); it is not") from error
    if not torch.cuda.is_available():
        raise UserError(f"a CUDA GPU must be there; PyTorch {torch.__version__} sees none")
    return torch


def roofline_us(gpu, moved_bytes: float, operations: float, kernels: int) -> float:
    """The model of `sw_stack.machines.gpu` for this layer in BF16, whose peak is half of INT8's."""
    memory = moved_bytes / (1e9 * gpu.gb_per_s.value * gpu.memory_efficiency.value)
    arithmetic = operations / (0.5e12 * gpu.int8_tops.value * gpu.compute_efficiency.value)
    return 1e6 * max(memory, arithmetic) + kernels * gpu.kernel_us.value


def layer_runner(torch, config, counts: np.ndarray, device: str = "cuda"):
    """A function that runs the layer for tokens sorted by expert, ``counts`` [experts] of them each; how; kernels."""
    hidden, inter, experts = config.hidden, config.moe.intermediate, config.experts
    make = {"device": device, "dtype": torch.bfloat16}
    gate_up = torch.randn(experts, hidden, 2 * inter, **make) * 0.02
    down = torch.randn(experts, inter, hidden, **make) * 0.02
    x = torch.randn(int(counts.sum()), hidden, **make)
    if hasattr(torch, "_grouped_mm"):
        ends = torch.tensor(np.cumsum(counts), device=device, dtype=torch.int32)

        def run():
            both = torch._grouped_mm(x, gate_up, offs=ends)
            return torch._grouped_mm(torch.nn.functional.silu(both[:, :inter]) * both[:, inter:], down, offs=ends)

        return run, "torch._grouped_mm", 4
    ends = np.concatenate([[0], np.cumsum(counts)])
    used = np.flatnonzero(counts)

    def run():
        for e in used:
            both = x[ends[e] : ends[e + 1]] @ gate_up[e]
            torch.nn.functional.silu(both[:, :inter]).mul_(both[:, inter:]) @ down[e]

    return run, "a GEMM per expert", 4 * len(used)


def timed_us(torch, run) -> float:
    """Median microseconds of a captured graph of ``run``, the L2 cache flushed before each."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    times = []
    for _ in range(REPEATS):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return float(np.median(times))


def main() -> None:
    """Measure, compare, print; ``--json`` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen3-30b-a3b")
    parser.add_argument("--machine", default="h100", help="GPU preset to compare with")
    parser.add_argument("--json", help="write the results here too")
    args = parser.parse_args()
    config, preset_gpu = model_named(args.model).architecture(), machine(args.machine).gpu
    if preset_gpu is None:
        raise UserError(f"machine must be a GPU preset, not {args.machine!r}")
    torch = gpu_torch()
    trace = generate(preset(args.model).params, max(BATCHES), 32, 0)
    layer = trace.layers // 2
    expert = 3 * config.hidden * config.moe.intermediate
    rows = []
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {args.model} layer {layer}, BF16")
    print("batch  experts  measured us  roofline us  measured / roofline   GB/s reached")
    for batch in BATCHES:
        source = RoutingSource(trace, trace.layers, trace.num_experts, batch, 0)
        counts = expert_tokens(source.choices(np.arange(batch), np.zeros(1, np.int64)), trace.num_experts)[layer]
        run, how, kernels = layer_runner(torch, config, counts)
        used, moved = int((counts > 0).sum()), float((counts > 0).sum() * expert * BYTES)
        tile = preset_gpu.tile_tokens.value
        operations = 2.0 * expert * float((np.ceil(counts / tile) * tile).sum())
        measured, expected = timed_us(torch, run), roofline_us(preset_gpu, moved, operations, kernels)
        rows.append({"batch": batch, "experts": used, "measured_us": measured, "roofline_us": expected, "kernel": how})
        print(
            f"{batch:5d}  {used:7d}  {measured:11.1f}  {expected:11.1f}  {measured / expected:19.2f}  "
            f"{moved / measured / 1e3:13.0f}"
        )
    if args.json:
        config_of = {"model": args.model, "machine": args.machine, "device": torch.cuda.get_device_name()}
        write_atomic(args.json, json.dumps({"provenance": provenance(config_of, 0), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"bench-gpu: {error}", file=sys.stderr)
        sys.exit(2)
