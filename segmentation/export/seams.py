"""Outlines with holes as one line each, for formats that know no holes."""

from __future__ import annotations

import numpy as np

from segmentation.export.regions import Part, Ring


def joined(part: Part) -> Ring:
    """One closed line (P, 2) of (x, y) around a part: each hole hangs on by a seam, run there and back.

    A seam encloses nothing, so that the line filled by the even-odd or the non-zero rule is the part.
    It goes left from the hole's leftmost corner to the first line there, inside the region.
    """
    ring = part.outer
    # A hole is hung onto what lies left of it, which has its own seam by then.
    for hole in sorted(part.holes, key=lambda hole: (hole[:, 0].min(), hole[:, 1].min())):
        first = np.lexsort((hole[:, 1], hole[:, 0]))[0]
        start = hole[first]
        edge, end = _left_of(ring, start)
        way_round = np.roll(hole, -int(first), axis=0)
        seam = [ring[: edge + 1], end[None], way_round, start[None], end[None], ring[edge + 1 :]]
        ring = np.concatenate(seam)
        ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    return ring


def _left_of(ring: Ring, start: Ring) -> tuple[int, Ring]:
    """The edge of the ring (index of its first corner) nearest to the left of a point, and where."""
    after = np.roll(ring, -1, axis=0)
    # Looked at just below the point's own height, where the hole begins and no edge lies level.
    crossed = np.flatnonzero((ring[:, 1] > start[1]) != (after[:, 1] > start[1]))
    share = (start[1] - ring[crossed, 1]) / (after[crossed, 1] - ring[crossed, 1])
    x = ring[crossed, 0] + share * (after[crossed, 0] - ring[crossed, 0])
    left = np.flatnonzero(x <= start[0])
    if not len(left):  # only simplified lines, which may cross one another
        nearest = int(np.square(ring - start).sum(axis=1).argmin())
        return nearest, ring[nearest]
    best = left[int(x[left].argmax())]
    return int(crossed[best]), np.array([x[best], start[1]])
