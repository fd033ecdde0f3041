"""What ``elmoe3d trace`` prints, draws and writes about a trace."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sw_stack.workloads.published import PUBLISHED, REUSE_BY_DEPTH
from sw_stack.workloads.trace import Trace
from sw_stack.workloads.trace_statistics import LAGS, WINDOWS, TraceStatistics, uniform_unique

LABELS = {
    "zipf_pooled": "Zipf exponent, pooled",
    "zipf_within": "Zipf exponent, within a sequence",
    "entropy_pooled": "normalised entropy, pooled",
    "entropy_within": "normalised entropy, within a sequence",
    "top_share_pooled": "share of the top 12.5 % experts, pooled",
    "top_share_within": "share of the top 12.5 % experts, within a sequence",
    **{f"reuse_lag_{lag}": f"expert also used {lag} token{'s' * (lag > 1)} before" for lag in LAGS},
    "reuse_chance": "the same by chance, k / N",
    "reuse_first_layer": "reuse at lag 1, first MoE layer",
    "reuse_best_layer": "reuse at lag 1, best layer",
    **{f"unique_consecutive_{n}": f"unique experts, {n} consecutive tokens" for n in WINDOWS},
    **{f"unique_across_{n}": f"unique experts, {n} tokens of different sequences" for n in WINDOWS},
    **{f"unique_uniform_{n}": f"uniform formula N(1-(1-k/N)^{n})" for n in WINDOWS},
}
_EXPERTS = {"gpt-oss-20b": (32, 4), "deepseek-v2-lite": (64, 6), "qwen3-30b-a3b": (128, 8)}
"""Routed experts and top-k by config.json, for what follows from a formula."""
_COLUMNS = {"gpt-oss-20b": "GPT-OSS-20B", "deepseek-v2-lite": "DeepSeek-V2-Lite", "qwen3-30b-a3b": "Qwen3-30B-A3B"}


def summary(trace: Trace) -> str:
    """One line that says what the trace is."""
    lengths = np.diff(trace.offsets)
    return (
        f"{trace.model}: {trace.tokens:,} {trace.phase} tokens in {trace.sequences} sequences of {lengths.min()} to "
        f"{lengths.max()}, {trace.layers} layers, top-{trace.top_k} of {trace.num_experts} experts; {trace.source}; "
        f"licence {trace.licence}"
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"


def _reference(model: str, name: str) -> str:
    """What is published for a model, or follows from its numbers of experts; "-" otherwise."""
    experts, top_k = _EXPERTS[model]
    if name == "reuse_chance":
        return _number(top_k / experts)
    if name.startswith("unique_uniform_"):
        return _number(uniform_unique(experts, top_k, int(name.rsplit("_", 1)[1])))
    published = PUBLISHED[model].get(name)
    return "-" if published is None else str(published)


def statistics_table(found: TraceStatistics, title: str) -> Table:
    """Every statistic beside the published ones; "-" is not published, or not measurable on so short a trace."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("statistic", no_wrap=True)
    table.add_column("this trace", justify="right")
    for label in _COLUMNS.values():
        table.add_column(label, justify="right", no_wrap=True)
    for name, label in LABELS.items():
        table.add_row(label, _number(found.scalars[name]), *(_reference(model, name) for model in _COLUMNS))
    return table


def profile_lines(trace: Trace, found: TraceStatistics) -> list[str]:
    """Per layer, per slot and per domain, as text."""
    lines = [
        "reuse at lag 1 by layer: "
        + " ".join(f"{i}:{r:.2f}" for i, r in zip(trace.layer_index, found.reuse_by_layer, strict=True)),
        "pooled entropy by layer: "
        + " ".join(f"{i}:{e:.2f}" for i, e in zip(trace.layer_index, found.entropy_by_layer, strict=True)),
        "reuse at lag 1 by rank of the slot: " + " ".join(f"{r:.2f}" for r in found.reuse_by_slot),
    ]
    if found.probs_by_slot is not None:
        lines.append("mean weight by rank of the slot: " + " ".join(f"{p:.3f}" for p in found.probs_by_slot))
    if len(trace.domains) > 1:
        rows = [
            f"{a} / {b} {found.domain_overlap[i, j]:.2f}"
            for i, a in enumerate(trace.domains)
            for j, b in enumerate(trace.domains)
            if i < j and np.isfinite(found.domain_overlap[i, j])
        ]
        lines.append("shared mass of expert use between domains: " + ", ".join(rows))
    return lines


def draw(trace: Trace, found: TraceStatistics) -> str:
    """Three panels as SVG: use by rank, reuse by depth, unique experts by number of tokens."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    ranks, depth, unique = figure.subplots(1, 3)
    n = np.arange(1, trace.num_experts + 1)
    ranks.loglog(n, found.rank_share_pooled, label="pooled")
    ranks.loglog(n, found.rank_share_within, label="within a sequence")
    ranks.axhline(1 / trace.num_experts, color="grey", lw=0.8, label="even")
    ranks.set(title=f"{trace.model}: use of experts", xlabel="rank of the expert", ylabel="share of uses")
    depth.plot(np.linspace(0, 1, trace.layers), found.reuse_by_layer, "o-", ms=3, label="this trace")
    for model, points in REUSE_BY_DEPTH.items():
        depth.plot(*zip(*points, strict=True), "x--", lw=0.8, label=f"{_COLUMNS[model]}, published points")
    depth.axhline(trace.top_k / trace.num_experts, color="grey", lw=0.8, label="chance")
    depth.set(title="Reuse at lag 1 by layer", xlabel="depth (0 first, 1 last MoE layer)", ylabel="probability", ylim=0)
    for key, label in (
        ("consecutive", "consecutive"),
        ("across", "different sequences"),
        ("uniform", "uniform formula"),
    ):
        unique.plot(WINDOWS, [found.scalars[f"unique_{key}_{w}"] for w in WINDOWS], "o-", label=label)
    unique.set(title="Unique experts per layer", xlabel="tokens", ylabel="experts", ylim=0)
    for axes in (ranks, depth, unique):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def document(trace: Trace, found: TraceStatistics) -> dict:
    """The JSON form; NaN becomes null."""

    def plain(values: np.ndarray | float | None) -> object:
        if values is None:
            return None
        if isinstance(values, float):
            return values if math.isfinite(values) else None
        return (
            [plain(value) for value in values.tolist()]
            if isinstance(values, np.ndarray)
            else [plain(value) for value in values]
        )

    published = {
        model: {name: {"low": p.low, "high": p.high, "kind": p.kind, "source": p.source} for name, p in values.items()}
        for model, values in PUBLISHED.items()
    }
    return {
        "model": trace.model,
        "tokens": trace.tokens,
        "sequences": trace.sequences,
        "layers": trace.layers,
        "num_experts": trace.num_experts,
        "top_k": trace.top_k,
        "source": trace.source,
        "licence": trace.licence,
        "statistics": {name: plain(value) for name, value in found.scalars.items()},
        "reuse_by_layer": plain(found.reuse_by_layer),
        "entropy_by_layer": plain(found.entropy_by_layer),
        "reuse_by_slot": plain(found.reuse_by_slot),
        "probs_by_slot": plain(found.probs_by_slot),
        "domains": list(trace.domains),
        "domain_overlap": plain(found.domain_overlap),
        "published": published,
    }
