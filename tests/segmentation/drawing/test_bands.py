"""Pictures made a few rows at a time are those made at once, bit by bit."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval import ClassInfo, ClassMap
from segmentation.bands import bands
from segmentation.cli.photo_results import class_counts, greys
from segmentation.drawing.overlays import blend, overlay
from segmentation.pixels import mask_of_columns

CLASSES = ClassMap(
    tuple(ClassInfo(id, name, (40 * id, 200 - 30 * id, 90)) for id, name in ((0, "void"), (1, "a"), (5, "b")))
)
HERE = ("segmentation.drawing.overlays", "segmentation.pixels", "segmentation.cli.photo_results")


@pytest.fixture
def made() -> Any:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (61, 47, 3), dtype=np.uint8)
    columns = np.repeat(np.repeat(random.integers(-1, 3, (13, 10), dtype=np.int32), 5, 0), 5, 1)[:61, :47]
    return photo, columns, random.random((61, 47), dtype=np.float32)


@pytest.mark.parametrize("pixels", [1, 47, 100, 1000])
def test_a_few_rows_at_a_time_give_the_same(made: Any, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, columns, confidence = made

    def results() -> list[Any]:
        mask = mask_of_columns(columns, CLASSES)
        return [
            mask,
            class_counts(columns, len(CLASSES)),
            greys(confidence),
            blend(photo, mask, CLASSES, confidence=confidence),
            overlay(photo, mask, CLASSES, paint_background=True),
        ]

    whole = results()
    for module in HERE:
        monkeypatch.setattr(f"{module}.bands", partial(bands, pixels=pixels))
    for one, other in zip(whole, results(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_what_they_give_by_their_formulas(made: Any) -> None:
    photo, columns, confidence = made
    ids = np.append(CLASSES.ids, CLASSES.blank_id)
    mask = mask_of_columns(columns, CLASSES)
    np.testing.assert_array_equal(mask, ids[columns])
    np.testing.assert_array_equal(greys(confidence), np.rint(255 * confidence))
    np.testing.assert_array_equal(
        class_counts(columns, 3), [(columns == column).sum() for column in range(3)]
    )
    flat = np.zeros_like(mask)  # of "void", which is not painted
    np.testing.assert_array_equal(blend(photo, flat, CLASSES), photo)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7, 3), (3, 2_000_000), (2_000_000, 3)])
def test_bands_are_all_rows_once(shape: tuple[int, int]) -> None:
    rows = list(bands(shape))
    assert sum(part.stop - part.start for part in rows) == shape[0]
    assert all(one.stop == other.start for one, other in pairwise(rows))
    assert all((part.stop - part.start) * shape[1] <= max(1_000_000, shape[1]) for part in rows)


def test_an_overlay_has_a_side_that_a_jpeg_has(tmp_path: Path) -> None:
    from ..cli.command import TINY, run, write_photos

    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert (
        run("index", "build", data, "--config", tmp_path / "tiny.yaml", "--out", tmp_path / "i").exit_code
        == 0
    )
    Image.new("RGB", (66_000, 3), (9, 9, 9)).save(tmp_path / "wide.png")
    result = run("segment", tmp_path / "i", tmp_path / "wide.png", "--out", tmp_path / "m", "--overlay")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "m" / "wide.overlay.jpg") as picture:
        assert picture.width == 33_000
    with Image.open(tmp_path / "m" / "wide.png") as mask:
        assert mask.size == (66_000, 3)
