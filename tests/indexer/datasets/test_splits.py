"""Lists of a plain folder: flags, masks of other folders, and text files that are no lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from indexer.datasets import load_dataset


def add(root: Path, id: str) -> None:
    """Put an image and its mask of zeros into a folder data set."""
    for part in ("images", "masks"):
        (root / part).mkdir(exist_ok=True)
    Image.new("RGB", (3, 2)).save(root / "images" / f"{id}.png")
    Image.new("L", (3, 2)).save(root / "masks" / f"{id}.png")


def test_flags_of_a_list_are_no_masks(tmp_path: Path) -> None:
    for id in ("0", "1", "2"):
        add(tmp_path, id)
    (tmp_path / "train.txt").write_text("2  1\n0 1\n")
    dataset = load_dataset(tmp_path, split="train")
    assert [sample.labels.name for sample in dataset.samples] == [
        str(tmp_path / "masks" / "2.png"),
        str(tmp_path / "masks" / "0.png"),
    ]


def test_a_list_may_name_masks_of_another_folder(tmp_path: Path) -> None:
    add(tmp_path, "0")
    other = tmp_path / "masks_v2" / "0.png"
    other.parent.mkdir()
    Image.fromarray(np.ones((2, 3), dtype=np.uint8)).save(other)
    (tmp_path / "classes.json").write_text('["rest", "road"]')
    (tmp_path / "train.txt").write_text("images/0.png masks_v2/0.png\n")
    dataset = load_dataset(tmp_path, split="train")
    assert np.array_equal(dataset.read_mask(dataset.samples[0]), np.ones((2, 3)))


def test_a_file_of_class_names_is_no_list_of_images(tmp_path: Path) -> None:
    add(tmp_path, "road")
    add(tmp_path, "b")
    (tmp_path / "class_names.txt").write_text("road\nother\nthird\n")
    assert load_dataset(tmp_path).split is None
