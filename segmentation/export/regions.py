"""Connected regions of a mask, and their outlines along the edges of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

#: (P, 2) float64, the corners of a closed line as (x, y) in pixels of the photo, the first not repeated.
#: Pixel (row r, col c) covers x from c to c + 1 and y from r to r + 1.
Ring = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """A piece of a region whose pixels share edges: its outer line and those of its holes.

    Read with x to the right and y up, outer lines run counterclockwise and holes clockwise (RFC 7946).
    No line crosses itself; lines may touch in a corner.
    """

    outer: Ring
    holes: tuple[Ring, ...]


@dataclass(frozen=True)
class Region:
    """Pixels of one class that hang together by edges or corners."""

    column: int
    """Class column."""
    left: int
    top: int
    pixels: Bits
    """(h, w) which pixels of the box from (``left``, ``top``) on belong to it."""
    score: float | None
    """Mean confidence of its pixels, 0..1; None where nobody knows."""

    @property
    def area(self) -> int:
        """Its pixels."""
        return int(np.count_nonzero(self.pixels))

    def parts(self, tolerance: float = 0.0) -> tuple[Part, ...]:
        """Its outlines; filled by the even-odd or the non-zero rule they give the very same pixels.

        More than one part where pixels touch in corners only. A ``tolerance`` above 0 leaves out corners
        that are no further from the line without them, in pixels (Douglas and Peucker 1973).
        """
        count, labels = cv2.connectedComponents(self.pixels.astype(np.uint8), connectivity=4)
        offset = np.array([self.left, self.top], dtype=np.float64)
        return tuple(_outline(labels == part, offset, tolerance) for part in range(1, count))


def find_regions(
    columns: npt.NDArray[np.int32], wanted: Iterable[int], confidence: npt.NDArray[np.float32] | None = None
) -> tuple[Region, ...]:
    """The regions of the ``wanted`` classes in a mask of class columns (H, W), class by class, top down.

    ``confidence`` (H, W) in 0..1 gives them their scores.
    """
    regions: list[Region] = []
    for column in wanted:
        found = columns == column
        if found.any():
            of_class = _regions_of(found, column, confidence)
            regions.extend(sorted(of_class, key=lambda region: (region.top, region.left)))
    return tuple(regions)


def _regions_of(found: Bits, column: int, confidence: npt.NDArray[np.float32] | None) -> Iterable[Region]:
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        left, top, width, height = (int(value) for value in boxes[label, :4])
        box = (slice(top, top + height), slice(left, left + width))
        pixels: Bits = labels[box] == label
        score = None if confidence is None else round(float(confidence[box][pixels].mean()), 6)
        yield Region(column, left, top, pixels, score)


def _outline(pixels: Bits, offset: Ring, tolerance: float) -> Part:
    """The lines around pixels (h, w) that hang together by edges."""
    # OpenCV goes through the centres of border pixels. With every pixel doubled, those centres lie
    # a quarter pixel from the edge, each on its own side: rounding puts them onto it.
    doubled = pixels.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = np.asarray(tree).reshape(-1, 4)[:, 3]
    rings = [_simplify(_corners((contour.reshape(-1, 2) + 1) // 2), tolerance) for contour in contours]
    outer = next(ring for ring, parent in zip(rings, parents, strict=True) if parent < 0)
    holes = [ring for ring, parent in zip(rings, parents, strict=True) if parent >= 0]
    holes.sort(key=lambda ring: (ring[0, 1], ring[0, 0]))
    return Part(_turned(outer, 1) + offset, tuple(_turned(hole, -1) + offset for hole in holes))


def _corners(points: npt.NDArray[Any]) -> Ring:
    """A closed line without its repeated points and those on straight stretches; the topmost, of these the
    leftmost, is first."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    ring = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]].astype(np.float64)
    return np.roll(ring, -int(np.lexsort((ring[:, 0], ring[:, 1]))[0]), axis=0)


def _simplify(ring: Ring, tolerance: float) -> Ring:
    if tolerance <= 0:
        return ring
    simple = cv2.approxPolyDP(ring.astype(np.float32), tolerance, True).reshape(-1, 2).astype(np.float64)
    # What is smaller than the tolerance would vanish.
    return simple if len(simple) >= 3 and signed_area(simple) != 0 else ring


def signed_area(ring: Ring) -> float:
    """Area in pixels that a ring encloses; positive where it runs counterclockwise with y up."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _turned(ring: Ring, sense: int) -> Ring:
    """The ring run through in the ``sense`` (1 or -1) asked for, from the same corner."""
    return ring if signed_area(ring) * sense > 0 else np.roll(ring[::-1], 1, axis=0)
