"""Label Studio's JSON export (a list of tasks) beside ``images/``: brushes, polygons, boxes and ellipses.

Source: labelstud.io/guide/export ("Label Studio JSON format of annotated tasks").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, split_names
from indexer.datasets.labels import LabelSource, NoLabels
from indexer.datasets.tools.brush import decode_brush
from indexer.datasets.tools.entries import FAULTS, Canvas, Entry, content_of, fault, listed, named, number
from indexer.datasets.tools.files import (
    ImageFinder,
    Meaning,
    holds,
    ids_of,
    is_background,
    meaning_of,
    read_json,
    texts,
)
from indexer.datasets.tools.fill import Patch, ellipse_corners
from indexer.datasets.whole import is_split_name, natural_key
from retrieval.errors import DatasetError, MaskError
from retrieval.store.paths import real_path

#: Types of results with an inside, whose labels stand under the type's own name.
_TYPES = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
#: What Label Studio puts before the name of a file that was uploaded.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")


def find(path: Path) -> Path | None:
    """``path`` where it holds an export of Label Studio, or None."""
    return path if path.is_dir() and exports(path) else None


def splits(root: Path) -> list[str]:
    """The names of the exports where there are several, sorted."""
    return split_names(exports(root))


def exports(root: Path) -> dict[str, Path]:
    """The exports by their splits; the name is empty where one is all."""
    paths = [path for path in texts(root, ".json") if _is_export(path)]
    if len(paths) == 1 and not is_split_name(paths[0].stem):
        return {"": paths[0]}
    return {path.stem: path for path in paths}


def _is_export(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begins_list = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[")
    except OSError:
        return False
    return begins_list and holds(path, "data") and holds(path, "annotations")


@dataclass(frozen=True)
class Task:
    """One image that was labelled, or is to be."""

    number: Any
    image: str  #: the file's name, without what Label Studio puts before it
    uploaded: str  #: the name with it
    results: tuple[dict[str, Any], ...] | None  #: None where nobody has labelled it
    annotations: int  #: how many people (or the same one several times) did


def load(root: Path, split: str | None) -> Dataset:
    """The images of an export's tasks, in its order; the classes are the labels of all exports, or those of a
    file.

    Raises DatasetError for an export that cannot be read or names no images; a result that makes no sense
    raises when its image is read.
    """
    files = exports(root)
    chosen, path = pick_split(files, split, where=root)
    tasks = {file: list(read_tasks(file)) for file in files.values()}
    meaning = _meaning(
        root, {label for found in tasks.values() for task in found for label in labels_of(task.results or ())}
    )
    finder = ImageFinder((root / "images", root))
    own = tasks[path]
    samples = []
    for id, task in zip(ids_of([task.image for task in own]), own, strict=True):
        image = find_image(finder, task, where=f"{path}, task {task.number}")
        samples.append(Sample(id, image, _entry(image, task, path, meaning)))
    several = sum(task.annotations > 1 for task in own)
    note = f"{several} tasks of {path} have several annotations; the ground truth or the last one is taken"
    return Dataset(
        real_path(root).name,
        "label-studio",
        root,
        chosen,
        check_samples(samples, where=path),
        meaning.classes,
        notes=(note,) if several else (),
    )


def read_tasks(path: Path) -> Iterator[Task]:
    """The tasks of an export; raises DatasetError where it makes no sense."""
    for place, item in enumerate(_list(path), start=1):
        where = f"{path}, task number {place}"
        try:
            name = _file_name(item["data"])
            done = [one for one in listed(item["annotations"]) if not one.get("was_cancelled")]
            best = next((one for one in done if one.get("ground_truth")), done[-1] if done else None)
            results = None if best is None else tuple(listed(best["result"]))
            yield Task(item.get("id", place), _UPLOAD.sub("", name, count=1), name, results, len(done))
        except FAULTS as problem:
            raise fault(DatasetError, where, problem) from problem


def _list(path: Path) -> list[Any]:
    try:
        return listed(read_json(path))
    except ValueError as problem:
        raise fault(DatasetError, str(path), problem) from problem


def _file_name(data: Mapping[str, Any]) -> str:
    """The file that a task's data names: under ``image``, or else the first text that looks like a path."""
    given = data.get("image")
    if given is None:
        paths = (value for value in data.values() if isinstance(value, str) and "." in value[-5:])
        given = next(paths, None)
    url = urlsplit(named(given))
    local = parse_qs(url.query).get("d", [])
    name = unquote(local[0] if local else url.path).rstrip("/")
    return named(name.replace("\\", "/").rpartition("/")[2])


