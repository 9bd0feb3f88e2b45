"""How good settings are on left-out images, which one is chosen, and what that choice will give.

Choice: the best score, but where a cheaper setting is below it by at most the standard error of their paired
difference, the cheapest such; of several, its best (Breiman et al., *Classification and Regression Trees*,
1984, section 3.4.3).

What to expect is not raised by having chosen: one half of the units chooses, by this rule, the other is
scored, and the reverse. Leaving out one unit at a time, as patches do, is unsteady with shares of right
images: one image more or less decides among settings, so the others' choice avoids what is right for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from segmentation.classification.scores import Truth, mean_average_precision
from segmentation.tuning.expectation import Expectation, expect_of, interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: Parts of the images that are left out in turn to see how an average precision varies.
PARTS = 10
_ROUNDING = 1e-9


class Measure(Protocol):
    """Scores of S settings on left-out images; "units" are what was left out at a time."""

    name: ClassVar[str]

    @property
    def scores(self) -> Floats:
        """(S,) in 0..1."""

    def gains(self, reference: int) -> Floats:
        """(S, 2): how much better each setting is than ``reference``, and the paired standard error."""

    def choose(self, costs: Ints) -> int:
        """The setting that the rule takes, by the ranks of their costs (S,)."""

    def estimate(self, costs: Ints, chosen: Ints) -> float:
        """What choosing among the settings ``chosen`` gives on images that did not choose."""

    def expect(self, score: Measure, costs: Ints, *, generator: np.random.Generator) -> Expectation:
        """The same among all, with an interval; ``score``, of the same kind and units, scores the choice."""


def pick(gains: Floats, costs: Ints) -> int:
    """The rule: gains over the best setting and their errors, (S, 2), and costs (S,) -> a setting."""
    # one image more or less is exactly one error: rounding must not decide there
    near = -gains[:, 0] <= np.nan_to_num(gains[:, 1]) + _ROUNDING
    cheapest = near & (costs == costs[near].min())
    return int(np.where(cheapest, gains[:, 0], -np.inf).argmax())


def halves(units: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which of the units (Q,) are in either half: every second, so that both halves have all classes.

    Data sets go class by class.
    """
    even = units % 2 == 0
    return even, ~even


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Top-1: the share of images whose best class is the true one."""

    hits: Ints
    """(S, U): right images of each unit."""
    sizes: Ints
    """(U,): images of each unit."""

    name: ClassVar[str] = "top-1"

    @property
    def scores(self) -> Floats:
        """(S,) in 0..1."""
        shares: Floats = self.hits.sum(axis=1) / self.sizes.sum()
        return shares

    def gains(self, reference: int) -> Floats:
        """As :meth:`Measure.gains`, from the differences of units."""
        return self._gains(reference, np.ones_like(self.sizes))

    def choose(self, costs: Ints) -> int:
        """As :meth:`Measure.choose`."""
        return self._chosen(costs, np.ones_like(self.sizes))

    def by_halves(self, score: Accuracy, costs: Ints, counts: Ints) -> float:
        """Top-1 in ``score`` of each half of the units under the choice of the other half.

        ``counts`` (U,): how often each unit is in the sample; all copies of a unit are in one half.
        """
        right = 0
        for asked in halves(np.arange(len(self.sizes))):
            chosen = self._chosen(costs, np.where(asked, 0, counts))
            right += int(score.hits[chosen] @ np.where(asked, counts, 0))
        return float(right / (score.sizes @ counts))

    def estimate(self, costs: Ints, chosen: Ints) -> float:
        """As :meth:`Measure.estimate`."""
        some = Accuracy(self.hits[chosen], self.sizes)
        return some.by_halves(some, costs[chosen], np.ones_like(self.sizes))

    def expect(self, score: Measure, costs: Ints, *, generator: np.random.Generator) -> Expectation:
        """As :meth:`Measure.expect`, with a bootstrap over units."""
        assert isinstance(score, Accuracy)
        return expect_of(
            lambda counts: self.by_halves(score, costs, counts), len(self.sizes), generator=generator
        )

    def _gains(self, reference: int, counts: Ints) -> Floats:
        total = max(int(self.sizes @ counts), 1)  # half of a sample may be empty
        units = int(counts.sum())
        difference = (self.hits - self.hits[reference]).astype(np.float64)
        gain = difference @ counts / total
        rest = difference - gain[:, None] * self.sizes
        error = np.sqrt(rest**2 @ counts * units / max(units - 1, 1)) / total
        return np.stack([gain, error], axis=1)

    def _chosen(self, costs: Ints, counts: Ints) -> int:
        best = int((self.hits @ counts).argmax())
        return pick(self._gains(best, counts), costs)


@dataclass(frozen=True, eq=False)
class Precision:
    """Mean average precision over the classes that occur; errors by a jackknife over parts of the units."""

    shares: npt.NDArray[np.float32]
    """(S, Q, C): the vote of each image."""
    truth: Truth
    """The true columns of each of the Q images."""
    units: Ints
    """(Q,) the unit of each image, from 0."""

    name: ClassVar[str] = "mAP"

    @cached_property
    def scores(self) -> Floats:
        """(S,) in 0..1."""
        return self._over(np.ones(len(self.units), dtype=bool))

    def gains(self, reference: int) -> Floats:
        """As :meth:`Measure.gains`."""
        without = self._without_parts  # (S, B)
        scores = self.scores
        return np.stack([scores - scores[reference], jackknife(without - without[reference])], axis=1)

    def choose(self, costs: Ints) -> int:
        """As :meth:`Measure.choose`."""
        scores, without = self.scores, self._without_parts
        best = int(scores.argmax())
        return pick(np.stack([scores - scores[best], jackknife(without - without[best])], axis=1), costs)

    def estimate(self, costs: Ints, chosen: Ints) -> float:
        """As :meth:`Measure.estimate`."""
        some = Precision(self.shares[chosen], self.truth, self.units)
        return mean_average_precision(self.truth, some.composed(some, costs[chosen]))

    def expect(self, score: Measure, costs: Ints, *, generator: np.random.Generator) -> Expectation:
        """As :meth:`Measure.expect`; nothing in it is random."""
        assert isinstance(score, Precision)
        found = Precision(self.composed(score, costs)[None], self.truth, self.units)
        without = found._without_parts
        error = float(jackknife(without)[0])
        units = int(self.units.max()) + 1
        return interval(float(found.scores[0]), error, units=units, parts=without.shape[1])

    def composed(self, score: Precision, costs: Ints) -> npt.NDArray[np.float32]:
        """The votes (Q, C) in ``score`` of each half of the units under the choice of the other half."""
        result: npt.NDArray[np.float32] = np.empty_like(score.shares[0])
        for asked in halves(self.units):
            choosing = Precision(
                self.shares[:, ~asked],
                [true for true, out in zip(self.truth, asked, strict=True) if not out],
                self.units[~asked] // 2,
            )
            result[asked] = score.shares[choosing.choose(costs), asked]
        return result

    @cached_property
    def _without_parts(self) -> Floats:
        """The scores (S, B) with each part of the units left out."""
        parts = self.units % PARTS
        return np.stack([self._over(parts != part) for part in np.unique(parts)], axis=1)

    def _over(self, kept: npt.NDArray[np.bool_]) -> Floats:
        truth = [true for true, keep in zip(self.truth, kept, strict=True) if keep]
        values = [mean_average_precision(truth, votes[kept]) if truth else 0.0 for votes in self.shares]
        return np.nan_to_num(np.array(values, dtype=np.float64))


def jackknife(without: Floats) -> Floats:
    """Standard errors (S,) from scores with each of B parts left out, (S, B); 0 for one part."""
    parts = without.shape[1]
    centred = without - without.mean(axis=1, keepdims=True)
    errors: Floats = np.sqrt((parts - 1) / parts * (centred**2).sum(axis=1))
    return errors


@dataclass(eq=False)
class Recorder:
    """Takes in the votes of left-out images, setting by setting, and makes the measure of them."""

    truth: Truth
    """Of the Q left-out images."""
    several: bool
    votes: npt.NDArray[np.float32] | npt.NDArray[np.bool_]
    """(S, Q, C) votes of images of several classes, else whether each image is right, (S, Q)."""

    @classmethod
    def of(cls, truth: Truth, *, settings: int, classes: int, several: bool) -> Recorder:
        """Nothing recorded yet."""
        if several:
            return cls(truth, True, np.zeros((settings, len(truth), classes), dtype=np.float32))
        return cls(truth, False, np.zeros((settings, len(truth)), dtype=bool))

    def add(self, setting: int, places: Ints, shares: npt.NDArray[np.float32]) -> None:
        """The votes (n, C) of the images at ``places`` among the left-out ones."""
        if self.several:
            self.votes[setting, places] = shares
            return
        true = np.array([self.truth[place][0] for place in places])
        self.votes[setting, places] = (shares.argmax(axis=1) == true) & (shares.max(axis=1) > 0)

    def measure(self, units: Ints) -> Measure:
        """The measure over ``units`` (Q,), numbered from 0."""
        if self.several:
            return Precision(self.votes.astype(np.float32, copy=False), self.truth, units)
        member = (units[:, None] == np.arange(units.max() + 1)).astype(np.float32)  # (Q, U)
        hits = self.votes.astype(np.float32) @ member
        return Accuracy(hits.astype(np.int64), np.bincount(units))


def rank_costs(costs: Sequence[tuple[int, ...]]) -> Ints:
    """Costs as ranks from 0, the same for equal ones: (S,) int64."""
    ranks = {cost: rank for rank, cost in enumerate(sorted(set(costs)))}
    return np.array([ranks[cost] for cost in costs], dtype=np.int64)
