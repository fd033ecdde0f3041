"""The compared quantisers and the study: hand-worked groups, quantisation theory, identities, computed wording."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.integrate import quad

from cycle_model.numerics import quantize_activations, quantize_weights
from hw.errors import UserError
from sw_stack.quantizers.conclusion import conclude
from sw_stack.quantizers.matrices import ACTIVATIONS, DISTRIBUTIONS
from sw_stack.quantizers.schemes import schemes
from sw_stack.quantizers.study import Estimate, Study, StudyConfig, crossing, run_study, sqnr_db

SMALL = StudyConfig(repeats=2, outputs=16, inputs=128, tokens=4)


@pytest.fixture(scope="module")
def study() -> Study:
    """One run at the command's own sizes."""
    return run_study(StudyConfig())


def levels_of(name: str, group: list[float], base_bits: int = 2) -> list[float]:
    """A scheme's levels for one group of 32 (padded with zeros), in units of 1/64."""
    w = np.zeros((1, 32), np.float32)
    w[0, : len(group)] = np.array(group) / 64
    scheme = next(s for s in schemes(base_bits) if s.name == name)
    return (64 * scheme.reconstruct(w, quantize_weights(w))[0, : len(group)]).tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("int8", [127, -50, 8, 0]),  # q, on the scale 1/64
        ("augmented", [120, -56, 8, 8]),  # 16 h + 8 with h = 7 -4 0 0
        ("augmented-corrected", [119.5, -56.5, 7.5, 7.5]),
        ("truncated", [112, -64, 0, 0]),
        ("rounded-shared", [112, -48, 0, 0]),  # 127/16 = 7.9 clips to 7; 8/16 ties to 0
    ],
)
def test_levels_on_the_shared_scale_by_hand(name: str, expected: list[float]) -> None:
    """127 -50 7.5 0 on the scale 1/64."""
    assert levels_of(name, [127, -50, 7.5, 0]) == expected


def test_nested_rounding_by_hand() -> None:
    """absmax 119/64 gives scale 1/64: k = floor((q + 8) / 16); 119 -> 7, -119 -> -7, 8 -> 1, 7 -> 0, -8 -> 0."""
    assert levels_of("rounded-nested", [119, -119, 8, 7, -8, -9]) == [112, -112, 16, 0, 0, -16]


def test_nested_rounding_always_leaves_a_signed_nibble() -> None:
    """For every |q| <= 119, q - 16 k lies in [-8, 7]: the lower slice needs no fifth bit."""
    for q in range(-119, 120):
        k = levels_of("rounded-nested", [119, q])[1] / 16
        assert k == int(k)
        assert -8 <= q - 16 * k <= 7


def test_separate_copy_by_hand() -> None:
    """absmax 7/64: scale 1/64, integers to the nearest even."""
    assert levels_of("copy-absmax", [7, -6.5, 2.5, 0]) == [7, -6, 2, 0]


def test_searched_copy_finds_an_exact_grid_and_never_exceeds_the_unsearched_error() -> None:
    """-8 to 7 on one scale is represented exactly; on Gaussian data the search beats absmax / 7 by SQNR."""
    assert levels_of("copy-searched", list(range(-8, 8))) == list(range(-8, 8))
    w = np.random.default_rng(0).standard_normal((32, 256), dtype=np.float32)
    quantized = quantize_weights(w)
    by_name = {s.name: sqnr_db(w, s.reconstruct(w, quantized)) for s in schemes()}
    assert by_name["copy-searched"] > by_name["copy-absmax"] + 0.5


def test_matryoshka_planes_by_hand() -> None:
    """Base of one bit: +-mean |w|; then each plane adds +-mean |rest|. 32 weights of magnitudes 1 and 3, half each:
    base 2, rest +-1, one plane of 1: exact from two bits on."""
    group = [1, 3, -1, -3] * 8
    assert levels_of("matryoshka", group, base_bits=1) == group
    assert levels_of("matryoshka", [5.0] * 32, base_bits=1) == [5.0] * 32


def test_matryoshka_with_four_base_bits_has_no_planes() -> None:
    """b1 = 4 leaves room for none: at most 16 levels per group, on one scale."""
    w = np.random.default_rng(1).standard_normal((4, 32), dtype=np.float32)
    scheme = next(s for s in schemes(4) if s.name == "matryoshka")
    for row in scheme.reconstruct(w, quantize_weights(w)):
        assert len(np.unique(row)) <= 16
    assert (scheme.read_bits, scheme.extra_bits) == (4.5, 2.0)


