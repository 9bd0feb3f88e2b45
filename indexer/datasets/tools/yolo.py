"""YOLO segmentation: a text of outlines for each image, ``images/train/1.jpg`` and ``labels/train/1.txt``.

A line is a class number and the outline's corners, x and y as shares of width and height. ``data.yaml`` names
the classes and the splits' folders. Source: docs.ultralytics.com/datasets/segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indexer.datasets.base import (
    Dataset,
    Layout,
    Sample,
    check_samples,
    pick_split,
    read_text,
    split_names,
)
from indexer.datasets.names import id_of
from indexer.datasets.tools.entries import Canvas, Entry, content_of, number
from indexer.datasets.tools.files import Meaning, meaning_of, texts
from indexer.datasets.whole import is_split_name
from indexer.images.listing import list_folder, subfolders
from indexer.yaml_text import parse_yaml
from retrieval.errors import DatasetError, MaskError
from retrieval.json_text import read_limited
from retrieval.store.paths import real_path
from retrieval.store.text import decode_text

_SPLITS = ("train", "val", "test")
#: Files in which the names of classes may stand.
_NAMES = (".yaml", ".yml")
#: So many texts, and lines of each, are looked at to tell the layout.
_LOOK = 50
#: Class numbers are 0..65534, since the background comes before them.
_MOST_CLASSES = 65535


@dataclass(frozen=True)
class _Folder:
    """A folder of images and the one of their texts."""

    images: Path
    labels: Path


def find(path: Path) -> Path | None:
    """``path`` where folders images/ and labels/, or those of a data.yaml, hold its texts; or None."""
    return path if path.is_dir() and any(_has_texts(folder) for folder in _parts(path).values()) else None


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted; empty where there are none."""
    return split_names(_parts(root))


def _parts(root: Path) -> dict[str, _Folder]:
    """The folders of the splits, or under the empty name the two folders that hold all."""
    listed = _listed(root)
    if listed:
        return listed
    around = {folder.name: _Folder(folder / "images", folder / "labels") for folder in subfolders(root)}
    own = root / "images"
    within = {folder.name: _Folder(folder, root / "labels" / folder.name) for folder in subfolders(own)}
    for group in (around, within):
        found = {name: pair for name, pair in group.items() if is_split_name(name) and _exist(pair)}
        if found:
            return found
    pair = _Folder(own, root / "labels")
    return {"": pair} if _exist(pair) else {}


def _exist(pair: _Folder) -> bool:
    return pair.images.is_dir() and pair.labels.is_dir()


def _listed(root: Path) -> dict[str, _Folder]:
    """The folders that data.yaml names, found below the root whatever stands before them."""
    data = _settings(root)
    found = {}
    for split in _SPLITS:
        value = data.get(split) if isinstance(data.get(split), str) else None
        parts = [part for part in (value or "").replace("\\", "/").split("/") if part not in ("", ".", "..")]
        # The author's own prefix is cut off part by part, until such a folder is there.
        tails = (root.joinpath(*parts[start:]) for start in range(len(parts)))
        images = next((path for path in tails if path.is_dir()), None)
        if images is not None and "images" in images.relative_to(root).parts:
            found[split] = _Folder(images, _labels_of(images, root))
    return found


def _labels_of(images: Path, root: Path) -> Path:
    parts = list(images.relative_to(root).parts)
    last = len(parts) - 1 - parts[::-1].index("images")
    return root.joinpath(*parts[:last], "labels", *parts[last + 1 :])


def _has_texts(folder: _Folder) -> bool:
    """Whether one of the first text files has an outline; boxes alone are of another task."""
    if not _exist(folder):
        return False
    inner = (folder.labels, *subfolders(folder.labels))
    first = [path for place in inner for path in texts(place, ".txt")][:_LOOK]
    return any(_is_outline(line) for path in first for line in _head(path))


