"""LabelMe: a JSON of shapes beside each image, in one folder or one a split.

Source: wkentaro/labelme, labelme/utils/shape.py (shape_to_mask, shapes_to_label).
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, split_names
from indexer.datasets.labels import NoLabels
from indexer.datasets.names import id_of
from indexer.datasets.tools.entries import FAULTS, Canvas, Entry, content_of, fault, listed, named
from indexer.datasets.tools.files import Meaning, holds, is_background, meaning_of, read_json, texts
from indexer.datasets.tools.fill import Patch, box_corners, ellipse_corners
from indexer.datasets.whole import is_split_name, natural_key
from indexer.images.formats import IMAGE_SUFFIXES
from indexer.images.listing import list_folder, subfolders
from retrieval.classes import UNLABELLED
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

#: LabelMe's name for what carries no label.
_IGNORE = "__ignore__"
#: Shapes without an inside.
_FLAT = ("line", "linestrip", "point", "points")
_KEPT = ("label", "points", "shape_type", "mask")


def find(path: Path) -> Path | None:
    """``path`` where images in it, or in its folders, have a JSON of LabelMe beside them; or None."""
    return path if _parts(path) else None


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted; empty where there are none."""
    return split_names(_parts(root))


def _parts(root: Path) -> dict[str, Path]:
    """The folders by their splits; under the empty name the root, or its one folder of images."""
    inner = subfolders(root)
    named = {folder.name: folder for folder in inner if is_split_name(folder.name) and _is_labelme(folder)}
    if named:
        return named
    one = inner if len(inner) == 1 else ()
    return next(({"": folder} for folder in (root, *one) if _is_labelme(folder)), {})


def _is_labelme(folder: Path) -> bool:
    """Whether one of the first JSON files beside images of a folder is LabelMe's."""
    written = texts(folder, ".json")
    if not written:
        return False
    stems = {path.stem for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    return any(holds(path, "shapes") for path in [path for path in written if path.stem in stems][:20])


def load(root: Path, split: str | None) -> Dataset:
    """The images of a split, sorted; the classes are the labels of all splits, or those of a file.

    Raises DatasetError for a split that is unknown or must be chosen, and for a JSON that cannot be read; a
    shape that makes no sense raises when its image is read.
    """
    parts = _parts(root)
    chosen, folder = pick_split(parts, split, where=root)
    written = {part: dict(_written(part)) for part in parts.values()}
    meaning = _meaning(
        root, {name for part in written.values() for one in part.values() for name in one.labels}
    )
    listing = list_folder(folder)
    samples = []
    for image in listing.images:
        path = image.with_suffix(".json")
        own = written[folder].get(path)
        labels = (
            NoLabels(image)
            if own is None
            else Entry(image, path, "", own.content, _draw, meaning.columns, meaning.ground)
        )
        samples.append(Sample(id_of(image, folder), image, labels))
    return Dataset(
        real_path(root).name,
        "labelme",
        root,
        chosen,
        check_samples(samples, where=folder),
        meaning.classes,
    )


@dataclass(frozen=True)
class _Written:
    """What a JSON draws, without its copy of the image, and the labels it does so with."""

    content: str
    labels: frozenset[str]


def _written(folder: Path) -> Iterator[tuple[Path, _Written]]:
    """The JSON files that images below a folder have beside them."""
    for image in list_folder(folder).images:
        path = image.with_suffix(".json")
        if not path.is_file():
            continue
        data = read_json(path)
        try:
            every = [{key: shape[key] for key in _KEPT if key in shape} for shape in listed(data["shapes"])]
            content = content_of(every, height=data.get("imageHeight"), width=data.get("imageWidth"))
            drawn = [shape.get("label") for shape in every if shape.get("shape_type") not in _FLAT]
        except FAULTS as problem:
            raise fault(DatasetError, str(path), problem) from problem
        # A label that is no text is told when the image is read.
        labels = frozenset(label for label in drawn if isinstance(label, str) and label.strip())
        yield path, _Written(content, labels)


def _meaning(root: Path, labels: Iterable[str]) -> Meaning:
    """The classes of labels in natural order, the background first."""
    ordered = sorted(
        set(labels) - {_IGNORE}, key=lambda label: (not is_background(label), natural_key(label))
    )
    meaning = meaning_of(root, [(label, label, None) for label in ordered])
    return replace(meaning, columns=(*meaning.columns, (_IGNORE, UNLABELLED)))


def _draw(data: Any, canvas: Canvas) -> None:
    """Draw shapes in their order; lines and points have no inside."""
    for shape in canvas.each(listed(data["shapes"]), "shape"):
        kind = shape.get("shape_type") or "polygon"
        if kind in _FLAT:
            continue
        points, column = canvas.points(listed(shape["points"])), canvas.column(shape["label"])
        if kind == "polygon":
            canvas.polygon(points, column)
        elif kind == "rectangle":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            canvas.polygon(box_corners(left, top, right - left, bottom - top), column)
        elif kind == "circle":
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            canvas.polygon(ellipse_corners(x, y, radius, radius), column)
        elif kind == "mask":
            canvas.paint(_mask(shape["mask"], points), column)
        else:
            raise ValueError(f"shapes of the type {kind!r} are not known; draw it as a polygon")


def _mask(text: Any, points: npt.NDArray[np.float64]) -> Patch:
    """The pixels of a mask shape: a PNG in base64, its corners the first and the last pixel."""
    with Image.open(io.BytesIO(base64.b64decode(named(text), validate=True)), formats=("PNG",)) as picture:
        if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise ValueError("its mask is too large for the image")
        inside = np.array(picture.convert("L")) > 0
    low, high = np.round(points.min(axis=0)), np.round(points.max(axis=0))
    left, top = (int(value) for value in low)
    width, height = (int(value) for value in high - low + 1)
    if inside.shape != (height, width):
        raise ValueError(f"its mask is {inside.shape} (height, width), but its corners say {(height, width)}")
    return Patch(top, left, inside)


LAYOUT = Layout(
    "labelme",
    "LabelMe: a JSON of shapes beside each image, perhaps in train/ and val/",
    find,
    load,
    splits,
)
