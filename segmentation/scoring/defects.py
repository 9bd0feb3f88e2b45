"""Whether an image shows a class at all: one score an image, and how well it ranks them.

The score is the largest calibrated share of the class over the pixels, as anomaly detection takes that of an
image's patches (*Towards Total Recall in Industrial Anomaly Detection*, Roth et al.; CVPR 2022, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from segmentation.pixels import PixelShares


@dataclass(frozen=True)
class DefectScore:
    """One image: its score in 0..1, and whether its truth has a pixel of the class."""

    id: str
    score: float
    defective: bool


@dataclass(frozen=True)
class DefectReport:
    """How well images with a class are told from those without."""

    name: str
    """Of the class."""
    images: tuple[DefectScore, ...]
    threshold: float | None = None
    """The one that was given, to be judged."""
    flatters: bool = False
    """Whether images of the memory were scored with themselves in it."""

    @property
    def auroc(self) -> float:
        """Image-level AUROC in 0..1; NaN where all images have the class, or none."""
        return auroc(*self._arrays())

    @property
    def proposed(self) -> float | None:
        """The threshold that separates these images best; None where nothing honest can be said."""
        return None if self.flatters else best_threshold(*self._arrays())

    @property
    def rates(self) -> tuple[float, float] | None:
        """True and false positive rate in 0..1 at the given threshold; None without one."""
        return None if self.threshold is None else rates_at(self.threshold, *self._arrays())

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rates = self.rates
        return {
            "class": self.name,
            "auroc": self.auroc,
            "proposed_threshold": self.proposed,
            "threshold": self.threshold,
            "true_positive_rate": None if rates is None else rates[0],
            "false_positive_rate": None if rates is None else rates[1],
            "images": [asdict(image) for image in self.images],
        }

    def _arrays(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        scores = np.array([image.score for image in self.images], dtype=np.float64)
        return scores, np.array([image.defective for image in self.images], dtype=np.bool_)


def image_score(pixels: PixelShares, column: int) -> float:
    """The largest calibrated share of a class over the pixels of a photo, in 0..1."""
    return float(pixels.of_class(column).max(initial=0))


def auroc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: (N,) scores and whether each is positive -> 0..1, NaN without both kinds.

    The chance that a positive scores above a negative, a tie counting half: the Mann-Whitney statistic from
    mean ranks (Hanley, McNeil; Radiology 1982).
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return math.nan
    from scipy.stats import rankdata  # a second of loading, which who scores nothing need not wait for

    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def best_threshold(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """The threshold of the largest true minus false positive rate (Youden's J); None without both kinds.

    Candidates lie half way between neighbouring scores; of equally good ones the one in the widest gap.
    """
    if positive.all() or not positive.any():
        return None
    ordered = np.unique(scores)
    if len(ordered) == 1:
        return None
    middles, gaps = (ordered[1:] + ordered[:-1]) / 2, np.diff(ordered)
    youden = [tpr - fpr for tpr, fpr in (rates_at(at, scores, positive) for at in middles)]
    chosen = max(range(len(middles)), key=lambda number: (round(youden[number], 12), gaps[number]))
    return float(middles[chosen])


def rates_at(
    threshold: float, scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """True and false positive rate of ``score >= threshold``; NaN where there is nothing to divide by."""
    above = scores >= threshold
    hits, alarms = above[positive], above[~positive]
    return (
        float(hits.mean()) if hits.size else math.nan,
        float(alarms.mean()) if alarms.size else math.nan,
    )


def column_of(name: str, classes: ClassMap) -> int:
    """A class's column by its name. Raises ConfigError for an unknown one."""
    if name not in classes.names:
        raise ConfigError(
            f"there is no class {name!r} in the index; its classes are {', '.join(classes.names)}"
        )
    return classes.names.index(name)
