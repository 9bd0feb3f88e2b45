"""Which setting is fast, which balanced, which best; and what to expect of each.

A choice takes the best score among the settings within its limit of time; of those behind it by no more than
the standard error of the paired difference the cheapest (Breiman et al., *Classification and Regression
Trees*, 1984, section 3.4.3). Times that differ by less than :data:`SAME_TIME` count as the same, and the
better score decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmentation.tuning.cost import Cost
from segmentation.tuning.expectation import Expectation, expect
from segmentation.tuning.scoring import Tally, miou_of
from segmentation.tuning.settings import Setting

#: The time that a choice may take, in times that of plain embeddings; 3 % is what timings vary by.
LIMITS = {"fast": 1.03, "balanced": 1.15, "best": math.inf}
#: Relative difference of times that counts as none.
SAME_TIME = 0.05

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses among settings by their tallies, time and limit, in any sample of the units."""

    tally: Tally
    """(S, U, C, 2), by which it chooses."""
    times: npt.NDArray[np.float64]
    """(S,) milliseconds an image."""
    limit: float
    """Milliseconds."""
    allowed: Bools
    """(1 + U, S): what may be chosen by all units, and without each of them."""
    errors: npt.NDArray[np.float64]
    """(S, S) standard errors of the paired differences, of all units: what counts as a tie, in every view."""

    def choose(self, total: npt.NDArray[np.int64], view: int) -> int:
        """The choice by a total (S, C, 2), among what the view may choose."""
        open_to = self.allowed[view]
        inside = open_to & (self.times <= self.limit)
        if not inside.any():  # nothing is so cheap: the cheapest there is
            inside = open_to & (self.times <= self.times[open_to].min())
        scores = np.where(inside, np.nan_to_num(miou_of(total), nan=-1.0), -np.inf)
        best = int(scores.argmax())
        tied = np.flatnonzero(scores >= scores[best] - self.errors[:, best])
        steps = np.floor(np.log(self.times[tied] / self.times[tied].min()) / math.log1p(SAME_TIME))
        return int(tied[np.lexsort((-scores[tied], steps))[0]])

    def expect(self, score: Tally, *, generator: np.random.Generator) -> Expectation:
        """What the choice will give in ``score``, each unit under what the others choose."""
        return expect(
            self.tally, score, generator=generator, pick=lambda total, unit: self.choose(total, 1 + unit)
        )


@dataclass(frozen=True)
class Choice:
    """One of the settings to choose from."""

    name: str
    setting: Setting
    miou: float
    """Pooled over left-out images, in 0..1."""
    gain: float
    """Over plain embeddings of the base recipe's block."""
    cost: Cost
    near: Expectation
    """Of images like the memory's: only the image itself was left out."""
    new: Expectation | None
    """Of images of a new group; None where no groups were given."""

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest mIoU, 0..1, that either expectation allows."""
        both = [found for found in (self.near, self.new) if found is not None]
        return min(found.low for found in both), max(found.high for found in both)


def pair_errors(
    tally: Tally, *, generator: np.random.Generator, samples: int = 300
) -> npt.NDArray[np.float64]:
    """Standard errors (S, S) of the paired differences of settings, by a bootstrap of units."""
    units = tally.shape[1]
    draws = generator.multinomial(units, np.full(units, 1 / units), size=samples)
    found = np.stack([miou_of(np.tensordot(tally, draw, axes=(1, 0))) for draw in draws])
    found = np.nan_to_num(found - found.mean(axis=0))
    covariance = found.T @ found / (samples - 1)
    variances = np.diagonal(covariance)
    errors: npt.NDArray[np.float64] = np.sqrt(
        np.maximum(variances[:, None] + variances[None, :] - 2 * covariance, 0)
    )
    return errors


def choose_all(
    settings: Sequence[Setting],
    tallies: Sequence[Tally],
    costs: Mapping[Setting, Cost],
    allowed: Bools,
    plain: int,
    *,
    generators: Sequence[np.random.Generator],
    grouped: bool,
) -> tuple[Choice, ...]:
    """The three choices, by the first of ``tallies`` (of each rule, (S, U, C, 2)), and what each will give.

    ``plain`` is the place of plain embeddings; ``generators`` are one for the errors and one for each choice.
    """
    choose, times = tallies[0], np.array([costs[setting].total for setting in settings])
    errors = pair_errors(choose, generator=generators[0])
    scores = np.nan_to_num(miou_of(choose.sum(axis=1)), nan=0.0)
    found = []
    for (name, limit), generator in zip(LIMITS.items(), generators[1:], strict=True):
        chooser = Chooser(choose, times, limit * float(times[plain]), allowed, errors)
        chosen = chooser.choose(choose.sum(axis=1), 0)
        expected = [chooser.expect(tally, generator=generator) for tally in tallies]
        found.append(
            Choice(
                name,
                settings[chosen],
                float(scores[chosen]),
                float(scores[chosen] - scores[plain]),
                costs[settings[chosen]],
                expected[-1],
                expected[0] if grouped else None,
            )
        )
    return tuple(found)
