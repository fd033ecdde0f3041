"""The n-gram baseline: hand-worked probabilities, sums of one, the published discount formula; and the corpus cuts."""

from fractions import Fraction

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.models.training.baseline import seen_stream
from sw_stack.models.training.batches import Batches, Schedule, window_starts
from sw_stack.models.training.kneser_ney import KneserNey, estimate_discounts
from sw_stack.models.training.sources import DOMAINS

START, A, B = 0, 1, 2
# Two texts, "a b a b" and "a a".
TOY = np.array([START, A, B, A, B, START, A, A])
DISCOUNT = (0, 0.5, 0.5, 0.5)


def after(model: KneserNey, *symbols: int) -> np.ndarray:
    """Probability of every symbol but the start after a text that begins with ``symbols``."""
    streams = [np.array([START, *symbols, w]) for w in range(1, model.predicted + 1)]
    return np.array([model.probabilities(stream)[1][-1] for stream in streams])


def test_bigram_worked_by_hand():
    """Discount 1/2 everywhere, order 2, worked with fractions.

    Bigrams: (S a) 2, (a b) 2, (b a) 1, (a a) 1. Left neighbours: of a {S, b, a} = 3, of b {a} = 1.
    Unigrams: p(a) = (3 - 1/2) / 4 + (1/2 + 1/2) / 4 x 1/2 = 3/4, p(b) = (1 - 1/2) / 4 + 1/8 = 1/4.
    After a (count 3, two kinds): p(b | a) = (2 - 1/2) / 3 + 1/3 x 1/4 = 7/12, p(a | a) = 5/12.
    After b (count 1): p(a | b) = 1/2 + 1/2 x 3/4 = 7/8.
    At the start (count 2, one kind): p(a | S) = 3/4 + 1/4 x 3/4 = 15/16.
    """
    model = KneserNey(TOY, vocabulary=3, order=2, discounts=DISCOUNT)
    expected = {(): (Fraction(15, 16), Fraction(1, 16)), (A,): (Fraction(5, 12), Fraction(7, 12)),
                (A, B): (Fraction(7, 8), Fraction(1, 8))}  # fmt: skip
    for history, probabilities in expected.items():
        assert after(model, *history) == pytest.approx([float(p) for p in probabilities], abs=1e-12)


def test_trigram_at_the_start_keeps_plain_counts():
    """Order 3: (S a) opens two texts and nothing precedes it, so its count stays 2; worked by hand.

    Trigrams: (S a b) 1, (S a a) 1, (a b a) 1, (b a b) 1. After (S a), count 2, two kinds, freed 1:
    p(b | S a) = (1 - 1/2) / 2 + 1/2 x p(b | a). Bigram counts by left neighbours: (a b) {S, b} 2, (a a) {S} 1,
    (b a) {a} 1. They equal the toy's plain counts, so p(b | a) = 7/12 as above and p(b | S a) = 1/4 + 7/24 = 13/24.
    The very first symbol: (S a) has the plain count 2, so p(a | S) = 15/16 as above.
    """
    model = KneserNey(TOY, vocabulary=3, order=3, discounts=DISCOUNT)
    assert after(model, A)[1] == pytest.approx(13 / 24, abs=1e-12)
    assert after(model)[0] == pytest.approx(15 / 16, abs=1e-12)


def test_probabilities_sum_to_one():
    """After seen and unseen histories, at a text's start and deep inside, order 4, estimated discounts."""
    random = np.random.default_rng(3)
    texts = [[START, *np.minimum(random.geometric(0.4, 80), 6)] for _ in range(20)]
    model = KneserNey(np.concatenate(texts), vocabulary=8, order=4)
    for history in ((), (1,), (7,), (1, 1, 2), (6, 6, 6, 6), (7, 1, 2, 1)):
        found = after(model, *history)
        assert found.min() > 0
        assert found.sum() == pytest.approx(1, abs=1e-12)


def test_discounts():
    """Chen and Goodman's formula on counts of counts 8, 4, 2, 1: Y = 1/2, D = 1/2, 5/4, 2; else the fallback."""
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 1])
    assert estimate_discounts(counts) == pytest.approx([0, 0.5, 1.25, 2.0])
    assert estimate_discounts(np.array([5, 6, 7])) == pytest.approx([0, 0.5, 1, 1.5])


def test_a_longer_history_helps_where_the_text_has_one():
    """A text whose third symbol is decided by the first two: order 3 is sure, order 2 is not."""
    text = np.array([START, *([1, 1, 2, 2] * 50)])
    long, short = (-np.log2(KneserNey(text, 4, n, discounts=DISCOUNT).probabilities(text)[1]).mean() for n in (3, 2))
    assert long < 0.1 < 0.9 < short


def test_bad_input():
    """A key that cannot fit 62 bits and a stream without a start are refused in one line."""
    with pytest.raises(UserError, match="Order must be at most 6 for 1024 symbols, not 7"):
        KneserNey(TOY, vocabulary=1024, order=7)
    with pytest.raises(UserError, match="begin with the start symbol"):
        KneserNey(TOY[1:], vocabulary=3, order=2)


def test_training_windows_visit_everything_once_an_epoch():
    """An epoch's windows do not overlap and are shuffled; the next epoch cuts elsewhere; calls may cut them anyhow."""
    size, length = 1000, 30
    per_epoch = (size - length - 1) // length
    epochs = [window_starts(size, length, e * per_epoch, per_epoch, seed=5) for e in (0, 1)]
    for starts in epochs:
        assert starts.min() >= 0 and starts.max() + length + 1 <= size
        assert (np.diff(np.sort(starts)) == length).all()
        assert (np.diff(starts) < 0).any()
    assert epochs[0].min() % length != epochs[1].min() % length
    one_by_one = [window_starts(size, length, i, 1, seed=5) for i in range(2 * per_epoch)]
    assert (np.concatenate(one_by_one) == np.concatenate(epochs)).all()


def test_seen_text_and_its_pieces():
    """Steps of 64 then 128 tokens mark what they fed, windows of an epoch once; pieces stand behind start marks."""
    random = np.random.default_rng(1)
    streams = {d.name: random.integers(1, 9, 5000) for d in DOMAINS}
    schedule = Schedule(tokens=128, early_tokens=64, early=3, short=16, long=32)
    batches = Batches(streams, schedule, steps=10, seed=7)
    assert [batches.batch(step).shape for step in (0, 3, 9)] == [(4, 17), (8, 17), (4, 33)]
    seen = batches.seen()
    fed = schedule.tokens_before(10)
    assert fed == 3 * 64 + 7 * 128
    assert 0.8 * fed < sum(mask.sum() for mask in seen.values()) <= fed + 44 + 12
    stream, mask = np.array([0, 5, 6, 7, 8, 9]), np.array([1, 1, 0, 1, 1, 0], bool)
    assert seen_stream(stream, mask).tolist() == [0, 5, 0, 7, 8]
