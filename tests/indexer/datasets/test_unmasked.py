"""Images without a mask, and classes that are those of an index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.datasets.unmasked import adopt_classes
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError, IndexMismatchError, MaskError

INDEX = ClassMap(
    (ClassInfo(2, "car", (0, 0, 255)), ClassInfo(0, "rest", (0, 0, 0)), ClassInfo(1, "road", (255, 0, 0)))
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a, b and c, a mask of a alone."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for id in "abc":
        Image.new("RGB", (4, 3)).save(tmp_path / "images" / f"{id}.png")
    Image.fromarray(np.array([[0, 1, 1, 0]] * 3, np.uint8)).save(tmp_path / "masks" / "a.png")
    return tmp_path


def rows(dataset: Dataset) -> list[list[int]]:
    return [dataset.read(sample)[1][0].tolist() for sample in dataset.samples]


def test_error_names_the_option(root: Path) -> None:
    for look in (load_dataset(root).check_files, lambda: rows(load_dataset(root))):
        with pytest.raises(MaskError, match=r"b\.png has no mask; .* --unmasked background or skip"):
            look()


def test_background(root: Path) -> None:
    dataset = load_dataset(root, unmasked="background")
    dataset.check_files()
    assert rows(dataset) == [[0, 1, 1, 0], [0] * 4, [0] * 4]
    first = dataset.samples[1].labels
    assert first.key().equals(first.key()) and not first.key().equals(dataset.samples[2].labels.key())


def test_skip(root: Path) -> None:
    assert [sample.id for sample in load_dataset(root, unmasked="skip").samples] == ["a"]


def test_unknown_word(root: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of error, background, skip"):
        load_dataset(root, unmasked="ground")  # type: ignore[arg-type]


def test_background_that_no_mask_shows(root: Path) -> None:
    Image.new("L", (4, 3), 1).save(root / "masks" / "a.png")
    dataset = load_dataset(root, unmasked="background")
    assert dataset.classes.ids.tolist() == [0, 1]
    assert rows(dataset) == [[1] * 4, [0] * 4, [0] * 4]
    (root / "classes.json").write_text(json.dumps({"classes": [{"id": 1, "name": "x"}]}))
    with pytest.raises(DatasetError, match="no class has the id 0"):
        load_dataset(root, unmasked="background")


def test_a_split_of_good_images(root: Path) -> None:
    (root / "val.txt").write_text("b\nc\n")
    assert rows(load_dataset(root, split="val", unmasked="background")) == [[0] * 4] * 2
    with pytest.raises(DatasetError, match=r"no image of .* has a mask"):
        load_dataset(root, split="val", unmasked="skip")


def test_voc_masks_that_are_missing(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for id in "ab":
        Image.new("RGB", (4, 3)).save(tmp_path / "JPEGImages" / f"{id}.jpg")
    Image.new("L", (4, 3), 3).save(tmp_path / "SegmentationClass" / "a.png")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    assert rows(load_dataset(tmp_path, unmasked="background")) == [[3] * 4, [0] * 4]
    with pytest.raises(MaskError, match=r"b\.png does not exist; .*--unmasked"):
        load_dataset(tmp_path).check_files()


def test_unreadable_image_of_the_background(root: Path) -> None:
    (root / "images" / "b.png").write_bytes(b"broken")
    dataset = load_dataset(root, unmasked="background")
    with pytest.raises(MaskError, match=r"b\.png is not an image"):
        dataset.read_mask(dataset.samples[1])


def test_found_classes_are_those_of_the_index(root: Path) -> None:
    dataset = adopt_classes(load_dataset(root, unmasked="background"), INDEX)
    assert dataset.classes.classes == INDEX.classes
    assert dataset.classes.ignore == (255,)
    assert rows(dataset) == [[1, 2, 2, 1], [1] * 4, [1] * 4]


def test_found_class_that_the_index_lacks(root: Path) -> None:
    Image.new("L", (4, 3), 7).save(root / "masks" / "a.png")
    problem = r"hold the class id 7, which the index lacks \(it has 2 \(car\), 0 \(rest\), 1 \(road\)\)"
    with pytest.raises(IndexMismatchError, match=problem):
        adopt_classes(load_dataset(root), INDEX)


def test_named_classes_stay(root: Path) -> None:
    (root / "classes.json").write_text(json.dumps(["x", "y"]))
    dataset = load_dataset(root)
    assert adopt_classes(dataset, INDEX) is dataset


def test_palette_that_contradicts_the_index(root: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1, 2, 0]] * 3, np.uint8))
    mask.putpalette([0, 0, 0, 0, 0, 255, 255, 0, 0])
    mask.save(root / "masks" / "a.png")
    dataset = adopt_classes(load_dataset(root, unmasked="skip"), INDEX)
    with pytest.raises(MaskError, match=r"a\.png: index 1 is class 'road', but its palette .* class 'car'"):
        rows(dataset)