def _head(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()[:_LOOK]
    except (OSError, ValueError):
        return []


def _is_outline(line: str) -> bool:
    words = line.split()
    return len(words) > 6 and len(words) % 2 == 1 and words[0].isascii() and words[0].isdigit()


def _settings_file(root: Path) -> Path | None:
    usual = [root / f"data{ending}" for ending in _NAMES]
    others = [path for ending in _NAMES for path in texts(root, ending)]
    return next((path for path in (*usual, *others) if path.is_file()), None)


def _settings(root: Path) -> dict[str, Any]:
    """What data.yaml holds; nothing where it is none of YOLO. Raises DatasetError for one that is no YAML."""
    path = _settings_file(root)
    if path is None:
        return {}
    try:
        data = parse_yaml(decode_text(read_limited(path)))
    except (OSError, ValueError) as problem:
        raise DatasetError(f"{path} cannot be read as YAML ({problem}); write it again") from problem
    return data if isinstance(data, dict) and "names" in data else {}


def load(root: Path, split: str | None) -> Dataset:
    """The images of a split, sorted; one without a text shows none of the objects.

    Raises DatasetError for a split that is unknown or must be chosen, and for names that make no sense; a
    line that makes none raises when its image is read.
    """
    parts = _parts(root)
    chosen, folder = pick_split(parts, split, where=root)
    meaning = _meaning(root, parts)
    listing = list_folder(folder.images)
    samples, bare = [], 0
    for image in listing.images:
        path = _text_of(image, folder)
        content = _lines(path) if path.is_file() else []
        bare += not path.is_file()
        entry = Entry(image, path, "", content_of(content), _draw, meaning.columns, meaning.ground)
        samples.append(Sample(id_of(image, folder.images), image, entry))
    note = f"{bare} of {len(samples)} images have no text in {folder.labels}: they show none of the objects"
    return Dataset(
        real_path(root).name,
        "yolo",
        root,
        chosen,
        check_samples(samples, where=folder.images),
        meaning.classes,
        notes=(note,) if bare else (),
        left_out=listing.endings(),
    )


def _text_of(image: Path, folder: _Folder) -> Path:
    return (folder.labels / image.relative_to(folder.images)).with_suffix(".txt")


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path} cannot be read as text ({problem}); write it again") from problem


def _meaning(root: Path, parts: dict[str, _Folder]) -> Meaning:
    """The classes that data.yaml names, or else the numbers that occur in any text."""
    path, given = _settings_file(root), _settings(root).get("names")
    if given is None:
        ids = sorted({id for folder in parts.values() for id in _numbers(folder)})
        return meaning_of(root, [(id, f"class_{id}", None) for id in ids])
    names = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(names, dict) or not names:
        raise DatasetError(f"{path}: expected names as a list or as numbers with names, found {given!r:.80}")
    for id, name in names.items():
        usable = isinstance(id, int) and not isinstance(id, bool) and 0 <= id < _MOST_CLASSES
        if not usable or not isinstance(name, str | int) or not str(name).strip():
            raise DatasetError(
                f"{path}: expected numbers from 0 on with names, found {id!r:.40}: {name!r:.40}"
            )
    return meaning_of(root, [(id, str(name), None) for id, name in sorted(names.items())])


def _numbers(folder: _Folder) -> Iterator[int]:
    """The class numbers in the texts of a folder; what is none is told when its image is read."""
    for image in list_folder(folder.images).images:
        path = _text_of(image, folder)
        for line in _lines(path) if path.is_file() else ():
            word = line.split()[:1]
            if word and word[0].isascii() and word[0].isdigit() and len(word[0]) < 6:
                yield int(word[0])


def _draw(data: Any, canvas: Canvas) -> None:
    """Draw the outlines in the order of the lines."""
    height, width = canvas.size
    for line in canvas.each(data["shapes"], "line"):
        words: Sequence[str] = line.split()
        if not words:
            continue
        if len(words) < 7 or len(words) % 2 == 0:
            raise MaskError(
                f"{canvas.where} has {len(words)} numbers, expected a class and at least three corners (x y)"
                + ("; boxes have no outline" if len(words) == 5 else "")
            )
        shares = np.array([number(float(word)) for word in words[1:]]).reshape(-1, 2)
        points = canvas.points((shares * (width, height)).tolist())
        canvas.polygon(points, canvas.column(int(words[0])))


LAYOUT = Layout(
    "yolo",
    "YOLO segmentation: images/ and labels/ of texts, perhaps in train/ and val/, and data.yaml",
    find,
    load,
    splits,
)
