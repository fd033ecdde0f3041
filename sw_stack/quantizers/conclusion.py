"""The answer to "why LSB augmentation, and when not", worded from measured numbers only."""

from __future__ import annotations

from sw_stack.quantizers.matrices import SPARSE_ZERO_FRACTION, VERY_HEAVY_DOF
from sw_stack.quantizers.study import GIVEN, Estimate, Study, crossing

OURS = "augmented"
ROUNDED = "rounded-shared"


def _verdict(gain: Estimate) -> str:
    """Whether a gain of one scheme over another is told apart from zero by two standard errors.

    Weight errors of one given matrix have no standard error; their sign stands as it is.
    """
    spread = f" ± {gain.standard_error:.2f}" if gain.standard_error else ""
    if abs(gain.mean) <= 2 * gain.standard_error:
        return f"ties ({gain.mean:+.2f}{spread} dB)"
    return f"{'wins' if gain.mean > 0 else 'loses'} by {abs(gain.mean):.2f}{spread} dB"


def conclude(study: Study) -> list[str]:
    """One paragraph per question; every number and every "wins" or "loses" is computed from ``study``."""
    paragraphs = [
        _gaussian(study),
        _own_storage(study),
        _heavy_tails(study),
        _zeros(study),
        _biased_activations(study),
        _nested(study),
    ]
    if study.tensor:
        paragraphs.append(_given(study))
    paragraphs.append(_summary(study))
    return paragraphs


def _weight_gain(study: Study, matrix: str, other: str) -> Estimate:
    return study.weight_db[matrix, OURS].minus(study.weight_db[matrix, other])


def _extra(study: Study, name: str) -> float:
    return next(s.extra_bits for s in study.schemes if s.name == name)


def _gaussian(study: Study) -> str:
    ours, truncated = (study.weight_db["gaussian", name].mean for name in (OURS, "truncated"))
    return (
        f"Gaussian weights: the augmented slice keeps {ours:.1f} dB where plain truncation keeps {truncated:.1f}, from "
        f"the same stored bits. Against rounding on the shared scale it "
        f"{_verdict(_weight_gain(study, 'gaussian', ROUNDED))} and stores {_extra(study, OURS):g} extra bits per "
        f"weight instead of {_extra(study, ROUNDED):g}."
    )


def _own_storage(study: Study) -> str:
    others = ("copy-absmax", "copy-searched", "matryoshka")
    verdicts = [
        f"{name} (+{_extra(study, name):g} bits) it {_verdict(_weight_gain(study, 'gaussian', name))}"
        for name in others
    ]
    return f"What storage of one's own buys, Gaussian weights: against {'; against '.join(verdicts)}."


def _heavy_tails(study: Study) -> str:
    at = crossing(study.dof_gain_db)
    where = (
        "at no measured tail does the sign change"
        if at is None
        else f"the sign changes near {at:.1f} degrees of freedom"
    )
    very_heavy = _weight_gain(study, f"student-t {VERY_HEAVY_DOF}", ROUNDED)
    return (
        f"Heavy tails (Student's t, against rounding on the shared scale): {where}; at {VERY_HEAVY_DOF} it "
        f"{_verdict(very_heavy)}. One outlier sets the group's scale, most weights then lie within the step around "
        f"zero, and a mid-rise quantiser has no level there."
    )


def _zeros(study: Study) -> str:
    at = crossing(study.zero_gain_db)
    where = "at no measured fraction does the sign change" if at is None else f"the sign changes near {at:.0%} zeros"
    sparse = _weight_gain(study, f"sparse {SPARSE_ZERO_FRACTION:.0%}", ROUNDED)
    return (
        f"Zeros: an isolated zero becomes {study.isolated_zero[OURS]:.2f} of a coarse step (rounding: "
        f"{study.isolated_zero[ROUNDED]:.2f}). In Gaussian weights {where}; at {SPARSE_ZERO_FRACTION:.0%} zeros it "
        f"{_verdict(sparse)}."
    )


def _biased_activations(study: Study) -> str:
    def output(kind: str, scheme: str) -> Estimate:
        return study.output_db["gaussian", kind, scheme]

    correction = output("biased", f"{OURS}-corrected").minus(output("biased", OURS))
    plain = output("biased", OURS).minus(output("biased", ROUNDED))
    corrected = output("biased", f"{OURS}-corrected").minus(output("biased", ROUNDED))
    bias = study.activation_bias["biased"]
    return (
        f"Biased activations (mean / RMS {bias:.2f}, {study.config.inputs} inputs, Gaussian weights): 16h + 8 lies "
        f"half a fine step above the middle of its interval, and that adds up. Output SQNR goes from "
        f"{output('unbiased', OURS).mean:.1f} to {output('biased', OURS).mean:.1f} dB, where augmentation "
        f"{_verdict(plain)} against rounding. The correction -s/2 x activation sum {_verdict(correction)} over none; "
        f"with it augmentation {_verdict(corrected)}."
    )


def _nested(study: Study) -> str:
    verdicts = [f"{m}: {_verdict(_weight_gain(study, m, 'rounded-nested'))}" for m in study.matrices]
    return (
        f"Against rounding nested in a target limited to |q| <= 119 (0 extra bits, a coarser target): "
        f"{'; '.join(verdicts)}."
    )


def _given(study: Study) -> str:
    outputs = ", ".join(
        f"{kind} {_verdict(study.output_db[GIVEN, kind, OURS].minus(study.output_db[GIVEN, kind, ROUNDED]))}"
        for kind in ("unbiased", "biased")
    )
    return (
        f"Given tensor {study.tensor.name}, against rounding on the shared scale: by weight error it "
        f"{_verdict(_weight_gain(study, GIVEN, ROUNDED))}; by output error with activations {outputs}."
    )


def _summary(study: Study) -> str:
    gains = {matrix: _weight_gain(study, matrix, ROUNDED) for matrix in study.matrices}
    better = [m for m, gain in gains.items() if gain.mean > 2 * gain.standard_error]
    worse = [m for m, gain in gains.items() if gain.mean < -2 * gain.standard_error]
    return (
        f"So: by weight error against rounding on the shared scale, use it for {', '.join(better) or 'none of these'}; "
        f"not for {', '.join(worse) or 'none of these'}. Its draft costs no storage beyond the target's."
    )
