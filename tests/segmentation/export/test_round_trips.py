"""Masks come back from every format as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segmentation.export import FORMATS

from .scenes import CLASSES, EMPTY, SCENE, Mask, export, inside, random_masks

#: Reads what was exported: (folder, name of a photo, (H, W)) to a mask of class columns.
Reader = Callable[[Path, str, tuple[int, int]], Mask]
COLUMN = {name: column for column, name in enumerate(CLASSES.names)}


def paint(mask: Mask, region: npt.NDArray[Any], column: int) -> None:
    """Add a region to a mask, where nothing was."""
    assert not mask[region].any()
    mask[region] = column


def read_png(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    with Image.open((out / name).with_suffix(".png")) as image:
        return CLASSES.columns(np.asarray(image))


def read_coco(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    coco = COCO(next(out.glob("coco*.json")))
    (image,) = (info for info in coco.dataset["images"] if info["file_name"] == name)
    assert (image["height"], image["width"]) == shape
    mask = np.zeros(shape, dtype=np.int32)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
        region = coco.annToMask(annotation).astype(bool)
        rows, cols = np.nonzero(region)
        box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
        assert annotation["area"] == region.sum() and annotation["bbox"] == box
        category = coco.loadCats(annotation["category_id"])[0]
        paint(mask, region, COLUMN[category["name"]])
    return mask


def read_labelme(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    path = (out / name).with_suffix(".json")
    data = json.loads(path.read_text("utf-8"))
    assert (data["imageHeight"], data["imageWidth"]) == shape
    assert (path.parent / data["imagePath"]).resolve() == (out / "photos" / name).resolve()
    mask = np.zeros(shape, dtype=np.int32)
    for shape_ in data["shapes"]:
        paint(mask, inside([shape_["points"]], shape), COLUMN[shape_["label"]])
    return mask


def read_cvat(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    root = ElementTree.parse(out / "cvat.xml").getroot()
    labels = [label.text for label in root.findall("meta/task/labels/label/name")]
    (image,) = (found for found in root.iter("image") if found.get("name") == name)
    assert (int(image.attrib["height"]), int(image.attrib["width"])) == shape
    mask = np.zeros(shape, dtype=np.int32)
    for element in image:
        assert element.attrib["label"] in labels
        paint(mask, _cvat_shape(element, shape), COLUMN[element.attrib["label"]])
    return mask


def _cvat_shape(element: ElementTree.Element, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    given = element.attrib
    if element.tag == "polygon":
        return inside([[[float(v) for v in p.split(",")] for p in given["points"].split(";")]], shape)
    left, top, width, height = (int(given[key]) for key in ("left", "top", "width", "height"))
    runs = [int(run) for run in given["rle"].split(",")]
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    region = np.zeros(shape, dtype=bool)
    region[top : top + height, left : left + width] = bits
    return region


def read_label_studio(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    tasks = json.loads(next(out.glob("label-studio*.json")).read_text("utf-8"))
    (task,) = (
        task for task in tasks if unquote(task["data"]["image"]) == f"/data/local-files/?d=photos/{name}"
    )
    interface = ElementTree.parse(next(out.glob("label-studio*.xml"))).getroot()
    mask = np.zeros(shape, dtype=np.int32)
    (prediction,) = task["predictions"]
    assert len({result["id"] for result in prediction["result"]}) == len(prediction["result"])
    assert ("score" in prediction) == bool(prediction["result"])
    for result in prediction["result"]:
        assert (result["original_height"], result["original_width"]) == shape
        assert 0.5 <= result["score"] <= 1
        value, kind = result["value"], result["type"]
        (tag,) = (tag for tag in interface if tag.get("name") == result["from_name"])
        assert tag.tag.lower() == kind and value[kind][0] in [label.get("value") for label in tag]
        if kind == "brushlabels":
            region = _unpack(value["rle"]).reshape(*shape, 4)[:, :, 3] == 255
        else:
            points = [[x * shape[1] / 100, y * shape[0] / 100] for x, y in value["points"]]
            region = inside([np.round(points, 6).tolist()], shape)
        paint(mask, region, COLUMN[value[kind][0]])
    return mask


def _unpack(code: list[int]) -> npt.NDArray[np.uint8]:
    """The words of rle-pack: a head (count, word size, four sizes of lengths), then runs and literals."""
    bits = "".join(f"{byte:08b}" for byte in code)
    place = 0

    def take(size: int) -> int:
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    count, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < count:
        repeated = take(1)
        length = take(sizes[take(2)]) + 1
        words += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert len(words) == count and len(bits) - place < 8
    return np.array(words, dtype=np.uint8)


def read_yolo(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    names = yaml.safe_load((out / "yolo" / "data.yaml").read_text("utf-8"))["names"]
    mask = np.zeros(shape, dtype=np.int32)
    for line in (out / "yolo" / "labels" / name).with_suffix(".txt").read_text().splitlines():
        number, *shares = line.split()
        points = np.array(shares, dtype=float).reshape(-1, 2) * [shape[1], shape[0]]
        assert points.min() >= 0 and len(points) >= 3
        paint(mask, inside([np.round(points, 4).tolist()], shape), COLUMN[names[int(number)]])
    return mask


def read_geojson(out: Path, name: str, shape: tuple[int, int]) -> Mask:
    data = json.loads((out / name).with_suffix(".geojson").read_text("utf-8"))
    mask = np.zeros(shape, dtype=np.int32)
    for feature in data["features"]:
        geometry = feature["geometry"]
        many = geometry["type"] == "MultiPolygon"
        polygons = geometry["coordinates"] if many else [geometry["coordinates"]]
        assert all(line[0] == line[-1] for lines in polygons for line in lines)
        region = inside([line[:-1] for lines in polygons for line in lines], shape)
        assert feature["properties"]["area"] == region.sum()
        paint(mask, region, COLUMN[feature["properties"]["classification"]["name"]])
    return mask


READERS: dict[str, Reader] = {
    "png": read_png,
    "coco": read_coco,
    "coco-rle": read_coco,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "label-studio": read_label_studio,
    "label-studio-polygons": read_label_studio,
    "yolo": read_yolo,
    "geojson": read_geojson,
}


def test_every_format_has_its_reader() -> None:
    assert list(READERS) == [format.name for format in FORMATS]


@pytest.mark.parametrize("name", READERS)
def test_masks_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    masks = random_masks()
    export(tmp_path, name, masks, folder=tmp_path / "photos")
    for photo, mask in masks.items():
        assert np.array_equal(READERS[name](tmp_path, photo, mask.shape), mask), photo
    assert not list(tmp_path.rglob("*.lines")) and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", READERS)
def test_photos_without_regions_are_there(name: str, tmp_path: Path) -> None:
    masks = {"a.png": EMPTY, "b.png": np.full((3, 2), -1, dtype=np.int32)}
    if name == "png":
        del masks["b.png"]  # what has no class has no id
    export(tmp_path, name, masks, folder=tmp_path / "photos")
    for photo, mask in masks.items():
        assert not READERS[name](tmp_path, photo, mask.shape).any()


def test_pycocotools_fills_labelmes_polygons_alike(tmp_path: Path) -> None:
    """Seams enclose nothing for COCO's own way of filling either."""
    export(tmp_path, "labelme", {"scene.png": SCENE}, folder=tmp_path / "photos")
    mask = np.zeros(SCENE.shape, dtype=np.int32)
    for shape in json.loads((tmp_path / "scene.json").read_text("utf-8"))["shapes"]:
        points = [[value for point in shape["points"] for value in point]]
        (code,) = coco_mask.frPyObjects(points, *SCENE.shape)
        paint(mask, coco_mask.decode(code).astype(bool), COLUMN[shape["label"]])
    assert np.array_equal(mask, SCENE)


