"""How far confidence can be believed: calibration error, and scores of the surest pixels alone.

Sources: the expected calibration error of *On Calibration of Modern Neural Networks* (Guo, Pleiss, Sun,
Weinberger; ICML 2017), equation 3; coverage as in *Selective Classification for Deep Neural Networks*
(Geifman, El-Yaniv; NeurIPS 2017), section 2.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED
from segmentation.scoring.metrics import mean_present

#: Bins of the calibration error, equally wide, and the parts of each that coverage is read from.
BINS, PARTS = 15, 20


@dataclass(frozen=True)
class ReliabilityBin:
    """The pixels whose confidence lies between two edges; means are NaN without pixels."""

    lower: float
    upper: float
    pixels: int
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """Share of them that are right."""


@dataclass(frozen=True)
class Coverage:
    """Scores of the pixels that are at least so sure."""

    confidence: float
    kept: float
    """Share of all labelled pixels."""
    accuracy: float
    miou: float
    """Mean IoU over the classes in truth or prediction of those pixels."""


class Reliability:
    """Counts of pixels by confidence and class, which grow; no pixel is kept."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((3, BINS * PARTS, classes), dtype=np.int64)  # right, true, predicted
        self._confidence = np.zeros(BINS * PARTS)

    def add(
        self,
        truth: npt.NDArray[np.int32],
        predicted: npt.NDArray[np.int32],
        confidence: npt.NDArray[np.float32],
    ) -> None:
        """Take in pixels: true and predicted columns and confidence in 0..1, arrays of one shape.

        Pixels whose truth is -1 (unlabelled) are left out.
        """
        labelled = truth != UNLABELLED
        true, given, sure = truth[labelled], predicted[labelled], confidence[labelled]
        _, bins, classes = self._counts.shape
        place = np.minimum((sure * bins).astype(np.int64), bins - 1)
        right = true == given
        for counts, chosen, column in zip(
            self._counts, (right, slice(None), slice(None)), (true, true, given), strict=True
        ):
            cells = place[chosen] * classes + column[chosen]
            counts += np.bincount(cells, minlength=bins * classes).reshape(bins, classes)
        self._confidence += np.bincount(place, weights=sure, minlength=bins)

    @property
    def ece(self) -> float:
        """Expected calibration error in 0..1; NaN without labelled pixels.

        ``sum_b n_b / N |accuracy_b - confidence_b|`` over 15 bins of equal width, n_b the pixels in bin b of
        N, and the two others the means in it.
        """
        total = sum(bin.pixels for bin in self.bins())
        gaps = [bin.pixels * abs(bin.accuracy - bin.confidence) for bin in self.bins() if bin.pixels]
        return math.fsum(gaps) / total if total else math.nan

    def bins(self) -> list[ReliabilityBin]:
        """The bins of the calibration error, from the least sure to the surest."""
        right, pixels = (self._counts[kind].sum(axis=1).reshape(BINS, PARTS).sum(axis=1) for kind in (0, 1))
        sums = self._confidence.reshape(BINS, PARTS).sum(axis=1)
        return [
            ReliabilityBin(
                number / BINS,
                (number + 1) / BINS,
                int(count),
                float(sums[number] / count) if count else math.nan,
                float(right[number] / count) if count else math.nan,
            )
            for number, count in enumerate(pixels)
        ]

    def coverage(self) -> list[Coverage]:
        """Scores of the pixels above each threshold, from all pixels to the surest; empty without pixels."""
        right, true, given = self._counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        total, points = int(true[0].sum()), []
        for number in range(BINS * PARTS if total else 0):
            kept = int(true[number].sum())
            if number and kept == int(true[number - 1].sum()):
                continue
            if kept == 0:
                break
            union = true[number] + given[number] - right[number]
            iou = np.full(len(union), np.nan)
            np.divide(right[number], union, out=iou, where=union > 0)
            accuracy = float(right[number].sum() / kept)
            points.append(Coverage(number / (BINS * PARTS), kept / total, accuracy, mean_present(iou)))
        return points

    def to_json(self) -> dict[str, Any]:
        """Plain data: the error, the bins, and coverage; NaN where a number does not exist."""
        return {
            "ece": self.ece,
            "bins": [asdict(bin) for bin in self.bins()],
            "coverage": [asdict(point) for point in self.coverage()],
        }
