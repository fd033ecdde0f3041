"""The figure of ``elmoe3d numerics``: output SQNR of every scheme, and where augmentation stops paying."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sw_stack.quantizers.study import Estimate, Study, crossing

# Okabe and Ito's palette, which common colour-blindness keeps apart; markers differ as well.
_STYLES = {
    "augmented": ("#D55E00", "o"),
    "augmented-corrected": ("#E69F00", "D"),
    "truncated": ("#000000", "v"),
    "rounded-shared": ("#0072B2", "s"),
    "rounded-nested": ("#56B4E9", "P"),
    "copy-absmax": ("#009E73", "<"),
    "copy-searched": ("#009E73", ">"),
    "matryoshka": ("#CC79A7", "X"),
}


def draw(study: Study) -> Figure:
    """Four panels: outputs with unbiased and biased activations; gain over rounding by tail and by zeros."""
    figure = Figure(figsize=(11.5, 8.2), layout="constrained")
    (unbiased, biased), (tails, zeros) = figure.subplots(2, 2)
    biased.sharey(unbiased)
    for axes, kind in ((unbiased, "unbiased"), (biased, "biased")):
        _draw_outputs(axes, study, kind)
    _draw_gain(tails, study.dof_gain_db, "{:.1f} dof")
    tails.set_xlabel("degrees of freedom of Student's t (heavier tails to the left)")
    tails.set_xscale("log")
    tails.set_xticks([1.25, 2, 3, 5, 10, 20, 50], ["1.25", "2", "3", "5", "10", "20", "50"])
    tails.minorticks_off()
    _title(tails, "c  Heavy tails: gain of augmentation over rounding")
    _draw_gain(zeros, {100 * x: gain for x, gain in study.zero_gain_db.items()}, "{:.0f} % zeros")
    zeros.set_xlabel("zeros among Gaussian weights (%)")
    top = max(axes.get_ylim()[1] for axes in (tails, zeros))
    bottom = min(axes.get_ylim()[0] for axes in (tails, zeros))
    for axes in (tails, zeros):
        axes.set_ylim(bottom, top)
    _title(zeros, "d  Zeros: gain of augmentation over rounding")
    handles, labels = unbiased.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    legend.set_title("scheme: bits per weight that the draft reads / stored beyond the target's 8.5", {"size": 9})
    config = study.config
    figure.suptitle(
        f"4-bit drafts beside an INT8 target, groups of 32: mean and standard error of {config.repeats} repetitions, "
        f"seed {config.seed}",
        fontsize=11,
    )
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)


def _draw_outputs(axes: Axes, study: Study, kind: str) -> None:
    drafts = [scheme for scheme in study.schemes if scheme.name in _STYLES]
    for index, scheme in enumerate(drafts):
        colour, marker = _STYLES[scheme.name]
        estimates = [study.output_db[matrix, kind, scheme.name] for matrix in study.matrices]
        offset = 0.1 * (index - (len(drafts) - 1) / 2)
        axes.errorbar(
            [x + offset for x in range(len(estimates))],
            [e.mean for e in estimates],
            [e.standard_error for e in estimates],
            color=colour,
            marker=marker,
            markersize=7.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linestyle="none",
            elinewidth=1,
            label=f"{scheme.name}  {scheme.read_bits:g} / +{scheme.extra_bits:g}",
        )
    for boundary in range(len(study.matrices) - 1):
        axes.axvline(boundary + 0.5, color="0.85", linewidth=0.8, zorder=0)
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(study.matrices)), study.matrices)
    axes.set_xlim(-0.5, len(study.matrices) - 0.5)
    axes.set_ylabel("output SQNR (dB, higher is better)")
    axes.grid(axis="y", color="0.92")
    floor = [study.output_db[matrix, kind, "int8"].mean for matrix in study.matrices]
    panel = "a" if kind == "unbiased" else "b"
    bias = study.activation_bias[kind]
    target = f"INT8 target {min(floor):.0f} to {max(floor):.0f} dB"
    _title(axes, f"{panel}  Activations {kind}, mean / RMS {bias:.2f} ({target})")


def _draw_gain(axes: Axes, gains: dict[float, Estimate], crossing_format: str) -> None:
    """Gain of augmented over rounded-shared in dB of weight SQNR, with the place where its sign changes."""
    means = [gain.mean for gain in gains.values()]
    axes.axhspan(0, 100, color="#D55E00", alpha=0.10, linewidth=0)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.errorbar(
        list(gains),
        means,
        [gain.standard_error for gain in gains.values()],
        color="#D55E00",
        marker="o",
        markersize=4.5,
        capsize=2,
    )
    axes.set_ylim(min(*means, -1) - 1.2, max(*means, 0) + 1.2)
    axes.text(0.98, 0.97, "augmented better", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    axes.text(0.35, 0.03, "rounded better", transform=axes.transAxes, ha="center", va="bottom", fontsize=9)
    at = crossing(gains)
    if at is not None:
        axes.annotate(
            f"even at {crossing_format.format(at)}",
            (at, 0),
            xytext=(55, -15),
            textcoords="offset points",
            fontsize=9,
            arrowprops={"arrowstyle": "->", "color": "0.3"},
        )
    axes.set_ylabel("weight SQNR, augmented minus\nrounded on the shared scale (dB)")
    axes.grid(color="0.92")
