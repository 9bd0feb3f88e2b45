"""Which score (of patches mIoU) to expect of settings that the same images chose, and how sure that is.

The unit is what was left out: a group, or an image alone. Units are taken as drawn independently
from what new images will come from; images of one unit may resemble one another as they like.

*The estimate* is nested: for each unit the best setting is chosen by the pooled score of all
*other* units, and the unit is scored under that choice; the units' pixels are pooled, and one mIoU
is computed. So no unit is scored by a setting that it helped to choose, and having tried many
settings does not raise the number; nor has it a part in the rounds before (:mod:`.rounds`). (The
scores of the other units were made with this unit's rows in the bank; as in Tsamardinos et al.,
*Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation*, Machine
Learning 2018, whose idea this is.)

*The interval* is for the mIoU of a new set of as many units. The spread of the estimate is that of
the whole procedure, choice included, over bootstrap samples of units; a new set varies as much
again, hence sqrt(2); Student's t and sqrt(U / (U - 1)) make up for few units (Hesterberg,
*What Teachers Should Know About the Bootstrap*, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from segmentation.tuning.scoring import Tally, miou_of

#: Share of new sets that the interval should cover.
LEVEL = 0.95
#: Bootstrap samples.
SAMPLES = 300


@dataclass(frozen=True)
class Expectation:
    """The score to expect, in 0..1, and the interval that 95 of 100 new sets should fall into."""

    score: float
    """Of patches mIoU; of whole images what their tuning names."""
    low: float
    high: float
    units: int
    """How many images or groups were left out, one at a time."""

    def to_json(self, name: str) -> dict[str, Any]:
        """Plain data, the score under its ``name``."""
        return {name: self.score, "low": self.low, "high": self.high, "units": self.units}


#: Chooses a setting by a total (settings, C, 2), which may depend on the unit that is not in it.
Pick = Callable[[Tally, int], int]


def expect(
    choose: Tally, score: Tally, *, generator: np.random.Generator, pick: Pick | None = None
) -> Expectation:
    """What the chosen one of some settings will give; the best where there is no ``pick``.

    ``choose`` and ``score`` (settings, U, C, 2): the tallies that settings are chosen by, and those
    that say what the chosen gives (often the same). U is at least 2.
    """
    return expect_of(
        lambda counts: nested_miou(choose, score, counts, pick=pick), choose.shape[1], generator=generator
    )


def expect_of(
    estimate: Callable[[npt.NDArray[np.int64]], float], units: int, *, generator: np.random.Generator
) -> Expectation:
    """The expectation of a nested ``estimate``, by the bootstrap; at least 2 units.

    ``estimate`` takes how often each unit is in the sample, (U,), and gives a score in 0..1.
    """
    draws = generator.multinomial(units, np.full(units, 1 / units), size=SAMPLES)
    replicates = np.array([estimate(draw) for draw in draws])
    error = float(np.nanstd(replicates, ddof=1)) * (units / (units - 1)) ** 0.5
    return interval(estimate(np.ones(units, dtype=np.int64)), error, units=units, parts=units)


def interval(score: float, error: float, *, units: int, parts: int) -> Expectation:
    """The interval for a new set of as many units; ``error``, of the score, is known from ``parts`` parts."""
    reach = float(student.ppf((1 + LEVEL) / 2, parts - 1)) * error * 2**0.5
    return Expectation(score, max(0.0, score - reach), min(1.0, score + reach), units)


def nested_miou(
    choose: Tally, score: Tally, counts: npt.NDArray[np.int64], *, pick: Pick | None = None
) -> float:
    """Pooled mIoU of units each scored under the setting that the others pick, the best where not said.

    ``counts`` (U,): how often each unit is in the sample; all copies of a unit are left out together.
    """
    inside = np.flatnonzero(counts)
    total = np.tensordot(choose, counts, axes=(1, 0))  # (S, C, 2)
    pooled = np.zeros(score.shape[2:], dtype=np.int64)
    for unit in inside:
        others = total - counts[unit] * choose[:, unit]
        best = best_setting(others) if pick is None else pick(others, int(unit))
        pooled += counts[unit] * score[best, unit]
    return float(miou_of(pooled))


def best_setting(total: Tally) -> int:
    """The setting of the largest mIoU, the first of equals: (settings, C, 2) -> position."""
    return int(np.argmax(np.nan_to_num(miou_of(total), nan=-1.0)))


def differences(tally: Tally, best: int, *, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """By how much each setting's pooled mIoU is below that of ``best``, and the bootstrap's standard error.

    (settings, U, C, 2) -> (settings, 2) float64, paired: both settings see the same units.
    """
    units = tally.shape[1]
    scores = miou_of(tally.sum(axis=1))
    draws = generator.multinomial(units, np.full(units, 1 / units), size=SAMPLES)
    resampled = np.stack([miou_of(np.tensordot(tally, draw, axes=(1, 0))) for draw in draws])
    errors = np.nanstd(resampled - resampled[:, best : best + 1], axis=0, ddof=1)
    return np.stack([scores[best] - scores, errors], axis=1)
