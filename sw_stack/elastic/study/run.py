"""The whole study: every cell, the fit, perplexities, cache hit rates. Resumable; results depend on the seed only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hw.errors import UserError
from sw_stack.elastic.methods import DRAFT_FOLDERS, available_methods, draft_folder
from sw_stack.elastic.study.allocation import (
    AllocationResult,
    allocation_cells,
    run_allocation,
    stored_allocation,
)
from sw_stack.elastic.study.caching import PHASE_STEPS, hit_rates
from sw_stack.elastic.study.cells import (
    EXPERTS_ONLY,
    SCHEMES,
    Cell,
    CellResult,
    Store,
    all_cells,
    run_cell,
    stored_cell,
)
from sw_stack.elastic.study.fit import AcceptanceFit, fit_acceptance
from sw_stack.elastic.study.quality import NUMERICS, perplexity
from sw_stack.elastic.study.texts import held_out_ids, windows
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.tokenizer import TextTokenizer
from sw_stack.workloads.capture import capture_runtime
from sw_stack.workloads.trace import SHIPPED, Trace
from sw_stack.workloads.trace_import import open_trace

MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Sizes and inputs.

    prompts         per domain, decoded as one batch
    prompt_tokens   of each
    tokens          new tokens per prompt
    windows, window_tokens   of text for perplexity and the model's own trace, per domain; at most the model's context
    trace           a routing trace to compare hit rates with
    """

    model: Path
    trace: Path = SHIPPED
    seed: int = 0
    prompts: int = 8
    prompt_tokens: int = 32
    tokens: int = 64
    windows: int = 6
    window_tokens: int = 256
    threads: int = 2

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, MAX_SEED),
            ("prompts", 1, 64),
            ("prompt_tokens", 1, 1 << 20),
            ("tokens", 2, 1 << 20),
            ("windows", 1, 10_000),
            ("window_tokens", 2, 1 << 20),
            ("threads", 1, 64),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} must be {low} to {high}, not {value}")


@dataclass
class Study:
    """Everything measured.

    cells        in the order of `all_cells`
    allocations  in the order of `allocation_cells`
    fit          acceptance over coverage, bits and position
    perplexity   numeric -> see `sw_stack.elastic.study.quality`
    hit_rates    trace name -> see `sw_stack.elastic.study.caching`
    """

    config: StudyConfig
    cells: list[CellResult] = field(default_factory=list)
    allocations: list[AllocationResult] = field(default_factory=list)
    fit: AcceptanceFit | None = None
    perplexity: dict[str, dict] = field(default_factory=dict)
    hit_rates: dict[str, dict] = field(default_factory=dict)

    def cell(self, **wanted: object) -> CellResult:
        """The Elastic-SD cell (or that of ``method``) with these values, defaults elsewhere."""
        cell = Cell(**wanted)
        return next(result for result in self.cells if result.cell == cell)


def run_study(config: StudyConfig, folder: Path, progress: Callable[[str, int, int], None]) -> Study:
    """Measure what ``folder`` does not hold yet; ``progress`` gets what was done, how many of how many."""
    source = open_checkpoint(config.model)
    tokenizer = TextTokenizer(config.model, source.config.vocab)
    given = open_trace(config.trace)
    model = QuantizedModel(source)
    runtime = Runtime(model, threads=config.threads)
    if not source.config.experts:
        raise UserError(f"{config.model}: the study needs a model with experts")
    texts = held_out_ids(tokenizer)
    prompts = {domain: windows(ids, config.prompts, config.prompt_tokens) for domain, ids in texts.items()}
    length = min(config.window_tokens, source.config.max_positions)
    long = {domain: windows(ids, config.windows, length) for domain, ids in texts.items()}
    methods = tuple(m for m in available_methods(config.model) if m not in ("none", "elastic"))
    folders = {m: draft_folder(config.model, m) for m in methods if m in DRAFT_FOLDERS}
    drafts = {m: _digest(path) for m, path in folders.items()}
    store = Store(folder, {"model": _digest(config.model), "prompts": _of(prompts), "tokens": config.tokens})
    study, cells, allocations = Study(config), all_cells(methods), allocation_cells()
    steps = len(cells) + len(allocations) + len(NUMERICS) + 2
    for number, cell in enumerate(cells, 1):
        per_draft = Store(folder, store.identity | {"draft": drafts.get(cell.method, "")})

        def measure(cell=cell) -> CellResult:
            return run_cell(runtime, cell, prompts, config.tokens, folders.get(cell.method), config.threads)

        result, there = stored_cell(per_draft, cell, measure)
        study.cells.append(result)
        progress(f"{cell}{' (kept)' if there else ''}", number, steps)
    for number, cell in enumerate(allocations, len(cells) + 1):

        def measure(cell=cell) -> AllocationResult:
            return run_allocation(runtime, cell, prompts, config.tokens, config.threads)

        result, there = stored_allocation(store, cell, measure)
        study.allocations.append(result)
        progress(f"{cell}{' (kept)' if there else ''}", number, steps)
    study.fit = fit_acceptance(study.cells, (*SCHEMES, EXPERTS_ONLY), config.seed)
    quality = Store(folder, {"model": store.identity["model"], "texts": _of(long)})
    for number, numeric in enumerate(NUMERICS, len(cells) + len(allocations) + 1):
        study.perplexity[numeric], there = quality.get(
            "perplexity", {"numeric": numeric}, lambda n=numeric: perplexity(model, n, long, config.threads)
        )
        progress(f"perplexity {numeric}{' (kept)' if there else ''}", number, steps)
    _measure_caches(study, runtime, given, long, quality, progress, steps)
    return study


def _measure_caches(
    study: Study,
    runtime: Runtime,
    given: Trace,
    texts: dict[str, list[list[int]]],
    store: Store,
    progress: Callable[[str, int, int], None],
    steps: int,
) -> None:
    """Hit rates on the model's own routing of held-out text, and on the given trace."""

    def own() -> dict:
        sequences = [window for each in texts.values() for window in each]
        domains = [domain for domain, each in texts.items() for _ in each]
        trace = capture_runtime(
            runtime, sequences, domains, model=study.config.model.name, source="held-out text", licence="see corpus"
        )
        return hit_rates(trace)

    name = study.config.model.name
    study.hit_rates[name], there = store.get("caching", {"trace": "own", "phase": PHASE_STEPS}, own)
    progress(f"hit rates of {name}{' (kept)' if there else ''}", steps - 1, steps)
    digest = hashlib.sha256(study.config.trace.read_bytes()).hexdigest()
    label = given.model if given.model != name else f"{given.model} (given)"
    study.hit_rates[label], there = store.get(
        "caching", {"trace": digest, "phase": PHASE_STEPS}, lambda: hit_rates(given)
    )
    progress(f"hit rates of {label}{' (kept)' if there else ''}", steps, steps)


def _digest(folder: Path) -> str:
    """Of configuration and weights."""
    names = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    state = hashlib.sha256()
    for path in names:
        if path.name in ("config.json", "tokenizer.json") or path.suffix == ".safetensors":
            state.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def _of(texts: dict[str, list[list[int]]]) -> str:
    return hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()
