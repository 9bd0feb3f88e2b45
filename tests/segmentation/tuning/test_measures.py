"""Choice and expectation of whole images' tuning against plain loops, and on simulated truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from segmentation.classification.scores import mean_average_precision, paired_difference
from segmentation.tuning import expectation
from segmentation.tuning.measures import Accuracy, Precision, Recorder, jackknife, pick, rank_costs


def chosen_by_loops(hits: np.ndarray, sizes: np.ndarray, costs: np.ndarray) -> int:
    """The rule, unit by unit."""
    n, units = sizes.sum(), len(sizes)
    scores = hits.sum(axis=1) / n
    best = int(scores.argmax())
    near = []
    for setting in range(len(hits)):
        gain = scores[setting] - scores[best]
        rest = [hits[setting, u] - hits[best, u] - gain * sizes[u] for u in range(units)]
        error = (sum(r * r for r in rest) * units / (units - 1)) ** 0.5 / n
        if scores[best] - scores[setting] <= error + 1e-12:
            near.append(setting)
    cheapest = min(costs[s] for s in near)
    return max((s for s in near if costs[s] == cheapest), key=lambda s: (scores[s], -s))


def simulate(rates: np.ndarray, units: int, generator: np.random.Generator, most: int = 4) -> Accuracy:
    sizes = generator.integers(1, most + 1, units)
    return Accuracy(generator.binomial(sizes, rates[:, None]).astype(np.int64), sizes.astype(np.int64))


def test_the_cheapest_within_one_error_is_picked() -> None:
    gains, costs = np.array([-0.02, -0.03, 0.0, -0.12]), np.array([1, 1, 2, 0])
    assert pick(np.stack([gains, np.array([0.03, 0.03, 0, 0.01])], axis=1), costs) == 0  # the better one
    assert pick(np.stack([gains, np.zeros(4)], axis=1), costs) == 2
    assert pick(np.stack([gains, np.full(4, np.nan)], axis=1), costs) == 2
    assert rank_costs([(13, 2), (1, 0), (13, 2), (1, 1)]).tolist() == [2, 0, 2, 1]


def test_errors_of_single_images_are_those_of_a_paired_difference() -> None:
    found = simulate(np.array([0.5, 0.6, 0.7]), 50, np.random.default_rng(0), most=1)
    gains = found.gains(1)
    for setting in (0, 2):
        expected = paired_difference(found.hits[setting], found.hits[1])
        np.testing.assert_allclose(gains[setting], expected)
    assert gains[1].tolist() == [0, 0]


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("seed", range(6))
def test_either_half_is_scored_by_the_choice_of_the_other(seed: int, most: int) -> None:
    generator = np.random.default_rng(seed)
    found = simulate(generator.uniform(0.55, 0.7, 9), 20, generator, most)
    other = simulate(generator.uniform(0.3, 0.9, 9), 20, generator, most)
    score = Accuracy(np.minimum(other.hits, found.sizes), found.sizes)
    costs = generator.integers(0, 4, 9)
    counts = generator.multinomial(20, np.full(20, 0.05))
    right = 0
    for half in (0, 1):
        others = [i for i in range(20) for _ in range(counts[i]) if i % 2 != half]
        best = chosen_by_loops(found.hits[:, others], found.sizes[others], costs)
        right += sum(counts[i] * score.hits[best, i] for i in range(20) if i % 2 == half)
    assert found.by_halves(score, costs, counts) == pytest.approx(right / (counts @ found.sizes))
    assert found.choose(costs) == chosen_by_loops(found.hits, found.sizes, costs)


def test_a_sample_of_one_unit_has_an_estimate() -> None:
    found = Accuracy(np.array([[0, 1, 1], [1, 0, 1]]), np.array([1, 1, 1]))
    assert found.by_halves(found, np.zeros(2, dtype=np.int64), np.array([0, 3, 0])) == 1.0


@pytest.mark.parametrize("flips", [0.03, 0.1])
def test_the_interval_covers_new_sets(flips: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation, "SAMPLES", 60)
    generator, costs = np.random.default_rng(2), np.repeat([0, 1], [5, 25])
    covered, widths, runs = 0, [], 100
    for _ in range(runs):
        easy = generator.random((2, 150)) < 0.8  # the memory's images, and new ones
        right = np.where(generator.random((30, 2, 150)) < flips, ~easy, easy).astype(np.int64)
        found = Accuracy(right[:, 0], np.ones(150, dtype=np.int64))
        expected = found.expect(found, costs, generator=generator)
        covered += expected.low <= right[found.choose(costs), 1].mean() <= expected.high
        widths.append(expected.high - expected.low)
    assert covered >= 90  # 95 promised, with a standard error of 2
    assert np.mean(widths) < 0.25  # of one setting that nobody chose it is 0.18


def test_having_tried_many_settings_does_not_raise_the_expectation() -> None:
    generator = np.random.default_rng(1)
    rates, costs, ones = np.full(80, 0.6), np.zeros(80, dtype=np.int64), np.ones(60, dtype=np.int64)
    naive, honest = [], []
    for _ in range(60):
        found = simulate(rates, 60, generator, most=1)
        naive.append(found.scores.max())
        honest.append(found.by_halves(found, costs, ones))
    error = np.std(honest) / 60**0.5
    assert np.mean(naive) > 0.6 + 5 * error  # what is there to correct
    assert abs(np.mean(honest) - 0.6) < 3 * error


def test_the_interval_holds_the_estimate_and_is_the_same_for_the_same_seed() -> None:
    found = simulate(np.array([0.5, 0.7]), 30, np.random.default_rng(3))
    costs = np.array([0, 1])
    twice = [found.expect(found, costs, generator=np.random.default_rng(4)) for _ in range(2)]
    assert twice[0] == twice[1] and twice[0].units == 30
    assert 0 < twice[0].low < twice[0].score < twice[0].high < 1
    assert twice[0].score == found.by_halves(found, costs, np.ones(30, dtype=np.int64))
    assert found.estimate(costs, np.array([0])) == pytest.approx(found.scores[0])


@pytest.fixture
def precise() -> Callable[[np.ndarray], Precision]:
    """Votes for images of one or two of four classes, the noisier the larger a setting's number."""

    def make(noise: np.ndarray) -> Precision:
        generator = np.random.default_rng(5)
        truth = [tuple({n % 4, int(generator.integers(4))}) for n in range(60)]
        right = np.array([[column in true for column in range(4)] for true in truth], dtype=float)
        votes = right + noise[:, None, None] * generator.normal(size=(len(noise), 60, 4))
        shares = np.exp(votes) / np.exp(votes).sum(axis=2, keepdims=True)
        return Precision(shares.astype(np.float32), truth, np.arange(60))

    return make