def test_storage_by_hand() -> None:
    """Bits per weight with an FP16 scale per 32: 0.5. Matryoshka of base 2: 2.5 + 2 planes of 1.5 read; eight bits
    of it take 2.5 + 6 x 1.5 = 11.5, three more than the target's 8.5."""
    assert {s.name: (s.read_bits, s.extra_bits) for s in schemes(2)} == {
        "int8": (8.5, 0),
        "augmented": (4.5, 0),
        "augmented-corrected": (4.5, 0),
        "truncated": (4.5, 0),
        "rounded-shared": (4.5, 4),
        "rounded-nested": (4.5, 0),
        "copy-absmax": (4.5, 4.5),
        "copy-searched": (4.5, 4.5),
        "matryoshka": (5.5, 3.0),
    }


@pytest.mark.parametrize("base_bits", [0, 5])
def test_impossible_bases_are_refused(base_bits: int) -> None:
    """A base has 1 to 4 bits."""
    with pytest.raises(UserError, match=f"base bits must be 1 to 4, not {base_bits}"):
        schemes(base_bits)


def test_every_scheme_maps_a_zero_matrix_to_zero_or_its_own_zero_scale() -> None:
    """All-zero groups have scale 0: every scheme gives exact zeros, no NaN."""
    w = np.zeros((2, 64), np.float32)
    for scheme in schemes():
        np.testing.assert_array_equal(scheme.reconstruct(w, quantize_weights(w)), w)


def test_the_correction_is_half_a_step_times_the_activation_sum() -> None:
    """Outputs with and without it differ by s/2 x (sum of the group's activations), summed over groups."""
    rng = np.random.default_rng(2)
    w = rng.standard_normal((8, 96), dtype=np.float32)
    a = quantize_activations(rng.standard_normal((5, 96), dtype=np.float32)).q.astype(np.float64)
    quantized = quantize_weights(w)
    by_name = {s.name: s.reconstruct(w, quantized).astype(np.float64) for s in schemes()}
    difference = a @ by_name["augmented"].T - a @ by_name["augmented-corrected"].T
    sums = a.reshape(5, 3, 32).sum(axis=2)
    np.testing.assert_array_equal(difference, sums @ quantized.scales.astype(np.float64).T / 2)


def test_sqnr_by_hand() -> None:
    """Signal 3 4, error 0 1: 10 log10(25); an exact reconstruction reports the cap."""
    assert sqnr_db(np.array([3, 4]), np.array([3, 3])) == pytest.approx(10 * math.log10(25))
    assert sqnr_db(np.array([3, 4]), np.array([3, 4])) == 300


def test_gaussian_error_agrees_with_quantisation_theory() -> None:
    """With l uniform on 0 to 15, (l - 8)^2 averages 21.5, and INT8 rounding adds 1/12; the group's largest weight has
    q = +-127 and always the error 7. Mean square error (31 (21.5 + 1/12) + 49) / 32 in units of s^2: within 0.03 dB."""
    w = np.random.default_rng(3).standard_normal((256, 1024), dtype=np.float32)
    quantized = quantize_weights(w)
    noise = (31 * (21.5 + 1 / 12) + 49) / 32 * np.mean(quantized.scales.astype(np.float64) ** 2)
    theory = 10 * math.log10(np.mean(np.square(w, dtype=np.float64)) / noise)
    ours = next(s for s in schemes() if s.name == "augmented").reconstruct(w, quantized)
    assert sqnr_db(w, ours) == pytest.approx(theory, abs=0.03)


def test_biased_activations_have_the_mean_of_silu() -> None:
    """The sample mean equals the integral of silu(x) times the normal density, within 5 standard errors."""
    density = lambda x: x / (1 + math.exp(-x)) * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    sample = ACTIVATIONS["biased"](np.random.default_rng(4), (100, 1000)).astype(np.float64)
    assert abs(sample.mean() - quad(density, -12, 12)[0]) < 5 * sample.std() / math.sqrt(sample.size)


