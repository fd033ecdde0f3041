"""Figures of the study: acceptance, quality with caching, and allocations of HB."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sw_stack.elastic.study.allocation import FRACTIONS as ALLOCATION_FRACTIONS
from sw_stack.elastic.study.allocation import METHODS as ALLOCATION_METHODS
from sw_stack.elastic.study.allocation import TOGETHER
from sw_stack.elastic.study.cells import EXPERTS_ONLY, FRACTIONS, SCHEMES, TREES, CellResult
from sw_stack.elastic.study.run import Study

# Okabe and Ito's palette, which common colour-blindness keeps apart; markers differ as well.
_SCHEME = {
    "int8": ("#000000", "o", "INT8, experts restricted only"),
    "augmented": ("#D55E00", "s", "augmented MSB4"),
    EXPERTS_ONLY: ("#E69F00", "D", "augmented MSB4, experts only"),
    "truncated": ("#999999", "v", "truncated MSB4"),
    "rounded": ("#0072B2", "^", "rounded to 4 bits, shared scale"),
    "copy4": ("#009E73", "P", "separate 4-bit copy"),
}
_POLICY = {"hot": ("#D55E00", "s"), "static": ("#0072B2", "^"), "random": ("#999999", "v")}
_POLICY_LABEL = {"hot": (-8, 7), "static": (8, -3), "random": (-8, -14)}
_DOMAIN = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_ALLOCATION = {"msb-only": ("#D55E00", "s"), "whole": ("#0072B2", "^"), "adaptive": ("#009E73", "o")}
_METHOD = {
    "none": "plain decoding",
    "elastic": "Elastic-SD",
    "quant": "Quant-SD",
    "slm": "small model",
    "eagle": "EAGLE head",
}


def acceptance_figure(study: Study) -> Figure:
    """Six panels: bits, residency, policy, domain, tree shape, fit."""
    figure = Figure(figsize=(15.5, 9.2), layout="constrained")
    (bits, resident, policy), (domain, tree, fit) = figure.subplots(2, 3)
    _draw_bits(bits, study)
    _draw_resident(resident, study)
    _draw_policy(policy, study)
    _draw_domain(domain, study)
    _draw_tree(tree, study)
    _draw_fit(fit, study)
    config = study.config
    figure.suptitle(
        f"Acceptance on {config.model.name}: {config.prompts} prompts of {config.prompt_tokens} tokens per domain, "
        f"{config.tokens} new tokens each, greedy; chain of 5, half of the experts resident where not said otherwise",
        fontsize=11,
    )
    return figure


def quality_figure(study: Study) -> Figure:
    """Perplexity by numeric, and hit rates on both traces."""
    figure = Figure(figsize=(15.5, 4.8), layout="constrained")
    panels = figure.subplots(1, 1 + len(study.hit_rates))
    _draw_perplexity(panels[0], study)
    for panel, axes, (name, rates) in zip("bcdef", panels[1:], study.hit_rates.items(), strict=False):
        _draw_hits(axes, f"{panel}  Expert cache on the trace of {name}", rates)
    for axes in panels[2:]:
        axes.sharey(panels[1])
    return figure


def allocation_figure(study: Study) -> Figure:
    """External bytes per token by allocation of the same HB bytes: plain decoding and Elastic-SD."""
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    for axes, panel, method in zip(figure.subplots(1, 2), "ab", ALLOCATION_METHODS, strict=True):
        for allocation, (colour, marker) in _ALLOCATION.items():
            for batch, line, label in ((1, "-", "batch 1"), (TOGETHER, "--", f"batch {study.config.prompts}")):
                chosen = [
                    r.lpddr_bytes / 1e3
                    for r in study.allocations
                    if (r.cell.method, r.cell.allocation, r.cell.batch) == (method, allocation, batch)
                ]
                axes.plot(
                    ALLOCATION_FRACTIONS, chosen, line, color=colour, marker=marker, markersize=5,
                    label=f"{allocation}, {label}",
                )  # fmt: skip
        axes.set_xticks(ALLOCATION_FRACTIONS)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
        axes.set_xlabel("HB bytes for experts, as a share of each layer's MSB slices")
        axes.set_ylabel("LPDDR reads per new token (KB)")
        axes.legend(fontsize=8, loc="upper right", ncols=3)
        _title(axes, f"{panel}  {_METHOD[method]}")
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def _draw_bits(axes: Axes, study: Study) -> None:
    """Acceptance by position, all experts resident (solid) and half of them (dashed)."""
    for scheme, (colour, marker, label) in _SCHEME.items():
        for fraction, line in ((1.0, "-"), (0.5, "--")):
            shares = study.cell(scheme=scheme, fraction=fraction).acceptance()
            axes.plot(
                range(1, len(shares) + 1), shares, line, color=colour, marker=marker, markersize=5,
                label=label if fraction == 1.0 else None,
            )  # fmt: skip
    axes.set_xticks(range(1, 6))
    axes.set_xlabel("drafted position")
    axes.set_ylabel("accepted, of what was reached")
    axes.set_ylim(bottom=max(0, axes.get_ylim()[0] - 0.3))
    axes.legend(fontsize=7.5, loc="lower left")
    _title(axes, "a  Draft bits; all experts (solid), half resident (dashed)")


def _draw_resident(axes: Axes, study: Study) -> None:
    """Accept length by resident fraction, with the router mass covered."""
    for scheme in ("int8", "augmented"):
        colour, marker, label = _SCHEME[scheme]
        results = [study.cell(scheme=scheme, fraction=f) for f in FRACTIONS]
        axes.plot(FRACTIONS, [r.accept_length() for r in results], color=colour, marker=marker, label=label)
    other = axes.twinx()
    covered = [study.cell(fraction=f).coverage for f in FRACTIONS]
    other.plot(FRACTIONS, covered, ":", color="#0072B2", marker=".")
    other.set_ylim(0, 1.03)
    other.set_ylabel("router mass covered in drafts (dotted)", color="#0072B2")
    axes.set_ylim(1, 6.05)
    axes.axhline(6, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xlabel("resident share of each layer's experts")
    axes.set_ylabel("accept length (tokens, bonus included)")
    axes.legend(fontsize=8, loc="upper left")
    _title(axes, "b  Resident fraction")


def _draw_policy(axes: Axes, study: Study) -> None:
    """Mean acceptance by fraction for hot, static and random sets."""
    for policy, (colour, marker) in _POLICY.items():
        fractions = (0.25, 0.5, 0.75)
        results = [study.cell(policy=policy, fraction=f) for f in fractions]
        axes.plot(fractions, [r.mean_acceptance for r in results], color=colour, marker=marker, label=policy)
        for f, r in zip(fractions, results, strict=True):
            axes.annotate(f"{r.coverage:.2f}", (f, r.mean_acceptance), xytext=_POLICY_LABEL[policy],
                          textcoords="offset points", fontsize=7.5, color=colour)  # fmt: skip
    axes.margins(x=0.1, y=0.12)
    axes.set_xticks((0.25, 0.5, 0.75))
    axes.set_xlabel("resident share of each layer's experts")
    axes.set_ylabel("accepted of all tried")
    axes.legend(fontsize=8)
    _title(axes, "c  Which experts are resident (labels: router mass covered)")


def _draw_domain(axes: Axes, study: Study) -> None:
    """Acceptance by position and domain."""
    result = study.cell()
    for colour, batch in zip(_DOMAIN, result.batches, strict=False):
        shares = result.acceptance(batch.domain)
        label = f"{batch.domain}: length {result.accept_length(batch.domain):.2f}, mass {batch.coverage:.2f}"
        axes.plot(range(1, len(shares) + 1), shares, color=colour, marker="o", markersize=4, label=label)
    axes.set_xticks(range(1, 6))
    axes.set_ylim(0, 1)
    axes.set_xlabel("drafted position")
    axes.set_ylabel("accepted, of what was reached")
    axes.legend(fontsize=8, loc="lower left")
    _title(axes, "d  Kind of text (augmented MSB4, half resident)")


def _nodes(result: CellResult) -> int:
    depth, _, width = result.cell.tree.partition("x")
    return int(depth) * int(width or 1)


def _draw_tree(axes: Axes, study: Study) -> None:
    """Accept length by tree shape over the number of nodes verified; other methods beside."""
    shapes = [study.cell(tree=tree) for tree in ("5", *TREES)]
    axes.scatter([_nodes(r) for r in shapes], [r.accept_length() for r in shapes], color="#D55E00", label="Elastic-SD")
    for result in shapes:
        axes.annotate(result.cell.tree, (_nodes(result), result.accept_length()), xytext=(5, -9),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    for marker, colour, method in (("^", "#009E73", "quant"), ("v", "#0072B2", "slm"), ("P", "#CC79A7", "eagle")):
        chosen = [r for r in study.cells if r.cell.method == method]
        if chosen:
            axes.scatter(
                [_nodes(r) for r in chosen], [r.accept_length() for r in chosen], color=colour, marker=marker,
                label=f"{_METHOD[method]} (5, 2x4)",
            )  # fmt: skip
    axes.set_xlabel("nodes verified per sequence")
    axes.set_ylabel("accept length (tokens, bonus included)")
    axes.set_ylim(bottom=1)
    axes.legend(fontsize=8)
    _title(axes, "e  Tree depth x width, and other drafting methods")


def _draw_fit(axes: Axes, study: Study) -> None:
    """Fitted acceptance over coverage with its band, and the chain cells it was fitted to."""
    for scheme, position in (("int8", 1), ("augmented", 1), ("augmented", 5), ("truncated", 1)):
        colour, marker, label = _SCHEME[scheme]
        cells = [
            r for r in study.cells if r.cell.scheme == scheme and r.cell.method == "elastic" and r.cell.tree == "5"
        ]
        axes.plot(
            [r.coverage for r in cells], [r.acceptance()[position - 1] for r in cells], linestyle="none",
            marker=marker, markersize=5, color=colour, markerfacecolor=colour if position == 1 else "white",
        )  # fmt: skip
        low_end = min(r.coverage for r in study.cells if r.cell.method == "elastic")
        coverage = np.linspace(low_end, 1, 60)
        mean, low, high = study.fit.predict(scheme, coverage, position)
        line = "-" if position == 1 else "--"
        axes.plot(coverage, mean, line, color=colour, label=f"{label.split(',')[0]}, position {position}")
        axes.fill_between(coverage, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("router mass covered by residents")
    axes.set_ylabel("accepted, of what was reached")
    axes.legend(fontsize=8, loc="best")
    _title(axes, "f  Fitted a(coverage, bits, depth); band: 5 to 95 % over texts")


def _draw_perplexity(axes: Axes, study: Study) -> None:
    names = list(study.perplexity)
    values = [study.perplexity[name]["perplexity"] for name in names]
    colours = ["#56B4E9" if name == "float" else _SCHEME[name][0] for name in names]
    axes.barh(range(len(names)), values, color=colours)
    for row, value in enumerate(values):
        axes.text(value, row, f" {value:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values))
    axes.set_xlabel("perplexity per token (lower is better)")
    _title(axes, f"a  Each numeric on held-out text ({study.perplexity['int8']['tokens']} tokens)")


def _draw_hits(axes: Axes, title: str, rates: dict) -> None:
    styles = {"lru": ("#0072B2", "^"), "hotness": ("#D55E00", "s")}
    for series, values in rates.items():
        if series == "fraction":
            continue
        if series.startswith("che"):
            line = ":" if series == "che pooled" else "-."
            axes.plot(rates["fraction"], values, line, color="#000000", linewidth=1, label=f"{series} (LRU, batch 1)")
            continue
        colour, marker = styles[series.split()[0]]
        line = "-" if series.endswith("batch 1") else "--"
        axes.plot(rates["fraction"], values, line, color=colour, marker=marker, markersize=5, label=series)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.set_xlim(0, 0.8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("resident share of each layer's experts")
    axes.set_ylabel("hit rate of MSB slices")
    axes.legend(fontsize=8, loc="lower right")
    _title(axes, title)


assert set(_SCHEME) == {*SCHEMES, EXPERTS_ONLY}
