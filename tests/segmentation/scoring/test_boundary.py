from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from retrieval.errors import MaskError
from segmentation.scoring.boundary import boundary_iou, boundary_overlap


def band(mask: np.ndarray, dilation: float) -> np.ndarray:
    """A class's pixels near its contour, as the paper's code finds them: the mask without its erosion."""
    width = max(1, round(dilation * float(np.hypot(*mask.shape))))
    return mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)


def reference(truth: np.ndarray, predicted: np.ndarray, classes: int, dilation: float) -> np.ndarray:
    counts = []
    for column in range(classes):
        own, theirs = band(truth == column, dilation), band((predicted == column) & (truth >= 0), dilation)
        counts.append([(own & theirs).sum(), (own | theirs).sum()])
    return np.array(counts)


def blobs(seed: int, size: tuple[int, int], classes: int) -> np.ndarray:
    """Areas of some width: the nearest of a few points says the class."""
    generator = np.random.default_rng(seed)
    points = generator.random((9, 2)) * size
    places = np.indices(size).transpose(1, 2, 0)[:, :, None]
    nearest = ((places - points) ** 2).sum(axis=-1).argmin(axis=-1)
    return generator.integers(0, classes, 9)[nearest].astype(np.int32)


@pytest.mark.parametrize("dilation", [0.001, 0.02, 0.1, 2.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (61, 83)])
def test_counts_are_those_of_the_papers_code(size: tuple[int, int], dilation: float) -> None:
    for seed in range(4):
        truth, predicted = blobs(seed, size, 4), blobs(seed + 50, size, 4)
        truth[np.random.default_rng(seed).random(size) < 0.02] = -1
        truth[: size[0] // 4, : size[1] // 3] = -1
        found = boundary_overlap(truth, predicted, 5, dilation=dilation)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, reference(truth, predicted, 5, dilation))


def test_a_moved_edge_costs_more_than_in_the_iou() -> None:
    truth = np.zeros((100, 100), dtype=np.int32)
    truth[:, 50:] = 1
    moved = np.roll(truth, 3, axis=1)
    moved[:, :3] = 0
    right = boundary_iou(boundary_overlap(truth, truth, 3))
    np.testing.assert_array_equal(right, [1, 1, np.nan])
    worse = boundary_iou(boundary_overlap(truth, moved, 3))
    assert (worse[:2] < 0.75).all() and (worse[:2] > 0).all()


def test_pixels_without_a_label_count_for_no_class() -> None:
    truth = blobs(0, (40, 50), 3)
    predicted = truth.copy()
    predicted[:9] = 2
    truth[:9] = -1
    overlap = boundary_overlap(truth, predicted, 3)
    np.testing.assert_array_equal(overlap[:, 0], overlap[:, 1])
    assert not boundary_overlap(np.full((4, 4), -1, dtype=np.int32), predicted[:4, :4], 3).any()


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(MaskError, match="same shape"):
        boundary_overlap(np.zeros((2, 3), dtype=np.int32), np.zeros((3, 2), dtype=np.int32), 1)