def test_coco_annotates_connected_regions(tmp_path: Path) -> None:
    export(tmp_path, "coco", {"scene.png": SCENE, "empty.png": EMPTY})
    coco = COCO(tmp_path / "coco.json")
    assert [len(coco.getAnnIds(imgIds=number)) for number in (1, 2)] == [5, 0]
    assert [len(a["segmentation"]) for a in coco.loadAnns(coco.getAnnIds())] == [1, 1, 2, 1, 1]
    assert [a["category_id"] for a in coco.loadAnns(coco.getAnnIds())] == [3, 3, 7, 7, 7]
    scores = [a["score"] for a in coco.loadAnns(coco.getAnnIds())]
    assert scores == [0.5, 0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("name", [name for name in READERS if name != "png"])
def test_a_tolerance_keeps_large_shapes(name: str, tmp_path: Path) -> None:
    y, x = np.indices((310, 320)) - 155
    distance = np.hypot(x, y)
    disc = ((distance < 150) & (distance > 40)).astype(np.int32)
    for tolerance in (0.0, 1.0):
        out = tmp_path / str(tolerance)
        export(out, name, {"disc.png": disc}, tolerance=tolerance, folder=out / "photos")
    if name in ("coco", "label-studio-polygons", "yolo"):
        exact, simple = (_size(tmp_path / str(tolerance)) for tolerance in (0.0, 1.0))
        assert simple < exact / 2
    back = _without_sums(name, out, disc.shape)
    assert (back & (disc == 1)).sum() / (back | (disc == 1)).sum() >= 0.99


def _size(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.suffix in (".json", ".txt"))


def _without_sums(name: str, out: Path, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """What was read, by formats whose area is that of the pixels before they were simplified too."""
    if name == "coco":
        coco = COCO(out / "coco.json")
        return np.any([coco.annToMask(a) for a in coco.dataset["annotations"]], axis=0)
    if name == "geojson":
        (feature,) = json.loads((out / "disc.geojson").read_text())["features"]
        return inside([line[:-1] for line in feature["geometry"]["coordinates"]], shape)
    return READERS[name](out, "disc.png", shape) == 1
