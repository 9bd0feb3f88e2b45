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
    found = []
    for column in sorted(wanted):
        inside = (columns == column).astype(np.uint8)
        if not inside.any():
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        sums = np.bincount(labels.ravel(), weights=confidence.ravel(), minlength=count)
        for number in range(1, count):  # 0 is what is not of the class
            left, top, width, height, area = (int(value) for value in stats[number])
            if area >= min_area:
                box = (left, top, width, height)
                found.append(Instance(column, area, box, float(sums[number] / area)))
    return sorted(found, key=lambda region: (-region.area, region.column, region.box[1], region.box[0]))