def test_average_precision_is_that_of_the_report(precise: Callable[[np.ndarray], Precision]) -> None:
    found = precise(np.array([0.2, 0.5, 2.0]))
    for setting in range(3):
        expected = mean_average_precision(found.truth, found.shares[setting])
        assert found.scores[setting] == pytest.approx(expected)
    gains = found.gains(2)
    np.testing.assert_allclose(gains[:, 0], found.scores - found.scores[2])
    assert gains[2, 1] == 0 and (gains[:2, 1] > 0).all()
    # far better beats cheaper; as good does not
    assert found.choose(np.array([1, 1, 0])) == 0
    assert precise(np.array([0.2, 0.2])).choose(np.array([1, 0])) == 1


def test_a_half_is_scored_by_the_choice_of_the_other(precise: Callable[[np.ndarray], Precision]) -> None:
    found = precise(np.array([0.9, 1.0, 1.1, 1.2]))
    costs = np.array([3, 2, 1, 0])
    votes = found.composed(found, costs)
    even = found.units % 2 == 0
    for asked in (even, ~even):
        choosing = Precision(
            found.shares[:, ~asked], [t for t, a in zip(found.truth, asked, strict=True) if not a],
            found.units[~asked] // 2,
        )  # fmt: skip
        np.testing.assert_array_equal(votes[asked], found.shares[choosing.choose(costs), asked])
    expected = found.expect(found, costs, generator=np.random.default_rng(0))
    assert expected.score == pytest.approx(mean_average_precision(found.truth, votes))
    assert expected.low < expected.score < expected.high and expected.units == 60


def test_the_jackknife_of_a_mean_is_its_error() -> None:
    values = np.random.default_rng(6).normal(size=40)
    without = np.array([[np.delete(values, n).mean() for n in range(40)]])
    assert jackknife(without)[0] == pytest.approx(values.std(ddof=1) / 40**0.5)


def test_votes_become_hits_of_units_or_stay_votes() -> None:
    shares = np.array([[0.7, 0.3], [0.2, 0.8], [0.0, 0.0]], dtype=np.float32)
    one = Recorder.of([(0,), (0,), (0,)], settings=2, classes=2, several=False)
    one.add(1, np.arange(3), shares)
    found = one.measure(np.array([0, 1, 1]))
    assert isinstance(found, Accuracy)
    assert found.hits.tolist() == [[0, 0], [1, 0]] and found.sizes.tolist() == [1, 2]
    two = Recorder.of([(0,), (0, 1), (1,)], settings=1, classes=2, several=True)
    two.add(0, np.array([0, 2]), shares[:2])
    kept = two.measure(np.arange(3))
    assert isinstance(kept, Precision)
    np.testing.assert_array_equal(kept.shares[0], [shares[0], [0, 0], shares[1]])