def find_image(finder: ImageFinder, task: Task, *, where: str) -> Path:
    """The image of a task, under the name that it was uploaded with or the one that it was given then."""
    paths = [finder.find(name, where=where) for name in (task.uploaded, task.image)]
    return next((path for path in paths if path.is_file()), paths[1])


def labels_of(results: Iterable[Any]) -> Iterator[str]:
    """The labels of results that are texts; what else there is is told when its image is read."""
    for result in results:
        kind = result.get("type") if isinstance(result, dict) else None
        value = result.get("value") if kind in _TYPES else None
        labels = value.get(kind) if isinstance(value, dict) else None
        if isinstance(labels, list):
            yield from (label for label in labels if isinstance(label, str) and label.strip())


def _meaning(root: Path, labels: set[str]) -> Meaning:
    ordered = sorted(labels, key=lambda label: (not is_background(label), natural_key(label)))
    return meaning_of(root, [(label, label, None) for label in ordered])


def _entry(image: Path, task: Task, path: Path, meaning: Meaning) -> LabelSource:
    if task.results is None:
        return NoLabels(image)
    name = f"task {task.number}"
    return Entry(image, path, name, _content(task.results), _draw, meaning.columns, meaning.ground)


def drawn_results(
    image: Path, results: Iterable[Any], columns: Mapping[str, int], *, where: str
) -> LabelSource:
    """The labels of an image out of the results of one annotation, as Label Studio sends them.

    ``columns`` are the class columns of the labels; what nobody painted is unlabelled. Reading raises
    MaskError, naming ``where``, for a result that makes no sense.
    """
    return Entry(image, Path(where), "", _content(results), _draw, tuple(columns.items()))


def _content(results: Iterable[Any]) -> str:
    kept = ("type", "value", "original_width", "original_height", "image_rotation")
    return content_of(
        [
            {key: result.get(key) for key in kept} if isinstance(result, dict) else result
            for result in results
            if not isinstance(result, dict) or result.get("type") in _TYPES
        ]
    )


def _draw(data: Any, canvas: Canvas) -> None:
    """Draw the results in their order."""
    for result in canvas.each(data["shapes"], "result"):
        kind, value = result["type"], result["value"]
        stated = (result["original_height"], result["original_width"])
        if result["image_rotation"]:
            raise MaskError(
                f"{canvas.where} was drawn on the turned image; turn the file, and label it again"
            )
        if stated != canvas.size:
            raise MaskError(
                f"{canvas.where} was drawn on an image {stated[0]} high and {stated[1]} wide, but it is "
                f"{canvas.size[0]} high and {canvas.size[1]} wide (EXIF orientation applied)"
            )
        labels = listed(value[kind])
        if len(labels) != 1:
            raise MaskError(
                f"{canvas.where} has {len(labels)} labels ({json.dumps(labels)[:60]}), expected one"
            )
        column = canvas.column(labels[0])
        if kind == "brushlabels":
            if value.get("format", "rle") != "rle":
                raise ValueError(f"brushes of the format {value['format']!r} are not known")
            canvas.paint(Patch(0, 0, decode_brush(listed(value["rle"]), canvas.size)), column)
        else:
            canvas.polygon(canvas.points(_outline(kind, value, canvas.size)), column)


def _outline(kind: str, value: Mapping[str, Any], size: tuple[int, int]) -> Iterable[Any]:
    """Corners in pixels; a share is in percent of the width or the height."""
    height, width = size
    if kind == "polygonlabels":
        return [[number(x) * width / 100, number(y) * height / 100] for x, y in value["points"]]
    x, y = number(value["x"]) * width / 100, number(value["y"]) * height / 100
    turn = number(value.get("rotation") or 0)
    if kind == "ellipselabels":
        radii = number(value["radiusX"]) * width / 100, number(value["radiusY"]) * height / 100
        return ellipse_corners(x, y, *radii, turn)
    wide, high = number(value["width"]) * width / 100, number(value["height"]) * height / 100
    return _turned_box(x, y, wide, high, turn)


def _turned_box(x: float, y: float, width: float, height: float, degrees: float) -> list[list[float]]:
    """A box that is turned clockwise around its upper left corner, as Label Studio writes it."""
    corner = np.array((x, y))
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    across, down = np.array((cosine, sine)) * width, np.array((-sine, cosine)) * height
    corners = [corner, corner + across, corner + across + down, corner + down]
    return [point.tolist() for point in corners]


LAYOUT = Layout(
    "label-studio",
    "Label Studio's JSON export, a list of tasks, beside images/",
    find,
    load,
    splits,
)
