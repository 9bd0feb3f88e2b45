from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gallery import KINDS, UNLABELLED, Case, difference, image_miou


def test_pixels_are_told_apart_by_what_became_of_them() -> None:
    truth = np.array([[0, 0, 0, 0, -1]], dtype=np.int32)
    before = np.array([[0, 1, 1, 0, 1]], dtype=np.int32)
    after = np.array([[0, 0, 2, 1, 0]], dtype=np.int32)
    drawn = difference(Case("a", truth, before, after))
    assert [tuple(color) for color in drawn[0].tolist()] == [*KINDS.values(), UNLABELLED]


def test_an_images_score_is_of_the_classes_it_has() -> None:
    truth = np.array([[0, 0, 1, 1, -1]], dtype=np.int32)
    found = np.array([[0, 0, 1, 0, 2]], dtype=np.int32)
    assert image_miou(truth, found, 5) == pytest.approx((2 / 3 + 1 / 2) / 2)
