"""Exports as the tools' own libraries read them; none of these is a dependency, and each may be missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from .scenes import CLASSES, Mask, export
from .test_own_readers import masks_to_export, write_photos

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
WHY = "a library of a labelling tool, which no extra of Mycelia installs"


@pytest.fixture
def masks() -> dict[str, Mask]:
    return masks_to_export()


def regions(out: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    data = json.loads((out / f"{name}.json").read_text("utf-8"))
    photos = {image["id"]: image["file_name"] for image in data["images"]}
    for annotation in data["annotations"]:
        yield photos[annotation["image_id"]], annotation


def test_supervision_reads_run_lengths(tmp_path: Path, masks: dict[str, Mask]) -> None:
    sv = pytest.importorskip("supervision", reason=WHY)
    photos = write_photos(tmp_path / "photos", masks)
    export(tmp_path, "coco-rle", masks, folder=photos)
    dataset = sv.DetectionDataset.from_coco(str(photos), str(tmp_path / "coco-rle.json"), force_masks=True)
    areas: dict[str, list[float]] = {name: [] for name in masks}
    for name, annotation in regions(tmp_path, "coco-rle"):
        areas[name].append(annotation["area"])
    for path, _, found in dataset:
        name = Path(path).name
        parts = [] if found.mask is None else found.mask
        assert [int(part.sum()) for part in parts] == areas[name]
        back = np.zeros_like(masks[name])
        for part, label in zip(parts, found.class_id, strict=True):
            back[part] = CLASSES.names.index(dataset.classes[label])
        assert np.array_equal(back, masks[name])


def test_label_studios_converter_decodes_brush_layers(tmp_path: Path, masks: dict[str, Mask]) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=WHY)
    export(tmp_path, "label-studio", masks, folder=write_photos(tmp_path / "photos", masks))
    for task in json.loads((tmp_path / "label-studio.json").read_text("utf-8")):
        name = task["data"]["image"].rpartition("/")[2]
        back = np.zeros_like(masks[name])
        for result in task["predictions"][0]["result"]:
            layer = np.reshape(brush.decode_rle(result["value"]["rle"]), (*back.shape, 4))[:, :, 3]
            assert set(np.unique(layer)) <= {0, 255}
            back[layer == 255] = CLASSES.names.index(result["value"]["brushlabels"][0])
        assert np.array_equal(back, masks[name])


@pytest.mark.parametrize("name", ["coco", "coco-rle", "cvat"])
def test_datumaro_reads(name: str, tmp_path: Path, masks: dict[str, Mask]) -> None:
    pytest.importorskip("datumaro", reason=WHY)
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    root = tmp_path / "data"
    photos = write_photos(root / "images", masks)
    export(tmp_path, name, masks, folder=photos)
    if name == "cvat":
        shutil.copy(tmp_path / "cvat.xml", root / "cvat.xml")
    else:
        (root / "annotations").mkdir()
        shutil.copy(tmp_path / f"{name}.json", root / "annotations" / "instances_default.json")
    dataset = Dataset.import_from(str(root), "cvat" if name == "cvat" else "coco_instances")
    labels = [category.name for category in dataset.categories()[AnnotationType.label]]
    found = {}
    for item in dataset:
        photo = f"{Path(item.id).name}.png"
        back = np.zeros_like(masks[photo])
        for shape in item.annotations:
            if shape.type in (AnnotationType.mask, AnnotationType.polygon):  # not boxes
                back[_pixels(shape, back.shape)] = CLASSES.names.index(labels[shape.label])
        found[photo] = back
    assert sorted(found) == sorted(masks)
    assert all(np.array_equal(found[photo], masks[photo]) for photo in masks)


def _pixels(shape: Any, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """A mask as datumaro has it; a polygon as COCO's code fills it, with which datumaro converts it."""
    from pycocotools import mask as coco_mask

    if hasattr(shape, "image"):
        return np.asarray(shape.image).astype(bool)
    (code,) = coco_mask.frPyObjects([shape.points], *size)
    return coco_mask.decode(code).astype(bool)
