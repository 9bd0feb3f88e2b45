"""What the readers of labelling tools' files share: parsing, finding images, naming classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from indexer.datasets.base import nearest
from indexer.datasets.class_file import BACKGROUND
from indexer.datasets.class_lists import read_named_classes
from indexer.datasets.masks import Color, color_of_id
from indexer.datasets.names import Files, bare, composed
from indexer.datasets.tools.entries import Label
from retrieval.classes import UNLABELLED, ClassInfo, ClassMap
from retrieval.errors import DatasetError
from retrieval.json_text import MOST_TOOL_BYTES, parse_json, read_limited
from retrieval.store.text import decode_text

#: Bytes at both ends of a file that tell which tool wrote it.
_LOOK = 1 << 16
_MOST_ID = 65535


def read_json(path: Path) -> Any:
    """A parsed JSON file; raises DatasetError where it cannot be read."""
    try:
        content = decode_text(read_limited(path, most=MOST_TOOL_BYTES))
        return parse_json(content, most=MOST_TOOL_BYTES, finite=False)  # some write NaN as an area
    except (OSError, ValueError) as problem:
        raise DatasetError(f"{path} cannot be read as JSON ({problem}); export it again") from problem


def holds(path: Path, *words: str) -> bool:
    """Whether all the keys occur as ``"key":`` near the beginning or the end of a file; never raises.

    So that a large or damaged file is recognised without reading it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LOOK)
            file.seek(max(path.stat().st_size - _LOOK, 0))
            text += b" " + file.read(_LOOK)
    except OSError:
        return False
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = text.replace(b"\0", b"")
    return all(re.search(rb'"%s"\s*:' % word.encode(), text) for word in words)


def texts(folder: Path, ending: str) -> list[Path]:
    """The files with an ending directly in a folder, sorted, without hidden ones; none if unreadable."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() == ending and not path.name.startswith(".") and path.is_file()
        )
    except OSError:
        return []


class ImageFinder:
    """Finds the images that a file names, in several folders in turn."""

    def __init__(self, places: Iterable[Path]) -> None:
        given = list(dict.fromkeys(places))
        self._places = [place for place in given if place.is_dir()] or given[:1]
        self._files = [Files(place) for place in self._places]

    def find(self, name: str, *, where: str) -> Path:
        """The image of that name, or where it was expected first; DatasetError for what is no file name."""
        parts = [part for part in PurePosixPath(composed(name)).parts if part not in ("/", "..", ".")]
        if not parts or not name.isprintable() or max(len(part.encode()) for part in parts) > 255:
            raise DatasetError(f"{where}: expected the file name of an image, found {name[:80]!r}")
        tails = list(dict.fromkeys(("/".join(parts), parts[-1])))
        exact = (place / tail for tail in tails for place in self._places)
        found = next((path for path in exact if path.is_file()), None)
        if found is None:
            found = next((path for files in self._files if (path := files.find("/".join(parts)))), None)
        return found or self._places[0].joinpath(*parts)


def ids_of(names: Sequence[str]) -> list[str]:
    """Ids of images by the names that a file gives them, without endings unless these tell two apart."""
    clean = [composed(name).removeprefix("./").lstrip("/") for name in names]
    count = Counter(map(bare, clean))
    return [name if count[bare(name)] > 1 else bare(name) for name in clean]


@dataclass(frozen=True)
class Meaning:
    """The classes of a data set, the column of each label, and that of pixels on which nothing is drawn."""

    classes: ClassMap
    columns: tuple[tuple[Label, int], ...]
    ground: int


def is_background(name: str) -> bool:
    """Whether a class of this name is what lies behind all others."""
    return name.strip("_ ").lower() == BACKGROUND


def meaning_of(
    root: Path,
    labels: Sequence[tuple[Label, str, Color | None]],
    *,
    keep_ids: bool = False,
    ground: bool = True,
) -> Meaning:
    """The classes that labels (as the format writes them, the name, perhaps a colour) stand for.

    Where a file of ``root`` names classes, they are these. Otherwise a class ``background`` with id 0 stands
    before all others (unless one is called so, or not ``ground``), and they are numbered from there on in
    their order; with ``keep_ids`` a label that is a number is the class's id, where that is possible.
    Raises DatasetError for two labels with one name, or a label that the file does not name.
    """
    twice = [name for name, count in Counter(name for _, name, _ in labels).items() if count > 1]
    if twice:
        raise DatasetError(f"{root} has two classes with the name {twice[0]!r}; give each its own")
    named = read_named_classes(root)
    if named is not None:
        return _given(named.path, named.classes, labels, ground=ground)
    own = any(is_background(name) for _, name, _ in labels)
    ids = [label for label, _, _ in labels if isinstance(label, int)]
    first = 0 if own or not ground else 1
    usable = len(ids) == len(labels) and all(first <= id <= _MOST_ID for id in ids)
    if not (keep_ids and usable):
        ids = [first + place for place in range(len(labels))]
    if len(labels) + first > _MOST_ID + 1:
        raise DatasetError(f"{root} has {len(labels):,} classes, expected at most {_MOST_ID:,}")
    infos = [
        ClassInfo(id, name, color or color_of_id(id))
        for id, (_, name, color) in zip(ids, labels, strict=True)
    ]
    if first:
        infos.insert(0, ClassInfo(0, BACKGROUND, (0, 0, 0)))
    taken = {info.id for info in infos}
    classes = ClassMap(tuple(infos), ignore=() if 255 in taken else (255,))
    columns = tuple((label, first + place) for place, (label, _, _) in enumerate(labels))
    return Meaning(classes, columns, _background_column(classes) if ground else UNLABELLED)


def _given(
    path: Path, classes: ClassMap, labels: Sequence[tuple[Label, str, Color | None]], *, ground: bool
) -> Meaning:
    by_name = {name: column for column, name in enumerate(classes.names)}
    unknown = next((name for _, name, _ in labels if name not in by_name), None)
    if unknown is not None:
        raise DatasetError(
            f"the label {unknown!r} is no class of {path}{nearest(unknown, by_name)}; add it there"
        )
    columns = tuple((label, by_name[name]) for label, name, _ in labels)
    return Meaning(classes, columns, _background_column(classes) if ground else UNLABELLED)


def _background_column(classes: ClassMap) -> int:
    """The column of the class called background; -1 where there is none: then nothing drawn is no label."""
    return next((column for column, name in enumerate(classes.names) if is_background(name)), UNLABELLED)
