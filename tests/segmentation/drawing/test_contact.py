"""A sheet shows images with their masks, small things included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets.survey import survey_folder
from segmentation.drawing.contact import WIDTH, contact_sheet

RED = (255, 0, 0)


def write(root: Path, masks: list[np.ndarray], classes: dict[str, object]) -> Path:
    for number, mask in enumerate(masks):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        grey = np.full((*mask.shape, 3), 90, dtype=np.uint8)
        grey[0, 0] = 91
        Image.fromarray(grey).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def sheet_of(root: Path) -> np.ndarray:
    found, dataset = survey_folder(root)
    return contact_sheet(dataset, found)


def reddish(picture: np.ndarray) -> np.ndarray:
    wide = picture.astype(int)
    return (wide[..., 0] > 180) & (wide[..., 1] < 80) & (wide[..., 2] < 80)


@pytest.mark.parametrize("size", [(60, 80), (30, 400), (400, 30)])
def test_all_shapes_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    mask = np.zeros(size, dtype=np.uint8)
    mask[: size[0] // 2] = 1
    picture = sheet_of(write(tmp_path / "d", [mask] * 14, {"names": ["a", "b"]}))
    assert picture.shape[1:] == (WIDTH, 3) and picture.dtype == np.uint8
    assert picture.shape[0] < 3 * WIDTH


def test_a_thin_defect_is_seen(tmp_path: Path) -> None:
    mask = np.zeros((256, 3200), dtype=np.uint8)
    mask[100, 500:900] = 255
    classes = [{"id": 0, "name": "ok", "color": [0, 0, 0]}, {"id": 255, "name": "defect", "color": RED}]
    picture = sheet_of(write(tmp_path / "d", [mask, mask], {"classes": classes, "ignore": []}))
    marked = reddish(picture[: picture.shape[0] - 60])
    assert marked.sum() > 2 * 80  # two lines of a tenth of an image's width
    ground = picture[60, 100]
    assert abs(int(ground[0]) - 90) < 3  # what has most of the pixels is not painted


def test_one_image_and_none(tmp_path: Path) -> None:
    root = write(tmp_path / "d", [np.zeros((8, 8), dtype=np.uint8)], {"names": ["a", "b"]})
    assert sheet_of(root).shape[1] == WIDTH
    (root / "images" / "0.png").unlink()
    assert sheet_of(root).shape[1] == WIDTH


def test_refused_classes_leave_the_images(tmp_path: Path) -> None:
    root = write(tmp_path / "d", [np.ones((40, 40), dtype=np.uint8)] * 3, {"names": []})
    picture = sheet_of(root)
    assert (np.abs(picture.astype(int) - 90).max(axis=2) < 3).mean() > 0.3
