"""Connected regions of a mask: where each lies, how large it is, and how sure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Instance:
    """One connected region of one class."""

    column: int
    """The class's column."""
    area: int
    """Pixels of the photo."""
    box: tuple[int, int, int, int]
    """(left, top, width, height) in pixels of the photo."""
    confidence: float
    """Mean over its pixels, in 0..1."""

    def to_json(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Plain data, with the class by its name."""
        return {
            "class": names[self.column],
            "area": self.area,
            "box": list(self.box),
            "mean_confidence": round(self.confidence, 6),
        }


def find_instances(
    columns: npt.NDArray[np.int32],
    confidence: npt.NDArray[np.float32],
    *,
    wanted: Collection[int],
    min_area: int = 1,
) -> list[Instance]:
    """The regions of the ``wanted`` class columns with ``min_area`` pixels or more, largest first.

    ``columns`` and ``confidence`` are (H, W). Pixels that touch at a side or a corner are connected
    (8-connectivity). Regions of equal size come by class, then from the top.
    """
    regions = Regions(wanted)
    regions.add(0, columns, confidence)
    return regions.found(min_area)


@dataclass
class _Region:
    """A region as far as it is known."""

    column: int
    area: int
    left: int
    top: int
    right: int
    bottom: int
    sure: float
    """Sum of its pixels' confidence."""

    def join(self, other: _Region) -> None:
        self.area, self.sure = self.area + other.area, self.sure + other.sure
        self.left, self.top = min(self.left, other.left), min(self.top, other.top)
        self.right, self.bottom = max(self.right, other.right), max(self.bottom, other.bottom)

    def instance(self) -> Instance:
        box = (self.left, self.top, self.right - self.left, self.bottom - self.top)
        return Instance(self.column, self.area, box, self.sure / self.area)


class Regions:
    """Regions of a mask that comes a strip of rows at a time; those that go on below are joined."""

    def __init__(self, wanted: Collection[int]) -> None:
        """``wanted`` are class columns."""
        self._wanted = sorted(wanted)
        self._regions: dict[int, _Region] = {}
        self._owner: dict[int, int] = {}  # of a region that another one took in
        self._count = 0
        self._above: dict[int, npt.NDArray[np.int64]] = {}
        """By class: the region of each pixel of the last row, -1 where there is none."""

    def add(self, top: int, columns: npt.NDArray[np.int32], confidence: npt.NDArray[np.float32]) -> None:
        """Take in the next rows (r, W), the first of which is row ``top`` of the photo."""
        for column in self._wanted:
            above = self._above.pop(column, None)
            inside = (columns == column).astype(np.uint8)
            if not inside.any():
                continue
            count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
            sums = np.bincount(labels.ravel(), weights=confidence.ravel(), minlength=count)
            first = self._count - 1  # label 0 is what is not of the class
            for number in range(1, count):
                left, upper, width, height, area = (int(value) for value in stats[number])
                self._regions[first + number] = _Region(
                    column, area, left, top + upper, left + width, top + upper + height, float(sums[number])
                )
            self._count += count - 1
            if above is not None:
                self._join(above, _numbers(labels[0], first))
            self._above[column] = _numbers(labels[-1], first)

    def found(self, min_area: int = 1) -> list[Instance]:
        """The regions with ``min_area`` pixels or more so far, in the order of :func:`find_instances`."""
        kept = [region.instance() for region in self._regions.values() if region.area >= min_area]
        return sorted(kept, key=lambda region: (-region.area, region.column, region.box[1], region.box[0]))

    def _join(self, above: npt.NDArray[np.int64], below: npt.NDArray[np.int64]) -> None:
        """Make one of regions that touch across two neighbouring rows, at a side or a corner."""
        pairs = np.concatenate(
            [
                np.stack([above, below]),
                np.stack([above[1:], below[:-1]]),
                np.stack([above[:-1], below[1:]]),
            ],
            axis=1,
        )
        for one, other in np.unique(pairs[:, (pairs >= 0).all(axis=0)], axis=1).T.tolist():
            kept, gone = sorted((self._owner_of(one), self._owner_of(other)))
            if kept != gone:
                self._owner[gone] = kept
                self._regions[kept].join(self._regions.pop(gone))

    def _owner_of(self, number: int) -> int:
        while number in self._owner:
            number = self._owner[number]
        return number


def _numbers(labels: npt.NDArray[np.int32], first: int) -> npt.NDArray[np.int64]:
    return np.where(labels > 0, labels.astype(np.int64) + first, -1)
