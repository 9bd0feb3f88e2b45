"""The sheet shows the photo and its matches, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmentation.classification import Classifier, Match
from segmentation.classification.sheet import COLUMNS, LARGE, TILE, similarity_sheet

from .toy import PAINT, photo, save


def near(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - color).max(axis=2) < 50).sum())


def test_photo_and_memory_images_are_shown(memory: Path) -> None:
    picture = photo("sea", 70, (300, 200))
    with Classifier.open(memory) as classifier:
        matches = classifier.similar(picture, 12)
    sheet = similarity_sheet(picture, "a photo: sea, 100.0 % of the vote", matches)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    right = sheet[:, LARGE:]
    for color in PAINT.values():
        assert near(right, color) > 4 * 0.6 * TILE * TILE * 3 / 4 * 0.5
    assert near(sheet[:, :LARGE], PAINT["sea"]) > 0.5 * LARGE * LARGE * 2 / 3


@pytest.mark.parametrize("count", [0, 1, COLUMNS, COLUMNS + 1, 30])
@pytest.mark.parametrize("size", [(30, 40), (5, 900), (900, 5), (1, 1)])
def test_all_shapes_fit(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    small = save(tmp_path / "a.png", photo("leaf", 1, size))
    match = Match("i" * 90, str(small), 0, ("c" * 80, "other"), 0.5, None)
    sheet = similarity_sheet(photo("sea", 1, size), "t" * 200, [match] * count)
    assert sheet.shape[1] <= LARGE + COLUMNS * (TILE + 20) + 60


def test_an_image_that_is_gone_is_named_only(tmp_path: Path) -> None:
    match = Match("gone", str(tmp_path / "gone.png"), 0, (), 0.5, str(tmp_path / "none.jpg"))
    assert similarity_sheet(photo("sea", 1), "title", [match]).shape[2] == 3
