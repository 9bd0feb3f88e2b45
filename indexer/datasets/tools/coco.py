"""COCO: one JSON of images, annotations and categories for each split, the images in folders.

``annotations/instances_train2017.json`` beside ``train2017/`` (or ``images/``),
``train/_annotations.coco.json`` among the images (Roboflow), ``result.json`` beside ``images/`` (Label
Studio, CVAT). Three formats: ``coco`` for objects before a background, ``coco-stuff`` and ``coco-panoptic``
(PNGs of segments), where pixels of nothing are unlabelled.
Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, split_names
from indexer.datasets.labels import LabelSource, NoLabels
from indexer.datasets.masks import Color
from indexer.datasets.tools.coco_panoptic import Panoptic, segment_columns
from indexer.datasets.tools.coco_shapes import draw_annotations
from indexer.datasets.tools.entries import (
    FAULTS,
    Entry,
    Label,
    content_of,
    fault,
    listed,
    named,
    whole,
)
from indexer.datasets.tools.files import ImageFinder, Meaning, holds, ids_of, meaning_of, read_json, texts
from indexer.datasets.whole import is_split_name
from indexer.images.listing import subfolders
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

Kind = Literal["coco", "coco-panoptic", "coco-stuff"]

#: What COCO's own files begin with; the rest names the split.
_PREFIX = re.compile(r"(instances|panoptic|stuff)[_-]", re.IGNORECASE)
#: Files of COCO that describe no pixels, or the same ones again.
_OTHERS = re.compile(r"(captions|person_keypoints|image_info)_", re.IGNORECASE)


def _files(root: Path, kind: Kind) -> dict[str, Path]:
    """The JSON files of a kind by their splits; the name is empty where one file is all."""
    parts = [folder for folder in subfolders(root) if is_split_name(folder.name)]
    paths = [path for folder in (root, root / "annotations", *parts) for path in texts(folder, ".json")]
    paths = [path for path in paths if not _OTHERS.match(path.name) and _kind_of(path) == kind]
    names = [_split_of(path, root) for path in paths]
    if len(paths) == 1 and not is_split_name(names[0]):
        return {"": paths[0]}
    twins = {name for name in names if names.count(name) > 1}
    found: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        place = path.relative_to(root).with_suffix("").as_posix()
        found[place if name in twins else name] = path
    return found


def _kind_of(path: Path) -> Kind | None:
    if not holds(path, "images") or not (holds(path, "categories") or holds(path, "annotations")):
        return None
    if holds(path, "segments_info"):
        return "coco-panoptic"
    return "coco-stuff" if path.name.lower().startswith("stuff") else "coco"


def _split_of(path: Path, root: Path) -> str:
    stem = _PREFIX.sub("", path.stem, count=1)
    if path.parent not in (root, root / "annotations") and not is_split_name(stem):
        return path.parent.name
    return stem


def find(path: Path, *, kind: Kind) -> Path | None:
    """``path`` where it, its ``annotations/`` or another folder in it holds such a JSON, or None."""
    return path if path.is_dir() and _files(path, kind) else None


def splits(root: Path, *, kind: Kind) -> list[str]:
    """The names of the splits, sorted; empty where one file is all."""
    return split_names(_files(root, kind))


def load(root: Path, split: str | None, *, kind: Kind) -> Dataset:
    """The images of a split's file, in its order, each with its own annotations.

    Raises DatasetError for a split that is unknown or must be chosen, a file that is no JSON, or images and
    categories that make no sense; an annotation that makes none raises when its image is read.
    """
    chosen, path = pick_split(_files(root, kind), split, where=root)
    file = _File.read(path)
    meaning = _categories(file, root, kind)
    names = [image.name for image in file.images]
    finder = ImageFinder(_places(root, path, chosen or ""))
    samples = []
    for id, image in zip(ids_of(names), file.images, strict=True):
        place = finder.find(image.name, where=f"{path}, image {image.id}")
        samples.append(Sample(id, place, _labels(file, image, place, meaning, kind)))
    return Dataset(
        real_path(root).name,
        kind,
        root,
        chosen,
        check_samples(samples, where=path),
        meaning.classes,
        notes=tuple(file.notes()),
    )


@dataclass(frozen=True)
class _Image:
    id: Label
    name: str
    height: Any
    width: Any


@dataclass(frozen=True)
class _File:
    """A parsed file, annotations by image."""

    path: Path
    images: tuple[_Image, ...]
    categories: tuple[tuple[int, str, Any], ...]
    annotations: dict[Label, list[dict[str, Any]]]

    @classmethod
    def read(cls, path: Path) -> _File:
        data = read_json(path)
        where = str(path)
        try:
            images = []
            for number, item in enumerate(listed(data["images"]), start=1):
                where = f"{path}, image number {number}"
                images.append(
                    _Image(_key(item["id"]), named(item["file_name"]), item.get("height"), item.get("width"))
                )
            categories = []
            where = str(path)
            for number, item in enumerate(listed(data["categories"]), start=1):
                where = f"{path}, category number {number}"
                categories.append((whole(item["id"]), named(item["name"]), item.get("color")))
            where = str(path)
            annotations: dict[Label, list[dict[str, Any]]] = {}
            for number, item in enumerate(listed(data["annotations"]), start=1):
                where = f"{path}, annotation number {number}"
                annotations.setdefault(_key(item["image_id"]), []).append(item)
        except FAULTS as problem:
            raise fault(DatasetError, where, problem) from problem
        for what, ids in (("images", [i.id for i in images]), ("categories", [c[0] for c in categories])):
            if len(set(ids)) < len(ids):
                raise DatasetError(f"{path} has two {what} with one id; export it again")
        return cls(path, tuple(images), tuple(categories), annotations)

    def notes(self) -> Iterator[str]:
        known = {image.id for image in self.images}
        lost = sum(len(found) for id, found in self.annotations.items() if id not in known)
        if lost:
            yield f"{lost} annotations of {self.path} belong to none of its images, and are left out"


def _key(value: Any) -> Label:
    return value if isinstance(value, str) else whole(value)


def _categories(file: _File, root: Path, kind: Kind) -> Meaning:
    labels = sorted(file.categories, key=lambda category: category[0])
    colored = [(id, name, _color(color)) for id, name, color in labels]
    return meaning_of(root, colored, keep_ids=True, ground=kind == "coco")


def _color(value: Any) -> Color | None:
    """A colour as COCO's panoptic files give it, or None."""
    numbers = value if isinstance(value, list) and len(value) == 3 else []
    if not numbers or any(type(channel) is not int or not 0 <= channel <= 255 for channel in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def _places(root: Path, path: Path, split: str) -> list[Path]:
    """Where the images of a file may lie: in folders called as its split, in ``images/``, beside it."""
    name = _split_of(path, root)
    inner = [folder / part for folder in (root, root / "images") for part in (split, name) if part]
    return [*inner, root / "images", path.parent, path.parent / "images", root]


def _labels(file: _File, image: _Image, place: Path, meaning: Meaning, kind: Kind) -> LabelSource:
    where = f"{file.path}, image {image.name!r}"
    found = file.annotations.get(image.id, [])
    if kind == "coco-panoptic":
        if len(found) != 1:
            return NoLabels(place)
        try:
            picture = named(found[0]["file_name"])
            columns = segment_columns(found[0], dict(meaning.columns))
        except FAULTS as problem:
            raise fault(DatasetError, where, problem) from problem
        folders = (file.path.with_suffix(""), file.path.parent.parent / file.path.stem, file.path.parent)
        return Panoptic(ImageFinder(folders).find(picture, where=where), where, columns)
    shapes = [
        {key: item.get(key) for key in ("category_id", "iscrowd", "segmentation") if key in item}
        for item in found
    ]
    content = content_of(shapes, height=image.height, width=image.width)
    return Entry(
        place, file.path, f"image {image.name!r}", content, draw_annotations, meaning.columns, meaning.ground
    )


def _layout(kind: Kind, description: str) -> Layout:
    return Layout(
        kind, description, partial(find, kind=kind), partial(load, kind=kind), partial(splits, kind=kind)
    )


INSTANCES = _layout(
    "coco", "COCO's objects: annotations/instances_SPLIT.json, or another JSON of images and annotations"
)
PANOPTIC = _layout(
    "coco-panoptic", "COCO's panoptic labels: annotations/panoptic_SPLIT.json beside panoptic_SPLIT/ of PNGs"
)
STUFF = _layout("coco-stuff", "COCO's stuff: annotations/stuff_SPLIT.json")