def test_distributions_are_what_they_are_called() -> None:
    """Sparse has 90 % zeros; the kurtosis of Laplace is 6; quartiles of Student's t are those of its dof."""
    rng = np.random.default_rng(5)
    assert (DISTRIBUTIONS["sparse 90%"](rng, (500, 500)) == 0).mean() == pytest.approx(0.9, abs=0.005)
    laplace = DISTRIBUTIONS["laplace"](rng, (500, 500)).astype(np.float64)
    assert np.mean(laplace**4) / np.mean(laplace**2) ** 2 == pytest.approx(6, abs=0.3)
    for dof, quartile in ((3, 0.7649), (1.5, 0.8818)):
        sample = DISTRIBUTIONS[f"student-t {dof}"](rng, (500, 500))
        assert np.quantile(sample, 0.75) == pytest.approx(quartile, abs=0.02)


def test_estimates_by_hand() -> None:
    """1 2 3: mean 2, standard error 1/sqrt(3); paired differences."""
    estimate = Estimate(np.array([1.0, 2, 3]))
    assert (estimate.mean, estimate.standard_error) == (2, pytest.approx(1 / math.sqrt(3)))
    assert estimate.minus(Estimate(np.array([0.0, 1, 2]))).standard_error == 0


def test_crossing_by_hand() -> None:
    """-1 at 2 and 3 at 6 cross at 3; no sign change, no crossing."""
    gains = {2.0: Estimate(np.array([-1.0, -1])), 6.0: Estimate(np.array([3.0, 3]))}
    assert crossing(gains) == 3
    assert crossing({2.0: gains[2.0]}) is None


def test_the_machine_arithmetic_agrees_with_the_study(study: Study) -> None:
    """Bit-exact projections differ from the float64 products only by FP32 rounding: some 2^-22 of the RMS."""
    assert 2**-26 < study.pipeline_deviation < 2**-20


def test_the_three_claims_hold_in_the_measurements(study: Study) -> None:
    """Better than rounding on Gaussian weights, worse on very heavy tails, an isolated zero is half a coarse step."""
    gain = {m: study.weight_db[m, "augmented"].minus(study.weight_db[m, "rounded-shared"]) for m in study.matrices}
    assert gain["gaussian"].mean > 5 * gain["gaussian"].standard_error
    assert gain["student-t 1.5"].mean < -5 * gain["student-t 1.5"].standard_error
    assert study.isolated_zero["augmented"] == 0.5
    assert study.isolated_zero["rounded-shared"] == 0


def test_the_correction_helps_where_activations_are_biased(study: Study) -> None:
    """Gaussian weights: it regains more than 2 dB with biased activations and next to nothing with unbiased ones."""
    for kind, least, most in (("biased", 2, 6), ("unbiased", -0.2, 0.3)):
        corrected, plain = (study.output_db["gaussian", kind, n] for n in ("augmented-corrected", "augmented"))
        assert least < corrected.minus(plain).mean < most


def test_the_conclusion_follows_the_numbers(study: Study) -> None:
    """Exchanging the measurements of augmented and rounded-shared exchanges "wins" and "loses"."""
    honest = conclude(study)
    swapped = dataclasses.replace(
        study,
        weight_db={
            (m, {"augmented": "rounded-shared", "rounded-shared": "augmented"}.get(s, s)): e
            for (m, s), e in study.weight_db.items()
        },
        dof_gain_db={dof: Estimate(np.ones(2)) for dof in study.dof_gain_db},
    )
    reverse = conclude(swapped)
    assert "wins by" in honest[0]
    assert "loses by" in reverse[0]
    assert "at no measured tail does the sign change" in reverse[2]
    assert "use it for gaussian" in honest[-1]
    assert "use it for student-t 1.5" in reverse[-1]


def test_same_seed_same_numbers_and_another_seed_others() -> None:
    """The study is a function of its configuration."""
    first, again = run_study(SMALL), run_study(SMALL)
    other = run_study(dataclasses.replace(SMALL, seed=1))
    key = ("gaussian", "augmented")
    np.testing.assert_array_equal(first.weight_db[key].values, again.weight_db[key].values)
    assert (first.weight_db[key].values != other.weight_db[key].values).all()


@pytest.mark.parametrize(("field", "value"), [("repeats", 1), ("repeats", 1001), ("seed", -1)])
def test_impossible_configurations_are_refused(field: str, value: int) -> None:
    """One repetition has no standard error; seeds are not negative."""
    with pytest.raises(UserError, match=f"{field} must be .*, not {value}"):
        StudyConfig(**{field: value})
