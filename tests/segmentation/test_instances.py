from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segmentation.instances import Regions, find_instances


def test_regions_agree_with_another_library() -> None:
    generator = np.random.default_rng(0)
    columns = (ndimage.gaussian_filter(generator.random((60, 90)), 2) * 40).astype(np.int32) % 3
    confidence = generator.random((60, 90)).astype(np.float32)
    found = find_instances(columns, confidence, wanted=[0, 2], min_area=3)
    expected = []
    for column in (0, 2):
        labels, _ = ndimage.label(columns == column, structure=np.ones((3, 3)))
        for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels == number
            box = (cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
            if inside.sum() >= 3:
                expected.append((column, int(inside.sum()), box, float(confidence[inside].mean())))
    assert len(found) == len(expected) > 5
    for region, (column, area, box, sure) in zip(
        found, sorted(expected, key=lambda e: (-e[1], e[0], e[2][1], e[2][0])), strict=True
    ):
        assert (region.column, region.area, region.box) == (column, area, box)
        assert abs(region.confidence - sure) < 1e-6


def test_boxes_are_left_top_width_height() -> None:
    columns = np.zeros((10, 20), dtype=np.int32)
    columns[2:5, 7:14] = 1
    (region,) = find_instances(columns, np.full((10, 20), 0.5, np.float32), wanted=[1, 3])
    assert region.to_json(("ok", "scratch")) == {
        "class": "scratch",
        "area": 21,
        "box": [7, 2, 7, 3],
        "mean_confidence": 0.5,
    }
    assert find_instances(columns, np.ones((10, 20), np.float32), wanted=[1], min_area=22) == []


@pytest.mark.parametrize("height", [1, 2, 7, 59])
def test_regions_of_strips_are_those_of_the_whole_mask(height) -> None:
    generator = np.random.default_rng(height)
    columns = (ndimage.gaussian_filter(generator.random((60, 90)), 1) * 40).astype(np.int32) % 3
    columns[::2, 40:60] = (
        np.eye(20, dtype=np.int32)[::-1].repeat(2, axis=0)[:30] * 2
    )  # what touches at corners
    confidence = generator.random((60, 90)).astype(np.float32)
    regions = Regions([2, 0])
    for top in range(0, 60, height):
        rows = slice(top, top + height)
        regions.add(top, columns[rows], confidence[rows])
    whole = find_instances(columns, confidence, wanted=[0, 2], min_area=2)
    found = regions.found(2)
    assert [(r.column, r.area, r.box) for r in found] == [(r.column, r.area, r.box) for r in whole]
    np.testing.assert_allclose([r.confidence for r in found], [r.confidence for r in whole], atol=1e-6)
    assert len(whole) > 20 and max(region.box[3] for region in whole) > 2 * min(height, 20)
