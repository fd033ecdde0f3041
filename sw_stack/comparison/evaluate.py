"""One cell evaluated: serving rounds of a model on a machine, timed by the engine, priced by the energy table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from hw.errors import UserError
from sw_stack.comparison.cell import STATIC, CellKey, CellResult
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.energy import energy_table
from sw_stack.machines.engine.timer import MachineTimer
from sw_stack.machines.gpu import gpu_energy
from sw_stack.machines.machine import HbUse, Machine
from sw_stack.machines.sourced import Sourced
from sw_stack.models.architectures import ModelConfig
from sw_stack.models.catalogue import model as catalogue_model
from sw_stack.models.hf_config import from_hf_config
from sw_stack.workloads.acceptance import Acceptance, acceptance_of, constant
from sw_stack.workloads.datasets import dataset as dataset_of
from sw_stack.workloads.generator import generate
from sw_stack.workloads.generator_presets import PRESETS, preset
from sw_stack.workloads.metrics import fits
from sw_stack.workloads.pass_work import gpu_bytes
from sw_stack.workloads.requests import Arrivals
from sw_stack.workloads.serving import Server, Timer
from sw_stack.workloads.serving_types import Round, Serving
from sw_stack.workloads.trace import Trace, read_trace

TimerKind = TypeVar("TimerKind", bound=Timer)
TRACE_SEQUENCES, TRACE_TOKENS = 96, 160
"""Generated routing that a batch of up to 64 sequences reads from; sequences wrap round."""
PUBLISHED_LOCALITY = frozenset({("qwen3-30b-a3b", "gsm8k"), ("qwen3-30b-a3b", "humaneval")})
"""(Model, dataset) of which lag-1 reuse is published for that kind of data: mathematics and coding (facts of
`sw_stack.workloads.published`). Every other cell's locality is the model's own on other data: assumed."""


@dataclass(frozen=True)
class Settings:
    """What all cells of a run have in common.

    rounds      simulated per cell
    tree        token tree of drafting methods
    corner      of the acceptance: low, nominal, high
    mode        always: cells draft in every round; plain decoding is a cell of its own
    allocation  of HB
    locality    factor on the generator's locality profile, 1 = as fitted
    acceptance  a number in place of every method's acceptance; None = the best known
    trace       file with the model's routing; None = the model's generator
    """

    rounds: int = 16
    tree: TreeShape = field(default_factory=lambda: TreeShape(5))
    corner: str = "nominal"
    mode: str = "always"
    allocation: str = "auto"
    locality: float = 1.0
    acceptance: float | None = None
    trace: str | None = None
    seed: int = 0


def routing(model: str, settings: Settings) -> Trace:
    """Routing that cells of ``model`` read: of the settings' file, or generated.

    Raises UserError for a model without a generator of its own and no file.
    """
    if settings.trace is not None:
        return read_trace(settings.trace)
    return _generated(model, settings.locality, settings.seed)


@lru_cache(maxsize=32)
def _generated(model: str, locality: float, seed: int) -> Trace:
    """``locality`` scales popularity, reweighting and stickiness of every layer."""
    if model not in PRESETS:
        raise UserError(f"model {model} must be given a routing trace: there is no generator for it")
    params = preset(model).params
    if locality != 1.0:
        params = replace(params, locality=tuple(x * locality for x in params.locality))
    return generate(params, TRACE_SEQUENCES, TRACE_TOKENS, seed)


@lru_cache(maxsize=64)
def architecture(model: str) -> ModelConfig:
    """Configuration of a model of the catalogue, or of a folder with a Hugging Face config.json; one object each."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return catalogue_model(model).architecture()
    try:
        return from_hf_config(json.loads(path.read_text()), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be a JSON file: {error}") from error


def acceptance_for(key: CellKey, settings: Settings) -> Acceptance | None:
    """Of the cell's method; None for plain decoding."""
    if key.method == "none":
        return None
    if settings.acceptance is not None:
        return constant(key.method, settings.acceptance)
    return acceptance_of(key.method, key.model, key.dataset)


def serving_of(key: CellKey, machine: Machine, settings: Settings, arrivals: Arrivals | None = None) -> Serving:
    """What the cell serves: the settings' rounds in the steady state, or all requests of ``arrivals``."""
    data = dataset_of(key.dataset)
    return Serving(
        batch=key.batch,
        prompt_tokens=data.prompt_tokens,
        output_tokens=data.output_tokens,
        rounds=None if arrivals else settings.rounds,
        arrivals=arrivals,
        method=key.method,
        shape=settings.tree,
        mode=settings.mode,
        allocation=settings.allocation if machine.hb_use is HbUse.MSB_SLICES else "msb-only",
        corner=settings.corner,
        seed=settings.seed,
    )


def server_of(
    key: CellKey,
    machine: Machine,
    settings: Settings,
    serving: Serving,
    around: Callable[[MachineTimer], TimerKind] = lambda timer: timer,
) -> tuple[Server, TimerKind]:
    """A server of ``serving``, and what times its passes: the engine or a GPU's roofline, wrapped by ``around``."""
    config = architecture(key.model)
    timer = MachineTimer(machine, config)
    used = around(timer)
    server = Server(machine, config, routing(key.model, settings), acceptance_for(key, settings), serving, used)
    timer.share, timer.draft_share = server.share, server.draft_share
    return server, used


def evaluate(
    key: CellKey,
    machine: Machine,
    settings: Settings,
    prices: dict[str, Sourced] | None = None,
) -> CellResult:
    """Run the cell. ``prices`` replace entries of the energy table."""
    config, serving = architecture(key.model), serving_of(key, machine, settings)
    space = fits(machine, config, serving)
    if not space.fits:
        return CellResult(key=key, fits=False, reason=str(space))
    server, timer = server_of(key, machine, settings, serving)
    rounds = list(server.run())
    seconds = np.array([r.seconds for r in rounds])
    tokens = np.array([r.tokens for r in rounds], np.float64)
    total = tokens.sum()
    per_token = float(seconds.sum() / total)
    deviation = seconds - per_token * tokens  # ratio estimator
    error = float(np.sqrt((deviation**2).mean() / len(rounds)) / tokens.mean()) if len(rounds) > 1 else 0.0
    roofline = sum(roofline_seconds(machine, step.work) for r in rounds for step in r.steps) / total
    sums = timer.totals
    energy = (
        gpu_energy(machine, seconds.sum())
        if machine.is_gpu
        else energy_table(machine, prices).energy(sums.counts, seconds.sum())
    )
    statistics = server.statistics
    drafted = key.method != "none"
    return CellResult(
        key=key,
        seconds_per_token=per_token,
        seconds_error=error,
        roofline_seconds=float(roofline),
        rounds=len(rounds),
        passes=sums.passes,
        accept_length=float(total / (len(rounds) * key.batch)),
        acceptance=float(statistics.accepted.sum() / max(statistics.tried.sum(), 1)) if drafted else None,
        energy_pj={
            name: tuple(1e12 * x / total for x in (band.low, band.nominal, band.high))
            for name, band in (*energy.components.items(), (STATIC, energy.static))
            if band.high > 0
        },
        seconds_by={name: ns / sums.ns for name, ns in sums.critical_ns.items() if ns > 0},
        bytes_by={name: value / total for name, value in sums.bytes_by.items() if value > 0},
        utilisation={name: ns / sums.ns for name, ns in sums.busy_ns.items()},
        slice_macs=float(sums.slice_macs / total),
        assumed=assumed_inputs(key, server.acceptance, settings),
        reason=rounds[-1].decision.reason,
        policy={"drafting": key.method, "tree": str(settings.tree) if drafted else "none"}
        | ({"HB": server.allocation_reason} if machine.has_hb else {})
        | ({} if machine.is_gpu else {"mapping": timer.engine.mapping or ""}),
        cache_hit_rate=_hit_rate(rounds) if machine.has_hb and config.moe else None,
        unique_experts=_unique(rounds) if config.moe else None,
    )


def assumed_inputs(key: CellKey, acceptance: Acceptance | None, settings: Settings) -> tuple[str, ...]:
    """Inputs that were neither measured nor published for the cell's model and dataset, with what stands in."""
    found = []
    if acceptance is not None and acceptance.assumed:
        found.append(f"acceptance of {key.method} on {key.model}, {key.dataset}: {acceptance.source}")
    if settings.trace is None and (key.model, key.dataset) not in PUBLISHED_LOCALITY:
        found.append(f"locality of {key.model} on {key.dataset}: {preset(key.model).source}, other data")
    return tuple(found)


def _hit_rate(rounds: list[Round]) -> float:
    """Share of experts touched by the passes that decide tokens whose MSB slice was resident."""
    touched = hits = 0
    for r in rounds:
        used = r.steps[-1].one.expert_tokens > 0
        touched += int(used.sum())
        hits += int((used & r.steps[-1].one.resident[:, :, 0]).sum())
    return hits / max(touched, 1)


def _unique(rounds: list[Round]) -> float:
    """Distinct experts per MoE layer and pass of the target that decides tokens."""
    return float(np.mean([(r.steps[-1].one.expert_tokens > 0).sum(axis=1).mean() for r in rounds]))


def roofline_seconds(machine: Machine, work: PassWork) -> float:
    """A bound that no policy of the machine beats: every memory and all arithmetic at their peaks, all overlapped.

    With units in the memory, any product may be computed on either side, and both memories' bandwidths add.
    """
    if machine.is_gpu:
        gpu = machine.gpu
        moved = gpu_bytes(machine, work) / (1e9 * gpu.gb_per_s.value * gpu.memory_efficiency.value)
        return max(moved, work.slice_macs / (1e12 * gpu.int8_tops.value * gpu.compute_efficiency.value))
    macs, external = machine.slice_macs_per_ns, machine.lpddr_gb_per_s
    if machine.near_memory is not None:
        external += machine.near_memory.peak_gb_per_s(machine.lpddr)
        macs += 2 * machine.near_memory.macs_per_ns(machine.lpddr)
    if machine.has_hb:
        moved = max(work.hb_bytes / machine.hb_gb_per_s, work.lpddr_bytes / external)
    else:
        moved = (work.hb_bytes + work.lpddr_bytes) / external
    return 1e-9 * max(moved, work.slice_macs / macs)
