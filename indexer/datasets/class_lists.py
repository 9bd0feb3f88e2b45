"""The files in which a data set names its classes, whichever tool wrote them.

``classes.json`` is ours (or CVAT's list of labels). Others, in the order in which they are looked for:

- ``labelmap.txt`` of CVAT and Datumaro: ``name:red,green,blue:parts:actions``, a line a class, numbered in
  the order of the lines (Source: datumaro/plugins/data_formats/voc/format.py);
- ``dataset_meta.json`` of Datumaro: ``labels``, ``label_map`` and ``segmentation_colors``;
- ``class_names.txt`` of labelme (examples/semantic_segmentation/labelme2voc.py): a name a line, numbered from
  0 (a first line ``__ignore__`` does not count), the colours those of Pascal VOC;
- ``label_config.xml`` of Label Studio: ``<Label value="road" background="#fa3253"/>``, numbered after a
  background.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import ImageColor

from indexer.datasets.base import read_lines
from indexer.datasets.class_file import (
    CLASS_FILE,
    MOST_CLASSES,
    USUAL_IGNORE,
    number_classes,
    parse_color,
    read_class_file,
    says_ignore,
)
from indexer.datasets.masks import Color, ColorCode, color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError
from retrieval.json_text import parse_json, read_limited

#: Colour 255 of Pascal VOC's palette: the pale border around objects.
BORDER: Color = (224, 224, 192)

_LABEL_MAPS = ("labelmap.txt", "label_map.txt")


@dataclass(frozen=True)
class NamedClasses:
    """Classes that a file names."""

    path: Path
    classes: ClassMap
    colors: ColorCode | None  #: what colours in masks mean, where the file or its tool gives each class one
    says_ignore: bool = False  #: whether the file says which ids carry no label


def read_named_classes(root: Path) -> NamedClasses | None:
    """The classes that the first of the files named above gives, or None where there is none of them.

    Raises DatasetError for a file that makes no sense.
    """
    for name, read in _READERS.items():
        path = root / name
        if path.exists() or path.is_symlink():
            return NamedClasses(path, *read(path), says_ignore=path.name == CLASS_FILE and says_ignore(path))
    return None


def _read_label_map(path: Path) -> tuple[ClassMap, ColorCode | None]:
    entries: list[tuple[str, Color | None]] = []
    for number, line in read_lines(path):
        parts = [part.strip() for part in line.split(":")]
        color = _parse_triplet(parts[1]) if len(parts) > 1 else None
        if not parts[0] or len(parts) < 2 or (parts[1] and color is None):
            raise DatasetError(
                f"{path}, line {number}: expected a class as name:red,green,blue:parts:actions, each colour "
                f"0..255, for example road:250,50,83::, not {line!r}"
            )
        entries.append((parts[0], color))
    return _numbered(path, entries)


def _parse_triplet(text: str) -> Color | None:
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 3 or not all(
        part.isascii() and part.isdigit() and int(part) < 256 for part in numbers
    ):
        return None
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _read_meta(path: Path) -> tuple[ClassMap, ColorCode | None]:
    try:
        data: Any = parse_json(read_limited(path))
        map_ = data.get("label_map") or {}
        if data.get("labels") is None and all(str(key).isdigit() for key in map_):
            map_ = _in_order(path, map_)
        names = [str(name) for name in (data.get("labels") or map_.values())]
        colors = [_checked_color(color) for color in data.get("segmentation_colors", [])]
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as problem:
        raise DatasetError(
            f'{path} cannot be read as {{"labels": [...], "segmentation_colors": [...]}}: {problem}'
        ) from problem
    colored = dict(zip(map(str, map_.values()) if map_ else names, colors, strict=False))
    return _numbered(path, [(name, colored.get(name)) for name in names])


def _checked_color(value: Any) -> Color:
    color = parse_color(value)
    if color is None:
        raise ValueError(f"a colour is [red, green, blue], each 0..255, not {reprlib.repr(value)}")
    return color


def _in_order(path: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Names by id, sorted; DatasetError where an id between the first and the last has none."""
    ordered = dict(sorted(names.items(), key=lambda item: int(item[0])))
    if [int(key) for key in ordered] != list(range(len(ordered))):
        raise DatasetError(
            f"{path} names the classes {', '.join(ordered)} in label_map; number them from 0 without a gap, "
            f"or give their ids in {path.parent / CLASS_FILE}"
        )
    return ordered


def _numbered(path: Path, entries: Sequence[tuple[str, Color | None]]) -> tuple[ClassMap, ColorCode | None]:
    """Classes numbered in their order; VOC's border, which Datumaro lists as a class, carries no label."""
    _check_names(path, [name for name, _ in entries])
    ids = {id for id, (name, color) in enumerate(entries) if name.lower() == "ignored" and color == BORDER}
    infos = tuple(
        ClassInfo(id, name, color_of_id(id) if color is None else color)
        for id, (name, color) in enumerate(entries)
        if id not in ids
    )
    classes = ClassMap(infos, ignore=_ignored(infos, ids))
    if any(color is not None for _, color in entries):
        colored = all(color is not None for _, color in entries)
        return classes, ColorCode.of_classes(classes, ignore=[BORDER] if ids else ()) if colored else None
    return classes, ColorCode.of_classes(classes, ignore=[BORDER], palettes="free")


def _read_names(path: Path) -> tuple[ClassMap, ColorCode | None]:
    names = [line for _, line in read_lines(path)]
    if names[:1] == ["__ignore__"]:
        names = names[1:]
    return _numbered(path, [(name, None) for name in names])


def _read_label_studio(path: Path) -> tuple[ClassMap, ColorCode | None]:
    try:
        tree = ElementTree.fromstring(path.read_text(encoding="utf-8-sig"))
        labels = [label for label in tree.iter() if label.tag == "Label" and label.get("value")]
        given = [(str(label.get("value")), label.get("background")) for label in labels]
        named = [(name, _web_color(color)) for name, color in given]
    except (OSError, ValueError, ElementTree.ParseError) as problem:
        raise DatasetError(
            f"{path} cannot be read as Label Studio's labelling configuration: {problem}"
        ) from problem
    _check_names(path, [name for name, _ in named])
    colored = all(color is not None for _, color in given)
    infos = number_classes(named, add_background=True)
    classes = ClassMap(infos, ignore=_ignored(infos, set()))
    return classes, ColorCode.of_classes(classes) if colored else None


def _web_color(text: str | None) -> Color:
    red, green, blue = ImageColor.getrgb(text or "#808080")[:3]
    return red, green, blue


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise DatasetError(f"{path} names no class; expected at least one")
    if len(names) > MOST_CLASSES:
        raise DatasetError(f"{path} names {len(names):,} classes; a data set has at most {MOST_CLASSES:,}")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DatasetError(f"{path}: two classes have the name {twice!r}; give each its own")


def _ignored(infos: Sequence[ClassInfo], others: set[int]) -> tuple[int, ...]:
    usual = set() if any(info.id == USUAL_IGNORE for info in infos) else {USUAL_IGNORE}
    return tuple(sorted(others | usual))


_READERS: dict[str, Callable[[Path], tuple[ClassMap, ColorCode | None]]] = {
    CLASS_FILE: read_class_file,
    **dict.fromkeys(_LABEL_MAPS, _read_label_map),
    "dataset_meta.json": _read_meta,
    "class_names.txt": _read_names,
    "label_config.xml": _read_label_studio,
}

#: What they are called, in the order in which they are looked for.
CLASS_FILES: tuple[str, ...] = tuple(_READERS)
