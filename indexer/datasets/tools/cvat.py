"""CVAT for images 1.1: ``annotations.xml`` beside ``images/``.

Source: cvat-ai/cvat, cvat/apps/dataset_manager/formats/cvat.py, and docs.cvat.ai ("XML annotation format").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, read_text, split_names
from indexer.datasets.class_file import parse_color
from indexer.datasets.tools.entries import Canvas, Entry, content_of, fault, named, number
from indexer.datasets.tools.files import ImageFinder, Meaning, ids_of, meaning_of
from indexer.datasets.tools.fill import Patch, box_corners, ellipse_corners, fill_runs
from indexer.images.listing import subfolders
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

_FILE = "annotations.xml"
#: Shapes with an inside, and the attributes that draw them.
_SHAPES = {
    "polygon": ("points",),
    "box": ("xtl", "ytl", "xbr", "ybr", "rotation"),
    "ellipse": ("cx", "cy", "rx", "ry", "rotation"),
    "mask": ("rle", "left", "top", "width", "height"),
}


def find(path: Path) -> Path | None:
    """``path``, or its only subfolder, where it holds CVAT's annotations.xml, or None."""
    inner = subfolders(path)
    candidates = (path, *(inner if len(inner) == 1 else ()))
    return next((root for root in candidates if _is_cvat(root / _FILE)), None)


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return b"<annotations" in head and (b"<version" in head or b"<image" in head)


def splits(root: Path) -> list[str]:
    """The names of the subsets, sorted; empty where there are none."""
    return split_names(_by_subset(root, _parse(root / _FILE)))


def load(root: Path, split: str | None) -> Dataset:
    """The images of a subset, or all where there are none, as the file lists them.

    Raises DatasetError for a subset that is unknown or must be chosen, and a file that cannot be read; a
    shape that makes no sense raises when its image is read.
    """
    path = root / _FILE
    tree = _parse(path)
    chosen, images = pick_split(_by_subset(root, tree), split, where=root)
    meaning = _meaning(root, tree)
    finder = ImageFinder(_places(root, chosen))
    names = [_name(path, image) for image in images]
    samples = []
    for id, name, image in zip(ids_of(names), names, images, strict=True):
        where = f"{path}, image {name!r}"
        place = finder.find(name, where=where)
        shapes = _shapes(image)
        entry = Entry(place, path, f"image {name!r}", shapes, _draw, meaning.columns, meaning.ground)
        samples.append(Sample(id, place, entry))
    return Dataset(
        real_path(root).name,
        "cvat",
        root,
        chosen,
        check_samples(samples, where=path),
        meaning.classes,
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_text(path))
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as problem:
        raise DatasetError(f"{path} cannot be read as CVAT's XML ({problem}); export it again") from problem


def _by_subset(root: Path, tree: ElementTree.Element) -> dict[str, list[ElementTree.Element]]:
    images = tree.findall("image")
    if not images:
        raise DatasetError(f"{root / _FILE} lists no image; export the task again as 'CVAT for images 1.1'")
    if not any(image.get("subset") for image in images):
        return {"": images}
    found: dict[str, list[ElementTree.Element]] = {}
    for image in images:
        found.setdefault(image.get("subset") or "default", []).append(image)
    return found


def _places(root: Path, subset: str | None) -> list[Path]:
    own = [root / "images" / subset, root / subset] if subset else [root / "images" / "default"]
    return [own[0], root / "images", *own[1:], root]


def _name(path: Path, image: ElementTree.Element) -> str:
    try:
        return named(image.get("name"))
    except ValueError as problem:
        raise fault(DatasetError, f"{path}, image {image.get('id')}", problem) from problem


def _meaning(root: Path, tree: ElementTree.Element) -> Meaning:
    """The labels of the file's head, skeletons' parts aside, in their order."""
    labels = []
    for label in tree.iterfind("meta//labels/label"):
        name = (label.findtext("name") or "").strip()
        if not name:
            raise DatasetError(f"{root / _FILE} has a label without a name; export it again")
        if label.find("parent") is None:
            labels.append((name, name, parse_color(label.findtext("color") or "")))
    if not labels:
        raise DatasetError(f"{root / _FILE} names no label in its head (<meta>); export it again")
    return meaning_of(root, labels)


def _shapes(image: ElementTree.Element) -> str:
    shapes = []
    for element in image:
        kept = _SHAPES.get(element.tag)
        if kept is not None:
            values = {key: element.get(key) for key in kept if element.get(key) is not None}
            shape = {"kind": element.tag, "label": element.get("label"), **values}
            shapes.append({"z": element.get("z_order") or "0", **shape})
    return content_of(shapes, height=image.get("height"), width=image.get("width"))


def _draw(data: Any, canvas: Canvas) -> None:
    """Draw the shapes from the lowest z_order to the highest, in the file's order where it is equal."""
    drawn = [(place, shape) for place, shape in enumerate(data["shapes"], start=1)]
    outer = canvas.where
    for place, shape in sorted(drawn, key=lambda item: int(item[1]["z"])):
        canvas.where = f"{outer}, {shape['kind']} (shape {place})"
        column = canvas.column(shape["label"])
        if shape["kind"] == "mask":
            canvas.paint(_mask(shape, canvas.size), column)
        else:
            canvas.polygon(canvas.points(_outline(shape)), column)


def _outline(shape: Mapping[str, str]) -> Iterable[Any]:
    if shape["kind"] == "polygon":
        return [[number(float(value)) for value in point.split(",")] for point in shape["points"].split(";")]
    turn = number(float(shape.get("rotation", 0)))
    if shape["kind"] == "box":
        left, top, right, bottom = (number(float(shape[key])) for key in ("xtl", "ytl", "xbr", "ybr"))
        return box_corners(left, top, right - left, bottom - top, turn)
    x, y, across, down = (number(float(shape[key])) for key in ("cx", "cy", "rx", "ry"))
    return ellipse_corners(x, y, across, down, turn)


def _mask(shape: Mapping[str, str], image: tuple[int, int]) -> Patch:
    """The run lengths of a window, row after row, pixels outside first."""
    left, top, width, height = (int(float(shape[key])) for key in ("left", "top", "width", "height"))
    if not (0 <= left < left + width <= image[1] and 0 <= top < top + height <= image[0]):
        raise ValueError(
            f"its window of {height} x {width} pixels at row {top}, col {left} is not in the image"
        )
    counts = [int(count) for count in shape["rle"].split(",")]
    return Patch(top, left, fill_runs(counts, (height, width)))


LAYOUT = Layout("cvat", "CVAT for images 1.1: annotations.xml beside images/", find, load, splits)
