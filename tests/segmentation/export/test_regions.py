"""Outlines enclose their pixels, turn as they should, and seams stay inside."""

from __future__ import annotations

import numpy as np

from segmentation.export.regions import find_regions, signed_area
from segmentation.export.runs import run_lengths
from segmentation.export.seams import joined

from .scenes import Mask, random_masks


def test_outlines_enclose_as_much_as_there_are_pixels() -> None:
    for mask in random_masks().values():
        regions = find_regions(mask, [1, 2])
        assert sum(region.area for region in regions) == np.isin(mask, [1, 2]).sum()
        for region in regions:
            parts = region.parts()
            holes = [hole for part in parts for hole in part.holes]
            assert all(signed_area(part.outer) > 0 for part in parts)
            assert all(signed_area(hole) < 0 for hole in holes)
            rings = [*(part.outer for part in parts), *holes]
            assert sum(map(signed_area, rings)) == region.area
            # no corner twice, so that no line touches itself
            assert all(len(np.unique(ring, axis=0)) == len(ring) for ring in rings)


def test_seams_run_through_the_region() -> None:
    seen = 0
    for mask in random_masks().values():
        for region in find_regions(mask, [1, 2]):
            for part in region.parts():
                ring = joined(part)
                edges = {(*start, *end) for start, end in _edges(ring)}
                for x0, y0, x1, y1 in edges:
                    if (x1, y1, x0, y0) in edges and y0 == y1:  # there and back
                        cells = mask[int(y0), int(min(x0, x1)) : int(max(x0, x1))]
                        assert (cells == region.column).all()
                        seen += 1
    assert seen > 20


def _edges(ring: np.ndarray) -> list[tuple[list[float], list[float]]]:
    return list(zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True))


def test_regions_hang_together_by_corners_and_have_mean_scores() -> None:
    mask: Mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 2, 2]], dtype=np.int32)
    confidence = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    one, two = find_regions(mask, [1, 2], confidence)
    assert (one.area, one.left, one.top, len(one.parts())) == (2, 0, 0, 2)
    assert one.score is not None and abs(one.score - 2 / 11) < 1e-6
    assert (two.column, two.left, two.top, two.pixels.shape) == (2, 1, 3, (1, 2))
    assert find_regions(mask, [3]) == () and find_regions(mask, [1])[0].score is None


def test_what_is_smaller_than_the_tolerance_stays() -> None:
    mask: Mask = np.zeros((9, 9), dtype=np.int32)
    mask[1:8, 1:8] = 1
    mask[4, 4] = 0
    (part,) = find_regions(mask, [1])[0].parts(3.0)
    assert signed_area(part.outer) == 49 and [signed_area(hole) for hole in part.holes] == [-1]
    (dot,) = find_regions(1 - mask, [1])[1].parts(3.0)
    assert signed_area(dot.outer) == 1


def test_runs_begin_with_what_is_not_there() -> None:
    assert run_lengths(np.array([], dtype=np.int64), 4) == [4]
    assert run_lengths(np.array([0, 1]), 2) == [0, 2]
    assert run_lengths(np.array([1, 2, 5]), 7) == [1, 2, 2, 1, 1]
