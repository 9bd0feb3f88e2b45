"""What is exported comes back through Mycelia's own readers of the same formats, pixel for pixel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import load_dataset

from .scenes import CLASSES, SCENE, Mask, export, random_masks


def masks_to_export() -> dict[str, Mask]:
    """Holes, islands in holes, several parts, single pixels, noise, and photos without any region."""
    ring = np.zeros((60, 80), dtype=np.int32)
    ring[5:50, 10:70] = 1
    ring[15:40, 20:60] = 0
    ring[20:30, 30:40] = 2
    ring[55, 75] = 2
    noise = random_masks()
    return {
        "scene.png": SCENE,
        "ring.png": ring,
        "noise.png": noise["noise4.jpg"],
        "full.png": noise["full5.png"],
        "none.png": np.zeros((20, 30), dtype=np.int32),
    }


def write_photos(folder: Path, masks: dict[str, Mask]) -> Path:
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        Image.fromarray(np.zeros((*mask.shape, 3), dtype=np.uint8)).save(folder / name)
    return folder


def accept(path: Path) -> None:
    """Make predictions annotations, as Label Studio does when a person accepts them."""
    tasks = json.loads(path.read_text("utf-8"))
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    path.write_text(json.dumps(tasks), "utf-8")


def lay_out(root: Path, name: str, masks: dict[str, Mask]) -> Path:
    """A folder as the tool's own exports lie on disk: the file that was exported, and the photos."""
    if name == "labelme":
        photos = write_photos(root, masks)
        export(root, name, masks, folder=photos)
        return root
    if name == "yolo":
        photos = write_photos(root / "photos", masks)
        export(root, name, masks, folder=photos)
        shutil.move(photos, root / "yolo" / "images")
        return root / "yolo"
    photos = write_photos(root / "photos", masks)
    export(root, name, masks, folder=photos)
    file = {"coco": "coco.json", "coco-rle": "coco-rle.json", "cvat": "cvat.xml"}.get(name, f"{name}.json")
    final = {"cvat": "annotations.xml"}.get(name, "result.json")
    (root / file).rename(root / final)
    if name.startswith("label-studio"):
        accept(root / final)
    photos.rename(root / "images")
    return root


READ_AS = {
    "coco": "coco",
    "coco-rle": "coco",
    "labelme": "labelme",
    "cvat": "cvat",
    "label-studio": "label-studio",
    "label-studio-polygons": "label-studio",
    "yolo": "yolo",
}


@pytest.mark.parametrize("name", READ_AS)
def test_masks_come_back(name: str, tmp_path: Path) -> None:
    if READ_AS[name] == "coco":
        pytest.importorskip("pycocotools")
    masks = masks_to_export()
    split = "train" if name == "yolo" else None  # its data.yaml names the same photos twice
    dataset = load_dataset(lay_out(tmp_path / "data", name, masks), format=READ_AS[name], split=split)
    found = {sample.image.name: dataset.read_mask(sample) for sample in dataset.samples}
    assert sorted(found) == sorted(masks)
    column = {own: dataset.classes.names.index(name) for own, name in enumerate(CLASSES.names) if own}
    for photo, mask in masks.items():
        expected = np.zeros_like(mask)
        for own, theirs in column.items():
            expected[mask == own] = theirs
        assert np.array_equal(found[photo], expected), photo
