"""Palette masks: a palette's colour decides, agrees, or is refused; and palettes that differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.datasets.masks import color_of_id
from indexer.datasets.palettes import is_identity
from retrieval.classes import ClassMap
from retrieval.errors import DatasetError, MaskError
from segmentation.drawing.masks import write_mask

BLACK, ROAD, CAR = (0, 0, 0), (250, 50, 83), (61, 61, 245)
COLORED = {
    "classes": [
        {"id": 0, "name": "rest", "color": BLACK},
        {"id": 1, "name": "road", "color": ROAD},
        {"id": 2, "name": "car", "color": CAR},
    ]
}
NAMED = {"names": ["rest", "road", "car"]}


def put(root: Path, id: str, values: object, palette: list[tuple[int, int, int]] | None) -> None:
    """An image and its mask of palette indices, or of grey values."""
    mask = Image.fromarray(np.array([values] * 2, dtype=np.uint8))
    if palette is not None:
        mask.putpalette([channel for color in palette for channel in color])
    for part, image in (("images", Image.new("RGB", mask.size)), ("masks", mask)):
        (root / part).mkdir(exist_ok=True, parents=True)
        image.save(root / part / f"{id}.png")


def name(root: Path, data: object) -> None:
    (root / "classes.json").write_text(json.dumps(data))


def rows(dataset: Dataset) -> list[list[int]]:
    return [dataset.read(sample)[1][0].tolist() for sample in dataset.samples]


def test_colours_decide_where_classes_have_them(tmp_path: Path) -> None:
    put(tmp_path, "0", [0, 1, 2], [BLACK, ROAD, CAR])
    put(tmp_path, "1", [0, 2, 1], [BLACK, CAR, ROAD])
    put(tmp_path, "2", [2, 1, 0], [CAR, ROAD, BLACK])
    name(tmp_path, COLORED)
    assert rows(load_dataset(tmp_path)) == [[0, 1, 2]] * 3


@pytest.mark.parametrize(
    "palette",
    [
        None,
        [(i, i, i) for i in range(256)],  # the identity
        [(i, i, i) for i in (0, 127, 255)],  # a grey one
        [color_of_id(i) for i in range(256)],  # VOC's, which has none of these colours but black
        [BLACK, (1, 2, 3), (4, 5, 6)],
    ],
    ids=["none", "identity", "grey", "voc", "foreign"],
)
def test_palettes_that_say_nothing(tmp_path: Path, palette: list[tuple[int, int, int]] | None) -> None:
    put(tmp_path, "0", [0, 1, 2, 255] if palette and len(palette) == 256 else [0, 1, 2], palette)
    put(tmp_path, "1", [0, 1, 2], [BLACK, ROAD, CAR])
    name(tmp_path, COLORED)
    assert [row[:3] for row in rows(load_dataset(tmp_path))] == [[0, 1, 2]] * 2


def test_index_with_the_colour_of_another_class_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "0", [0, 1, 2], [BLACK, CAR, (9, 9, 9)])
    name(tmp_path, COLORED)
    problem = (
        r"0\.png: index 1 is class 'road', but its palette gives it the colour \(61, 61, 245\), .*class 'car'"
    )
    with pytest.raises(MaskError, match=problem):
        rows(load_dataset(tmp_path))


def test_ignored_index_stays_so(tmp_path: Path) -> None:
    put(tmp_path, "0", [0, 1, 255], [BLACK, ROAD, CAR] + [BLACK] * 253)
    name(tmp_path, {**COLORED, "ignore": [255]})
    assert rows(load_dataset(tmp_path)) == [[0, 1, -1]]


def test_masks_that_we_write(tmp_path: Path) -> None:
    put(tmp_path, "0", [0, 1, 2], [BLACK, ROAD, CAR])
    name(tmp_path, {**COLORED, "ignore": [255]})
    classes: ClassMap = load_dataset(tmp_path).classes
    for id, values in (("0", [1, 2, 255]), ("1", [0, 0, 1])):
        put(tmp_path, id, [0, 0, 0], None)
        write_mask(tmp_path / "masks" / f"{id}.png", np.array([values] * 2), classes)
    assert rows(load_dataset(tmp_path)) == [[1, 2, -1], [0, 0, 1]]
    (tmp_path / "classes.json").unlink()
    assert rows(load_dataset(tmp_path)) == [[1, 2, -1], [0, 0, 1]]


@pytest.mark.parametrize("named", [True, False])
def test_palettes_without_class_colours_are_compared(tmp_path: Path, named: bool) -> None:
    put(tmp_path, "0", [0, 1, 2], [BLACK, ROAD, CAR])
    put(tmp_path, "1", [0, 0, 0], [BLACK, CAR, ROAD])  # what is not used does not matter
    put(tmp_path, "2", [0, 1, 2], None)
    put(tmp_path, "3", [0, 1, 2], [(i, i, i) for i in range(256)])
    if named:
        name(tmp_path, NAMED)
    assert len(load_dataset(tmp_path).classes) == 3
    put(tmp_path, "4", [0, 1, 1], [BLACK, CAR, ROAD])
    problem = (
        r"index 1 is \(250, 50, 83\) in .*masks/0\.png and \(61, 61, 245\) in .*masks/4\.png; .*one palette"
    )
    with pytest.raises(DatasetError, match=problem):
        load_dataset(tmp_path)
    put(tmp_path, "4", [0, 3, 3], [BLACK, ROAD, CAR, ROAD])
    assert len(load_dataset(tmp_path, format="folder")) == 5
    put(tmp_path, "4", [0, 3, 3], [BLACK, CAR, CAR, ROAD])
    with pytest.raises(DatasetError, match=r"\(250, 50, 83\) is index 1 in .*0\.png and index 3 in .*4\.png"):
        load_dataset(tmp_path)


def test_identity() -> None:
    assert is_identity(tuple((i, i, i) for i in range(5)))
    assert not is_identity(((0, 0, 0),)) and not is_identity(((0, 0, 0), (255, 255, 255)))
