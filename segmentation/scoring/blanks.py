"""What is left blank of masks for being unlike the memory, by whether it would have been right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segmentation.scoring import metrics

if TYPE_CHECKING:
    from segmentation.segmenter import Segmentation


class Blanks:
    """Counts of labelled pixels that ``transfer.unknown`` leaves blank, which grow."""

    def __init__(self, share: float, classes: int) -> None:
        """``share`` is the setting."""
        self.share = share
        self._blank = np.zeros((classes, classes), dtype=np.int64)
        self._kept = np.zeros((classes, classes), dtype=np.int64)

    @classmethod
    def of(cls, share: float | None, classes: int) -> Blanks | None:
        """None where nothing is left blank."""
        return None if share is None else cls(share, classes)

    def add(self, truth: npt.NDArray[np.int32], result: Segmentation) -> None:
        """Take in a photo: its true class columns (H, W), -1 unlabelled, and its mask."""
        blank, classes = result.columns < 0, len(self._kept)
        self._blank += metrics.confusion_matrix(truth[blank], result.winners[blank], classes)
        self._kept += metrics.confusion_matrix(truth[~blank], result.winners[~blank], classes)

    @property
    def right(self) -> float:
        """Share in 0..1 of the pixels that would be right which are blank; NaN without any."""
        blank, kept = (int(np.trace(counts)) for counts in (self._blank, self._kept))
        return _share(blank, blank + kept)

    @property
    def wrong(self) -> float:
        """Share in 0..1 of the pixels that would be wrong which are blank; NaN without any."""
        blank, kept = (int(counts.sum() - np.trace(counts)) for counts in (self._blank, self._kept))
        return _share(blank, blank + kept)

    @property
    def blank(self) -> float:
        """Share in 0..1 of the labelled pixels that are blank; NaN without any."""
        blank = int(self._blank.sum())
        return _share(blank, blank + int(self._kept.sum()))

    @property
    def kept_miou(self) -> float:
        """Mean IoU in 0..1 of the pixels that are not blank; NaN without any."""
        return metrics.mean_iou(self._kept)

    @property
    def sentence(self) -> str:
        """What a person wants to know of it."""
        blank, right, wrong = (_percent(share) for share in (self.blank, self.right, self.wrong))
        return (
            f"transfer.unknown={self.share:g} leaves {blank} of the pixels blank: {right} of those that are "
            f"right and {wrong} of those that are wrong; mean IoU of the others {_percent(self.kept_miou)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN where a number does not exist."""
        return {
            "share": self.share,
            "blank": self.blank,
            "blank_of_right": self.right,
            "blank_of_wrong": self.wrong,
            "kept_miou": self.kept_miou,
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _percent(share: float) -> str:
    return "nothing" if math.isnan(share) else f"{100 * share:.1f} %"
